"""When a ramp has met the knee."""

from __future__ import annotations

from tests.bench.onhost.ramp import past_knee, twice_past_knee


def test_one_bad_moment_is_not_the_knee_and_two_are() -> None:
    steps = iter([{"past_knee": True, "n": 1}, {"past_knee": False, "n": 2}])
    assert twice_past_knee(lambda: next(steps)) == {"past_knee": False, "n": 2}
    steps = iter([{"past_knee": True, "n": 1}, {"past_knee": True, "n": 2}])
    assert past_knee([twice_past_knee(lambda: next(steps))])


def test_a_rate_that_is_kept_up_with_is_tried_once() -> None:
    steps = iter([{"past_knee": False, "n": 1}])
    assert not past_knee([twice_past_knee(lambda: next(steps))])
