# SPDX-License-Identifier: Apache-2.0
"""One smoke test of one host: which check when, and the document that comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import (
    checks,
    cold,
    cri_section,
    diagnosis,
    drill,
    identity,
    isolation,
    model,
    pods,
    programs,
    sandboxes,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import EFFORT, Bench, Section, attempted
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import (
    BASES,
    Containers,
    Running,
    leftovers,
    lives,
    workspace,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import SOCKET, Cri
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import Engine
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.kube_api import KubeApi
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import section as load
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Document,
    Findings,
    Level,
    SmokeError,
    Status,
    line,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.verdicts import FAIL_ON

_STEAL_WARNING = 5.0
# In the order of the report, behind the checks of the head. A module is a section by having what the protocol names.
SECTIONS = cast("tuple[Section, ...]", (isolation, programs, cold, cri_section, pods, load, drill))

ARGUMENTS: dict[str, Any] = {
    "level": {"type": "str", "choices": list(map(str, Level)), "default": str(Level.QUICK)},
    "runtime": {"type": "path"},
    "cgroup_manager": {"type": "str", "choices": ["auto", "systemd", "cgroupfs", "disabled"], "default": "auto"},
    "samples": {"type": "int"},
    "timeout": {"type": "int", "default": 30},
    "fail_on": {"type": "str", "choices": list(FAIL_ON), "default": "function"},
    "mirror": {"type": "path"},
    "report_dir": {"type": "path"},
    "host": {"type": "str"},
    "payload": {"type": "dict"},
    "targets": {"type": "dict"},
    "workload": {
        "type": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "username": {"type": "str"},
            # A name, not the secret itself.
            "secret": {"type": "str", "no_log": False},
            "key": {"type": "str"},
        },
    },
    "load_kit": {"type": "path"},
    "drill": {"type": "dict"},
}
_RANGES = {"samples": (5, 1000), "timeout": (1, 600)}


@dataclass(frozen=True)
class SmokeSpec:
    """What to test, and how thoroughly. ``samples``: cold starts a side, None for the level's number."""

    host: str
    runtime: str
    cgroup_manager: str
    timeout: int
    payload: Payload
    level: Level = Level.QUICK
    samples: int | None = None
    check_mode: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    bases: tuple[Path, ...] = BASES
    containerd: Path = SOCKET


def every_check() -> tuple[Check, ...]:
    """In the order of the report."""
    return (*model.CHECKS, *(check for section in SECTIONS for check in section.CHECKS))


def range_error(params: dict[str, Any]) -> str | None:
    """What an argument spec can't say."""
    for name, (low, high) in _RANGES.items():
        if params[name] is not None and not low <= params[name] <= high:
            return f"{name} is {params[name]}, must be from {low} to {high} (wasm_smoke_{name} in the smoke playbook)"
    return None


def smoke(run: RunCommand, spec: SmokeSpec, now: Callable[[], datetime]) -> Document:
    """Run every check that the host allows; a check that fails does not keep the others from running."""
    began, ticks, throttled = now(), _cpu_ticks(), identity.throttled_seconds()
    versions = identity.versions(run, spec.runtime)
    manager = identity.cgroup_manager(spec.cgroup_manager)
    who = identity.host(spec.runtime, manager, versions)
    if spec.check_mode:
        found = {"": _not_applicable(every_check(), "check mode: no container was started")}
        engine, compiled = identity.asked_engine(run), None
    else:
        _sweep(run, spec)
        with workspace(run, spec.runtime, spec.bases) as folder:
            test = _Run(run, spec, Containers(run, spec.runtime, manager, folder, spec.timeout))
            found = dict(test.all(versions["crun"]))
        engine, compiled = test.engine, test.compiled
    steal = identity.steal_percent(ticks, _cpu_ticks())
    seconds = (now() - began).total_seconds()
    who |= {
        "engine": engine.as_dict(),
        "compiled_probes": {"version": compiled.version, "source": compiled.source} if compiled else None,
        "steal_percent": steal,
        "throttled_percent": _throttled_percent(throttled, seconds),
        "pressure": identity.pressure(),
        "disk_sync_ms": None if spec.check_mode else identity.disk_sync_ms(Path("/var/lib")),
    }
    warnings = identity.warnings(versions, engine, who["artifacts"])
    if steal > _STEAL_WARNING:
        warnings.append(f"the hypervisor took {steal} % of the CPU time during the run: times say little")
    return Document(
        host=spec.host,
        level=spec.level,
        started=began.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        check_mode=spec.check_mode,
        identity=who,
        lines=diagnosis.completed([one for findings in found.values() for one in findings.lines], who),
        samples={check: sides for findings in found.values() for check, sides in findings.samples.items()},
        sections={name: findings.figures for name, findings in found.items() if findings.figures},
        warnings=warnings,
    )


def _sweep(run: RunCommand, spec: SmokeSpec) -> None:
    """Pods that killed tests left in containerd and in Kubernetes. Not being able to ask has lines of its own."""
    if spec.containerd.exists():
        with contextlib.suppress(SmokeError), Cri(spec.containerd) as runtime:
            sandboxes.sweep(runtime, lives)
    for folder in leftovers(spec.bases):
        if (folder / pods.FOLDER).exists():
            with contextlib.suppress(SmokeError):
                pods.sweep(KubeApi(run, folder).ask)


class _Run:
    """The checks in order. ``engine`` is what they have seen of it, ``compiled`` which compiled probes they took."""

    def __init__(self, run: RunCommand, spec: SmokeSpec, containers: Containers) -> None:
        self._run = run
        self._spec = spec
        self._containers = containers
        self.engine = Engine(None, None)
        self.compiled: Compiled | None = None

    def all(self, version: str | None) -> Iterator[tuple[str, Findings]]:
        """What each section found, by its name; the head's is empty."""
        payload, containers = self._spec.payload, self._containers
        lines = [checks.handler(self._spec.runtime, version), checks.nonce(containers, payload)]
        if lines[-1].status is not Status.PASS:
            # Also those that must fail: for another reason than the right one they would pass.
            self.engine = identity.asked_engine(self._run)
            rest = _not_applicable(every_check()[len(lines) :], "needs the check nonce to pass")
            yield "", Findings(lines + rest.lines)
            return
        self._look_at_engine()
        self.compiled = payload.compiled_for(model.ENGINE, self.engine.version, identity.arch())
        lines += checks.args_and_env(containers, payload)
        lines += [checks.trap(containers, payload), checks.corrupt(containers, payload), checks.missing(containers)]
        aot = self._aot()
        yield "", Findings(lines + aot.lines, aot.samples)
        for section in SECTIONS:
            yield section.NAME, self._section(section)

    def _look_at_engine(self) -> None:
        def look(container: Running) -> None:
            self.engine = identity.seen_engine(self._run, container.pid())

        # A look that fails costs what it would have seen, not the test.
        with contextlib.suppress(OSError, SmokeError):
            self._containers.start(self._containers.bundle("wait", self._spec.payload.plain["wait"]), while_open=look)
        if self.engine == Engine(None, None):
            self.engine = identity.asked_engine(self._run)

    def _aot(self) -> Findings:
        if self.compiled is None:
            next_step = "put the wasm-probes artifact for this engine and architecture into edgefleet_mirror_dir"
            return Findings([line(model.AOT, Status.NOT_APPLICABLE, self._no_compiled_reason(), next_step=next_step)])
        return checks.aot(self._containers, self._spec.payload, self.compiled)

    def _section(self, section: Section) -> Findings:
        if not self._spec.level.holds(section.LEAST):
            return _not_applicable(section.CHECKS, f"not at level {self._spec.level}: from {section.LEAST} on")
        return attempted(section.CHECKS, lambda: section.measure(self._bench()))

    def _bench(self) -> Bench:
        spec, effort = self._spec, EFFORT[self._spec.level]
        return Bench(
            run=self._run,
            arch=identity.arch(),
            containers=self._containers,
            payload=spec.payload,
            compiled=self.compiled,
            no_compiled="" if self.compiled else self._no_compiled_reason(),
            engine=self.engine,
            level=spec.level,
            effort=replace(effort, crun_starts=spec.samples) if spec.samples else effort,
            containerd=spec.containerd,
            options=spec.options,
        )

    def _no_compiled_reason(self) -> str:
        payload = self._spec.payload
        have = ", ".join(map(str, payload.compiled))
        why = payload.no_compiled or f"the mirror has them for {have}"
        return f"no AOT probe for engine {model.ENGINE} {self.engine.version} {identity.arch()}: {why}"


def _not_applicable(these: Sequence[Check], reason: str) -> Findings:
    return Findings([line(one, Status.NOT_APPLICABLE, reason) for one in these])


def _throttled_percent(before: float | None, seconds: float) -> float | None:
    after = identity.throttled_seconds()
    if before is None or after is None:
        return None
    return round(100 * (after - before) / max(seconds, 0.001), 1)


def _cpu_ticks() -> tuple[int, int]:
    return identity.cpu_ticks(Path("/proc/stat").read_text(encoding="utf-8"))
