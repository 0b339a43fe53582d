# SPDX-License-Identifier: Apache-2.0
"""What a run costs: processor time, memory and throttling of a workload's processes, and what else the host did."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
_KIB_IN_MIB = 1024


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment. Seconds of processor time, MiB, numbers of scheduling periods."""

    wall: float
    busy: float
    stolen: float
    generator: float
    workload: float
    periods: int
    throttled: int


@dataclass(frozen=True)
class Usage:
    """What happened between two snapshots. ``cores`` is the host's, ``quota`` what the workload may use of them."""

    seconds: float
    cores: int
    busy: float
    stolen: float
    generator: float
    workload: float
    periods: int
    throttled: int
    quota: float | None
    pss_mib: float
    memory_used_mib: float
    memory_mib: float

    @property
    def steal_percent(self) -> float:
        """Of all processor time, what the hypervisor took."""
        return 100 * self.stolen / (self.seconds * self.cores)

    @property
    def others_percent(self) -> float:
        """Of all processor time, what neither the workload nor the generator used."""
        return max(0.0, 100 * (self.busy - self.generator - self.workload) / (self.seconds * self.cores))

    @property
    def node_percent(self) -> float:
        """Of all processor time, what the host used without the generator, which no site has."""
        return max(0.0, 100 * (self.busy - self.generator) / (self.seconds * self.cores))

    @property
    def workload_cores(self) -> float:
        """Processors that the workload kept busy on average."""
        return self.workload / self.seconds

    @property
    def memory_percent(self) -> float:
        """Of the host's memory, what was not available."""
        return 100 * self.memory_used_mib / self.memory_mib

    @property
    def throttled_percent(self) -> float:
        """Of the scheduling periods in which the workload ran, those in which its limit stopped it."""
        return 100 * self.throttled / self.periods if self.periods else 0.0


def snapshot(pids: Iterable[int], wall: float, proc: Path = PROC, cgroups: Path = CGROUPS) -> Snapshot:
    """The counters now. The generator is a child of this process, and counts once it has ended."""
    pids = list(pids)
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [int(value) for value in (proc / "stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, stolen = fields
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    limits = [cpu_stat(folder) for folder in cpu_cgroups(pids, proc, cgroups)]
    return Snapshot(
        wall=wall,
        busy=(user + nice + system + irq + softirq) / ticks,
        stolen=stolen / ticks,
        generator=children.ru_utime + children.ru_stime,
        workload=sum(cpu_seconds(pid, proc) for pid in pids),
        periods=sum(one.get("nr_periods", 0) for one in limits),
        throttled=sum(one.get("nr_throttled", 0) for one in limits),
    )


def between(
    before: Snapshot, after: Snapshot, pids: Sequence[int], proc: Path = PROC, cgroups: Path = CGROUPS
) -> Usage:
    """What happened from one to the other; memory is that of the end."""
    total, available = memory(proc)
    quotas = [quota(folder) for folder in cpu_cgroups(pids, proc, cgroups)]
    limited = [one for one in quotas if one is not None]
    return Usage(
        seconds=max(after.wall - before.wall, 1e-6),
        cores=os.cpu_count() or 1,
        busy=after.busy - before.busy,
        stolen=after.stolen - before.stolen,
        generator=after.generator - before.generator,
        workload=max(0.0, after.workload - before.workload),
        periods=after.periods - before.periods,
        throttled=after.throttled - before.throttled,
        quota=sum(limited) if limited and len(limited) == len(quotas) else None,
        pss_mib=sum(pss(pid, proc) for pid in pids),
        memory_used_mib=total - available,
        memory_mib=total,
    )


def cpu_seconds(pid: int, proc: Path = PROC) -> float:
    """User and system time of a process with all its threads; 0 if it has ended."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def pss(pid: int, proc: Path = PROC) -> float:
    """Memory of a process in MiB, its share of shared pages with it; 0 if it has ended."""
    try:
        text = (proc / str(pid) / "smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / _KIB_IN_MIB


def memory(proc: Path = PROC) -> tuple[float, float]:
    """MiB of the host in all, and of those available."""
    fields = dict(line.split(":", 1) for line in (proc / "meminfo").read_text(encoding="utf-8").splitlines())
    total, available = (int(fields[name].split()[0]) / _KIB_IN_MIB for name in ("MemTotal", "MemAvailable"))
    return total, available


def cpu_cgroups(pids: Iterable[int], proc: Path = PROC, cgroups: Path = CGROUPS) -> list[Path]:
    """The control groups of these processes, each once."""
    return sorted({folder for pid in pids if (folder := cpu_cgroup(pid, proc, cgroups)) is not None})


def cpu_cgroup(pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> Path | None:
    """The folder of the control group that limits the processor time of a process, in either version of cgroups."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    by_controller = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for one in controllers.split(","):
            by_controller[one] = path
    if "cpu" in by_controller:
        return cgroups / "cpu" / by_controller["cpu"].lstrip("/")
    return cgroups / by_controller[""].lstrip("/") if "" in by_controller else None


def cpu_stat(folder: Path) -> Mapping[str, int]:
    """Counters of a control group's scheduling; empty where it has none."""
    try:
        lines = (folder / "cpu.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, value in (line.split() for line in lines)}


def quota(folder: Path) -> float | None:
    """How many processors a control group may keep busy; None if there is no limit."""
    try:
        if (folder / "cpu.max").exists():
            allowed, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            allowed, period = (
                (folder / name).read_text(encoding="utf-8").strip()
                for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
    except OSError:
        return None
    return None if allowed in ("max", "-1") else int(allowed) / int(period)


def pod_overhead_mib(proc: Path = PROC) -> float | None:
    """What every pod costs beside its program: the median shim's and the median pause container's memory.

    None where no pod runs: then nothing is known of it.
    """
    found: dict[str, list[float]] = {"containerd-shim": [], "pause": []}
    for folder in proc.glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue
        # The kernel keeps 15 characters of a name: containerd-shim-runc-v2 ends there.
        if name in found:
            found[name].append(pss(int(folder.name), proc))
    if not all(found.values()):
        return None
    return sum(sorted(sizes)[len(sizes) // 2] for sizes in found.values())
