"""From figures to verdicts: each is seen failing for its own reason, and is invalid where nothing can be said."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import density, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.density import Capacity, Side
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.verdicts import Round
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Line, Status

from tests.unit.smoke.load.made import a_round, loop, targets

HOST = Capacity(cores=4, memory_mib=8192, base_cores=0.2, base_mib=1500, overhead_mib=8)


def statuses(lines: list[Line]) -> dict[str, Status]:
    return {one.id: one.status for one in lines}


def slow(seconds: float = 0.1) -> Any:
    return loop(latency=lambda _: seconds)


def test_a_workload_within_its_targets_passes() -> None:
    lines = verdicts.rate_and_latency([a_round(), a_round()], targets())
    assert set(statuses(lines).values()) == {Status.PASS}
    assert [one.limit for one in lines] == [490.0, 20, 30, 50]
    assert {one.n for one in lines} == {4000}
    assert lines[0].details["asked_qps"] == 500


def test_one_slow_round_is_not_hidden_by_a_good_one() -> None:
    lines = verdicts.rate_and_latency([a_round(), a_round(slow())], targets())
    assert statuses(lines)["load_p50"] is Status.FAIL
    assert lines[1].measured == pytest.approx(100.5)


def test_a_generator_that_is_late_makes_all_lines_invalid_whatever_they_say() -> None:
    starved = loop(lag=lambda index: 0.02 if index % 20 == 0 else 0.0)
    lines = verdicts.rate_and_latency([a_round(starved)], targets())
    assert set(statuses(lines).values()) == {Status.INVALID}
    assert "generator did not keep its schedule: its own lag P99 20.0 ms (trusted up to 5)" in lines[0].reason
    assert lines[0].measured is not None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"stolen": 2.0}, "the hypervisor took 10.0 % of the CPU time (trusted up to 5)"),
        ({"busy": 14.0}, "other programs used 52 % of the CPU time (trusted up to 35)"),
    ],
)
def test_a_noisy_machine_makes_lines_invalid(changed: dict[str, Any], reason: str) -> None:
    for made in (loop(), slow()):
        lines = verdicts.rate_and_latency([a_round(made, **changed)], targets())
        assert set(statuses(lines).values()) == {Status.INVALID}
        assert lines[0].reason == reason


def test_a_throttled_workload_fails_because_of_its_limit() -> None:
    lines = verdicts.rate_and_latency([a_round(slow(), throttled=40, quota=0.2, workload=1.0)], targets())
    assert statuses(lines)["load_p99"] is Status.FAIL
    assert lines[2].reason == (
        "the workload is throttled: its limit of 0.2 CPU stopped it in 80 % of the scheduling periods, "
        "with 0.20 CPU used"
    )
    assert "CPU limit is too small" in lines[2].cause
    assert "resources.limits.cpu" in lines[2].next


def test_a_throttled_workload_fails_on_a_noisy_machine_too() -> None:
    noisy = a_round(slow(), throttled=40, workload=1.0, busy=18)
    lines = verdicts.rate_and_latency([noisy], targets())
    assert lines[2].status is Status.FAIL
    quick = a_round(throttled=40, workload=1.0, busy=18)
    assert verdicts.rate_and_latency([quick], targets())[2].status is Status.INVALID


def test_a_workload_without_cpu_left_says_so_and_one_that_waits_says_that() -> None:
    full = verdicts.rate_and_latency([a_round(slow(), workload=4.9, busy=7)], targets())
    assert full[1].reason == "the workload used 0.98 of the 1 CPU that it can use"
    waiting = verdicts.rate_and_latency([a_round(slow())], targets())
    assert waiting[1].reason == "the workload is slow without being short of CPU"


def test_errors_fail_the_rate_by_name() -> None:
    made = loop(latency=lambda index: None if index % 100 == 0 else 0.002, errors={"status 503": 20, "timeout": 3})
    rate = verdicts.rate_and_latency([a_round(made)], targets())[0]
    assert rate.status is Status.FAIL
    assert rate.reason == "23 of 2000 requests got no right answer: 20 x status 503, 3 x timeout"


def test_a_rate_that_is_not_carried_fails() -> None:
    whole = loop()
    cut = type(whole)(whole.qps, whole.seconds, whole.requests[:2200])
    rate = verdicts.rate_and_latency([a_round(cut, workload=5.0, busy=6.5)], targets())[0]
    assert (rate.status, rate.measured) == (Status.FAIL, 425.0)


def test_the_ratio_is_that_of_medians_over_rounds() -> None:
    wasm = [a_round(slow(0.003)), a_round(slow(0.003)), a_round(slow(0.3))]
    native = [a_round(slow(0.002))] * 3
    line = verdicts.to_native(wasm, native)
    assert (line.status, line.limit) == (Status.PASS, 2.0)
    assert line.measured == pytest.approx(1.5, abs=0.01)
    assert line.details["ratio_p50"] == pytest.approx(1.5, abs=0.01)


def test_more_than_twice_native_fails_though_every_limit_is_kept() -> None:
    line = verdicts.to_native([a_round(slow(0.005))] * 2, [a_round(slow(0.002))] * 2)
    assert line.status is Status.FAIL
    assert line.reason.startswith("P50 is 2.5 times native; ")


def test_a_restless_control_makes_the_ratio_invalid() -> None:
    native = [a_round(slow(0.002)), a_round(slow(0.009))]
    line = verdicts.to_native([a_round(slow(0.003))] * 2, native)
    assert line.status is Status.INVALID
    assert "native control itself was from 2.00 to 9.00 ms in 2 rounds" in line.reason


def test_what_is_stolen_from_one_side_makes_the_ratio_invalid_before_it_does_the_limits() -> None:
    wasm, native = [a_round(slow(0.003))] * 2, [a_round(slow(0.002), stolen=0.1), a_round(slow(0.002), stolen=0.3)]
    assert verdicts.to_native(wasm, [native[0]] * 2).status is Status.PASS
    line = verdicts.to_native(wasm, native)
    assert line.status is Status.INVALID
    assert line.reason == "the hypervisor took 1.5 % of the CPU time (trusted up to 1)"
    assert set(statuses(verdicts.rate_and_latency(native, targets())).values()) == {Status.PASS}


def test_satisfaction_is_the_share_within_the_limit() -> None:
    made = loop(latency=lambda index: 0.1 if index % 10 == 0 else 0.002)
    line = verdicts.satisfaction([a_round(made)], targets())
    assert (line.status, line.measured, line.limit) == (Status.FAIL, 90.0, 95)
    assert verdicts.satisfaction([a_round()], targets()).status is Status.PASS


def test_means_leave_the_generator_out() -> None:
    cpu, memory = verdicts.means([a_round()], targets())
    assert (cpu.status, cpu.measured, cpu.limit) == (Status.PASS, 17.5, 50)
    assert (memory.status, memory.measured, memory.limit) == (Status.PASS, 25.0, 60)
    cpu, memory = verdicts.means([a_round(workload=9.0, busy=12.0, memory_used_mib=6000.0)], targets())
    assert (cpu.status, cpu.measured) == (Status.FAIL, 55.0)
    assert memory.status is Status.FAIL


def crowd(pss_mib: float, workload: float = 2.5, made: Any = None) -> Side:
    """Ten copies that use so much together."""
    return Side(a_round(made, pss_mib=pss_mib, workload=workload, busy=workload + 2.0), 10)


def test_density_is_the_smaller_of_cpu_and_memory() -> None:
    # 4 CPUs x 50 % - 0.2, each copy 0.05; 8192 MiB x 60 % - 1500, each copy 20 + 8.
    assert density.pods(crowd(200), HOST, targets()) == min(36, 122)
    assert density.pods(crowd(5000, 0.5), HOST, targets()) == min(180, 6)


def test_wasm_against_native_gives_cost_and_utilisation_with_their_sign() -> None:
    lines = density.lines(
        crowd(300, 0.5), crowd(1000, 0.5), HOST, targets(node_cost_percent=-50, utilisation_percent=60)
    )
    assert statuses(lines) == {"density": Status.PASS, "node_cost": Status.PASS, "utilisation": Status.PASS}
    ours, control = lines[0].details["wasm_pods"], lines[0].details["native_pods"]
    assert (ours, control) == (89, 31)
    assert lines[1].measured == pytest.approx(100 * (control / ours - 1), abs=0.001)
    assert lines[2].measured == pytest.approx(100 * (ours / control - 1), abs=0.001)


def test_a_cheaper_native_build_fails_the_goals_and_says_why() -> None:
    lines = density.lines(crowd(300, 0.5), crowd(30, 0.5), HOST, targets())
    assert statuses(lines) == {"density": Status.PASS, "node_cost": Status.FAIL, "utilisation": Status.FAIL}
    assert "a native build of the same service needs less" in lines[1].reason


def test_too_few_pods_fail() -> None:
    line = density.lines(crowd(6000, 0.5), crowd(30, 0.5), HOST, targets())[0]
    assert (line.status, line.measured, line.limit) == (Status.FAIL, 5.0, 10)
    assert line.reason == "the host carries 5 pods within the SLO, 10 are to run on it"


def test_copies_out_of_the_slo_count_for_nothing() -> None:
    lines = density.lines(crowd(300, 0.5, slow()), crowd(30, 0.5), HOST, targets())
    assert (lines[0].status, lines[0].measured) == (Status.FAIL, 0.0)
    assert lines[0].reason.startswith("10 copies at once: P50, P99, P999 over the limit")
    assert lines[1].measured is None
    assert lines[1].reason.startswith("no ratio without a density: 10 copies at once")


def test_density_on_a_noisy_machine_is_invalid() -> None:
    noisy = Side(Round(crowd(300).round.figures, a_round(busy=15).usage), 10)
    assert set(statuses(density.lines(noisy, crowd(30), HOST, targets())).values()) == {Status.INVALID}
