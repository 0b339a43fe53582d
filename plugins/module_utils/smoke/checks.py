# SPDX-License-Identifier: Apache-2.0
"""The checks at the head of a run: what is run in containers, and what is read out of it."""

from __future__ import annotations

import re

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import model, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Containers, Outcome
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Check, Findings, Line, Status, line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload, same_module
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

FEATURE = f"+WASM:{model.ENGINE}"
_ARGS = ("first", "two words", "caf\u00e9", "")
_ENV = "EDGEFLEET_SMOKE=a=b, two words"
_CALIBRATE = 24
_PAIRS = 3
COMPARE = "compare the versions of runtime and engine (identity) with a host that passes"


class Refused(Exception):  # noqa: N818 - says what happened
    """A check can't get its figures; the text is the verdict's reason."""

    def __init__(self, reason: str, status: Status = Status.FAIL) -> None:
        super().__init__(reason)
        self.status = status


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
        wrong = complaint(ended)
    elif ended.out != f"edgefleet-smoke {payload.nonce}\n".encode():
        wrong = f"it printed {_shown(ended.out)} instead of the nonce {payload.nonce}"
    return judged(model.NONCE, wrong, "crun --version; ldconfig -p | grep libwasmedge; journalctl -b -p warning")


def args_and_env(containers: Containers, payload: Payload) -> list[Line]:
    bundle = containers.bundle("echo", payload.plain["echo"])
    ended = containers.start(bundle, _ARGS, [_ENV]).ended
    entries = [entry.decode("utf-8", "replace") for entry in ended.out.split(b"\0")[:-1]]
    args, env = tuple(entries[1 : 1 + len(_ARGS)]), entries[1 + len(_ARGS) :]
    ran = None if ended.rc == 0 else complaint(ended)
    wrong_args = ran or (None if args == _ARGS else f"the module got {list(args)} instead of {list(_ARGS)}")
    wrong_env = ran or (None if _ENV in env else f"{_ENV!r} is not in the module's environment {env}")
    return [judged(model.ARGS, wrong_args, COMPARE), judged(model.ENV, wrong_env, COMPARE)]


def trap(containers: Containers, payload: Payload) -> Line:
    outcome = containers.start(containers.bundle("trap", payload.plain["trap"]))
    printed = outcome.ended.out.splitlines()
    wrong = None
    if printed[:1] != [b"before"]:
        wrong = f"it did not come to the trap: {complaint(outcome.ended)}"
    elif b"after" in printed:
        wrong = "it went on after the trap"
    return judged(model.TRAP, wrong or unclean(outcome), COMPARE)


def corrupt(containers: Containers, payload: Payload) -> Line:
    """Half of the module that the nonce check has just seen running."""
    module = payload.plain["nonce"]
    outcome = containers.start(containers.bundle("corrupt", module[: len(module) // 2]))
    wrong = "half a module ran" if payload.nonce.encode() in outcome.ended.out else unclean(outcome)
    return judged(model.CORRUPT, wrong, COMPARE)


def missing(containers: Containers) -> Line:
    outcome = containers.start(containers.bundle("missing", None))
    return judged(model.MISSING, unclean(outcome), COMPARE)


def aot(containers: Containers, payload: Payload, compiled: Compiled) -> Findings:
    """The same module, interpreted and compiled, alternating; timed inside the module."""
    interpreted_ms: list[float] = []
    compiled_ms: list[float] = []
    results = set()
    try:
        native = module_of(compiled, "fib")
        if not same_module(payload.plain["fib"], native):
            raise Refused("the compiled probe is not this collection's plain probe, compiled, or it is damaged")
        plain_bundle = containers.bundle("fib", payload.plain["fib"])
        native_bundle = containers.bundle("fib-aot", native)
        n = verdicts.fib_size(_fib(containers, plain_bundle, _CALIBRATE)[1] / 1e9, _CALIBRATE)
        for _ in range(_PAIRS):
            for bundle, times in ((plain_bundle, interpreted_ms), (native_bundle, compiled_ms)):
                result, nanoseconds = _fib(containers, bundle, n)
                results.add(result)
                times.append(nanoseconds / 1e6)
    except Refused as error:
        next_step = "build the wasm-probes artifact in edgefleet_mirror_dir again, for this engine"
        return Findings([line(model.AOT, error.status, str(error), next_step=next_step)])
    samples = {"compiled_ms": compiled_ms, "interpreted_ms": interpreted_ms}
    verdict = verdicts.aot(compiled_ms, interpreted_ms, len(results) == 1)
    return Findings([verdict], {model.AOT.id: samples})


def module_of(compiled: Compiled, name: str) -> bytes:
    if name not in compiled.modules:
        raise Refused(f"the compiled probes for {compiled} have no module {name}")
    return compiled.modules[name]


def _fib(containers: Containers, bundle: Bundle, n: int) -> tuple[int, int]:
    """The result, and the nanoseconds that it took inside the module."""
    ended = containers.start(bundle, [str(n)]).ended
    found = re.fullmatch(rb"fib (\d+) (\d+) (\d+)\n", ended.out)
    if not found or int(found[1]) != n:
        raise Refused(f"{bundle.folder.name} {n} gave no result: {complaint(ended)}")
    return int(found[2]), int(found[3])


def judged(check: Check, wrong: str | None, next_step: str, measured: float | None = None) -> Line:
    if wrong is None:
        return line(check, Status.PASS, measured=measured, n=1)
    return line(check, Status.FAIL, wrong, measured=measured, n=1, next_step=next_step)


def complaint(ended: Ended) -> str:
    """The engine's own first error, which it writes to standard output, before the runtime's last."""
    found = re.search(rb"\[error\] (.+)", ended.out)
    engine = found[1].decode("utf-8", "replace").strip() if found and not ended.timed_out else ""
    return f"{engine}; {ended.complaint}" if engine else ended.complaint


def unclean(outcome: Outcome) -> str | None:
    """What is wrong with how a container that had to fail has failed."""
    if outcome.ended.timed_out:
        return complaint(outcome.ended)
    if outcome.ended.rc == 0:
        return "exit code 0: the failure is not seen from outside"
    return None if outcome.clean else "the OCI runtime left the container behind"


def _shown(output: bytes) -> str:
    text = output.decode("utf-8", "replace")
    return repr(text[:80]) if text else "nothing"
