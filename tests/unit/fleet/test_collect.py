"""From a play's events to one result a host, and what is said meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import collect
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.collect import Collector, Progress

from tests.fleets import START, dice, document

DOCUMENT = document("a", dice(1))


def outcome(collector: Collector) -> dict[str, tuple[str, str]]:
    run = collector.run(START, START, "smoke.yml")
    return {host.host: (host.verdict, host.reason) for host in run.hosts}


@pytest.mark.parametrize(
    ("result", "verdict", "reason"),
    [
        ({"document": DOCUMENT, "passed": True}, "pass", ""),
        ({"msg": "no  crun\nhere"}, "not_tested", "no crun here"),
        ({"censored": "the output has been hidden"}, "not_tested", collect.HIDDEN),
        ({}, "not_tested", collect.NO_DOCUMENT),
        ({"document": {"lines": []}}, "not_tested", collect.UNREADABLE),
        ({"document": {**DOCUMENT, "seconds": float("nan")}}, "not_tested", collect.UNREADABLE),
        ({"results": [{"msg": "bad"}, {"document": DOCUMENT}]}, "pass", ""),
        ({"document": "text", "msg": "odd"}, "not_tested", "odd"),
    ],
)
def test_what_the_task_returns(result: dict[str, Any], verdict: str, reason: str) -> None:
    collector = Collector()
    collector.expect(["a"])
    collector.tested("a", result)
    assert outcome(collector) == {"a": (verdict, reason)}


def test_hosts_that_never_came_to_the_test_say_why() -> None:
    collector = Collector()
    collector.unreachable("b", {"msg": "timed out"})
    collector.failed("c", {"msg": "no sudo"})
    collector.failed("c", {"msg": "a later failure"})
    collector.expect(["a", "b", "c", "d"])
    collector.tested("a", {"document": DOCUMENT})
    assert outcome(collector) == {
        "a": ("pass", ""),
        "b": ("unreachable", "timed out"),
        "c": ("not_tested", "no sudo"),
        "d": ("not_tested", collect.NOT_STARTED),
    }


def test_a_failure_after_the_test_does_not_undo_it_but_loss_does() -> None:
    collector = Collector()
    collector.expect(["a", "b"])
    for host in ("a", "b"):
        collector.tested(host, {"document": DOCUMENT})
    collector.failed("a", {"msg": "the assertion after it"})
    collector.unreachable("b", {"msg": "gone"})
    assert outcome(collector) == {"a": ("pass", ""), "b": ("unreachable", "gone")}


def test_the_last_of_two_tests_counts() -> None:
    collector = Collector()
    collector.expect(["a"])
    collector.tested("a", {"msg": "before the upgrade it could not be done"})
    collector.tested("a", {"document": DOCUMENT})
    assert outcome(collector) == {"a": ("pass", "")}


def progress(total: int, seconds: float) -> list[str]:
    shown: list[str] = []
    at = [0.0]
    line = Progress(total, lambda: at[0], shown.append)
    for index in range(total):
        at[0] += seconds
        line.add("fail" if index % 5 == 2 else "unreachable" if index % 7 == 3 else "pass")
    return shown


def test_progress_is_a_line_now_and_then() -> None:
    assert progress(20, 2) == [
        "smoke test: 3/20 hosts, 1 fail, about 34 s left",
        "smoke test: 6/20 hosts, 1 fail, 1 unreachable, about 28 s left",
        "smoke test: 9/20 hosts, 2 fail, 1 unreachable, about 22 s left",
        "smoke test: 12/20 hosts, 2 fail, 2 unreachable, about 16 s left",
        "smoke test: 15/20 hosts, 3 fail, 2 unreachable, about 10 s left",
        "smoke test: 18/20 hosts, 4 fail, 2 unreachable, about 4 s left",
    ]


def test_progress_is_silent_for_few_hosts_and_for_quick_ones() -> None:
    assert progress(5, 60) == []
    assert progress(100, 0.01) == []
    assert progress(10, 60)[0] == "smoke test: 1/10 hosts, about 9 min left"
