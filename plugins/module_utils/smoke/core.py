# SPDX-License-Identifier: Apache-2.0
"""One smoke test of one host: which check when, and the document that comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import checks, identity, model
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import BASES, Containers, workspace
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import Engine
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Document,
    Line,
    SmokeError,
    Status,
    line,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.verdicts import FAIL_ON

_STEAL_WARNING = 5.0

Samples = dict[str, dict[str, list[float]]]
"""Of each timed check by its id: the samples by side."""

ARGUMENTS: dict[str, Any] = {
    "runtime": {"type": "path"},
    "cgroup_manager": {"type": "str", "choices": ["auto", "systemd", "cgroupfs", "disabled"], "default": "auto"},
    "samples": {"type": "int", "default": 20},
    "timeout": {"type": "int", "default": 30},
    "fail_on": {"type": "str", "choices": list(FAIL_ON), "default": "function"},
    "mirror": {"type": "path"},
    "report_dir": {"type": "path"},
    "host": {"type": "str"},
    "payload": {"type": "dict"},
}
_RANGES = {"samples": (5, 1000), "timeout": (1, 600)}


@dataclass(frozen=True)
class SmokeSpec:
    """What to test, and how thoroughly."""

    host: str
    runtime: str
    cgroup_manager: str
    samples: int
    timeout: int
    payload: Payload
    check_mode: bool = False
    bases: tuple[Path, ...] = BASES


def range_error(params: dict[str, Any]) -> str | None:
    """What an argument spec can't say."""
    for name, (low, high) in _RANGES.items():
        if not low <= params[name] <= high:
            return f"{name} is {params[name]}, must be from {low} to {high} (wasm_smoke_{name} in the smoke playbook)"
    return None


def smoke(run: RunCommand, spec: SmokeSpec, now: Callable[[], datetime]) -> Document:
    """Run every check that the host allows; a check that fails does not keep the others from running."""
    began, ticks = now(), _cpu_ticks()
    versions = identity.versions(run, spec.runtime)
    manager = identity.cgroup_manager(spec.cgroup_manager)
    who = identity.host(spec.runtime, manager, versions)
    if spec.check_mode:
        reason = "check mode: no container was started"
        lines = [line(one, Status.NOT_APPLICABLE, reason) for one in model.CHECKS]
        samples: Samples = {}
        engine, compiled = identity.asked_engine(run), None
    else:
        with workspace(run, spec.runtime, spec.bases) as folder:
            test = _Run(run, spec, Containers(run, spec.runtime, manager, folder, spec.timeout))
            lines, samples = test.all(versions["crun"])
        engine, compiled = test.engine, test.compiled
    steal = identity.steal_percent(ticks, _cpu_ticks())
    warnings = identity.warnings(versions, engine, who["artifacts"])
    if steal > _STEAL_WARNING:
        warnings.append(f"the hypervisor took {steal} % of the CPU time during the run: times say little")
    return Document(
        host=spec.host,
        started=began.isoformat(timespec="seconds"),
        seconds=round((now() - began).total_seconds(), 1),
        check_mode=spec.check_mode,
        identity={
            **who,
            "engine": engine.as_dict(),
            "compiled_probes": {"version": compiled.version, "source": compiled.source} if compiled else None,
            "steal_percent": steal,
        },
        lines=lines,
        samples=samples,
        warnings=warnings,
    )


class _Run:
    """The checks in order. ``engine`` is what they have seen of it, ``compiled`` which compiled probes they took."""

    def __init__(self, run: RunCommand, spec: SmokeSpec, containers: Containers) -> None:
        self._run = run
        self._spec = spec
        self._containers = containers
        self.engine = Engine(None, None)
        self.compiled: Compiled | None = None

    def all(self, version: str | None) -> tuple[list[Line], Samples]:
        payload, containers = self._spec.payload, self._containers
        lines = [checks.handler(self._spec.runtime, version), checks.nonce(containers, payload)]
        if lines[-1].status is not Status.PASS:
            # Also those that must fail: for another reason than the right one they would pass.
            self.engine = identity.asked_engine(self._run)
            rest = model.CHECKS[len(lines) :]
            return lines + [line(one, Status.NOT_APPLICABLE, "needs the check nonce to pass") for one in rest], {}
        self._look_at_engine()
        lines += checks.args_and_env(containers, payload)
        lines += [checks.trap(containers, payload), checks.corrupt(containers, payload), checks.missing(containers)]
        timed = self._timed()
        return lines + [one.line for one in timed], {one.line.id: one.samples for one in timed if one.samples}

    def _look_at_engine(self) -> None:
        def look(pid: int) -> None:
            self.engine = identity.seen_engine(self._run, pid)

        # A look that fails costs what it would have seen, not the test.
        with contextlib.suppress(OSError, SmokeError):
            self._containers.start(self._containers.bundle("wait", self._spec.payload.plain["wait"]), while_open=look)
        if self.engine == Engine(None, None):
            self.engine = identity.asked_engine(self._run)

    def _timed(self) -> list[checks.Timed]:
        self.compiled = self._spec.payload.compiled_for(model.ENGINE, self.engine.version, identity.arch())
        if self.compiled is None:
            return [_no_compiled(check, self._no_compiled_reason()) for check in (model.AOT, model.COLD_START)]
        return [
            checks.aot(self._containers, self._spec.payload, self.compiled),
            checks.cold_start(self._containers, self.compiled, self.engine.llvm, self._spec.samples),
        ]

    def _no_compiled_reason(self) -> str:
        payload = self._spec.payload
        have = ", ".join(map(str, payload.compiled))
        why = payload.no_compiled or f"the mirror has them for {have}"
        return f"no AOT probe for engine {model.ENGINE} {self.engine.version} {identity.arch()}: {why}"


def _no_compiled(check: Check, reason: str) -> checks.Timed:
    next_step = "put the wasm-probes artifact for this engine and architecture into edgefleet_mirror_dir"
    return checks.Timed(line(check, Status.NOT_APPLICABLE, reason, next_step=next_step), {})


def _cpu_ticks() -> tuple[int, int]:
    return identity.cpu_ticks(Path("/proc/stat").read_text(encoding="utf-8"))
