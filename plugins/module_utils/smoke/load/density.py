# SPDX-License-Identifier: Apache-2.0
"""How many pods a host carries within the SLO, Wasm against native, and what that means for the number of hosts.

No input or output, no clock. As many copies as the system has pods a host run side by side and share its rate. From
what each of them costs follows how many there could be:

    budget   = what the targets let the host use on average, less what it uses without the copies
    cost     = what a copy used, and in memory what every pod costs beside its program (shim, pause container)
    density  = the smaller of budget / cost in CPU and in memory, rounded down
    node cost, change in % = 100 * (native density / Wasm density - 1): the hosts that the same pods need
    utilisation, change in % = 100 * (Wasm density / native density - 1): the pods that the same host carries
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.targets import Targets
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.verdicts import (
    Reason,
    Round,
    distrust,
    judged,
    why_slow,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Check, Layer, Line

DENSITY = Check(
    "density", Layer.SITE, "pods that the host carries within the SLO, each with its share of the rate", unit="pods"
)
NODE_COST = Check(
    "node_cost", Layer.SITE, "hosts for the same pods: 100 x (native density / Wasm density - 1)", unit="%"
)
UTILISATION = Check(
    "utilisation", Layer.SITE, "pods on the same host: 100 x (Wasm density / native density - 1)", unit="%"
)


@dataclass(frozen=True)
class Side:
    """The copies of one side, all at once: their figures together, and what one of them cost."""

    round: Round
    copies: int

    @property
    def cpu(self) -> float:
        """Cores a copy."""
        return self.round.usage.workload_cores / self.copies

    @property
    def pss_mib(self) -> float:
        """MiB a copy, with its share of what they have in common."""
        return self.round.usage.pss_mib / self.copies


@dataclass(frozen=True)
class Capacity:
    """What the host has, and what it uses without any copy. ``overhead_mib``: of every pod beside its program."""

    cores: int
    memory_mib: float
    base_cores: float
    base_mib: float
    overhead_mib: float


def pods(side: Side, capacity: Capacity, targets: Targets) -> int:
    """The density by the formula above; 0 where the copies did not hold the SLO."""
    if why_not(side, targets) is not None:
        return 0
    cpu = capacity.cores * targets.cpu_percent / 100 - capacity.base_cores
    memory = capacity.memory_mib * targets.memory_percent / 100 - capacity.base_mib
    by_cpu = cpu / max(side.cpu, 1e-6)
    by_memory = memory / (side.pss_mib + capacity.overhead_mib)
    return max(0, math.floor(min(by_cpu, by_memory)))


def why_not(side: Side, targets: Targets) -> Reason | None:
    """Why the copies are not within the SLO, if so."""
    figures = side.round.figures
    late = [name.upper() for name in ("p50", "p99", "p999") if getattr(figures, name) > getattr(targets, name)]
    if not late and not figures.errors:
        return None
    unanswered = sum(figures.errors.values())
    what = f"{', '.join(late)} over the limit" if late else f"{unanswered} requests without a right answer"
    slow = why_slow([side.round])
    return replace(slow, reason=f"{side.copies} copies at once: {what}; {slow.reason}")


def lines(wasm: Side, native: Side, capacity: Capacity, targets: Targets) -> list[Line]:
    """DENSITY, NODE_COST, UTILISATION."""
    untrusted = distrust([wasm.round, native.round])
    ours, control = pods(wasm, capacity, targets), pods(native, capacity, targets)
    details: Mapping[str, float] = {
        "wasm_pods": ours,
        "native_pods": control,
        "copies": wasm.copies,
        "wasm_cpu_a_pod": wasm.cpu,
        "native_cpu_a_pod": native.cpu,
        "wasm_pss_mib_a_pod": wasm.pss_mib,
        "native_pss_mib_a_pod": native.pss_mib,
        "overhead_mib_a_pod": capacity.overhead_mib,
        "base_cores": capacity.base_cores,
        "base_mib": capacity.base_mib,
        "host_cores": capacity.cores,
        "host_mib": capacity.memory_mib,
    }
    n = wasm.round.figures.n
    broken = why_not(wasm, targets)
    few = broken or Reason(
        f"the host carries {ours} pods within the SLO, {targets.pods:g} are to run on it",
        "the host is too small, or uses too much without them",
        "compare host_mib, base_mib and the cost a pod in the details",
    )

    def said(check: Check, limit: float, measured: float | None, good: bool, why: Reason) -> Line:
        limited = replace(check, limit=limit)
        return judged(limited, measured, good, n=n, untrusted=untrusted, why=why, details=details)

    found = [said(DENSITY, targets.pods, ours, ours >= targets.pods, few)]
    cost_limit, use_limit = targets.node_cost_percent, targets.utilisation_percent
    if not ours or not control:
        lacking = why_not(native if ours else wasm, targets) or Reason("the host has no room for a pod of one side")
        why = replace(lacking, reason=f"no ratio without a density: {lacking.reason}")
        return [*found, said(NODE_COST, cost_limit, None, False, why), said(UTILISATION, use_limit, None, False, why)]
    cost, use = 100 * (control / ours - 1), 100 * (ours / control - 1)
    why = Reason(
        f"a native build of the same service needs less: {control} pods of it fit where {ours} Wasm pods do",
        "the engine's own memory and CPU in every pod, against a static program without any",
        "compare the cost a pod in the details; the goal is meant against what runs on the sites today",
    )
    found.append(said(NODE_COST, cost_limit, cost, cost <= cost_limit, why))
    found.append(said(UTILISATION, use_limit, use, use >= use_limit, why))
    return found
