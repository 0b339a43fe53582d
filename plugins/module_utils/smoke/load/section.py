# SPDX-License-Identifier: Apache-2.0
"""Section: the workload under its site's rate, beside Wasm and native copies of one service under the same rate.

All sides are loaded in turn, A B C A B C, so that whatever slows the host slows all of them. The targets are judged by
the workload as it is deployed, or by the Wasm copy where none is named.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import model
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Limits
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import (
    copies,
    density,
    kit,
    mqtt,
    oha,
    usage,
    verdicts,
    workload,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.copies import Copy
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import (
    COOL_DOWN_SECONDS,
    WARM_UP_SECONDS,
    Loop,
    figures,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.targets import SATISFACTION, Targets
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.verdicts import Round
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.workload import Workload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Findings,
    Level,
    Line,
    SmokeError,
    Status,
    line,
)

NAME = "load"
LEAST = Level.STANDARD
SLO = (verdicts.RATE, verdicts.P50, verdicts.P99, verdicts.P999)
SITE = (verdicts.CPU, verdicts.MEMORY)
CAPACITY = (density.DENSITY, density.NODE_COST, density.UTILISATION)
CHECKS: tuple[Check, ...] = (*SLO, verdicts.TO_NATIVE, verdicts.SATISFIED, *SITE, *CAPACITY)

SERVICE, WASM, NATIVE = "service", "wasm", "native"
NO_TARGETS = "no targets: set wasm_smoke_targets to those of the system (industries/<system>/smoke_targets.json)"


@dataclass(frozen=True)
class Pace:
    """How long and how often each side is loaded. ``seconds`` are those that count."""

    seconds: float
    rounds: int

    @property
    def whole(self) -> float:
        """With those before and after them that do not."""
        return WARM_UP_SECONDS + self.seconds + COOL_DOWN_SECONDS


PACE: Mapping[Level, Pace] = {Level.STANDARD: Pace(3, 2), Level.FULL: Pace(10, 3)}


@dataclass(frozen=True)
class Side:
    """Something to load: how, and the processes that it costs."""

    name: str
    send: Callable[[], Loop]
    pids: Sequence[int]


def measure(bench: Bench) -> Findings:
    """All lines of the section; what can't be measured on this host or at this level says why."""
    if bench.options["targets"] is None:
        return Findings([line(check, Status.NOT_APPLICABLE, NO_TARGETS) for check in CHECKS])
    return _Load(bench, Targets.of(bench.options["targets"])).all()


class _Load:
    """One section on one host."""

    def __init__(self, bench: Bench, targets: Targets) -> None:
        self._bench = bench
        self._targets = targets
        self._pace = PACE[bench.level]
        given = bench.options["workload"]
        self._workload = Workload.of(given) if given else None
        archive = bench.options["load_kit"]
        if archive is None:
            raise SmokeError("there is no load kit: call edgefleet.wasm.wasm_smoke by this name, with mirror set")
        self._kit = kit.unpack(Path(archive), bench.containers.folder / "load")
        self._bundles: dict[str, Bundle] = {}
        self._base_mib = 0.0

    def all(self) -> Findings:
        total, available = usage.memory()
        self._base_mib = total - available
        without = self._no_copies()
        with contextlib.ExitStack() as stack:
            sides = [self._deployed(self._workload)] if self._workload else []
            if not without:
                sides += [self._copy_side(name, stack.enter_context(self._copy(name))) for name in (WASM, NATIVE)]
            rounds = self._in_turn(sides)
        return self._findings(rounds, without, {} if without else self._capacity())

    def _no_copies(self) -> str:
        """Why the reference service can't run as copies here, if so."""
        if self._kit.missing:
            return self._kit.missing
        version, mine = self._kit.version(kit.WASM), f"-{model.ENGINE}-{self._bench.engine.version}"
        if version.endswith(mine):
            return ""
        return f"the mirror has the reference service {version}, not one for engine {mine.removeprefix('-')}"

    def _in_turn(self, sides: Sequence[Side]) -> dict[str, list[Round]]:
        rounds: dict[str, list[Round]] = {side.name: [] for side in sides}
        for _ in range(self._pace.rounds):
            for side in sides:
                rounds[side.name].append(_round([side]))
        return rounds

    def _deployed(self, asked: Workload) -> Side:
        bench = self._bench
        folder = self._folder(SERVICE)
        if not asked.mqtt:
            send = self._http(folder, asked.url, self._targets.qps, ())
        else:
            topic, reply = asked.topics
            client = mqtt.Ask(
                host=asked.host,
                port=asked.port,
                tls=asked.tls,
                username=asked.username,
                password=workload.password(bench.run, asked),
                topic=topic,
                reply=reply,
                qps=self._targets.qps,
                seconds=self._pace.whole,
            )

            def send() -> Loop:
                program, library = (self._kit.folder / name for name in (kit.CLIENT, kit.LIBRARY))
                return mqtt.run(bench.run, program, library, folder, client)

        return Side(SERVICE, send, workload.pids(bench.run, asked.namespace))

    def _http(self, folder: Path, url: str, qps: float, prefix: Sequence[str]) -> Callable[[], Loop]:
        program = self._kit.path(kit.OHA)
        if program is None:
            raise SmokeError(self._kit.missing)
        ask = oha.Ask(url, qps, self._pace.whole, self._targets.p999 / 1000, prefix)
        return lambda: oha.run(self._bench.run, program, folder, ask)

    def _copy(self, name: str) -> contextlib.AbstractContextManager[Copy]:
        """One copy. All of a side share the program's file, as pods of one image do."""
        if name not in self._bundles:
            artifact, program = {WASM: (kit.WASM, "service.wasm"), NATIVE: (kit.NATIVE, "service")}[name]
            content = self._kit.folder / program
            self._bundles[name] = self._bench.containers.bundle(f"load-{artifact}", content.read_bytes(), program)
        limits = Limits(memory=round(self._targets.pod_memory_mib) << 20, cpus=self._targets.pod_cpu)
        return copies.serving(self._bench.run, self._bench.containers, self._bundles[name], limits)

    def _copy_side(self, name: str, copy: Copy, share: float = 1.0, index: int = 0) -> Side:
        folder = self._folder(f"{name}-{index}")
        return Side(name, self._http(folder, copies.URL, self._targets.qps * share, copy.enter), [copy.pid])

    def _folder(self, name: str) -> Path:
        folder = self._kit.folder / f"sent-{name}"
        folder.mkdir(exist_ok=True)
        return folder

    def _capacity(self) -> dict[str, Round]:
        """At level full: as many copies at once as the system has pods a host, Wasm and then native."""
        return {name: self._crowd(name) for name in (WASM, NATIVE)} if self._bench.level.holds(Level.FULL) else {}

    def _crowd(self, name: str) -> Round:
        count = round(self._targets.pods)
        with contextlib.ExitStack() as stack:
            found = [stack.enter_context(self._copy(name)) for _ in range(count)]
            return _round([self._copy_side(name, copy, 1 / count, index) for index, copy in enumerate(found)])

    def _findings(self, rounds: Mapping[str, list[Round]], without: str, crowds: Mapping[str, Round]) -> Findings:
        judged = next((name for name in (SERVICE, WASM) if name in rounds), None)
        if judged is None:
            return Findings([line(check, Status.NOT_APPLICABLE, without) for check in CHECKS])
        lines = [*verdicts.rate_and_latency(rounds[judged], self._targets), *self._ratio(rounds, without)]
        lines += [*self._own(rounds[judged]), *verdicts.means(rounds[judged], self._targets)]
        lines += self._density(crowds, without)
        kept = {name: [value for one in found for value in one.figures.kept] for name, found in rounds.items()}
        samples = {verdicts.P50.id: {f"{judged}_ms": kept[judged]}}
        if NATIVE in kept:
            samples[verdicts.TO_NATIVE.id] = {f"{name}_ms": kept[name] for name in (WASM, NATIVE)}
        told = [_told(name, one) for name, found in rounds.items() for one in found]
        told += [_told(f"{name} x {self._targets.pods:g}", one) for name, one in crowds.items()]
        return Findings(lines, samples, self._section(judged, told))

    def _ratio(self, rounds: Mapping[str, list[Round]], without: str) -> list[Line]:
        if without:
            return [line(verdicts.TO_NATIVE, Status.NOT_APPLICABLE, without)]
        return [verdicts.to_native(rounds[WASM], rounds[NATIVE])]

    def _own(self, rounds: list[Round]) -> list[Line]:
        if self._targets.own != SATISFACTION:
            reason = f"the own target of {self._targets.system} is {self._targets.own}"
            return [line(verdicts.SATISFIED, Status.NOT_APPLICABLE, reason)]
        return [verdicts.satisfaction(rounds, self._targets)]

    def _density(self, crowds: Mapping[str, Round], without: str) -> list[Line]:
        if without or not crowds:
            reason = without or f"not at level {self._bench.level}: from {Level.FULL} on"
            return [line(check, Status.NOT_APPLICABLE, reason) for check in CAPACITY]
        ours, control = (density.Side(crowds[name], round(self._targets.pods)) for name in (WASM, NATIVE))
        overhead = usage.pod_overhead_mib()
        capacity = density.Capacity(
            cores=ours.round.usage.cores,
            memory_mib=ours.round.usage.memory_mib,
            base_cores=min(one.usage.others_percent * one.usage.cores / 100 for one in crowds.values()),
            base_mib=self._base_mib,
            overhead_mib=overhead or 0.0,
        )
        return density.lines(ours, control, capacity, self._targets)

    def _section(self, judged: str, told: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "system": self._targets.system,
            "judged": judged,
            "url": self._workload.url if self._workload else None,
            "qps": self._targets.qps,
            "artifacts": {name: dict(one) for name, one in self._kit.index.items()},
            "rounds": told,
        }


def _round(sides: Sequence[Side]) -> Round:
    """Load all of these at once, and see what that cost. Figures of several are those of all their requests."""
    pids = [pid for side in sides for pid in side.pids]
    before = usage.snapshot(pids, time.monotonic())
    with ThreadPoolExecutor(len(sides)) as pool:
        loops = list(pool.map(lambda side: side.send(), sides))
    after = usage.snapshot(pids, time.monotonic())
    return Round(figures(_together(loops)), usage.between(before, after, pids))


def _together(loops: Sequence[Loop]) -> Loop:
    """Several loops of one length as one."""
    errors: dict[str, int] = {}
    for loop in loops:
        for what, count in loop.errors.items():
            errors[what] = errors.get(what, 0) + count
    requests = sorted((one for loop in loops for one in loop.requests), key=lambda one: one.intended)
    return Loop(sum(loop.qps for loop in loops), loops[0].seconds, requests, errors)


def _told(name: str, one: Round) -> dict[str, Any]:
    """A round as the document has it."""
    found, cost = one.figures, one.usage
    numbers = {
        "qps": found.qps,
        "achieved_qps": found.achieved_qps,
        "p50_ms": found.p50,
        "p99_ms": found.p99,
        "p999_ms": found.p999,
        "sent_p50_ms": found.sent_p50,
        "sent_p99_ms": found.sent_p99,
        "lag_p99_ms": found.lag_p99,
        "lag_max_ms": found.lag_max,
        "cpu_cores": cost.workload_cores,
        "generator_cores": cost.generator / cost.seconds,
        "pss_mib": cost.pss_mib,
        "throttled_percent": cost.throttled_percent,
        "others_percent": cost.others_percent,
        "steal_percent": cost.steal_percent,
    }
    return {
        "side": name,
        "n": found.n,
        "answered": found.answered,
        "errors": dict(found.errors),
        **{key: round(value, 3) for key, value in numbers.items()},
    }
