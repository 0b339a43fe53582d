"""The comparison of two runs: how often it cries wolf, how often it sees a wolf, and what it refuses to say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.compare import Comparison, Line, compare, told
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.numbers import mann_whitney
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetRun, HostResult

from tests.fleets import COLD, START, fleet, one_run, starts, two_runs


def only(found: Comparison) -> Line:
    (line,) = found.hosts
    return line


def test_the_p_values_are_what_they_say_where_nothing_changed() -> None:
    below = sum(mann_whitney(starts(2 * i, 8), starts(2 * i + 1, 8)).p < 0.05 for i in range(2000))
    assert 0.035 <= below / 2000 <= 0.065


def test_no_change_is_seldom_called_one() -> None:
    """The whole of 100 fleets of 20 hosts without a change: at most in 5 of 100 runs may anything be called slower."""
    found = [two_runs(seed, hosts=20, sigma=0.15) for seed in range(100)]
    assert sum(one.counts["slower"] + one.counts["faster"] > 0 for one in found) <= 5
    assert sum(line.verdict in ("slower", "faster") for one in found for line in one.fleet) <= 5


@pytest.mark.parametrize(("sigma", "power"), [(0.08, 0.97), (0.15, 0.8)])
def test_a_host_that_is_20_percent_slower_is_seen(sigma: float, power: float) -> None:
    seen = sum(two_runs(seed, wasm=1.2, sigma=sigma).verdict == "slower" for seed in range(200))
    assert seen / 200 >= power


def test_a_fleet_that_is_20_percent_slower_is_always_seen() -> None:
    for seed in range(30):
        (line,) = two_runs(seed, hosts=20, wasm=1.2, sigma=0.2).fleet
        assert line.verdict == "slower"
        assert line.ratio is not None
        assert 1.1 < line.ratio < 1.3


def test_few_slow_hosts_among_many_are_the_ones_that_are_named() -> None:
    before, after = fleet(60, seed=1, trouble=False), fleet(60, seed=2, trouble=False)
    slow = {"hall-004.example.com", "hall-050.example.com"}
    for host in after.hosts:
        if host.host in slow:
            series = host.document["samples"][COLD]["wasm_ms"]
            series[:] = [value * 1.3 for value in series]
    found = compare(before, after, 0.1)
    assert found.verdict == "slower"
    assert {line.host for line in found.hosts if line.verdict == "slower"} == slow
    assert all(line.verdict == "no_difference" for line in found.fleet)


def test_faster_is_seen_too() -> None:
    found = two_runs(1, wasm=0.7)
    assert (found.verdict, only(found).verdict) == ("faster", "faster")


def test_a_slower_host_is_not_a_slower_engine() -> None:
    found = two_runs(1, native=1.5)
    assert found.verdict == "invalid"
    assert only(found).reason.startswith("its native control changed too (times 1.")


def test_a_control_that_got_faster_may_hide_a_slow_down() -> None:
    found = two_runs(1, native=1 / 1.5, wasm=1.5)
    assert only(found).verdict == "invalid"
    assert "may hide a slow-down" in only(found).reason


def test_a_change_below_the_threshold_is_none() -> None:
    found = two_runs(1, hosts=20, wasm=1.05, sigma=0.03, n=60)
    assert found.verdict == "no_difference"
    (line,) = found.fleet
    assert line.p is not None
    assert line.p < 0.05, "it is a real change, only a small one"
    assert two_runs(1, hosts=20, wasm=1.05, sigma=0.03, n=60, threshold=0.02).verdict == "slower"


def test_noise_that_could_hide_a_slow_down_is_not_no_difference() -> None:
    found = two_runs(3, sigma=0.8)
    assert only(found).verdict == "invalid"
    assert only(found).reason.startswith("too noisy to show a change of twice the threshold")


def test_without_a_control_the_figures_speak_for_themselves() -> None:
    before = one_run({"a": {"wasm_ms": starts(1, 8)}})
    after = one_run({"a": {"wasm_ms": starts(2, 12)}})
    assert compare(before, after, 0.1).verdict == "slower"


def test_too_few_samples_are_not_compared_and_said() -> None:
    few = one_run({"a": {"wasm_ms": [8.0] * 5}})
    found = compare(few, few, 0.1)
    assert (found.hosts, found.too_few, found.verdict) == ([], [COLD], "invalid")
    enough = one_run({"a": {"wasm_ms": starts(1, 8)}})
    assert only(compare(enough, few, 0.1)).reason == "the later run has 5 usable samples, 8 are needed"


def test_a_host_that_is_lost_is_no_host_that_is_well() -> None:
    before = one_run({name: {"wasm_ms": starts(seed, 8)} for seed, name in enumerate("abc")})
    after = FleetRun(START, START, "", (before.hosts[0], HostResult("b", reason="timed out", unreachable=True)))
    found = compare(before, after, 0.1)
    assert found.lost == {"b": "timed out", "c": "it was not in the later run"}
    assert found.verdict == "invalid"


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_times_that_can_not_be_are_not_compared(value: float) -> None:
    wrong = one_run({"a": {"wasm_ms": [value, *starts(1, 8)]}})
    assert compare(wrong, wrong, 0.1).too_few == [COLD]


def test_figures_that_are_no_times_are_left_alone() -> None:
    rate = one_run({"a": {"wasm_rps": starts(1, 800)}})
    found = compare(rate, rate, 0.1)
    assert (found.hosts, found.too_few) == ([], [])


def test_the_same_run_is_no_different_from_itself() -> None:
    run = fleet(20, trouble=False)
    found = compare(run, copy.deepcopy(run), 0.1)
    assert found.verdict == "no_difference"
    assert {line.p for line in found.hosts} == {1.0}


def test_what_is_told_has_the_figures() -> None:
    text = "\n".join(told(two_runs(1, hosts=12, wasm=1.5)))
    assert "fleet: cold_start_crun wasm slower: " in text
    assert "12 slower, 0 invalid, 0 faster, 0 no difference; a change counts from 10% on" in text
    assert "h0: cold_start_crun wasm slower: " in text


def test_much_to_tell_is_cut_and_counted() -> None:
    assert "and 10 more, in the result of the task" in told(two_runs(1, hosts=30, wasm=1.5))


def _without_cycles(value: Any) -> bool:
    return isinstance(value, (dict, list, str, int, float, bool, type(None)))


def test_the_result_is_plain() -> None:
    found = two_runs(1, hosts=12, wasm=1.5).as_dict()
    assert all(_without_cycles(value) for value in found.values())
    assert (found["verdict"], found["fleet"][0]["host"]) == ("slower", "")


def on(host: HostResult, **changes: Any) -> FleetRun:
    return FleetRun(START, START, "", (HostResult(host.host, {**host.document, **changes}),))


def test_what_the_controller_took_says_nothing_of_a_host() -> None:
    (before,) = one_run({"a": {"wasm_ms": starts(1, 8), "native_ms": starts(2, 5)}}).hosts
    (after,) = one_run({"a": {"wasm_ms": starts(3, 16), "native_ms": starts(4, 5)}}).hosts
    assert compare(on(before), on(after), 0.1).verdict == "slower"
    on_controller = [{"id": COLD, "layer": "controller", "status": "pass"}]
    assert compare(on(before, lines=on_controller), on(after), 0.1).hosts == []


def test_what_a_lower_level_leaves_out_is_not_lost() -> None:
    (before,) = one_run({"a": {"wasm_ms": starts(1, 8), "native_ms": starts(2, 5)}}).hosts
    left_out = {"samples": {}, "lines": [{"id": COLD, "layer": "crun", "status": "not_applicable"}]}
    lower = compare(on(before, level="standard"), on(before, level="quick", **left_out), 0.1)
    assert lower.hosts == []
    # At the same level something is wrong with the host.
    same = compare(on(before, level="quick"), on(before, level="quick", **left_out), 0.1)
    assert only(same).reason == "the later run has 0 usable samples, 8 are needed"
