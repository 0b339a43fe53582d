# SPDX-License-Identifier: Apache-2.0
"""From figures to verdicts. No input or output, no clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import model
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Check, Layer, Line, Status, line

AOT_FACTOR = 10.0
# A quota of 0.1 CPU is kept on the average; the runtime's own work and the last period are what may be over it.
CPU_MOST = 0.18
# Where the kernel does not say that a module was held back, it must have got this much without a quota.
CPU_FREE = 0.36
DEADLINE_MS = 5000.0
RATIO = 2.0
# What a containerd that leaks nothing may have grown by: open files, and memory.
LEAK_FILES, LEAK_MIB = 8, 48.0
# Above this the host itself is too slow or too busy to judge the engine by 10 ms: measured native starts take 5.
NATIVE_TRUST_MS = 7.0
FAIL_ON = ("none", "function", "all")

_FIB_SECONDS = 0.4
_FIB_RANGE = (20, 40)
_GOLDEN = (1 + math.sqrt(5)) / 2


@dataclass(frozen=True)
class Llvm:
    """How the engine that a container ran had LLVM in it: ``shared`` library, ``inside`` the engine's own, ``none``."""

    kind: str
    mapped_mib: float


def p95(samples: Sequence[float]) -> float:
    """The nearest-rank 95th percentile: a value that was measured."""
    return sorted(samples)[math.ceil(0.95 * len(samples)) - 1]


def fib_size(seconds: float, n: int) -> int:
    """From how long fib(n) took to the N that takes about 0.4 s: each step costs the golden ratio."""
    low, high = _FIB_RANGE
    return min(high, max(low, n + round(math.log(_FIB_SECONDS / max(seconds, 1e-6), _GOLDEN))))


def aot(compiled_ms: Sequence[float], interpreted_ms: Sequence[float], same_result: bool) -> Line:
    """Is compiled code live? By the factor to the interpreter on the same module in the same run."""
    compiled, interpreted = statistics.median(compiled_ms), statistics.median(interpreted_ms)
    factor = interpreted / max(compiled, 1e-6)
    details = {"compiled_ms": compiled, "interpreted_ms": interpreted}
    n = len(compiled_ms)
    if not same_result:
        reason = "compiled and interpreted code gave different results"
        next_step = "rebuild the wasm-probes artifact for this engine; if it stays, do not use this engine"
        return line(model.AOT, Status.FAIL, reason, measured=factor, n=n, next_step=next_step, details=details)
    if factor >= AOT_FACTOR:
        return line(model.AOT, Status.PASS, measured=factor, n=n, details=details)
    return line(
        model.AOT,
        Status.FAIL,
        "the engine interprets: it does not take the compiled code of the module",
        measured=factor,
        n=n,
        next_step="compare the engine's version with the one that compiled (wasmedge compile); "
        "engines from 0.15 on do not take modules of 0.14",
        details=details,
    )


def cold_start(check: Check, wasm_ms: Sequence[float], native_ms: Sequence[float], llvm: Llvm | None) -> Line:
    """Judged by the median; trusted only if the native control, run in between, was quick itself.

    A check without a limit is a figure to compare others with: it passes by having been measured.
    """
    measured, native = statistics.median(wasm_ms), statistics.median(native_ms)
    n = len(wasm_ms)
    details = {
        "p95": p95(wasm_ms),
        "native_median": native,
        "native_p95": p95(native_ms),
        "ratio_to_native": measured / max(native, 1e-6),
    }
    if check.limit is not None and native > NATIVE_TRUST_MS:
        return line(
            check,
            Status.INVALID,
            f"the native control itself took {native:.1f} ms (trusted up to {NATIVE_TRUST_MS:g}): "
            "host too slow or too busy to judge",
            measured=measured,
            n=n,
            next_step="look at load and CPU steal in the identity, and run again when the host is idle",
            details=details,
        )
    if check.limit is None or measured < check.limit:
        return line(check, Status.PASS, measured=measured, n=n, details=details)
    cause, next_step = slow_because(llvm)
    reason = f"the median is {measured:.1f} ms, {details['ratio_to_native']:.1f} times the native control's"
    return line(check, Status.FAIL, reason, measured=measured, n=n, cause=cause, next_step=next_step, details=details)


def ratio(check: Check, wasm: Sequence[float], native: Sequence[float], llvm: Llvm | None) -> Line:
    """How many times the native control's: the median of the pairs' ratios, beside ``check.limit``.

    A pair's halves follow each other, so a busy host lengthens both. Its median's 95 % confidence interval comes out of
    two order statistics (the sign test's); where it holds the limit, the run can't tell on which side the truth is.
    """
    ratios = sorted(one / max(other, 1e-6) for one, other in zip(wasm, native, strict=True))
    low, high = _median_interval(ratios)
    measured, n, limit = statistics.median(ratios), len(ratios), check.limit or RATIO
    details = {"low": low, "high": high, "median": statistics.median(wasm), "native_median": statistics.median(native)}
    if low <= limit < high:
        reason = f"too noisy to judge: {measured:.2f} times, between {low:.2f} and {high:.2f} (95 %, n={n})"
        step = "run again on an idle host, or with wasm_smoke_level: full"
        return line(check, Status.INVALID, reason, measured=measured, n=n, next_step=step, details=details)
    if measured <= limit:
        return line(check, Status.PASS, measured=measured, n=n, details=details)
    cause, step = slow_because(llvm)
    reason = f"{measured:.2f} times the native control's (between {low:.2f} and {high:.2f}, 95 %)"
    return line(check, Status.FAIL, reason, measured=measured, n=n, cause=cause, next_step=step, details=details)


def _median_interval(ordered: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Of sorted values; as wide as they are where there are too few for the level."""
    n = len(ordered)
    rank, tail = 0, 0.5**n
    while 2 * (tail + math.comb(n, rank + 1) * 0.5**n) <= 1 - level:
        rank += 1
        tail += math.comb(n, rank) * 0.5**n
    return ordered[rank], ordered[n - 1 - rank]


def cpu_quota(check: Check, limited: float, free: float, held: float) -> Line:
    """CPUs that a module got with the quota and without one, and for how many seconds the kernel held it back.

    One of the last two must show that the module wanted more than its quota: on a busy host it may not get that far.
    """
    details = {"without_quota": free, "held_back_seconds": held}
    if limited <= CPU_MOST and (held > 0 or free >= CPU_FREE):
        return line(check, Status.PASS, measured=limited, n=1, details=details)
    if free < CPU_FREE:
        reason = f"without a quota it got {free:.2f} CPU only: the host is too busy, or throttled, to judge"
        step = "uptime; cat /proc/pressure/cpu; grep throttled /sys/fs/cgroup/cpu.stat"
        return line(check, Status.INVALID, reason, measured=limited, n=1, next_step=step, details=details)
    return line(
        check,
        Status.FAIL,
        f"the quota does not hold: it got {limited:.2f} CPU",
        measured=limited,
        n=1,
        cause="the CPU controller is off, or the cgroup driver of crun is not that of the host",
        next_step="grep cpu /proc/cgroups; cat /sys/fs/cgroup/cgroup.controllers",
        details=details,
    )


def cycles(check: Check, n: int, left: Sequence[str], details: dict[str, float]) -> Line:
    """What ``n`` pods that came and went left, and by how much containerd has grown."""
    reason = ""
    if left:
        reason = f"{len(left)} things are still there: {'; '.join(left[:3])}"
    elif details.get("containerd_files", 0.0) > max(LEAK_FILES, n / 2):
        reason = f"containerd keeps {details['containerd_files']:.0f} more files open after {n} pods"
    elif details.get("containerd_mib", 0.0) > LEAK_MIB:
        reason = f"containerd has grown by {details['containerd_mib']:.0f} MiB over {n} pods"
    if not reason:
        return line(check, Status.PASS, n=n, details=details)
    return line(
        check,
        Status.FAIL,
        reason,
        n=n,
        cause="containerd or its shim does not let go of what has ended" if left else "containerd leaks",
        next_step="ps ax | grep containerd-shim; ls -l /proc/$(pidof containerd)/fd; journalctl -u containerd -n 50",
        details=details,
    )


def slow_because(llvm: Llvm | None) -> tuple[str, str]:
    """The likely cause of a slow start, and the next command."""
    if llvm is None:
        return (
            "no cause seen: the engine's libraries could not be looked at",
            "ldd libwasmedge.so.0",
        )
    lean = "set wasm_runtime_engine: lean, or use an engine built without LLVM: compiled modules run without it"
    if llvm.kind == "shared":
        return f"engine loads libLLVM ({llvm.mapped_mib:.0f} MiB mapped at each start)", lean
    if llvm.kind == "inside":
        return f"engine has LLVM linked into it ({llvm.mapped_mib:.0f} MiB mapped at each start)", lean
    return "not LLVM: the engine comes without it", "strace -f -r crun run ... on the host shows where the time goes"


def complaint(lines: Sequence[Line], fail_on: str) -> str | None:
    """One sentence on what makes the module fail, or None. A check that is invalid has not shown what it should."""
    layers = {"none": (), "function": (Layer.FUNCTION,), "all": tuple(Layer)}[fail_on]
    bad = [one for one in lines if one.layer in layers and one.status in (Status.FAIL, Status.INVALID)]
    if not bad:
        return None
    listed = "; ".join(f"{one.id}: {one.status.value}, {one.reason}" for one in bad)
    return f"{len(bad)} of {len(lines)} checks did not pass: {listed}"


def outcome(lines: Sequence[Line]) -> str:
    """All lines in one sentence."""
    counts = []
    for status in Status:
        ids = [one.id for one in lines if one.status is status]
        named = f" ({', '.join(ids)})" if ids and status in (Status.FAIL, Status.INVALID) else ""
        counts.append(f"{len(ids)} {status.value.replace('_', ' ')}{named}")
    return f"{len(lines)} checks: {', '.join(counts)}"
