# SPDX-License-Identifier: Apache-2.0
"""What a host that runs a system has to reach, as `smoke_targets.json` of the system has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError

SATISFACTION = "satisfaction"


@dataclass(frozen=True)
class Targets:
    """Limits in ms and percent, rates a second. Changes are percent against native, with their sign.

    ``pods`` are those that the system has a host; ``pod_cpu`` and ``pod_memory_mib`` are the limits of one.
    """

    system: str
    qps: float
    pods: float
    pod_cpu: float
    pod_memory_mib: float
    p50: float
    p99: float
    p999: float
    cpu_percent: float
    memory_percent: float
    node_cost_percent: float
    utilisation_percent: float
    own: str
    own_percent: float

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Targets:
        """From the variable; one error names what is wrong with it."""
        try:
            latency, own = given["latency_ms"], given["own"]
            return cls(
                system=str(given["system"]),
                qps=_positive(given, "qps_per_node"),
                pods=_positive(given, "pods_per_node"),
                pod_cpu=_positive(given["pod_limits"], "cpu"),
                pod_memory_mib=_positive(given["pod_limits"], "memory_mib"),
                p50=_positive(latency, "p50"),
                p99=_positive(latency, "p99"),
                p999=_positive(latency, "p999"),
                cpu_percent=_positive(given, "cpu_mean_percent"),
                memory_percent=_positive(given, "memory_mean_percent"),
                node_cost_percent=float(given["node_cost_change_percent"]),
                utilisation_percent=float(given["utilisation_change_percent"]),
                own=str(own["name"]),
                own_percent=_positive(own, "at_least_percent"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SmokeError(
                f"targets (wasm_smoke_targets) are not those of a system ({type(error).__name__}: {error}): take "
                "industries/<system>/smoke_targets.json, or leave them out for a test without load"
            ) from error


def _positive(given: Mapping[str, Any], name: str) -> float:
    value = float(given[name])
    if not value > 0:
        raise ValueError(f"{name} is {given[name]!r}, must be more than 0")
    return value
