# SPDX-License-Identifier: Apache-2.0
"""Section: what the last drill (playbooks/drill.yml) says of the availability. Nothing is done to the host here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Findings,
    Layer,
    Level,
    Line,
    SmokeError,
    Status,
    line,
)

NAME = "drill"
LEAST = Level.QUICK
AVAILABILITY = Check(
    "availability",
    Layer.SITE,
    "minutes a month out of the SLO: seconds that each drilled fault cost x times a month / 60",
    unit="min",
)
CHECKS = (AVAILABILITY,)
NEXT = "ansible-playbook edgefleet.wasm.drill -e '{edgefleet_drill_events: [containerd_restart, k3s_restart, reboot]}'"


def measure(bench: Bench) -> Findings:
    """The line, out of the document that the controller kept of the host's last drill."""
    targets, drill = bench.options.get("targets"), bench.options.get("drill")
    if targets is None or drill is None:
        missing = "no targets: set wasm_smoke_targets" if targets is None else "this host had no drill"
        return Findings([line(AVAILABILITY, Status.NOT_APPLICABLE, missing, next_step=NEXT)])
    try:
        return Findings([verdict(drill, float(targets["unavailable_minutes_a_month"]))])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SmokeError(f"the document of the last drill can't be read ({error!r}): drill again, {NEXT}") from error


def verdict(drill: Mapping[str, Any], limit: float) -> Line:
    """``limit`` in minutes a month."""
    cost = {
        event: float(seen["seconds_out"]) * float(drill["a_month"][event]) for event, seen in drill["events"].items()
    }
    minutes = sum(cost.values()) / 60
    details = {f"{event}_seconds_out": float(seen["seconds_out"]) for event, seen in drill["events"].items()}
    details |= {f"{event}_a_month": float(drill["a_month"][event]) for event in drill["events"]}
    check = replace(AVAILABILITY, limit=limit)
    if minutes <= limit:
        return line(check, Status.PASS, measured=minutes, n=len(cost), details=details)
    worst = max(cost, key=lambda event: cost[event])
    return line(
        check,
        Status.FAIL,
        f"the faults of a month would cost {minutes:.1f} minutes, most of them ({cost[worst] / 60:.1f}) by {worst}",
        measured=minutes,
        n=len(cost),
        cause="the workload comes back too slowly, or the fault is too frequent",
        next_step="journalctl -b -u k3s -u containerd; k3s kubectl get events -A",
        details=details,
    )
