"""Start and stop thousands of containers, and count what is left."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri, Sandbox, first_line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.grpc import GrpcError

from tests.bench.onhost import cold
from tests.bench.onhost.idle import commands, rollup
from tests.bench.onhost.sides import LEAN, NATIVE, BenchError, Side

# What crun calls the process of a Wasm program.
WASM = "[libcrun:wasmedge]"
THREADS = 2
CONTAINERS_PER_SANDBOX = 50
FOLDERS = ("/run/containerd", "/run/crun", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots")
SAMPLES = 10
# From the end of a container until containerd has written the last of its output.
LOG_SECONDS = 10.0
# Not faster: containerd's CRI plugin keeps each container's events for five minutes, and so much memory as these take.
A_SECOND = 20
# One native start for so many.
CONTROL = 5


def count() -> dict[str, int]:
    """Everything that a container could leave behind, counted on the whole host."""
    programs = {pid: words[0] for pid, words in commands().items()}
    return {
        "shims": sum(program.endswith("containerd-shim-runc-v2") for program in programs.values()),
        "programs": sum(program == "/pause" or program.startswith(WASM) for program in programs.values()),
        "mounts": len(Path("/proc/1/mountinfo").read_text().splitlines()),
        "control_groups": sum(1 for _ in folders(Path("/sys/fs/cgroup"), cold.PARENT.strip("/"))),
        "files": sum(len(files) + len(names) for top in FOLDERS for _, names, files in walk(top)),
        "open_files_of_containerd": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in containerd(programs)),
    }


def containerd(programs: Mapping[int, str]) -> list[int]:
    return [pid for pid, program in programs.items() if program.endswith("/containerd")]


def walk(top: str) -> Iterable[tuple[str, list[str], list[str]]]:
    """Not into the root file systems of containers that run: those are theirs."""
    for folder, names, files in os.walk(top):
        names[:] = [name for name in names if name not in ("rootfs", "fs")]
        yield folder, names, files


def folders(top: Path, name: str) -> Iterable[Path]:
    """Control groups at or below those of the bench, in every hierarchy."""
    for found in [*top.glob(f"*/{name}"), *top.glob(name)]:
        yield found
        yield from (path for path in found.rglob("*") if path.is_dir())


def containerd_mib() -> float:
    """Private memory of containerd."""
    programs = {pid: words[0] for pid, words in commands().items()}
    return sum(rollup(pid)[1] for pid in containerd(programs))


class Cycles:
    """Containers of one side, each created, started, seen to end well, and removed; a new sandbox now and then.

    ``silent`` counts those that containerd logged nothing of: of a program that ends right after it has printed
    containerd 2.0 can lose the line, a native one's as well.
    """

    def __init__(self, side: Side, images: dict[str, str], total: int, logs: Path) -> None:
        self._side = side
        self._program = cold.program_of(side, images)
        self._total = total
        self._logs = logs
        self._lock = threading.Lock()
        self._begun = 0
        self.silent = 0
        self.memory: list[tuple[float, float]] = []
        self._start = self._due = time.monotonic()
        self.errors: list[str] = []

    def run(self) -> None:
        threads = [threading.Thread(target=self._work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise BenchError(self.errors[0])

    def look(self) -> None:
        """Seconds since the first start, and containerd's memory in MiB."""
        self.memory.append((round(time.monotonic() - self._start, 1), round(containerd_mib(), 2)))
        seconds, mib = self.memory[-1]
        print(f"{self._begun}/{self._total}, {seconds:.0f} s: containerd {mib} MiB", file=sys.stderr, flush=True)

    def _next(self) -> bool:
        with self._lock:
            if self._begun >= self._total or self.errors:
                return False
            if self._begun % max(1, self._total // SAMPLES) == 0:
                self.look()
            self._begun += 1
            # What a busy moment has delayed is not made up for: the rate is what containerd's memory follows.
            now = time.monotonic()
            self._due = max(now, self._due + 1 / A_SECOND)
            wait = self._due - now
        time.sleep(wait)
        return True

    def _work(self) -> None:
        try:
            with Cri() as cri:
                while self._sandbox(cri):
                    pass
        except Exception as error:  # noqa: BLE001 - of a thread: told by the one that waits
            self.errors.append(repr(error))

    def _sandbox(self, cri: Cri) -> bool:
        """So many cycles in one sandbox; whether there is more to do."""
        sandbox = cri.run_sandbox(self._side.handler, self._logs, cold.LABELS, cold.PARENT)
        try:
            for _ in range(CONTAINERS_PER_SANDBOX):
                if not self._next():
                    return False
                self._cycle(cri, sandbox)
            return True
        finally:
            cri.remove_sandbox(sandbox.id)

    def _cycle(self, cri: Cri, sandbox: Sandbox) -> None:
        container, log = cri.create(sandbox, self._program)
        cri.start(container)
        code = cri.ended(container, cold.TIMEOUT)
        if code != 0:
            raise BenchError(f"about start {self._begun} of {self._total}: exit code {code}: {log.read_text()}")
        try:
            first_line(log, LOG_SECONDS)
        except GrpcError:
            with self._lock:
                self.silent += 1
        cri.remove(container)
        log.unlink()


def leaks(images: dict[str, str], total: int, logs: Path) -> dict[str, Any]:
    """What there is before and after so many cycles, and containerd's memory on the way; silent ones beside native."""
    with Cri() as cri, cold.cleared(cri):
        Cycles(LEAN, images, 2 * CONTAINERS_PER_SANDBOX, logs).run()
        before = count()
        cycles = Cycles(LEAN, images, total, logs)
        cycles.run()
        cycles.look()
        found = {"cycles": total, "before": before, "after": count(), "containerd_mib": cycles.memory}
        control = Cycles(NATIVE, images, total // CONTROL, logs)
        control.run()
        return found | {"silent": cycles.silent, "native": total // CONTROL, "native_silent": control.silent}
