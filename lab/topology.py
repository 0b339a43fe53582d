"""Which hosts a lab has: asked for on the command line, remembered in the lab's state, chosen by the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from lab.errors import LabError

# Chooses the kind for new labs where no flag is given: Molecule and pytest have no flag.
VARIABLE = "EDGEFLEET_LAB_HOSTS"
# Servers and agents share a network of 254 addresses.
MOST = 120


class Kind(StrEnum):
    """What a lab's hosts are."""

    CONTAINERS = "containers"
    VM = "vm"


@dataclass(frozen=True)
class Topology:
    """The hosts of a lab. Every server is a site of its own."""

    kind: Kind = Kind.CONTAINERS
    servers: int = 1
    agents: int = 0
    airgapped: bool = False

    def names(self) -> list[str]:
        """The hosts' names, servers first."""
        return [
            *(f"edge{number}" for number in range(1, self.servers + 1)),
            *(f"agent{number}" for number in range(1, self.agents + 1)),
        ]


@dataclass(frozen=True)
class Asked:
    """What the command line says. None: as it was, or the default for a new lab."""

    kind: Kind | None = None
    servers: int | None = None
    agents: int | None = None
    airgapped: bool | None = None


def _file(state: Path) -> Path:
    return state / "topology.json"


def remembered(state: Path) -> Topology | None:
    """What the lab was made as; None if it never was."""
    path = _file(state)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Topology(**{**found, "kind": Kind(found["kind"])})
    except (ValueError, TypeError, KeyError) as error:
        raise LabError(f"{path} can't be read ({error}). Remove it: `down` then removes hosts of all kinds.") from error


def remember(state: Path, topology: Topology) -> None:
    """Put down before the first host is made, so that a killed run is known for what it was."""
    state.mkdir(parents=True, exist_ok=True)
    part = _file(state).with_name("topology.part")
    part.write_text(json.dumps(asdict(topology)) + "\n", encoding="utf-8")
    part.rename(_file(state))


def from_environment(environ: Mapping[str, str] = os.environ) -> Kind | None:
    """The kind that the environment asks for."""
    value = environ.get(VARIABLE)
    if not value:
        return None
    if value not in list(Kind):
        raise LabError(f"{VARIABLE}={value}: use {' or '.join(Kind)}.")
    return Kind(value)


def settle(asked: Asked, before: Topology | None, name: str, environ: Mapping[str, str] = os.environ) -> Topology:
    """What a lab is to be. Hosts of the other kind are not replaced behind anybody's back."""
    kind = asked.kind or from_environment(environ)
    if before and kind and kind != before.kind:
        raise LabError(
            f"Lab {name} has {before.kind} hosts, and {kind} was asked for. "
            f"Remove it first: python -m lab down --name {name}; or give another --name."
        )
    was = before or Topology()
    return Topology(
        kind=kind or was.kind,
        servers=was.servers if asked.servers is None else asked.servers,
        agents=was.agents if asked.agents is None else asked.agents,
        airgapped=was.airgapped if asked.airgapped is None else asked.airgapped,
    )
