"""What idle pods cost: memory of the program's process, and of all that a pod keeps (shim, pause, kernel)."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri, Program, first_line

from tests.bench.onhost import cold
from tests.bench.onhost.sides import LEAN, NATIVE, Side

SERVICE_ENV = {"SYSTEM": "bench"}
# Each pod listens on one of its own, on the host's network.
FIRST_PORT = 20000
MIB = 1 << 20
SETTLE_SECONDS = 2.0


@dataclass
class Memory:
    """Of so many pods, in MiB. PSS: what of shared memory falls on each; ``private``: what ends with the process.

    ``machine`` is what the machine has less since before the first pod: exact on a quiet machine only.
    """

    pods: int
    program_pss: float
    program_private: float
    pause_pss: float
    shim_pss: float
    kernel: float
    machine: float

    @property
    def all(self) -> float:
        return self.program_pss + self.pause_pss + self.shim_pss + self.kernel


def available() -> float:
    """MiB that the kernel could give."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def rollup(pid: int) -> tuple[float, float]:
    """PSS and private memory of a process, MiB; nothing if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    sizes = {key: int(value) / 1024 for key, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return sizes.get("Pss", 0.0), sizes.get("Private_Clean", 0.0) + sizes.get("Private_Dirty", 0.0)


def processes(sandboxes: Sequence[str], containers: Sequence[str]) -> dict[str, list[int]]:
    """The pids by kind: of shims by their command line, of the rest by the pid that the shim has written down."""
    tasks = Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io")
    found: dict[str, list[int]] = {"shim": [], "pause": [], "program": []}
    for kind, names in (("pause", sandboxes), ("program", containers)):
        found[kind] = [int((tasks / name / "init.pid").read_text()) for name in names]
    wanted = set(sandboxes)
    for pid, words in commands().items():
        if "containerd-shim-runc-v2" in words[0] and wanted & set(words):
            found["shim"].append(pid)
    return found


def commands() -> dict[int, list[str]]:
    """The command line of each process, by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # It may have ended meanwhile.
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = path.read_bytes().decode(errors="replace").split("\0")
    return found


def kernel_mib() -> float:
    """What the kernel holds for the pods (slabs, stacks, page tables): of all control groups below ours."""
    v1, v2 = Path("/sys/fs/cgroup/memory" + cold.PARENT), Path("/sys/fs/cgroup" + cold.PARENT)
    if (v2 / "memory.stat").exists():
        found = re.search(r"^kernel (\d+)$", (v2 / "memory.stat").read_text(), re.MULTILINE)
        return int(found[1]) / MIB if found else 0.0
    usage = v1 / "memory.kmem.usage_in_bytes"
    return int(usage.read_text()) / MIB if usage.exists() else 0.0


def fill(side: Side, image: str, steps: Sequence[int], logs: Path) -> list[dict[str, Any]]:
    """Memory after each number of pods. Each serves HTTP (to nobody) on a port of its own sandbox's host network."""
    found: list[dict[str, Any]] = []
    with Cri() as cri, cold.cleared(cri):
        before = available()
        sandboxes: list[str] = []
        containers: list[str] = []
        for step in steps:
            while len(sandboxes) < step:
                number = len(sandboxes)
                sandbox = cri.run_sandbox(side.handler, logs, cold.LABELS, cold.PARENT)
                env = {**SERVICE_ENV, "PORT": str(FIRST_PORT + number)}
                container, log = cri.create(sandbox, Program(image, env=env, memory=256 * MIB))
                cri.start(container)
                first_line(log, cold.TIMEOUT)
                sandboxes.append(sandbox.id)
                containers.append(container)
            time.sleep(SETTLE_SECONDS)
            found.append(asdict(measure(sandboxes, containers, before)))
            print(f"{side.name}: {found[-1]}", file=sys.stderr, flush=True)
    return found


def measure(sandboxes: Sequence[str], containers: Sequence[str], before: float) -> Memory:
    pids = processes(sandboxes, containers)
    sizes = {kind: [rollup(pid) for pid in of_kind] for kind, of_kind in pids.items()}
    pss = {kind: sum(one[0] for one in of_kind) for kind, of_kind in sizes.items()}
    private = sum(one[1] for one in sizes["program"])
    return Memory(
        pods=len(sandboxes),
        program_pss=round(pss["program"], 2),
        program_private=round(private, 2),
        pause_pss=round(pss["pause"], 2),
        shim_pss=round(pss["shim"], 2),
        kernel=round(kernel_mib(), 2),
        machine=round(before - available(), 1),
    )


def by_number(images: dict[str, str], steps: Sequence[int], logs: Path) -> dict[str, list[dict[str, Any]]]:
    """Wasm without LLVM, then native, one after the other: both at once would not fit."""
    return {
        side.name: fill(side, images[f"service_{'wasm' if side.wasm else 'native'}"], steps, logs)
        for side in (LEAN, NATIVE)
    }
