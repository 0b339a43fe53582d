"""What a system promises, as shares of requests: how many may go wrong, and how that is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgefleet_pulumi.model import Industry
from edgefleet_pulumi.monitoring.metrics import DURATION, REQUESTS, bucket

REACHABLE = "edgefleet:service:reachable"
# From a percentile to the share of requests that may be slower.
PERCENTILES = {"p50": 0.5, "p99": 0.01, "p999": 0.001}


@dataclass(frozen=True)
class Slo:
    """One promise: at most `budget` of all requests may go wrong, over 30 days."""

    system: str
    name: str
    budget: float
    says: str
    # The share that went wrong in a window such as 5m, as PromQL.
    errors: Callable[[str], str]


def of(industry: Industry) -> list[Slo]:
    """The promises of a system: availability, and one for each percentile of its latency."""
    found = [_availability(industry)]
    for percentile, budget in PERCENTILES.items():
        found.append(_latency(industry, percentile, getattr(industry.slo.latency, percentile), budget))
    return found


def _availability(industry: Industry) -> Slo:
    """Of the time that the service was there, the share of requests that it answered, and not by 5xx.

    A service that is gone counts no requests that fail, so the time without it is part of the sum.
    """
    here = _selector(industry)
    failed = f'sum by (system) (rate({REQUESTS}{{{here},code=~"5.."}}[WINDOW]))'
    ratio = _share(failed, f"sum by (system) (rate({REQUESTS}{{{here}}}[WINDOW]))", here)
    template = f"1 - (1 - ({ratio})) * avg_over_time({REACHABLE}{{{here}}}[WINDOW])"
    return Slo(
        industry.system,
        "availability",
        round(1 - industry.slo.availability / 100, 6),
        f"{industry.slo.availability:g} % of the time there, of requests answered without 5xx",
        lambda window: template.replace("WINDOW", window),
    )


def _latency(industry: Industry, percentile: str, limit_ms: float, budget: float) -> Slo:
    here = _selector(industry)
    every = f"sum by (system) (rate({DURATION}_count{{{here}}}[WINDOW]))"
    quick = f'sum by (system) (rate({DURATION}_bucket{{{here},le="{bucket(limit_ms)}"}}[WINDOW]))'
    ratio = _share(f"({every} - {quick})", every, here)
    return Slo(
        industry.system,
        f"latency-{percentile}",
        budget,
        f"{100 * (1 - budget):g} % of requests within {limit_ms:g} ms",
        lambda window: ratio.replace("WINDOW", window),
    )


def _selector(industry: Industry) -> str:
    return f'system="{industry.system}"'


def _share(part: str, whole: str, here: str) -> str:
    """A part of a whole; 0 where there was nothing: no request is no failed request."""
    return f"{part} / ({whole} > 0) or 0 * last_over_time({REACHABLE}{{{here}}}[WINDOW])"
