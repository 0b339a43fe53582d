# SPDX-License-Identifier: Apache-2.0
"""From the figures of a load to verdicts. No input or output, no clock."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import Figures
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.targets import Targets
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.usage import Usage
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Check, Layer, Line, Status, line

RATIO = 2.0
# A rate is carried if so much of it is answered: the last requests of a run may still be under way at its end.
CARRIED_PERCENT = 98.0
# A generator on schedule lags by its timer's tick of 1 ms and what the kernel adds. Beyond this it was not given a CPU.
LAG_TRUST_MS = 5.0
STEAL_TRUST_PERCENT = 5.0
# The slowest hundredth of the requests decides a ratio of P99. What is stolen for longer may be all of these, and falls
# to one side.
STEAL_RATIO_TRUST_PERCENT = 1.0
# Of the host's CPU time, what others may use while a load is judged. K3s and the kernel's network take 5 to 15.
OTHERS_TRUST_PERCENT = 35.0
# How much the rounds of the native control may differ before a ratio to it says nothing.
CONTROL_TRUST_TIMES = 3.0
# Of its scheduling periods, those in which a workload's limit stops it: from here on that is why it is slow.
THROTTLED_PERCENT = 10.0
# Of what it may use: from here on a workload has no CPU left.
SATURATED_PERCENT = 90.0

RATE = Check("load_rate", Layer.LOAD, "the site's rate is answered, each request sent at its own time", unit="QPS")
P50 = Check("load_p50", Layer.LOAD, "latency P50 from the intended time of sending", unit="ms")
P99 = Check("load_p99", Layer.LOAD, "latency P99 from the intended time of sending", unit="ms")
P999 = Check("load_p999", Layer.LOAD, "latency P999 from the intended time of sending", unit="ms")
TO_NATIVE = Check(
    "load_ratio", Layer.LOAD, "latency against a native build of the same service", limit=RATIO, unit="times"
)
SATISFIED = Check("own_satisfaction", Layer.SITE, "share of requests answered within the P99 limit", unit="%")
CPU = Check("cpu_mean", Layer.SITE, "the host's mean CPU use at the site's rate", unit="%")
MEMORY = Check("memory_mean", Layer.SITE, "the host's memory use at the site's rate", unit="%")


@dataclass(frozen=True)
class Round:
    """One run of the generator, and what it cost."""

    figures: Figures
    usage: Usage


@dataclass(frozen=True)
class Reason:
    """Why, what it most likely comes from, and what to do next. ``certain``: also on a machine that is noisy."""

    reason: str
    cause: str = ""
    next: str = ""
    certain: bool = False


def distrust(rounds: Sequence[Round], steal_trust: float = STEAL_TRUST_PERCENT) -> Reason | None:
    """Why the rounds can't be trusted, if so. The generator's lag has nothing to do with how slow the workload is."""
    lag = max(one.figures.lag_p99 for one in rounds)
    steal = max(one.usage.steal_percent for one in rounds)
    others = max(one.usage.others_percent for one in rounds)
    again = "top -H on the host; run again when it is idle"
    if steal > steal_trust:
        return Reason(
            f"the hypervisor took {steal:.1f} % of the CPU time (trusted up to {steal_trust:g})",
            "other guests on the same machine",
            "ask for reserved CPUs, or run again at a quieter time",
        )
    if others > OTHERS_TRUST_PERCENT:
        return Reason(
            f"other programs used {others:.0f} % of the CPU time (trusted up to {OTHERS_TRUST_PERCENT:g})",
            "the machine is too noisy",
            again,
        )
    if lag > LAG_TRUST_MS:
        return Reason(
            f"the generator did not keep its schedule: its own lag P99 {lag:.1f} ms (trusted up to {LAG_TRUST_MS:g})",
            "the generator was not given a CPU in time",
            again,
        )
    return None


def rate_and_latency(rounds: Sequence[Round], targets: Targets) -> list[Line]:
    """RATE, P50, P99, P999: the worst of the rounds, so that one good round hides nothing."""
    untrusted = distrust(rounds)
    slow = why_slow(rounds)
    figures = [one.figures for one in rounds]
    n = sum(one.n for one in figures)
    achieved = min(one.achieved_qps for one in figures)
    errors = sum(count for one in figures for count in one.errors.values())
    details = {"asked_qps": targets.qps, "lag_p99_ms": max(one.lag_p99 for one in figures), "errors": errors}
    least = targets.qps * CARRIED_PERCENT / 100
    why = _errors(figures) if errors else slow
    carried = achieved >= least and not errors
    rate = replace(RATE, limit=least)
    lines = [judged(rate, achieved, carried, n=n, untrusted=untrusted, why=why, details=details)]
    for check, limit, name in ((P50, targets.p50, "p50"), (P99, targets.p99, "p99"), (P999, targets.p999, "p999")):
        worst, limited = max(getattr(one, name) for one in figures), replace(check, limit=limit)
        lines.append(judged(limited, worst, worst <= limit, n=n, untrusted=untrusted, why=slow, details=details))
    return lines


def judged(
    check: Check,
    measured: float | None,
    good: bool,
    *,
    n: int,
    untrusted: Reason | None,
    why: Reason,
    details: Mapping[str, float],
) -> Line:
    """The line: pass if good, else ``why``. Where it can't be trusted it is invalid, unless ``why`` is certain."""
    if untrusted is None and good:
        return line(check, Status.PASS, measured=measured, n=n, details=dict(details))
    failed = untrusted is None or (why.certain and not good)
    status, said = (Status.FAIL, why) if failed or untrusted is None else (Status.INVALID, untrusted)
    return line(
        check, status, said.reason, measured=measured, n=n, cause=said.cause, next_step=said.next, details=dict(details)
    )


def _errors(figures: Sequence[Figures]) -> Reason:
    counts: dict[str, int] = {}
    for one in figures:
        for what, count in one.errors.items():
            counts[what] = counts.get(what, 0) + count
    total = sum(one.n for one in figures)
    listed = ", ".join(f"{count} x {what}" for what, count in sorted(counts.items(), key=lambda item: -item[1])[:3])
    return Reason(
        f"{sum(counts.values())} of {total} requests got no right answer: {listed}",
        "the workload, or what stands before it, refuses or ends connections",
        "k3s kubectl get pods -A -o wide; k3s kubectl logs of the workload's pod",
    )


def why_slow(rounds: Sequence[Round]) -> Reason:
    """What the workload's own counters say of why it is slow."""
    worst = max(rounds, key=lambda one: one.usage.throttled_percent)
    if worst.usage.throttled_percent >= THROTTLED_PERCENT:
        allowed = f"limit of {worst.usage.quota:g} CPU" if worst.usage.quota is not None else "CPU limit"
        return Reason(
            f"the workload is throttled: its {allowed} stopped it in {worst.usage.throttled_percent:.0f} % of the "
            f"scheduling periods, with {worst.usage.workload_cores:.2f} CPU used",
            "the CPU limit is too small for this rate",
            "raise resources.limits.cpu of the service, or run more replicas",
            # The kernel counts it for the workload alone.
            certain=True,
        )
    busiest = max(one.usage.workload_cores for one in rounds)
    # One thread serves all connections: it has one CPU, however many its limit allows.
    have = min(worst.usage.quota or 1.0, 1.0)
    if busiest * 100 >= SATURATED_PERCENT * have:
        return Reason(
            f"the workload used {busiest:.2f} of the {have:g} CPU that it can use",
            "one pod can't carry this rate; or the engine interprets (see the line aot)",
            "run more replicas, and look at the line aot",
        )
    return Reason(
        "the workload is slow without being short of CPU",
        "it waits: for a disk, a back end, a lock, or the network in between",
        "k3s kubectl logs of the workload's pod; iostat -x 1 on the host",
    )


def to_native(wasm: Sequence[Round], native: Sequence[Round]) -> Line:
    """The larger of the ratios of P50 and P99, each a median over rounds that were run in turn."""
    medians = {
        name: (
            statistics.median(getattr(one.figures, name) for one in wasm),
            statistics.median(getattr(one.figures, name) for one in native),
        )
        for name in ("sent_p50", "sent_p99")
    }
    ratios = {name: ours / max(control, 1e-6) for name, (ours, control) in medians.items()}
    worst = max(ratios, key=lambda name: ratios[name])
    details = {
        "wasm_p50_ms": medians["sent_p50"][0],
        "native_p50_ms": medians["sent_p50"][1],
        "wasm_p99_ms": medians["sent_p99"][0],
        "native_p99_ms": medians["sent_p99"][1],
        "ratio_p50": ratios["sent_p50"],
        "ratio_p99": ratios["sent_p99"],
        "wasm_cpu": statistics.median(one.usage.workload_cores for one in wasm),
        "native_cpu": statistics.median(one.usage.workload_cores for one in native),
        "wasm_pss_mib": statistics.median(one.usage.pss_mib for one in wasm),
        "native_pss_mib": statistics.median(one.usage.pss_mib for one in native),
    }
    n = sum(one.figures.n for one in wasm)
    slow = why_slow(wasm)
    said = f"{worst.removeprefix('sent_').upper()} is {ratios[worst]:.1f} times native; {slow.reason}"
    return judged(
        TO_NATIVE,
        ratios[worst],
        ratios[worst] <= RATIO,
        n=n,
        untrusted=distrust([*wasm, *native], STEAL_RATIO_TRUST_PERCENT) or _restless(native),
        why=replace(slow, reason=said),
        details=details,
    )


def _restless(native: Sequence[Round]) -> Reason | None:
    """Whether the control itself came out differently each time."""
    p99 = [one.figures.sent_p99 for one in native]
    if max(p99) <= CONTROL_TRUST_TIMES * min(p99):
        return None
    return Reason(
        f"P99 of the native control itself was from {min(p99):.2f} to {max(p99):.2f} ms in {len(p99)} rounds "
        f"(trusted up to {CONTROL_TRUST_TIMES:g} times)",
        "the machine is too noisy",
        "top -H on the host; run again when it is idle",
    )


def satisfaction(rounds: Sequence[Round], targets: Targets) -> Line:
    """The share of all requests that were answered within the limit of P99."""
    share = min(one.figures.share_within(targets.p99) for one in rounds)
    n = sum(one.figures.n for one in rounds)
    return judged(
        replace(SATISFIED, limit=targets.own_percent),
        share,
        share >= targets.own_percent,
        n=n,
        untrusted=distrust(rounds),
        why=why_slow(rounds),
        details={"p99_limit_ms": targets.p99},
    )


def means(rounds: Sequence[Round], targets: Targets) -> list[Line]:
    """CPU and MEMORY of the host without the generator.

    CPU: (busy time of all CPUs - CPU time of the generator) / (CPUs x time).
    Memory: (MemTotal - MemAvailable) / MemTotal.
    """
    untrusted, n = distrust(rounds), len(rounds)
    usage = [one.usage for one in rounds]
    cpu = statistics.fmean(one.node_percent for one in usage)
    memory = statistics.fmean(one.memory_percent for one in usage)
    cores = {
        "cores": float(usage[0].cores),
        "workload_cores": statistics.fmean(one.workload_cores for one in usage),
        "generator_cores": statistics.fmean(one.generator / one.seconds for one in usage),
    }
    mib = {
        "host_mib": usage[0].memory_mib,
        "used_mib": statistics.fmean(one.memory_used_mib for one in usage),
        "workload_pss_mib": statistics.fmean(one.pss_mib for one in usage),
    }
    why = Reason(
        "the host is busier than its mean may be at this rate",
        "too many pods on the host, or too small a host",
        "k3s kubectl top nodes; k3s kubectl get pods -A -o wide",
    )
    return [
        judged(replace(check, limit=limit), value, value <= limit, n=n, untrusted=untrusted, why=why, details=details)
        for check, limit, value, details in (
            (CPU, targets.cpu_percent, cpu, cores),
            (MEMORY, targets.memory_percent, memory, mib),
        )
    ]
