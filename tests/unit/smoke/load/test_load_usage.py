"""What a run costs, read out of proc and cgroups in either version."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import usage

from tests.unit.smoke.load.made import usage as made

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def host(tmp_path: Path) -> tuple[Path, Path]:
    """A host with one process, 42, in a control group of version 2."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    group = cgroups / "kubepods/pod1"
    group.mkdir(parents=True)
    (proc / "42").mkdir(parents=True)
    (proc / "42/cgroup").write_text("0::/kubepods/pod1\n")
    (proc / "meminfo").write_text("MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 6291456 kB\n")
    (proc / "42/smaps_rollup").write_text("Rss: 30000 kB\nPss: 20480 kB\nPss_Anon: 9 kB\n")
    at(proc, group, busy=0, workload=0, throttled=0)
    (group / "cpu.max").write_text("50000 100000\n")
    return proc, cgroups


def at(proc: Path, group: Path, *, busy: int, workload: int, throttled: int) -> None:
    (proc / "stat").write_text(f"cpu  {busy * TICKS} 0 0 1000 0 0 0 {TICKS} 0 0\ncpu0 1\n")
    (proc / "42/stat").write_text(f"42 (a b) c) S {' '.join(['0'] * 10)} {workload * TICKS} 0 0 0\n")
    (group / "cpu.stat").write_text(f"nr_periods {10 + throttled * 2}\nnr_throttled {throttled}\n")


def test_usage_is_the_difference_of_two_snapshots(host: tuple[Path, Path]) -> None:
    proc, cgroups = host
    before = usage.snapshot([42], 100.0, proc, cgroups)
    at(proc, cgroups / "kubepods/pod1", busy=6, workload=2, throttled=30)
    after = usage.snapshot([42], 105.0, proc, cgroups)
    found = usage.between(before, after, [42], proc, cgroups)
    assert (found.seconds, found.busy, found.workload, found.stolen) == (5.0, 6.0, 2.0, 0.0)
    assert (found.periods, found.throttled, found.quota) == (60, 30, 0.5)
    assert found.throttled_percent == 50.0
    assert (found.pss_mib, found.memory_percent) == (20.0, 25.0)


def test_the_limit_of_cgroups_version_1_is_read_too(host: tuple[Path, Path]) -> None:
    proc, cgroups = host
    (proc / "42/cgroup").write_text("5:memory:/m\n3:cpu,cpuacct:/kubepods/pod1\n0::/x\n")
    group = cgroups / "cpu/kubepods/pod1"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert usage.cpu_cgroup(42, proc, cgroups) == group
    assert usage.quota(group) is None
    (group / "cpu.cfs_quota_us").write_text("20000\n")
    assert usage.quota(group) == 0.2


def test_a_process_that_has_ended_costs_nothing_more(host: tuple[Path, Path]) -> None:
    proc, cgroups = host
    assert (usage.cpu_seconds(7, proc), usage.pss(7, proc), usage.cpu_cgroup(7, proc, cgroups)) == (0.0, 0.0, None)


def test_shares_of_the_processors() -> None:
    found = made(seconds=10.0, cores=2, busy=10.0, generator=4.0, workload=5.0, stolen=1.0)
    assert (found.steal_percent, found.others_percent, found.node_percent) == (5.0, 5.0, 30.0)
    assert found.workload_cores == 0.5
    assert made(busy=0.0).others_percent == 0.0


def test_what_a_pod_costs_beside_its_program(tmp_path: Path) -> None:
    for pid, (name, size) in enumerate((("containerd-shim", 10), ("containerd-shim", 14), ("pause", 1), ("other", 99))):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "comm").write_text(f"{name}\n")
        (folder / "smaps_rollup").write_text(f"Pss: {size * 1024} kB\n")
    assert usage.pod_overhead_mib(tmp_path) == 15.0
    (tmp_path / "2" / "comm").write_text("sleep\n")
    assert usage.pod_overhead_mib(tmp_path) is None


def test_the_real_proc_is_read() -> None:
    before = usage.snapshot([os.getpid()], 0.0)
    sum(number * number for number in range(2_000_000))
    after = usage.snapshot([os.getpid()], 1.0)
    found = usage.between(before, after, [os.getpid()])
    assert found.workload > 0
    assert found.pss_mib > 1
    assert 0 < found.memory_percent < 100
