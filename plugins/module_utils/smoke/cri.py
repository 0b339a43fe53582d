# SPDX-License-Identifier: Apache-2.0
"""Pods and containers as the kubelet makes them: containerd's CRI (runtime.v1), asked directly.

The fields and their numbers are those of Kubernetes' cri-api 0.30.
"""

from __future__ import annotations

import datetime
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import grpc
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.grpc import Channel, GrpcError

SOCKET = Path("/run/containerd/containerd.sock")
_SERVICE = "/runtime.v1.RuntimeService/"
_IMAGES = "/runtime.v1.ImageService/"
_NODE = 2  # the host's own network: no CNI, and no address is used up
_UNCONFINED = 1
_EXITED = 2
_POLL_SECONDS = 0.0005
# Go leaves out zeros at the end of a fraction, and a fraction that is zero.
_LOG_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP] ([^\n]*)\n"
)


@dataclass(frozen=True)
class Sandbox:
    """A pod sandbox that runs, and what each of its containers must be told about it."""

    id: str
    logs: Path
    config: grpc.Fields


@dataclass(frozen=True)
class Program:
    """What a container runs. ``image`` is the name or the id of one that containerd has.

    ``command`` takes the place of the image's own program; ``mounts`` are folders of the host by where they are in the
    container, to be read only. With ``seccomp`` it has the runtime's own filter, with ``drop`` no capability: as a
    restricted pod has it.
    """

    image: str
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    mounts: Mapping[str, Path] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    memory: int = 128 << 20
    seccomp: bool = True
    drop: bool = True
    user: int = 65532


class Cri:
    """containerd's CRI. Raises ``GrpcError``. ``timeout`` is that of each call, in seconds."""

    def __init__(self, path: Path = SOCKET, timeout: float = 60) -> None:
        self._channel = Channel(path, timeout)

    def __enter__(self) -> Cri:
        return self

    def __exit__(self, _type: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._channel.close()

    def run_sandbox(self, handler: str, logs: Path, labels: Mapping[str, str], parent: str = "") -> Sandbox:
        """A sandbox of the runtime ``handler`` on the host's network. ``parent`` is the cgroup above it."""
        uid = secrets.token_hex(8)
        config: grpc.Fields = [
            (1, [(1, f"edgefleet-{uid}"), (2, uid), (3, "edgefleet-smoke")]),
            (3, str(logs)),
            *_map(6, labels),
            (8, [(1, parent), (2, [(1, [(1, _NODE)])])]),
        ]
        answer = self._call("RunPodSandbox", [(1, config), (2, handler)])
        return Sandbox(_text(answer, 1), logs, config)

    def create(self, sandbox: Sandbox, program: Program) -> tuple[str, Path]:
        """A container that does not run yet: its id and its log."""
        name = secrets.token_hex(6)
        security: list[tuple[int, Any]] = [
            *([(1, [(2, "ALL")])] if program.drop else []),
            (3, [(1, _NODE), (2, 1)]),
            (5, [(1, program.user)]),
            (11, 1),
            *((number, path) for number, paths in _PATHS.items() for path in paths),
            (15, [] if program.seccomp else [(1, _UNCONFINED)]),
        ]
        config: grpc.Fields = [
            (1, [(1, name)]),
            (2, [(1, program.image)]),
            *((3, word) for word in program.command),
            *((4, word) for word in program.args),
            *((6, [(1, key), (2, value)]) for key, value in program.env.items()),
            *((7, [(1, there), (2, str(here)), (3, 1)]) for there, here in program.mounts.items()),
            (11, f"{name}.log"),
            (15, [(1, [(3, 102), (4, program.memory), (5, 1000)]), (2, security)]),
        ]
        answer = self._call("CreateContainer", [(1, sandbox.id), (2, config), (3, sandbox.config)])
        return _text(answer, 1), sandbox.logs / f"{name}.log"

    def start(self, container: str) -> None:
        self._call("StartContainer", [(1, container)])

    def ended(self, container: str, timeout: float) -> int:
        """Wait until a container has ended by itself: one that is removed on its way out may come out damaged.

        Returns its exit code.
        """
        deadline = time.monotonic() + timeout
        while True:
            status = grpc.field(self._call("ContainerStatus", [(1, container)]), 1)
            if grpc.field(status, 3, 0) == _EXITED:
                return int(grpc.field(status, 7, 0))
            if time.monotonic() > deadline:
                raise GrpcError(f"container {container} has not ended after {timeout:g} s")
            time.sleep(_POLL_SECONDS)

    def stop(self, container: str, seconds: int = 0) -> None:
        """End a container, by force after so many seconds."""
        self._call("StopContainer", [(1, container), (2, seconds)])

    def remove(self, container: str) -> None:
        """Take a container away, also one that runs."""
        self._call("RemoveContainer", [(1, container)])

    def remove_sandbox(self, sandbox: str) -> None:
        """Stop a sandbox with all its containers, and take it away."""
        self._call("StopPodSandbox", [(1, sandbox)])
        self._call("RemovePodSandbox", [(1, sandbox)])

    def sandboxes(self, labels: Mapping[str, str]) -> list[str]:
        """The ids of all sandboxes that carry these labels."""
        answer = self._call("ListPodSandbox", [(1, _map(3, labels))])
        return [_text(one, 1) for number, one in grpc.decode(answer) if number == 1]

    def marked(self, label: str) -> dict[str, str]:
        """The sandboxes that carry a label: id and value."""
        found = {}
        for number, one in grpc.decode(self._call("ListPodSandbox", [])):
            for entry in (value for key, value in grpc.decode(one) if number == 1 and key == 5):
                if _text(entry, 1) == label:
                    found[_text(one, 1)] = _text(entry, 2)
        return found

    def images(self) -> dict[str, int]:
        """The images that have a name, and their size in bytes."""
        found = {}
        for number, one in grpc.decode(self._channel.call(f"{_IMAGES}ListImages")):
            if number == 1 and _text(one, 2):
                found[_text(one, 2)] = grpc.field(one, 4, 0)
        return found

    def _call(self, name: str, request: grpc.Fields) -> bytes:
        return self._channel.call(_SERVICE + name, request)


# What the kubelet hides of /proc and /sys, and what it lets be read only, in every container that may not have all.
_PATHS = {
    13: (
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ),
    14: ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
}


def first_line(log: Path, timeout: float) -> tuple[int, bytes]:
    """When containerd had the first line of a container's log, in nanoseconds since the epoch, and the line."""
    deadline = time.monotonic() + timeout
    while True:
        found = _LOG_LINE.match(log.read_bytes()) if log.exists() else None
        if found:
            return _nanoseconds(found), found[4]
        if time.monotonic() > deadline:
            raise GrpcError(f"{log}: nothing in it after {timeout:g} s")
        time.sleep(_POLL_SECONDS)


def _nanoseconds(line: re.Match[bytes]) -> int:
    zone = line[3].decode().replace("Z", "+00:00")
    return int(datetime.datetime.fromisoformat(line[1].decode() + zone).timestamp()) * 10**9 + int(
        (line[2] or b"").ljust(9, b"0")
    )


def _map(number: int, entries: Mapping[str, str]) -> grpc.Fields:
    return [(number, [(1, key), (2, value)]) for key, value in entries.items()]


def _text(message: bytes, number: int) -> str:
    return bytes(grpc.field(message, number)).decode("utf-8", "replace")
