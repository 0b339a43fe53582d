# SPDX-License-Identifier: Apache-2.0
"""Pods of the smoke test, made through containerd's CRI, and what of earlier tests is still there.

The kubelet ends every pod that it does not know, within a few seconds: a sandbox of ours lives for a moment, and what
it takes with it is tried again in a new one. Where the kubelet and this test take away the same pod at the same time,
its shim is asked to end while it still holds a container, declines, and is never asked again: it is ended here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import traces
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import owner
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri, Program, Sandbox, first_line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import ENGINE, SmokeError

# The runtime of Wasm pods, as the RuntimeClass names it.
HANDLER = ENGINE
# The label that says which process a pod belongs to, as ``containers.owner`` has it.
OWNER = "edgefleet.wasm/smoke-owner"
PROBES = "/probes"

_LOG_SECONDS = 10.0
_TRIES = 4
_TRIED_SECONDS = 6.0
_AGAIN_SECONDS = 0.3
# A shim's name in /proc, cut at 15 characters there, and how long one has to end by itself.
_SHIM = "containerd-shim"
_SHIM_SECONDS = 1.0
_POLL_SECONDS = 0.05


def smallest_image(runtime: Cri) -> str:
    """Only its root file system is used, and the probes are mounted into it."""
    images = runtime.images()
    if not images:
        raise SmokeError("containerd has no image yet: a pod needs K3s's pause image at least")
    return min(images, key=lambda name: (images[name], name))


def program_folder(folder: Path, programs: Mapping[str, bytes]) -> Path:
    """A folder to be mounted into containers, with programs that anybody may run."""
    folder.mkdir()
    folder.chmod(0o755)
    for name, content in programs.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o755)
    return folder


def sweep(runtime: Cri, lives: Callable[[str], bool]) -> None:
    """Take away the pods of tests of which this says, by the owner they are marked with, that they are over."""
    for sandbox, marked in runtime.marked(OWNER).items():
        if not lives(marked):
            remove(runtime, sandbox)


def remove(runtime: Cri, sandbox: str) -> None:
    """More than once, if need be: the kubelet may be about to take the same pod away, and then neither may succeed."""
    for attempt in range(_TRIES):
        try:
            runtime.remove_sandbox(sandbox)
            return
        except SmokeError:
            if attempt == _TRIES - 1:
                raise
            time.sleep(_AGAIN_SECONDS * 2**attempt)


def end_shims(gone: Iterable[str]) -> int:
    """End the shims of pods that containerd has let go of; returns how many did not end by themselves."""
    ids = tuple(gone)
    until = time.monotonic() + _SHIM_SECONDS
    while (shims := _shims(ids)) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    for pid in shims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(shims)


def _shims(ids: tuple[str, ...]) -> list[int]:
    return [pid for pid, name in traces.processes(ids) if name == _SHIM]


@dataclass(frozen=True)
class Started:
    """A container that has run: milliseconds from asking for it to its first line, and that line."""

    id: str
    ms: float
    line: str


class Pod:
    """A sandbox that takes containers with the probes, one after the other or several at once."""

    def __init__(self, runtime: Cri, sandbox: Sandbox, probes: Path, image: str, wall: Callable[[], float]) -> None:
        self._runtime = runtime
        self._sandbox = sandbox
        self._probes = probes
        self._image = image
        self._wall = wall
        self.id = sandbox.id

    def start(self, program: str, *args: str) -> Started:
        """Create, start and wait for the first line, to which containerd has put the time when it came."""
        # With a line's end among the arguments a probe that repeats them ends its line while it runs, not by its end.
        command = [f"{PROBES}/{program}", *args, "\n"]
        what = Program(self._image, command=command, mounts={PROBES: self._probes})
        began = self._wall()
        container, log = self._runtime.create(self._sandbox, what)
        self._runtime.start(container)
        nanoseconds, line = first_line(log, _LOG_SECONDS)
        took = round((nanoseconds / 1e9 - began) * 1000, 3)
        return Started(container, took, line.decode("utf-8", "replace"))

    def remove(self, container: str) -> None:
        self._runtime.stop(container)
        self._runtime.remove(container)


class Pods:
    """Pods that are replaced before the kubelet takes them away, or when it has."""

    def __init__(self, runtime: Cri, probes: Path, cgroup_manager: str, wall: Callable[[], float] = time.time) -> None:
        self._runtime = runtime
        # A runtime that asks systemd for its cgroups takes no other place for them than a slice.
        self._parent = "system.slice" if cgroup_manager == "systemd" else ""
        self._probes = probes
        self._image = smallest_image(runtime)
        self._wall = wall
        self._logs = probes.with_name(f"{probes.name}-logs")
        self._logs.mkdir()
        self._gone: list[str] = []

    def tried(self, what: Callable[[Pod], None]) -> None:
        """Do it in a new pod, and again in others if the pod went away under it, on a slow host many times in a row."""
        until = time.monotonic() + _TRIED_SECONDS
        for attempt in itertools.count(1):
            try:
                with self._one() as pod:
                    what(pod)
                return
            except SmokeError:
                if attempt >= _TRIES and time.monotonic() > until:
                    raise

    @contextlib.contextmanager
    def _one(self) -> Iterator[Pod]:
        sandbox = self._runtime.run_sandbox(HANDLER, self._logs, {OWNER: owner()}, self._parent)
        try:
            yield Pod(self._runtime, sandbox, self._probes, self._image, self._wall)
        finally:
            # Not being able to clean up says less than what went wrong before; the next test tries again.
            with contextlib.suppress(SmokeError):
                remove(self._runtime, sandbox.id)
                self._gone.append(sandbox.id)

    def end_shims(self) -> int:
        """As the function of this name, for the pods that went since the last call."""
        gone, self._gone = self._gone, []
        return end_shims(gone)
