# SPDX-License-Identifier: Apache-2.0
"""Section: cold start below containerd, in turn with a native control, so that whatever slows the host slows both.

Two layers: the engine in a process (the host's own; wasmtime on the controller as reference), and `crun run`. What goes
through containerd is ``cri.py``, what goes through the kubelet ``pods.py``.
"""

from __future__ import annotations

import inspect
import json
import secrets
import sys
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import engine_starts, verdicts
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
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

NAME = "cold"
LEAST = Level.QUICK
CONTROLLER = Check(
    "cold_start_controller",
    Layer.CONTROLLER,
    "for reference: wasmtime on the controller, from a compiled module to its output",
    unit="ms",
)
ENGINE = Check(
    "cold_start_engine",
    Layer.ENGINE,
    "cold start: the host's engine in a process, from a compiled module to its output",
    limit=10.0,
    unit="ms",
)
CRUN = Check(
    "cold_start_crun",
    Layer.CRUN,
    "cold start: `crun run` of a compiled module to its first output",
    limit=10.0,
    unit="ms",
)
CRUN_RATIO = Check(
    "cold_ratio_crun",
    Layer.CRUN,
    "cold start: `crun run` of a compiled module against a native program",
    limit=verdicts.RATIO,
    unit="times",
)
CHECKS = (CONTROLLER, ENGINE, CRUN, CRUN_RATIO)
NO_PROBE_STEP = "put the wasm-probes artifact for this engine and architecture into edgefleet_mirror_dir"
_WARM_UP = 2


def measure(bench: Bench) -> Findings:
    found = [_controller(bench.payload.reference)]
    if bench.compiled is None:
        missing = [
            line(check, Status.NOT_APPLICABLE, bench.no_compiled, next_step=NO_PROBE_STEP)
            for check in (ENGINE, CRUN, CRUN_RATIO)
        ]
        found.append(Findings(missing))
    else:
        found += [_engine(bench, bench.compiled), _crun(bench, bench.compiled)]
    samples = {check: sides for one in found for check, sides in one.samples.items()}
    return Findings([one for findings in found for one in findings.lines], samples)


def _controller(reference: Any) -> Findings:
    if not reference:
        return Findings([line(CONTROLLER, Status.NOT_APPLICABLE, "the controller did not measure it")])
    verdict = verdicts.cold_start(CONTROLLER, reference["wasm_ms"], reference["native_ms"], None)
    return Findings([verdict], {CONTROLLER.id: dict(reference)})


def _engine(bench: Bench, compiled: Compiled) -> Findings:
    library = bench.engine.library
    if library is None:
        reason = "the engine's library was not seen in a container"
        return Findings([line(ENGINE, Status.NOT_APPLICABLE, reason)])
    folder = bench.containers.folder / "engine"
    folder.mkdir()
    module, native = folder / "echo.wasm", folder / "native"
    module.write_bytes(module_of(compiled, "echo"))
    native.write_bytes(native_program(compiled.arch, b"edgefleet-smoke\n"))
    native.chmod(0o755)
    # Modules reach a host in an archive: a program of its own has to be taken out of it.
    (folder / "engine_starts.py").write_text(inspect.getsource(engine_starts), encoding="utf-8")
    # As a container finds it: what an engine needs lies beside it, where it is not the distribution's.
    words = ["env", f"LD_LIBRARY_PATH={Path(library).parent}", sys.executable, str(folder / "engine_starts.py")]
    count = str(bench.effort.engine_starts)
    ended = bench.run([*words, library, str(module), str(native), count], timeout=60)
    try:
        sides = json.loads(ended.out.splitlines()[-1])
        verdict = verdicts.cold_start(ENGINE, sides["wasm_ms"], sides["native_ms"], bench.engine.llvm)
    except (ValueError, LookupError, TypeError):
        reason = f"the engine can't be measured in a process: {complaint(ended)}"
        return Findings([line(ENGINE, Status.INVALID, reason, next_step=f"ldd {library}")])
    return Findings([verdict], {ENGINE.id: sides})


def _crun(bench: Bench, compiled: Compiled) -> Findings:
    wasm_ms: list[float] = []
    native_ms: list[float] = []
    containers = bench.containers
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
        step, n = "journalctl -b -p warning", len(wasm_ms)
        return Findings([line(one, error.status, str(error), n=n, next_step=step) for one in (CRUN, CRUN_RATIO)])
    verdict = verdicts.cold_start(CRUN, wasm_ms, native_ms, bench.engine.llvm)
    ratio = verdicts.ratio(CRUN_RATIO, wasm_ms, native_ms, bench.engine.llvm)
    return Findings([verdict, ratio], {CRUN.id: {"wasm_ms": wasm_ms, "native_ms": native_ms}})


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
