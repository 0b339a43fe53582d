"""From the document of a drill to the verdict on availability."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import drill
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Line, SmokeError, Status


def document(**seconds: float) -> dict[str, Any]:
    return {
        "a_month": {"containerd_restart": 2, "reboot": 1},
        "events": {event: {"seconds_out": value} for event, value in seconds.items()},
    }


def measured(targets: Any, found: Any) -> Line:
    options = {"targets": targets, "drill": found}
    bench = Bench(**dict.fromkeys(Bench.__dataclass_fields__) | {"options": options})
    (line,) = drill.measure(bench).lines
    return line


LIMIT = {"unavailable_minutes_a_month": 43.2}


def test_seconds_times_a_month_are_held_against_the_minutes_of_a_month() -> None:
    line = measured(LIMIT, document(containerd_restart=3, reboot=60))
    assert (line.status, line.measured, line.limit, line.n) == (Status.PASS, 1.1, 43.2, 2)
    assert line.details["containerd_restart_a_month"] == 2


def test_faults_that_cost_too_much_fail_and_the_worst_is_named() -> None:
    line = measured(LIMIT, document(containerd_restart=3, reboot=3000))
    assert line.status is Status.FAIL
    assert line.reason == "the faults of a month would cost 50.1 minutes, most of them (50.0) by reboot"


@pytest.mark.parametrize(
    ("targets", "found", "reason"),
    [(None, document(reboot=1), "no targets: set wasm_smoke_targets"), (LIMIT, None, "this host had no drill")],
)
def test_without_a_drill_nothing_is_said(targets: Any, found: Any, reason: str) -> None:
    line = measured(targets, found)
    assert (line.status, line.reason) == (Status.NOT_APPLICABLE, reason)
    assert "edgefleet.wasm.drill" in line.next


@pytest.mark.parametrize("found", [{}, {"events": {"reboot": {}}, "a_month": {}}, {"events": [], "a_month": {}}])
def test_a_document_that_is_none_is_an_error(found: Any) -> None:
    with pytest.raises(SmokeError, match="the document of the last drill can't be read"):
        measured(LIMIT, found)
