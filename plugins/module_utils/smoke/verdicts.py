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
    """Judged by the median; trusted only if the native control, run in between, was quick itself."""
    measured, native = statistics.median(wasm_ms), statistics.median(native_ms)
    n = len(wasm_ms)
    details = {
        "p95": p95(wasm_ms),
        "native_median": native,
        "native_p95": p95(native_ms),
        "ratio_to_native": measured / max(native, 1e-6),
    }
    if native > NATIVE_TRUST_MS:
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
    reason, next_step = _slow_because(llvm)
    return line(check, Status.FAIL, reason, measured=measured, n=n, next_step=next_step, details=details)


def _slow_because(llvm: Llvm | None) -> tuple[str, str]:
    if llvm is None:
        return (
            "no cause seen: the engine's libraries could not be looked at",
            "ldd libwasmedge.so.0 (does it need libLLVM?)",
        )
    lean = (
        "running compiled modules does not need it: set wasm_runtime_engine: lean, or use an engine built without LLVM"
    )
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
