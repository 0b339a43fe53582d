# SPDX-License-Identifier: Apache-2.0
"""The checks: what is run in containers, and what is read out of it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import model, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Containers, Outcome
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Check, Line, Status, line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload, same_module
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

FEATURE = f"+WASM:{model.ENGINE}"
_ARGS = ("first", "two words", "caf\u00e9", "")
_ENV = "EDGEFLEET_SMOKE=a=b, two words"
_CALIBRATE = 24
_PAIRS = 3
_WARM_UP = 2
_COMPARE = "compare the versions of runtime and engine (identity) with a host that passes"


class _Refused(Exception):  # noqa: N818 - says what happened
    """A check can't get its figures; the text is the verdict's reason."""

    def __init__(self, reason: str, status: Status = Status.FAIL) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Timed:
    """A line with what it was made of, by side."""

    line: Line
    samples: dict[str, list[float]]


def handler(runtime: str, version: str | None) -> Line:
    if version is None:
        return line(
            model.HANDLER, Status.FAIL, f"{runtime} can't be run", next_step="ansible-playbook edgefleet.wasm.site"
        )
    if FEATURE in version.split():
        return line(model.HANDLER, Status.PASS, n=1)
    return line(
        model.HANDLER,
        Status.FAIL,
        f"{runtime} was built without {FEATURE}",
        n=1,
        next_step=f"{runtime} --version; Debian 13's crun has it, upstream's static release never does",
    )


def nonce(containers: Containers, payload: Payload) -> Line:
    ended = containers.start(containers.bundle("nonce", payload.plain["nonce"])).ended
    wrong = None
    if ended.rc != 0:
        wrong = _complaint(ended)
    elif ended.out != f"edgefleet-smoke {payload.nonce}\n".encode():
        wrong = f"it printed {_shown(ended.out)} instead of the nonce {payload.nonce}"
    return _judged(model.NONCE, wrong, "crun --version; ldconfig -p | grep libwasmedge; journalctl -b -p warning")


def args_and_env(containers: Containers, payload: Payload) -> list[Line]:
    bundle = containers.bundle("echo", payload.plain["echo"])
    ended = containers.start(bundle, _ARGS, [_ENV]).ended
    entries = [entry.decode("utf-8", "replace") for entry in ended.out.split(b"\0")[:-1]]
    args, env = tuple(entries[1 : 1 + len(_ARGS)]), entries[1 + len(_ARGS) :]
    ran = None if ended.rc == 0 else _complaint(ended)
    wrong_args = ran or (None if args == _ARGS else f"the module got {list(args)} instead of {list(_ARGS)}")
    wrong_env = ran or (None if _ENV in env else f"{_ENV!r} is not in the module's environment {env}")
    return [_judged(model.ARGS, wrong_args, _COMPARE), _judged(model.ENV, wrong_env, _COMPARE)]


def trap(containers: Containers, payload: Payload) -> Line:
    outcome = containers.start(containers.bundle("trap", payload.plain["trap"]))
    printed = outcome.ended.out.splitlines()
    wrong = None
    if printed[:1] != [b"before"]:
        wrong = f"it did not come to the trap: {_complaint(outcome.ended)}"
    elif b"after" in printed:
        wrong = "it went on after the trap"
    return _judged(model.TRAP, wrong or _unclean(outcome), _COMPARE)


def corrupt(containers: Containers, payload: Payload) -> Line:
    """Half of the module that the nonce check has just seen running."""
    module = payload.plain["nonce"]
    outcome = containers.start(containers.bundle("corrupt", module[: len(module) // 2]))
    wrong = "half a module ran" if payload.nonce.encode() in outcome.ended.out else _unclean(outcome)
    return _judged(model.CORRUPT, wrong, _COMPARE)


def missing(containers: Containers) -> Line:
    outcome = containers.start(containers.bundle("missing", None))
    return _judged(model.MISSING, _unclean(outcome), _COMPARE)


def aot(containers: Containers, payload: Payload, compiled: Compiled) -> Timed:
    """The same module, interpreted and compiled, alternating; timed inside the module."""
    interpreted_ms: list[float] = []
    compiled_ms: list[float] = []
    results = set()
    try:
        native = _module(compiled, "fib")
        if not same_module(payload.plain["fib"], native):
            raise _Refused("the compiled probe is not this collection's plain probe, compiled, or it is damaged")
        plain_bundle = containers.bundle("fib", payload.plain["fib"])
        native_bundle = containers.bundle("fib-aot", native)
        n = verdicts.fib_size(_fib(containers, plain_bundle, _CALIBRATE)[1] / 1e9, _CALIBRATE)
        for _ in range(_PAIRS):
            for bundle, times in ((plain_bundle, interpreted_ms), (native_bundle, compiled_ms)):
                result, nanoseconds = _fib(containers, bundle, n)
                results.add(result)
                times.append(nanoseconds / 1e6)
    except _Refused as error:
        next_step = "build the wasm-probes artifact in edgefleet_mirror_dir again, for this engine"
        return Timed(line(model.AOT, error.status, str(error), next_step=next_step), {})
    samples = {"compiled_ms": compiled_ms, "interpreted_ms": interpreted_ms}
    return Timed(verdicts.aot(compiled_ms, interpreted_ms, len(results) == 1), samples)


def cold_start(containers: Containers, compiled: Compiled, llvm: verdicts.Llvm | None, samples: int) -> Timed:
    """The compiled probe and the native control A B A B, so that whatever slows the host slows both."""
    wasm_ms: list[float] = []
    native_ms: list[float] = []
    try:
        text = f"edgefleet-smoke {secrets.token_hex(16)}\n".encode()
        wasm = containers.bundle("cold-wasm", _module(compiled, "echo"))
        native = containers.bundle("cold-native", native_program(compiled.arch, text), program="native")
        for index in range(-_WARM_UP, samples):
            pair = _wasm_start_ms(containers, wasm), _native_start_ms(containers, native, text)
            if index >= 0:
                wasm_ms.append(pair[0])
                native_ms.append(pair[1])
    except _Refused as error:
        next_step = "journalctl -b -p warning"
        return Timed(line(model.COLD_START, error.status, str(error), n=len(wasm_ms), next_step=next_step), {})
    return Timed(verdicts.cold_start(wasm_ms, native_ms, llvm), {"wasm_ms": wasm_ms, "native_ms": native_ms})


def _module(compiled: Compiled, name: str) -> bytes:
    if name not in compiled.modules:
        raise _Refused(f"the compiled probes for {compiled} have no module {name}")
    return compiled.modules[name]


def _fib(containers: Containers, bundle: Bundle, n: int) -> tuple[int, int]:
    """The result, and the nanoseconds that it took inside the module."""
    ended = containers.start(bundle, [str(n)]).ended
    found = re.fullmatch(rb"fib (\d+) (\d+) (\d+)\n", ended.out)
    if not found or int(found[1]) != n:
        raise _Refused(f"{bundle.folder.name} {n} gave no result: {_complaint(ended)}")
    return int(found[2]), int(found[3])


def _wasm_start_ms(containers: Containers, bundle: Bundle) -> float:
    fresh = secrets.token_hex(16)
    ended = containers.start(bundle, [fresh]).ended
    if ended.rc != 0 or fresh.encode() not in ended.out.split(b"\0"):
        raise _Refused(f"the compiled probe does not run: {_complaint(ended)}")
    return _milliseconds(ended)


def _native_start_ms(containers: Containers, bundle: Bundle, text: bytes) -> float:
    ended = containers.start(bundle).ended
    if ended.rc != 0 or ended.out != text:
        raise _Refused(f"the native control does not run: {_complaint(ended)}", Status.INVALID)
    return _milliseconds(ended)


def _milliseconds(ended: Ended) -> float:
    if ended.first_output is None:
        raise _Refused("output without a time", Status.INVALID)
    return round(ended.first_output * 1000, 3)


def _judged(check: Check, wrong: str | None, next_step: str) -> Line:
    if wrong is None:
        return line(check, Status.PASS, n=1)
    return line(check, Status.FAIL, wrong, n=1, next_step=next_step)


def _complaint(ended: Ended) -> str:
    """The engine's own first error, which it writes to standard output, before the runtime's last."""
    found = re.search(rb"\[error\] (.+)", ended.out)
    engine = found[1].decode("utf-8", "replace").strip() if found and not ended.timed_out else ""
    return f"{engine}; {ended.complaint}" if engine else ended.complaint


def _unclean(outcome: Outcome) -> str | None:
    """What is wrong with how a container that had to fail has failed."""
    if outcome.ended.timed_out:
        return _complaint(outcome.ended)
    if outcome.ended.rc == 0:
        return "exit code 0: the failure is not seen from outside"
    return None if outcome.clean else "the OCI runtime left the container behind"


def _shown(output: bytes) -> str:
    text = output.decode("utf-8", "replace")
    return repr(text[:80]) if text else "nothing"
