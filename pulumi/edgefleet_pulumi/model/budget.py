"""Whether everything that shall run on a node fits beside what the system and K3s reserve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefleet_pulumi.model.errors import ModelError
from edgefleet_pulumi.model.industry import Amount, Industry
from edgefleet_pulumi.model.load import ROOT, read_yaml
from edgefleet_pulumi.model.units import mebibytes, millicores

K3S_DEFAULTS = ROOT / "roles" / "k3s" / "defaults" / "main.yml"


@dataclass(frozen=True)
class Room:
    """An amount of CPU (thousandths of a core) and memory (MiB)."""

    cpu: int
    memory: int

    @classmethod
    def of(cls, amount: Amount) -> Room:
        """The same as figures."""
        return cls(millicores(amount.cpu), mebibytes(amount.memory))

    def __add__(self, other: Room) -> Room:
        return Room(self.cpu + other.cpu, self.memory + other.memory)

    def __sub__(self, other: Room) -> Room:
        return Room(self.cpu - other.cpu, self.memory - other.memory)

    def times(self, number: int) -> Room:
        """So many of it."""
        return Room(self.cpu * number, self.memory * number)

    def holds(self, other: Room) -> bool:
        """Whether the other fits into it."""
        return other.cpu <= self.cpu and other.memory <= self.memory


@dataclass(frozen=True)
class Part:
    """One kind of pod on the node: how many, and what each asks for."""

    name: str
    pods: int
    requests: Room

    @property
    def total(self) -> Room:
        """All of its pods."""
        return self.requests.times(self.pods)


@dataclass(frozen=True)
class Reserve:
    """What is kept from pods, and for what."""

    name: str
    room: Room


# The edge node of all five systems.
NODE = Room(cpu=4000, memory=8 * 1024)


def reserves(defaults: Path = K3S_DEFAULTS) -> list[Reserve]:
    """What the k3s role has the kubelet keep from pods. The figures stand there alone."""
    content = read_yaml(defaults)
    found = [_reserve(content, f"k3s_{kind}_reserved", kind, defaults) for kind in ("system", "kube")]
    eviction = content.get("k3s_eviction_hard", {}).get("memory.available") if isinstance(content, dict) else None
    if eviction is None:
        raise ModelError(f"{defaults}: k3s_eviction_hard: has no memory.available: add it, such as 256Mi")
    return [*found, Reserve("eviction threshold", Room(0, _figure(mebibytes, eviction, "k3s_eviction_hard", defaults)))]


def _reserve(content: object, variable: str, kind: str, defaults: Path) -> Reserve:
    value = content.get(variable) if isinstance(content, dict) else None
    if not isinstance(value, dict) or not {"cpu", "memory"} <= set(value):
        raise ModelError(f"{defaults}: {variable}: must have cpu and memory, such as {{cpu: 250m, memory: 512Mi}}")
    cpu = _figure(millicores, value["cpu"], f"{variable}.cpu", defaults)
    return Reserve(f"{kind} reserved", Room(cpu, _figure(mebibytes, value["memory"], f"{variable}.memory", defaults)))


def _figure(read: Callable[[str], int], value: object, key: str, defaults: Path) -> int:
    try:
        return read(str(value))
    except ValueError as error:
        raise ModelError(f"{defaults}: {key}: {error}") from error


def service_part(industry: Industry, pods: int) -> Part:
    """The pods of the system's own service on one node."""
    return Part(industry.system, pods, Room.of(industry.service.resources.requests))


def back_end_parts(industry: Industry) -> list[Part]:
    """The servers beside it, one each."""
    return [Part(name, 1, Room.of(server.resources.requests)) for name, server in industry.back_ends.declared().items()]


def check(parts: Sequence[Part], *, reserved: Sequence[Reserve], node: Room = NODE) -> Room:
    """What is left on the node; a ModelError with the whole table if the requests don't fit."""
    left = node
    for one in reserved:
        left -= one.room
    for part in parts:
        left -= part.total
    if left.cpu < 0 or left.memory < 0:
        short = [f"{-left.cpu}m CPU"] * (left.cpu < 0) + [f"{-left.memory}Mi memory"] * (left.memory < 0)
        raise ModelError(
            f"the node is too small by {' and '.join(short)}: deploy fewer systems or pods, lower their requests, "
            f"or take a larger node\n{table(parts, reserved=reserved, node=node)}"
        )
    return left


def table(parts: Sequence[Part], *, reserved: Sequence[Reserve], node: Room = NODE) -> str:
    """The sum, line by line."""
    used = [*(one.room for one in reserved), *(part.total for part in parts)]
    left = Room(node.cpu - sum(one.cpu for one in used), node.memory - sum(one.memory for one in used))
    rows = [
        ("node", "", node),
        *((f"- {one.name}", "", one.room) for one in reserved),
        *((f"- {part.name}", str(part.pods), part.total) for part in parts),
        ("left", "", left),
    ]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'':<{width}}  {'pods':>4}  {'CPU':>8}  {'memory':>9}"]
    lines += [f"{name:<{width}}  {pods:>4}  {room.cpu:>7}m  {room.memory:>7}Mi" for name, pods, room in rows]
    return "\n".join(lines)
