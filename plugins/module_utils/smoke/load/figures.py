# SPDX-License-Identifier: Apache-2.0
"""What an open loop of requests yields: percentiles from the intended time, the rate, the generator's own lag.

No input or output, no clock. Times are seconds from the begin of a run, figures are milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# A generator takes a moment to connect, and in the end drops what it was just about to send: neither is counted.
WARM_UP_SECONDS = 1.0
COOL_DOWN_SECONDS = 1.0
# Latencies kept for the distribution on the page, evenly taken over the run.
KEPT = 200


@dataclass(frozen=True)
class Request:
    """One request that was sent: when it should have been, when it was, and when the answer was there, if ever."""

    intended: float
    sent: float
    done: float | None


@dataclass(frozen=True)
class Loop:
    """What one run of a generator has recorded.

    ``errors`` counts requests without a right answer by what went wrong. ``requests`` need not hold those.
    """

    qps: float
    seconds: float
    requests: Sequence[Request]
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """Latencies and lags in ms, rates a second.

    ``p50``, ``p99`` and ``p999`` run from the intended time. What got no answer counts as the whole run: a lower bound.
    ``sent_p50`` and ``sent_p99`` run from the time of sending, for comparing two workloads under one generator.
    """

    qps: float
    achieved_qps: float
    n: int
    answered: int
    p50: float
    p99: float
    p999: float
    sent_p50: float
    sent_p99: float
    lag_p99: float
    lag_max: float
    errors: Mapping[str, int]
    kept: Sequence[float]
    """Some of the latencies from the intended time, in order of time."""
    latencies: Sequence[float] = field(repr=False, default=())
    """All of them, sorted."""

    def share_within(self, limit_ms: float) -> float:
        """Percent of all requests that were answered within so many ms of their intended time."""
        return 100.0 * sum(value <= limit_ms for value in self.latencies) / max(1, self.n)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: a value that was measured. ``ordered`` is sorted and not empty."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def intended_times(sent: Sequence[float], qps: float, missing: int) -> list[float]:
    """When requests should have been sent, one each 1/qps from the begin on, from when they were (sorted).

    A recorder may have left out up to ``missing`` of them. Where in the row is not known: the times are then the latest
    that agree with the record, so that the lag is never overstated.
    """
    times = []
    for index, at in enumerate(sent):
        due = math.floor(at * qps + 1e-6)
        times.append(max(index, min(index + missing, due)) / qps)
    return times


def figures(loop: Loop) -> Figures:
    """The figures of one run, without its warm-up and its last second."""
    begin, end = WARM_UP_SECONDS, loop.seconds - COOL_DOWN_SECONDS
    counted = [one for one in loop.requests if begin <= one.intended < end]
    n = max(round(loop.qps * (end - begin)), len(counted))
    answered = [one for one in counted if one.done is not None]
    whole = loop.seconds * 1000
    in_time = [_ms(one.done, one.intended) for one in answered]
    ordered = sorted(in_time) + [whole] * (n - len(answered))
    sent = sorted(_ms(one.done, one.sent) for one in answered) or [whole]
    lags = sorted((one.sent - one.intended) * 1000 for one in counted) or [0.0]
    last = max([end, *(one.done or 0.0 for one in answered)])
    step = max(1, len(in_time) // KEPT)
    return Figures(
        qps=loop.qps,
        achieved_qps=len(answered) / (last - begin),
        n=n,
        answered=len(answered),
        p50=percentile(ordered, 0.5),
        p99=percentile(ordered, 0.99),
        p999=percentile(ordered, 0.999),
        sent_p50=percentile(sent, 0.5),
        sent_p99=percentile(sent, 0.99),
        lag_p99=percentile(lags, 0.99),
        lag_max=lags[-1],
        errors=dict(loop.errors),
        kept=[round(value, 3) for value in in_time[::step]][:KEPT],
        latencies=ordered,
    )


def _ms(done: float | None, since: float) -> float:
    return ((done or 0.0) - since) * 1000
