# SPDX-License-Identifier: Apache-2.0
"""The statistics of the fleet page and of the comparison of runs. Plain functions of figures; no input or output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from statistics import NormalDist, median

# Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers: |modified z| > 3.5, where the MAD is scaled by
# 1.4826 so that it estimates the standard deviation of a normal distribution.
OUTLIER_DEVIATIONS = 3.5
MAD_TO_DEVIATION = 1.4826
# Where hosts are alike to a hair, a hair is not an outlier: it must also be this share of the median away.
OUTLIER_SHARE = 0.1
OUTLIER_HOSTS = 5

_NORMAL = NormalDist()


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, interpolated between neighbours (Hyndman and Fan 1996, type 7)."""
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


@dataclass(frozen=True)
class Spread:
    """How values of several hosts lie."""

    n: int
    median: float
    mad: float
    low: float
    q1: float
    q3: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        middle = median(ordered)
        return cls(
            n=len(ordered),
            median=middle,
            mad=median(abs(value - middle) for value in ordered),
            low=ordered[0],
            q1=quantile(ordered, 0.25),
            q3=quantile(ordered, 0.75),
            high=ordered[-1],
        )

    def band(self) -> tuple[float, float]:
        """Outside of this a host is an outlier: median -+ k * 1.4826 * MAD, at least a tenth of the median."""
        half = max(OUTLIER_DEVIATIONS * MAD_TO_DEVIATION * self.mad, OUTLIER_SHARE * abs(self.median))
        return self.median - half, self.median + half


def outliers(values: Mapping[str, float], spread: Spread) -> dict[str, float]:
    """Who is outside of the band, with how many robust deviations (infinite where all the others are the same)."""
    if spread.n < OUTLIER_HOSTS:
        return {}
    low, high = spread.band()
    deviation = MAD_TO_DEVIATION * spread.mad
    return {
        name: (value - spread.median) / deviation if deviation else math.copysign(math.inf, value - spread.median)
        for name, value in values.items()
        if not low <= value <= high
    }


@dataclass(frozen=True)
class MannWhitney:
    """Two-sided. ``superiority`` is the chance that a value of b is greater than one of a, ties counted half."""

    p: float
    superiority: float


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> MannWhitney:
    """Are values of b greater, or less, than those of a?

    Mann and Whitney (1947), On a test of whether one of two random variables is stochastically larger than the other,
    Annals of Mathematical Statistics 18: U by rank sums, normal approximation with correction for ties and for
    continuity (good from about 8 values a side). The effect size is U / (n_a n_b) (Vargha and Delaney 2000).
    """
    n_a, n_b = len(a), len(b)
    total = n_a + n_b
    ranked = sorted([(value, False) for value in a] + [(value, True) for value in b])
    sum_b, ties, before = 0.0, 0, 0
    for _, group in groupby(ranked, key=lambda entry: entry[0]):
        members = list(group)
        rank = before + (len(members) + 1) / 2
        sum_b += rank * sum(of_b for _, of_b in members)
        ties += len(members) ** 3 - len(members)
        before += len(members)
    u = sum_b - n_b * (n_b + 1) / 2
    variance = n_a * n_b / 12 * (total + 1 - ties / (total * (total - 1)))
    return MannWhitney(_two_sided(u - n_a * n_b / 2, variance), u / (n_a * n_b))


def signed_rank(values: Sequence[float]) -> float:
    """The p value, two-sided, for: the values lie around zero.

    Wilcoxon (1945), Individual comparisons by ranking methods, Biometrics 1: zeros are left out, normal approximation
    with correction for ties and for continuity (good from about 10 values).
    """
    ranked = sorted((abs(value), value > 0) for value in values if value != 0)
    n = len(ranked)
    positive, ties, before = 0.0, 0, 0
    for _, group in groupby(ranked, key=lambda entry: entry[0]):
        members = list(group)
        positive += (before + (len(members) + 1) / 2) * sum(above for _, above in members)
        ties += len(members) ** 3 - len(members)
        before += len(members)
    variance = n * (n + 1) * (2 * n + 1) / 24 - ties / 48
    return _two_sided(positive - n * (n + 1) / 4, variance)


def _two_sided(distance: float, variance: float) -> float:
    """From a statistic's distance to its mean; half a rank is the correction for continuity."""
    if variance <= 0:
        return 1.0
    return min(1.0, math.erfc(max(0.0, abs(distance) - 0.5) / math.sqrt(2 * variance)))


@dataclass(frozen=True)
class Ratio:
    """Of medians, b to a. ``error`` is the standard error of its logarithm."""

    value: float
    error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        reach = math.exp(_NORMAL.inv_cdf((1 + level) / 2) * self.error)
        return self.value / reach, self.value * reach

    @property
    def log(self) -> float:
        return math.log(self.value)

    def over(self, other: Ratio) -> Ratio:
        """This one freed of what the other one shows."""
        return Ratio(self.value / other.value, math.hypot(self.error, other.error))


def ratio_of_medians(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Price and Bonett (2002), Distribution-free confidence intervals for difference and ratio of medians,
    Journal of Statistical Computation and Simulation 72: the variance of a log median comes out of two order
    statistics, so no shape of the distribution is assumed. Values are above zero."""
    return Ratio(median(b) / median(a), math.sqrt(_log_median_variance(a) + _log_median_variance(b)))


def typical_ratio(ratios: Sequence[float]) -> Ratio:
    """The median of ratios that were found independently of each other, as one of several hosts."""
    return Ratio(median(ratios), math.sqrt(_log_median_variance(ratios)))


def _log_median_variance(values: Sequence[float]) -> float:
    ordered = sorted(values)
    rank, deviations = _order_statistics(len(ordered))
    return ((math.log(ordered[-rank]) - math.log(ordered[rank - 1])) / (2 * deviations)) ** 2


@cache
def _order_statistics(n: int) -> tuple[int, float]:
    """The rank, from below and from above, of the two values around a median, and how many deviations it is away."""
    rank = max(1, round((n + 1) / 2 - math.sqrt(n)))
    tail = sum(math.comb(n, i) for i in range(rank)) / 2**n
    return rank, -_NORMAL.inv_cdf(tail)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: calling all that are below alpha keeps the share of false calls below alpha.

    Benjamini and Hochberg (1995), Controlling the false discovery rate, Journal of the Royal Statistical Society B 57.
    Where nothing has changed at all, this is also the chance of any false call.
    """
    m = len(p_values)
    adjusted = [1.0] * m
    least = 1.0
    for rank, index in sorted(enumerate(sorted(range(m), key=p_values.__getitem__), 1), reverse=True):
        least = min(least, p_values[index] * m / rank)
        adjusted[index] = least
    return adjusted
