"""The statistics: against published figures, and against what they promise."""

from __future__ import annotations

import pytest
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.numbers import (
    Ratio,
    Spread,
    benjamini_hochberg,
    mann_whitney,
    outliers,
    quantile,
    ratio_of_medians,
    signed_rank,
)

from tests.fleets import dice

# Ages at the diagnosis of diabetes, the example of SciPy's documentation of mannwhitneyu.
MALES, FEMALES = [19, 22, 16, 29, 24], [20, 11, 17, 12]


def test_quantiles_are_interpolated() -> None:
    ordered = [1.0, 2.0, 3.0, 10.0]
    assert [quantile(ordered, share) for share in (0, 0.5, 0.75, 1)] == [1.0, 2.5, 4.75, 10.0]
    assert quantile([7.0], 0.95) == 7.0


def test_mann_whitney_is_the_published_one() -> None:
    found = mann_whitney(FEMALES, MALES)
    assert found.superiority == 17 / 20
    assert found.p == pytest.approx(0.11134688653314041)


def test_mann_whitney_counts_ties_half() -> None:
    assert mann_whitney([1, 1, 2], [1, 2, 2]).superiority == 6 / 9
    assert mann_whitney([3.0] * 9, [3.0] * 9).p == 1.0


def test_signed_rank_is_the_published_one() -> None:
    # Darwin's corn, the example of SciPy's documentation of wilcoxon: n = 15, W = 24, p = 0.041 by the exact
    # distribution, to which the approximation comes near from above.
    heights = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
    assert signed_rank(heights) == pytest.approx(0.041, abs=0.003)
    assert signed_rank([0.0, 0.0]) == 1.0


def test_a_ratio_of_medians_has_the_interval_it_promises() -> None:
    chance = dice(7)
    inside = 0
    for _ in range(400):
        a = [chance.lognormvariate(0, 0.3) for _ in range(20)]
        b = [1.2 * chance.lognormvariate(0, 0.3) for _ in range(20)]
        low, high = ratio_of_medians(a, b).interval()
        inside += low <= 1.2 <= high
    assert 0.92 <= inside / 400 <= 0.99


def test_a_ratio_over_a_ratio_is_less_sure_than_each() -> None:
    freed = Ratio(1.5, 0.03).over(Ratio(1.5, 0.04))
    assert freed.value == 1.0
    assert freed.error == pytest.approx(0.05)


def test_benjamini_hochberg_is_the_published_one() -> None:
    # Benjamini and Hochberg (1995), table of section 3.2: at 0.05 the four smallest of 15 are rejected.
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
                0.6528, 0.7590, 1.0]  # fmt: skip
    shuffled = dice(3).sample(p_values, len(p_values))
    adjusted = dict(zip(shuffled, benjamini_hochberg(shuffled), strict=True))
    assert [p for p in p_values if adjusted[p] <= 0.05] == p_values[:4]
    assert adjusted[0.0001] == pytest.approx(0.0015)
    assert benjamini_hochberg([]) == []


def test_outliers_are_robust_against_the_outliers() -> None:
    values = {f"h{i}": 10 + i / 10 for i in range(9)} | {"far": 40.0, "near": 11.0}
    assert list(outliers(values, Spread.of(list(values.values())))) == ["far"]


def test_a_third_of_wild_hosts_does_not_hide_them() -> None:
    values = {f"h{i}": 10 + i / 10 for i in range(9)} | {f"far{i}": 100.0 + i for i in range(4)}
    found = outliers(values, Spread.of(list(values.values())))
    assert sorted(found) == ["far0", "far1", "far2", "far3"]
    assert all(deviations > 3.5 for deviations in found.values())


def test_hosts_that_are_alike_have_no_outlier_by_a_hair() -> None:
    values = dict.fromkeys("abcdefgh", 10.0) | {"hair": 10.5, "out": 12.0}
    assert outliers(values, Spread.of(list(values.values()))) == {"out": float("inf")}


def test_few_hosts_are_no_fleet() -> None:
    values = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 90.0}
    assert outliers(values, Spread.of(list(values.values()))) == {}
