# SPDX-License-Identifier: Apache-2.0
"""Section: through containerd's CRI, as the kubelet does it: a native sidecar, cold starts, and what they leave."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import diagnosis, traces, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench, attempted
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.checks import module_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cold import NO_PROBE_STEP
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
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
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.sandboxes import Pod, Pods, program_folder

NAME = "cri"
LEAST = Level.QUICK
SIDECAR = Check("sidecar", Layer.FUNCTION, "a native container runs beside a Wasm container in one pod")
CYCLES = Check("cycles", Layer.FUNCTION, "pods that come and go leave no process, mount, control group or file behind")
COLD = Check("cold_start_cri", Layer.CRI, "cold start through CRI: create, start, first line of the log", unit="ms")
RATIO = Check(
    "cold_ratio_cri",
    Layer.CRI,
    "cold start through CRI of a compiled module against a native program",
    limit=verdicts.RATIO,
    unit="times",
)
CHECKS = (SIDECAR, CYCLES, COLD, RATIO)

# The kubelet looks for pods that it does not know every two seconds.
_SANDBOX_SECONDS = 1.0
_WARM_UP = 1
_SETTLE_SECONDS = 5.0
WASM, NATIVE = "probe.wasm", "native"


def measure(bench: Bench) -> Findings:
    if not bench.containerd.exists():
        reason = f"no containerd on this host: there is no {bench.containerd}"
        return Findings([line(check, Status.NOT_APPLICABLE, reason) for check in CHECKS])
    with Cri(bench.containerd) as runtime:
        return section(bench, runtime, time.time)


def section(bench: Bench, runtime: Cri, wall: Callable[[], float]) -> Findings:
    """As ``measure``, with a CRI and a clock of the caller's."""
    fresh = secrets.token_hex(16)
    module = module_of(bench.compiled, "echo") if bench.compiled else bench.payload.plain["echo"]
    programs = {WASM: module, NATIVE: native_program(bench.arch, f"native {fresh}\n".encode())}
    folder = program_folder(bench.containers.folder / "cri", programs)
    try:
        pods = Pods(runtime, folder, bench.containers.manager, wall)
        sidecar = _sidecar(pods, fresh)
        pods.end_shims()
    except SmokeError as error:
        cause, step = diagnosis.of_pod(str(error))
        sidecar = line(SIDECAR, Status.FAIL, str(error), n=1, cause=cause, next_step=step)
    if sidecar.status is not Status.PASS:
        rest = [line(check, Status.NOT_APPLICABLE, "needs the check sidecar to pass") for check in CHECKS[1:]]
        return Findings([sidecar, *rest])
    cycles = attempted((CYCLES,), lambda: _cycles(pods, bench.effort.cycles))
    cold = attempted((COLD, RATIO), lambda: _cold(bench, pods))
    return Findings([sidecar, *cycles.lines, *cold.lines], cold.samples)


def _sidecar(pods: Pods, fresh: str) -> Line:
    wrong = ""

    def both(pod: Pod) -> None:
        nonlocal wrong
        native = pod.start(NATIVE)
        wasm = pod.start(WASM, fresh)
        wrong = ""
        if native.line != f"native {fresh}":
            wrong = f"the native container printed {native.line[:80]!r}"
        elif fresh not in wasm.line:
            wrong = f"the Wasm container printed {wasm.line[:80]!r}"

    pods.tried(both)
    if not wrong:
        return line(SIDECAR, Status.PASS, n=1)
    cause, step = diagnosis.of_pod(wrong)
    return line(SIDECAR, Status.FAIL, wrong, n=1, cause=cause, next_step=step)


def _cycles(pods: Pods, number: int) -> Findings:
    """Whole pods with one Wasm container each. The first is not counted: it opens what stays open."""
    ids: list[str] = []

    def cycle(pod: Pod) -> None:
        started = pod.start(WASM)
        pod.remove(started.id)
        # A pod that the kubelet took away in the middle is tried again; what became of it is not this check's to say.
        ids.extend((pod.id, started.id))

    pods.tried(cycle)
    pods.end_shims()
    before = traces.containerd()
    for _ in range(number):
        pods.tried(cycle)
    details = {"shims_ended": float(pods.end_shims())}
    left = _settled(ids)
    after = traces.containerd()
    if before and after:
        details |= {"containerd_files": float(after.files - before.files), "containerd_mib": after.mib - before.mib}
    return Findings([verdicts.cycles(CYCLES, number, left, details)])


def _settled(ids: list[str]) -> list[str]:
    """What is left when the host has had time to clean up behind the last one."""
    until = time.monotonic() + _SETTLE_SECONDS
    while (left := traces.left(ids)) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def _cold(bench: Bench, pods: Pods) -> Findings:
    if bench.compiled is None:
        reason = bench.no_compiled
        lines = [line(check, Status.NOT_APPLICABLE, reason, next_step=NO_PROBE_STEP) for check in (COLD, RATIO)]
        return Findings(lines)
    wasm_ms: list[float] = []
    native_ms: list[float] = []

    def pair(pod: Pod, counts: bool) -> None:
        started = pod.start(WASM), pod.start(NATIVE)
        if counts:
            wasm_ms.append(started[0].ms)
            native_ms.append(started[1].ms)
        for one in started:
            pod.remove(one.id)

    def pairs(pod: Pod) -> None:
        until = time.monotonic() + _SANDBOX_SECONDS
        # In a new sandbox the first of each is slower than those that follow.
        for index in range(-_WARM_UP, bench.effort.cri_starts):
            if index >= 0 and (len(wasm_ms) >= bench.effort.cri_starts or time.monotonic() > until):
                return
            try:
                pair(pod, index >= 0)
            except SmokeError:
                # The kubelet took the pod: no fault after the first pair.
                if index > 0:
                    return
                raise

    # A sandbox in which not one pair was done does not count against the number of them.
    most = 2 * bench.effort.cri_starts
    for _ in range(most):
        if len(wasm_ms) < bench.effort.cri_starts:
            pods.tried(pairs)
    pods.end_shims()
    if not wasm_ms:
        reason = f"no pair of containers was started in any of {most} sandboxes within {_SANDBOX_SECONDS:g} s each"
        step = "the host is too slow or too busy to judge: run again when it is idle"
        return Findings([line(check, Status.INVALID, reason, next_step=step) for check in (COLD, RATIO)])
    cold = verdicts.cold_start(COLD, wasm_ms, native_ms, bench.engine.llvm)
    ratio = verdicts.ratio(RATIO, wasm_ms, native_ms, bench.engine.llvm)
    return Findings([cold, ratio], {COLD.id: {"wasm_ms": wasm_ms, "native_ms": native_ms}})
