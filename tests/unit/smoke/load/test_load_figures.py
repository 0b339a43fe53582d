"""What an open loop yields: nothing is left out because it was slow, late or lost."""

from __future__ import annotations

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import (
    KEPT,
    figures,
    intended_times,
    percentile,
)

from tests.unit.smoke.load.made import loop


def test_a_percentile_is_a_measured_value() -> None:
    ordered = [float(value) for value in range(1, 1001)]
    assert [percentile(ordered, share) for share in (0.5, 0.99, 0.999)] == [500.0, 990.0, 999.0]
    assert percentile([7.0], 0.999) == 7.0


def test_latency_runs_from_the_intended_time_and_the_warm_up_does_not_count() -> None:
    found = figures(loop(latency=lambda index: 1.0 if index < 500 else 0.002, lag=lambda _: 0.003))
    assert found.n == found.answered == 2000
    assert found.p50 == pytest.approx(5.0)
    assert found.p999 == pytest.approx(5.0)
    assert found.sent_p50 == pytest.approx(2.0)
    assert found.lag_p99 == pytest.approx(3.0)
    assert found.achieved_qps == pytest.approx(500, rel=0.01)


def test_a_pause_of_the_workload_counts_for_all_that_were_due_in_it() -> None:
    """Coordinated omission: a closed loop would have seen one slow request in 2,000."""
    pause = {index: (1250 - index) / 500 for index in range(1000, 1250)}
    found = figures(loop(latency=lambda index: pause.get(index, 0.002)))
    assert found.p99 > 400
    assert found.share_within(30) == pytest.approx(100 * (2000 - 235) / 2000, abs=0.2)


def test_what_got_no_answer_counts_as_the_whole_run() -> None:
    found = figures(loop(latency=lambda index: None if index % 50 == 0 else 0.002))
    assert (found.n, found.answered) == (2000, 1960)
    assert found.p50 < 5
    assert (found.p99, found.p999) == (6000.0, 6000.0)
    assert found.share_within(30) == 98.0


def test_what_was_never_sent_counts_too() -> None:
    whole = loop()
    cut = figures(type(whole)(whole.qps, whole.seconds, whole.requests[:1500]))
    assert (cut.n, cut.answered) == (2000, 1000)
    assert cut.p999 == 6000.0
    assert cut.achieved_qps == pytest.approx(250)


def test_nothing_at_all_is_no_error() -> None:
    found = figures(loop(latency=lambda _: None))
    assert (found.answered, found.achieved_qps, found.p50) == (0, 0.0, 6000.0)
    assert found.share_within(30) == 0.0


def test_a_part_of_the_latencies_is_kept_in_order_of_time() -> None:
    found = figures(loop(latency=lambda index: index / 1e6))
    assert len(found.kept) == KEPT
    assert list(found.kept) == sorted(found.kept)
    assert found.kept[KEPT // 2] == pytest.approx(found.p50, rel=0.02)


def test_intended_times_are_the_schedule_when_all_are_recorded() -> None:
    sent = [index / 100 + 0.5 for index in range(10)]
    assert intended_times(sent, 100, missing=0) == [index / 100 for index in range(10)]


def test_a_record_with_gaps_does_not_overstate_the_lag() -> None:
    sent = [index / 100 + 0.001 for index in range(10) if index not in (2, 3)]
    due = intended_times(sent, 100, missing=2)
    assert max(at - one for at, one in zip(sent, due, strict=True)) == pytest.approx(0.001)
    late = [at + 0.2 for at in sent]
    assert max(at - one for at, one in zip(late, intended_times(late, 100, missing=2), strict=True)) > 0.17
