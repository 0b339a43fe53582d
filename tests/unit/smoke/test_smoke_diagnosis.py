"""From what was seen to the likely cause and the next command."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import cold, diagnosis, isolation
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Status, line

IDLE: dict[str, Any] = {
    "cpu": {"count": 4}, "load_1m": 0.4, "steal_percent": 0.0, "throttled_percent": 0.0, "disk_sync_ms": 2.0,
    "pressure": {"cpu": 1.0, "io": 0.5, "memory": 0.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('failed to get sandbox runtime: no runtime for "wasmedge" is configured', "no runtime of that name"),
        (
            'failed to start shim: exec: "containerd-shim-runc-v2": executable file not found in $PATH',
            "shim is missing",
        ),
        ("the Wasm container printed 'exec /probes/probe.wasm: Exec format error'", "the Wasm handler is not taken"),
        ("could not load `libwasmedge.so.0`: libwasmedge.so.0: cannot open shared object file", "library is missing"),
        ('expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups', "the cgroup driver"),
        ("fork/exec /usr/bin/crun: no such file or directory: unknown", "the program behind the runtime"),
        ("write /run/x: no space left on device", "a file system is full"),
        (
            "/run/containerd/containerd.sock: /runtime.v1.RuntimeService/RunPodSandbox: Broken pipe",
            "containerd is not running",
        ),
        ("something new", ""),
    ],
)
def test_what_containerd_says(said: str, cause: str) -> None:
    found, step = diagnosis.of_pod(said)
    assert cause in found
    assert bool(found) == bool(cause)
    assert step


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        ({}, ""),
        ({"steal_percent": 12.0, "load_1m": 9.0}, "the hypervisor took 12.0 %"),
        ({"throttled_percent": 40.0}, "a CPU quota held this login back 40.0 %"),
        ({"disk_sync_ms": 80.0}, "slow disk: 80.0 ms"),
        ({"pressure": {"cpu": 1.0, "io": 30.0, "memory": 0.0}}, "tasks waited for it 30.0 % of the time"),
        ({"load_1m": 9.0}, "other work: load 9.0 on 4 CPUs"),
        ({"pressure": {"cpu": 44.0, "io": None, "memory": None}}, "tasks waited for one 44.0 %"),
        ({"pressure": {"cpu": None, "io": None, "memory": None}, "throttled_percent": None, "disk_sync_ms": None}, ""),
    ],
)
def test_what_the_host_says(seen: dict[str, Any], cause: str) -> None:
    found = diagnosis.of_host({**IDLE, **seen})
    assert (cause in found[0]) if found else not cause


def test_only_lines_of_time_without_a_cause_get_the_hosts() -> None:
    lines = [
        line(cold.CRUN, Status.INVALID, "too slow to judge"),
        line(cold.CRUN, Status.FAIL, "slow", cause="engine loads libLLVM", next_step="lean"),
        line(cold.CRUN, Status.PASS, n=1),
        line(isolation.ESCAPE, Status.FAIL, "it has read a file"),
        line(isolation.CPU, Status.INVALID, "too little"),
    ]
    found = diagnosis.completed(lines, {**IDLE, "steal_percent": 12.0})
    stolen = "the hypervisor took 12.0 % of the CPU time"
    assert [one.cause for one in found] == [stolen, "engine loads libLLVM", "", "", stolen]
    assert found[0].next.startswith("vmstat")
    assert diagnosis.completed(lines, IDLE) == lines
