# SPDX-License-Identifier: Apache-2.0
"""Cold start at the layer of the OCI runtime: `crun run` of a compiled module, and of a native program, in turn."""

from __future__ import annotations

import secrets

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.checks import Refused, complaint, module_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Containers
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Findings,
    Layer,
    Level,
    Status,
    line,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

NAME = "cold"
LEAST = Level.QUICK
CRUN = Check(
    "cold_start_crun",
    Layer.CRUN,
    "cold start: `crun run` of a compiled module to its first output",
    limit=10.0,
    unit="ms",
)
CHECKS = (CRUN,)
_WARM_UP = 2


def measure(bench: Bench) -> Findings:
    """The compiled probe and the native control A B A B, so that whatever slows the host slows both."""
    if bench.compiled is None:
        next_step = "put the wasm-probes artifact for this engine and architecture into edgefleet_mirror_dir"
        return Findings([line(CRUN, Status.NOT_APPLICABLE, bench.no_compiled, next_step=next_step)])
    wasm_ms: list[float] = []
    native_ms: list[float] = []
    containers, compiled = bench.containers, bench.compiled
    try:
        text = f"edgefleet-smoke {secrets.token_hex(16)}\n".encode()
        wasm = containers.bundle("cold-wasm", module_of(compiled, "echo"))
        native = containers.bundle("cold-native", native_program(compiled.arch, text), program="native")
        for index in range(-_WARM_UP, bench.effort.crun_starts):
            pair = _wasm_start_ms(containers, wasm), _native_start_ms(containers, native, text)
            if index >= 0:
                wasm_ms.append(pair[0])
                native_ms.append(pair[1])
    except Refused as error:
        next_step = "journalctl -b -p warning"
        return Findings([line(CRUN, error.status, str(error), n=len(wasm_ms), next_step=next_step)])
    verdict = verdicts.cold_start(CRUN, wasm_ms, native_ms, bench.engine.llvm)
    return Findings([verdict], {CRUN.id: {"wasm_ms": wasm_ms, "native_ms": native_ms}})


def _wasm_start_ms(containers: Containers, bundle: Bundle) -> float:
    fresh = secrets.token_hex(16)
    ended = containers.start(bundle, [fresh]).ended
    if ended.rc != 0 or fresh.encode() not in ended.out.split(b"\0"):
        raise Refused(f"the compiled probe does not run: {complaint(ended)}")
    return _milliseconds(ended)


def _native_start_ms(containers: Containers, bundle: Bundle, text: bytes) -> float:
    ended = containers.start(bundle).ended
    if ended.rc != 0 or ended.out != text:
        raise Refused(f"the native control does not run: {complaint(ended)}", Status.INVALID)
    return _milliseconds(ended)


def _milliseconds(ended: Ended) -> float:
    if ended.first_output is None:
        raise Refused("output without a time", Status.INVALID)
    return round(ended.first_output * 1000, 3)
