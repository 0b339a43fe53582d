"""Rounds, targets and loops as tests want them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import Loop, Request, figures
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.targets import Targets
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.usage import Usage
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.verdicts import Round

TARGETS: Mapping[str, Any] = {
    "system": "examination-system",
    "qps_per_node": 500,
    "pods_per_node": 10,
    "pod_limits": {"cpu": 1.0, "memory_mib": 1024},
    "latency_ms": {"p50": 20, "p99": 30, "p999": 50},
    "cpu_mean_percent": 50,
    "memory_mean_percent": 60,
    "node_cost_change_percent": -50,
    "utilisation_change_percent": 60,
    "own": {"name": "satisfaction", "at_least_percent": 95},
}


def targets(**changed: Any) -> Targets:
    return replace(Targets.of(TARGETS), **changed)


def usage(**changed: Any) -> Usage:
    """Of a quiet host of 4 CPUs, 5 seconds long, that spends half a CPU on the workload."""
    quiet = Usage(
        seconds=5.0, cores=4, busy=4.5, stolen=0.0, generator=1.0, workload=2.5, periods=50, throttled=0, quota=1.0,
        pss_mib=20.0, memory_used_mib=2048.0, memory_mib=8192.0,
    )  # fmt: skip
    return replace(quiet, **changed)


def loop(
    latency: Callable[[int], float | None] = lambda _: 0.002,
    lag: Callable[[int], float] = lambda _: 0.0005,
    qps: float = 500,
    seconds: float = 6,
    errors: Mapping[str, int] | None = None,
) -> Loop:
    """A loop whose every request is answered so many seconds after it was sent, or never (None)."""
    found = []
    for index in range(round(qps * seconds)):
        due, late, took = index / qps, lag(index), latency(index)
        found.append(Request(due, due + late, None if took is None else due + late + took))
    return Loop(qps, seconds, found, errors or {})


def a_round(made: Loop | None = None, **changed: Any) -> Round:
    return Round(figures(made or loop()), usage(**changed))
