# SPDX-License-Identifier: Apache-2.0
"""What the page shows of a fleet's run: counted, grouped and ranked for its tables, packed for its script."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import reading
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.numbers import Spread, quantile
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.reading import Line, Side
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import Check, FleetRun, HostResult

WORST = 8
# Of each host's samples the page carries these quantiles: enough for a curve, whatever the number of samples.
_SHARES = tuple(step / 20 for step in range(21))
_BAD = (reading.FAIL, reading.INVALID)


@dataclass(frozen=True)
class Past:
    """What the trend needs of an earlier run: its figures, not its documents."""

    name: str
    started: datetime
    hosts: int
    counts: Mapping[str, int]
    spreads: Mapping[str, Spread]
    measured: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, name: str, run: FleetRun) -> Past:
        return cls(
            name=name,
            started=run.started,
            hosts=len(run.hosts),
            counts=run.counts,
            spreads={check.id: check.spread for check in run.checks if check.spread},
            measured={check.id: check.measured for check in run.checks},
        )


@dataclass
class Problem:
    """One way of not passing, and the hosts that have it. Figures in its text are those of the first host."""

    subject: str
    status: str
    reason: str
    cause: str
    next: str
    hosts: list[str] = field(default_factory=list)


def problems(run: FleetRun) -> list[Problem]:
    """By check and reason, where reasons that differ in figures only are one; the most frequent first."""
    found: dict[tuple[str, str, str], Problem] = {}

    def add(host: str, problem: Problem) -> None:
        key = (problem.subject, problem.status, re.sub(r"\d+(\.\d+)?", "#", problem.reason))
        found.setdefault(key, problem).hosts.append(host)

    for host in run.hosts:
        if not host.document:
            add(host.host, Problem("host", host.verdict, host.reason, "", ""))
        for line in host.lines:
            if line.status in _BAD:
                add(host.host, Problem(line.id, line.status, line.reason, line.cause, line.next))
    return sorted(found.values(), key=lambda one: (reading.VERDICTS.index(one.status), -len(one.hosts), one.subject))


def worst(run: FleetRun) -> list[HostResult]:
    """Tested hosts that did not pass, by failed lines, those of function first, then by lines that say nothing."""
    far: dict[str, float] = defaultdict(float)
    for check in run.checks:
        for host, deviations in check.outliers.items():
            far[host] = max(far[host], min(abs(deviations), 1000.0))

    def rank(host: HostResult) -> tuple[float, ...]:
        counts = Counter(line.status for line in host.lines)
        function = sum(line.status == reading.FAIL and line.layer == reading.FUNCTION for line in host.lines)
        return (-function, -counts[reading.FAIL], -counts[reading.INVALID], -far[host.host])

    return sorted((host for host in run.hosts if host.verdict in _BAD), key=rank)


def layers(run: FleetRun) -> dict[str, Counter[str]]:
    """Per layer, how many hosts have which worst verdict in it."""
    found: dict[str, Counter[str]] = {check.layer: Counter() for check in run.checks}
    for host in run.hosts:
        by_layer: dict[str, list[Line]] = defaultdict(list)
        for line in host.lines:
            by_layer[line.layer].append(line)
        for layer, lines in by_layer.items():
            found[layer][reading.verdict(lines)] += 1
    return found


def tested(run: FleetRun) -> dict[str, list[tuple[str, int]]]:
    """Each version or fact of the hosts with the number of hosts that have it: a mixed fleet shows here."""
    counts: dict[str, Counter[str]] = {}
    for host in run.hosts:
        for name, value in reading.versions(host.document).items():
            counts.setdefault(name, Counter())[value] += 1
    return {name: values.most_common() for name, values in counts.items()}


def warnings(run: FleetRun) -> list[tuple[str, int]]:
    """What the documents warn of, with the number of hosts."""
    return Counter(one for host in run.hosts for one in reading.warnings(host.document)).most_common()


def headline(run: FleetRun) -> str:
    """The run in one sentence or two, as a person would say it."""
    total = len(run.hosts)
    reached = [host for host in run.hosts if host.document]
    if not reached:
        return f"None of {_hosts(total)} could be tested."
    broken = sum(_bad_in(host, function=True) for host in reached)
    speed = sum(_bad_in(host, function=False) for host in reached)
    lost = total - len(reached)
    tell = [f"{_hosts(lost)} could not be tested"] if lost else []
    if broken:
        tell.append(f"the function is not proven on {_hosts(broken)}")
    if speed:
        tell.append(f"{_hosts(speed)} missed a target of speed, or could not be judged by it")
    if not tell:
        return f"All {_hosts(total)} passed." if total > 1 else "The host passed."
    sentence = "; ".join(tell)
    start = f"Wasm works on {len(reached) - broken} of {_hosts(total)}"
    return f"{start}: {sentence}."


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def _bad_in(host: HostResult, *, function: bool) -> bool:
    return any(line.status in _BAD and (line.layer == reading.FUNCTION) is function for line in host.lines)


class _Texts:
    """Each text once: what 500 hosts say alike is carried once."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._index: dict[str, int] = {}

    def add(self, text: str) -> int:
        if text not in self._index:
            self._index[text] = len(self.all)
            self.all.append(text)
        return self._index[text]


def packed(run: FleetRun, past: Sequence[Past]) -> dict[str, Any]:
    """All that the page's script needs. Figures are short: the page is for eyes, the JSON beside it is exact."""
    texts = _Texts()
    number = {check.id: index for index, check in enumerate(run.checks)}
    hosts = {host.host: _host(host, number, texts) for host in run.hosts}
    for check in run.checks:
        for name, deviations in check.outliers.items():
            far = None if math.isinf(deviations) else _short(deviations)
            hosts[name]["outlier"].append([number[check.id], far])
    return {
        "started": run.started.isoformat(),
        "verdicts": list(reading.VERDICTS),
        "checks": [_check(check) for check in run.checks],
        "hosts": list(hosts.values()),
        "texts": texts.all,
        "past": [_past(one, run) for one in past],
    }


def _check(check: Check) -> dict[str, Any]:
    spread = check.spread
    return {
        "id": check.id,
        "layer": check.layer,
        "what": check.what,
        "unit": check.unit,
        "counts": dict(check.counts),
        "spread": {name: _short(value) for name, value in vars(spread).items()} if spread else None,
        "band": [_short(edge) for edge in spread.band()] if spread and spread.n >= 5 else None,
        "outliers": len(check.outliers),
    }


def _host(host: HostResult, number: Mapping[str, int], texts: _Texts) -> dict[str, Any]:
    return {
        "host": host.host,
        "verdict": host.verdict,
        "reason": host.reason,
        "started": reading.text(host.document.get("started")),
        "seconds": reading.number(host.document.get("seconds")),
        "lines": [_line(line, number[line.id], texts) for line in host.lines],
        "sides": [_side(side, number[side.check]) for side in host.sides if side.check in number],
        "facts": [[texts.add(name), texts.add(value)] for name, value in reading.versions(host.document).items()],
        "warnings": [texts.add(one) for one in reading.warnings(host.document)],
        "outlier": [],
    }


def _line(line: Line, number: int, texts: _Texts) -> list[Any]:
    details = {name: _short(value) for name, value in line.details.items()}
    words = [texts.add(line.reason), texts.add(line.cause), texts.add(line.next)]
    status = reading.VERDICTS.index(line.status)
    return [number, status, _short(line.measured), _short(line.limit), line.n, *words, details]


def _side(side: Side, number: int) -> list[Any]:
    curve = [_short(quantile(side.values, share)) for share in _SHARES]
    return [number, side.name, side.unit, int(side.control), len(side.values), curve]


def _past(past: Past, run: FleetRun) -> dict[str, Any]:
    return {
        "started": past.started.isoformat(),
        "hosts": past.hosts,
        "counts": dict(past.counts),
        "checks": {
            check.id: [_short(getattr(past.spreads[check.id], name)) for name in ("median", "q1", "q3", "n")]
            for check in run.checks
            if check.id in past.spreads
        },
        "measured": {
            check.id: [_short(past.measured.get(check.id, {}).get(host.host)) for host in run.hosts]
            for check in run.checks
            if check.id in past.spreads
        },
    }


def _short(value: float | None) -> float | None:
    """Four digits, which is more than a plot can show."""
    if value is None or value == 0 or isinstance(value, int):
        return value
    short = round(value, 3 - math.floor(math.log10(abs(value))))
    return int(short) if short == int(short) else short
