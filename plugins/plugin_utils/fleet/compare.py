# SPDX-License-Identifier: Apache-2.0
"""Is one run of a fleet slower than another, beyond noise? By layer and host, and by layer over all hosts.

On one host the samples of both runs are compared by Mann and Whitney's test; p values are adjusted over all hosts and
checks (Benjamini and Hochberg). Over the fleet each host is one observation, the ratio of its medians, and Wilcoxon's
signed-rank test is used. A change that is significant counts from the threshold on, and only where the native control,
measured in between in both runs, did not change with it: else the host was slower, not what is tested. Where the
interval of the ratio is too wide to have shown a change of twice the threshold, the verdict is ``invalid``: a run that
could not have shown a slow-down has not shown that there is none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import reading
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.numbers import (
    Ratio,
    benjamini_hochberg,
    mann_whitney,
    ratio_of_medians,
    signed_rank,
    typical_ratio,
)
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.reading import Side
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetRun, HostResult

SLOWER, FASTER, NO_DIFFERENCE, INVALID = "slower", "faster", "no_difference", "invalid"
VERDICTS = (SLOWER, INVALID, FASTER, NO_DIFFERENCE)
ALPHA = 0.05
# Below these the tests' approximations do not hold.
SAMPLES = 8
HOSTS = 10
# Of what is timed, less is better.
_TIMES = ("ns", "us", "ms", "s")


@dataclass(frozen=True)
class Line:
    """One verdict. ``host`` is empty for the fleet, where n counts hosts. Ratios are after to before."""

    check: str
    side: str
    unit: str
    host: str
    verdict: str
    reason: str = ""
    n_before: int = 0
    n_after: int = 0
    median_before: float | None = None
    median_after: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    control: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All verdicts of two runs."""

    before: str
    after: str
    threshold: float
    fleet: list[Line]
    hosts: list[Line]
    # Hosts with samples before and none after; checks with too few samples for a test.
    lost: dict[str, str]
    too_few: list[str]

    @property
    def verdict(self) -> str:
        """Slower if anything is. What a host's noise hides, the fleet may show, so that decides where there is one."""
        if any(line.verdict == SLOWER for line in (*self.fleet, *self.hosts)):
            return SLOWER
        deciding = self.fleet or self.hosts
        if self.lost or not deciding or any(line.verdict == INVALID for line in deciding):
            return INVALID
        return FASTER if any(line.verdict == FASTER for line in deciding) else NO_DIFFERENCE

    @property
    def counts(self) -> dict[str, int]:
        counts = Counter(line.verdict for line in self.hosts)
        return {verdict: counts[verdict] for verdict in VERDICTS}

    def as_dict(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "threshold": self.threshold,
            "verdict": self.verdict,
            "counts": self.counts,
            "fleet": [asdict(line) for line in self.fleet],
            "hosts": [asdict(line) for line in self.hosts],
            "lost": [{"host": host, "reason": reason} for host, reason in self.lost.items()],
            "too_few": self.too_few,
        }


@dataclass(frozen=True)
class _Control:
    """What the control of a side did from one run to the other."""

    p: float
    ratio: Ratio


@dataclass(frozen=True)
class _Pair:
    """One timed side of one host in both runs, and what its control did meanwhile."""

    host: str
    before: Side
    after: Side
    p: float
    ratio: Ratio
    control: _Control | None


def compare(before: FleetRun, after: FleetRun, threshold: float) -> Comparison:
    """Compare two runs. ``threshold`` is the least change of a median that counts, as a share: 0.1 is 10 %."""
    earlier = {host.host: host for host in before.hosts if host.document}
    later = {host.host: host for host in after.hosts}
    pairs: list[_Pair] = []
    invalid: list[Line] = []
    lost: dict[str, str] = {}
    too_few: set[str] = set()
    for name, host in earlier.items():
        other = later.get(name)
        if other is None or not other.document:
            lost[name] = (other.reason if other else "") or "it was not in the later run"
            continue
        found, lacking, few = _pairs(name, host, other)
        pairs += found
        invalid += lacking
        too_few |= few
    lines = [
        _line(pair, p, threshold) for pair, p in zip(pairs, benjamini_hochberg([pair.p for pair in pairs]), strict=True)
    ]
    return Comparison(
        before=before.name,
        after=after.name,
        threshold=threshold,
        fleet=_fleet(pairs, threshold),
        hosts=sorted([*lines, *invalid], key=_order),
        lost=lost,
        too_few=sorted(too_few - {pair.before.check for pair in pairs}),
    )


def _order(line: Line) -> tuple[int, float]:
    return VERDICTS.index(line.verdict), -(line.ratio or 0)


def _pairs(name: str, before: HostResult, after: HostResult) -> tuple[list[_Pair], list[Line], set[str]]:
    """What can be compared on a host, what can't though it was measured before, and which checks are never tested."""
    later = {(side.check, side.name, side.unit): side for side in after.sides}
    controls = {side.check: side for side in before.sides if _usable(side) and side.control}
    elsewhere = _not_of_the_host(before, after)
    pairs, lacking, few = [], [], set()
    for side in before.sides:
        other = later.get((side.check, side.name, side.unit))
        if side.control or side.unit not in _TIMES or side.check in elsewhere:
            continue
        if not _usable(side):
            few.add(side.check)
        elif other is None or not _usable(other):
            n = len(other.values) if other else 0
            reason = f"the later run has {n} usable samples, {SAMPLES} are needed"
            lacking.append(Line(side.check, side.name, side.unit, name, INVALID, reason, len(side.values), n))
        else:
            control = controls.get(side.check)
            moved = later.get((control.check, control.name, control.unit)) if control else None
            did = _Control(*_test(control, moved)) if control and moved and _usable(moved) else None
            pairs.append(_Pair(name, side, other, *_test(side, other), did))
    return pairs, lacking, few


def _not_of_the_host(before: HostResult, after: HostResult) -> set[str]:
    """Checks that say nothing of a host's change: measured on the controller, or left out by a lower level."""
    on_controller = {line.id for line in before.lines if line.layer == reading.CONTROLLER}
    if before.document.get("level") == after.document.get("level"):
        return on_controller
    return on_controller | {line.id for line in after.lines if line.status == reading.NOT_APPLICABLE}


def _test(before: Side, after: Side) -> tuple[float, Ratio]:
    return mann_whitney(before.values, after.values).p, ratio_of_medians(before.values, after.values)


def _usable(side: Side) -> bool:
    return len(side.values) >= SAMPLES and side.values[0] > 0


def _line(pair: _Pair, p: float, threshold: float) -> Line:
    freed = pair.ratio.over(pair.control.ratio) if pair.control else None
    verdict, reason = _judge(p, pair.ratio, freed, pair.control, threshold)
    low, high = pair.ratio.interval()
    return Line(
        check=pair.before.check,
        side=pair.before.name,
        unit=pair.before.unit,
        host=pair.host,
        verdict=verdict,
        reason=reason,
        n_before=len(pair.before.values),
        n_after=len(pair.after.values),
        median_before=median(pair.before.values),
        median_after=median(pair.after.values),
        ratio=pair.ratio.value,
        low=low,
        high=high,
        p=p,
        control=pair.control.ratio.value if pair.control else None,
    )


def _judge(p: float, ratio: Ratio, freed: Ratio | None, control: _Control | None, threshold: float) -> tuple[str, str]:
    """The verdict on a ratio; ``freed`` is the ratio freed of what its control did."""
    least = 1 + threshold
    low, high = ratio.interval()
    changed = SLOWER if ratio.value >= least else FASTER if ratio.value <= 1 / least else None
    if changed and p < ALPHA:
        if freed and control and control.p < ALPHA and not _stands(freed, changed, least):
            seen = f"times {control.ratio.value:.2f}"
            return INVALID, f"its native control changed too ({seen}): the hosts, or what both share"
        return changed, ""
    if high > least**2 or low < 1 / least**2:
        seen = f"95 % interval of the ratio {low:.2f} to {high:.2f}"
        return INVALID, f"too noisy to show a change of twice the threshold ({seen}): take more samples"
    if freed and control and freed.interval()[0] > least:
        seen = f"times {control.ratio.value:.2f}"
        return INVALID, f"its native control got faster ({seen}), which may hide a slow-down"
    return NO_DIFFERENCE, ""


def _stands(freed: Ratio, changed: str, least: float) -> bool:
    """Whether a change is still one when what the control did is taken out."""
    low, high = freed.interval()
    if changed == SLOWER:
        return freed.value >= least and low > 1
    return freed.value <= 1 / least and high < 1


def _fleet(pairs: Sequence[_Pair], threshold: float) -> list[Line]:
    """Each side over all hosts that have it in both runs; where they are too few, nothing is said of the fleet."""
    groups: dict[tuple[str, str, str], list[_Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.before.check, pair.before.name, pair.before.unit].append(pair)
    groups = {key: group for key, group in groups.items() if len(group) >= HOSTS}
    adjusted = benjamini_hochberg([signed_rank([pair.ratio.log for pair in group]) for group in groups.values()])
    return [_fleet_line(key, group, p, threshold) for (key, group), p in zip(groups.items(), adjusted, strict=True)]


def _typical(ratios: Iterable[Ratio]) -> Ratio:
    return typical_ratio([ratio.value for ratio in ratios])


def _fleet_line(key: tuple[str, str, str], group: Sequence[_Pair], p: float, threshold: float) -> Line:
    ratio = _typical(pair.ratio for pair in group)
    with_control = [(pair.ratio, pair.control.ratio) for pair in group if pair.control]
    control = freed = None
    if len(with_control) >= HOSTS:
        control = _Control(signed_rank([own.log for _, own in with_control]), _typical(own for _, own in with_control))
        freed = _typical(one.over(own) for one, own in with_control)
    verdict, reason = _judge(p, ratio, freed, control, threshold)
    low, high = ratio.interval()
    return Line(
        check=key[0],
        side=key[1],
        unit=key[2],
        host="",
        verdict=verdict,
        reason=reason,
        n_before=len(group),
        n_after=len(group),
        median_before=median(median(pair.before.values) for pair in group),
        median_after=median(median(pair.after.values) for pair in group),
        ratio=ratio.value,
        low=low,
        high=high,
        p=p,
        control=control.ratio.value if control else None,
    )


def told(found: Comparison, most: int = 20) -> list[str]:
    """The comparison in lines for a terminal: the fleet's, then those of hosts that differ or that say nothing."""
    words = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in found.counts.items())
    lines = [
        f"{found.after} against {found.before}: {found.verdict.replace('_', ' ')}",
        f"hosts and checks: {words}; a change counts from {found.threshold:.0%} on",
        *(_told(line, "fleet") for line in found.fleet),
    ]
    different = [line for line in found.hosts if line.verdict != NO_DIFFERENCE]
    lines += [_told(line, line.host) for line in different[:most]]
    if len(different) > most:
        lines.append(f"and {len(different) - most} more, in the result of the task")
    lines += [f"{host}: not in the later run's samples: {reason}" for host, reason in list(found.lost.items())[:most]]
    if found.too_few:
        lines.append(f"not compared, fewer than {SAMPLES} samples: {', '.join(found.too_few)}")
    return lines


def _told(line: Line, who: str) -> str:
    name = f"{who}: {line.check} {line.side} {line.verdict.replace('_', ' ')}"
    if line.ratio is None:
        return f"{name}: {line.reason}"
    figures = (
        f"{line.median_before:.3g} -> {line.median_after:.3g} {line.unit}, times {line.ratio:.2f} "
        f"({line.low:.2f} to {line.high:.2f}), p {line.p:.2g}, n {line.n_before} and {line.n_after}"
    )
    control = f", control times {line.control:.2f}" if line.control is not None else ""
    return f"{name}: {figures}{control}" + (f"; {line.reason}" if line.reason else "")
