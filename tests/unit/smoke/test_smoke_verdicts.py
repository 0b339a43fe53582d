"""From figures to verdicts."""

from __future__ import annotations

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import cold, core, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Line, Status, line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.verdicts import Llvm


def test_p95_is_a_measured_value() -> None:
    assert verdicts.p95([float(n) for n in range(1, 21)]) == 19.0
    assert verdicts.p95([5.0]) == 5.0
    assert verdicts.p95([3.0, 1.0, 2.0]) == 3.0


def test_fib_size_aims_at_four_tenths_of_a_second_and_is_bounded() -> None:
    assert verdicts.fib_size(0.4, 24) == 24
    assert verdicts.fib_size(0.4 / 1.618**6, 24) == 30
    assert verdicts.fib_size(0.0, 24) == 40
    assert verdicts.fib_size(1000.0, 24) == 20


@pytest.mark.parametrize(
    ("compiled", "interpreted", "same", "status", "reason"),
    [
        ([10.0, 11.0, 9.0], [100.0, 101.0, 99.0], True, Status.PASS, ""),
        ([10.0, 11.0, 9.0], [99.0, 98.0, 300.0], True, Status.FAIL, "the engine interprets"),
        ([100.0, 101.0, 99.0], [100.0, 101.0, 99.0], True, Status.FAIL, "the engine interprets"),
        ([1.0, 1.0, 1.0], [100.0, 100.0, 100.0], False, Status.FAIL, "different results"),
    ],
)
def test_aot(compiled: list[float], interpreted: list[float], same: bool, status: Status, reason: str) -> None:
    found = verdicts.aot(compiled, interpreted, same)
    assert found.status is status
    assert reason in found.reason
    assert bool(found.reason) == (status is not Status.PASS)
    assert (found.n, found.limit) == (3, 10.0)


@pytest.mark.parametrize(
    ("wasm", "native", "llvm", "status", "reason"),
    [
        (9.9, 5.0, Llvm("none", 0.0), Status.PASS, ""),
        (9.9, 7.0, Llvm("none", 0.0), Status.PASS, ""),
        (24.3, 5.0, Llvm("shared", 124.0), Status.FAIL, "engine loads libLLVM (124 MiB"),
        (15.8, 5.0, Llvm("inside", 60.0), Status.FAIL, "engine has LLVM linked into it (60 MiB"),
        (10.0, 5.0, Llvm("none", 0.0), Status.FAIL, "not LLVM"),
        (24.3, 5.0, None, Status.FAIL, "no cause seen"),
        (24.3, 7.1, Llvm("shared", 124.0), Status.INVALID, "native control itself took 7.1 ms"),
        (8.0, 7.1, Llvm("none", 0.0), Status.INVALID, "native control itself took 7.1 ms"),
    ],
)
def test_cold_start(wasm: float, native: float, llvm: Llvm | None, status: Status, reason: str) -> None:
    found = verdicts.cold_start(cold.CRUN, [wasm] * 5, [native] * 5, llvm)
    assert found.status is status
    assert reason in (found.cause or found.reason)
    assert bool(found.reason) == (status is not Status.PASS)
    assert (found.measured, found.limit, found.n, found.unit) == (wasm, 10.0, 5, "ms")
    assert found.details["ratio_to_native"] == pytest.approx(wasm / native, abs=0.001)


def test_cold_start_is_judged_by_the_median_and_tells_the_tail() -> None:
    found = verdicts.cold_start(cold.CRUN, [5.0] * 15 + [80.0] * 5, [4.0] * 20, Llvm("none", 0.0))
    assert found.status is Status.PASS
    assert found.details["p95"] == 80.0


def lines(**status: Status) -> list[Line]:
    by_id = {check.id: check for check in core.every_check()}
    return [line(by_id[name], one, "" if one is Status.PASS else "why") for name, one in status.items()]


@pytest.mark.parametrize(
    ("fail_on", "status", "fails"),
    [
        ("function", {"nonce": Status.FAIL}, True),
        ("function", {"aot": Status.FAIL}, True),
        ("function", {"aot": Status.INVALID}, True),
        ("function", {"aot": Status.NOT_APPLICABLE}, False),
        ("function", {"cold_start_crun": Status.FAIL}, False),
        ("function", {"cold_start_crun": Status.INVALID}, False),
        ("all", {"cold_start_crun": Status.FAIL}, True),
        ("all", {"cold_start_crun": Status.INVALID}, True),
        ("all", {"cold_start_crun": Status.NOT_APPLICABLE}, False),
        ("none", {"nonce": Status.FAIL, "cold_start_crun": Status.FAIL}, False),
    ],
)
def test_fail_on(fail_on: str, status: dict[str, Status], fails: bool) -> None:
    found = verdicts.complaint(lines(handler=Status.PASS, **status), fail_on)
    assert (found is not None) == fails
    if found:
        name, one = next(iter(status.items()))
        assert found == f"1 of 2 checks did not pass: {name}: {one.value}, why"


def test_outcome_counts_and_names() -> None:
    found = verdicts.outcome(lines(handler=Status.PASS, nonce=Status.FAIL, aot=Status.INVALID))
    assert found == "3 checks: 1 pass, 1 fail (nonce), 1 invalid (aot), 0 not applicable"
