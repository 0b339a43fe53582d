"""From documents to a fleet's run: the file is valid and can be read again, whatever the hosts sent."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import core, model
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import reading, run
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetError, FleetRun, HostResult

from tests.fleets import START, dice, document, fleet
from tests.unit.smoke.fake_crun import FakeCrun, payload

SCHEMA = json.loads((Path(run.__file__).parent / "schema.json").read_text(encoding="utf-8"))


def of(*hosts: HostResult) -> FleetRun:
    return FleetRun(START, START, "smoke.yml", hosts)


def made(seed: int = 1, **changes: Any) -> dict[str, Any]:
    return document("hall-1", dice(seed), **changes)


def test_a_document_of_today_is_read_whole(tmp_path: Path) -> None:
    spec = core.SmokeSpec(
        host="hall-1", runtime="/usr/bin/crun", cgroup_manager="cgroupfs", samples=5, timeout=30, payload=payload(),
        bases=(tmp_path,),
    )  # fmt: skip
    today = core.smoke(FakeCrun(), spec, lambda: START).as_dict()
    host = HostResult("hall-1", today)
    assert [(line.id, line.status, line.measured) for line in host.lines] == [
        (line["id"], line["status"], line["measured"]) for line in today["lines"]
    ]
    assert {side.check for side in host.sides} == set(today["samples"])
    assert {side.unit for side in host.sides} == {"ms"}
    assert all(any(side.control for side in host.sides if side.check == check) for check in today["samples"])
    assert reading.versions(today)["engine"].startswith(f"{model.ENGINE} 0.14.1")


def test_a_fleet_is_written_as_its_schema_says_and_read_again(tmp_path: Path) -> None:
    whole = fleet(60)
    path = run.write(whole, tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(content, SCHEMA)
    assert path == tmp_path / "fleet" / "20260302T043000Z.json"
    assert content["summary"] == {
        "hosts": 60, "unreachable": 2, "not_tested": 1, "fail": 4, "invalid": 1, "pass": 52, "not_applicable": 0,
    }  # fmt: skip
    assert {one["check"] for one in content["outliers"]} >= {"cold_start_crun", "cold_ratio_crun", "aot"}
    again = run.read(path)
    assert again.as_dict() == whole.as_dict()


def test_a_second_run_in_the_same_second_replaces_nothing(tmp_path: Path) -> None:
    first, second = run.write(fleet(2), tmp_path), run.write(fleet(3), tmp_path)
    assert second.stem == f"{first.stem}-2"
    assert json.loads(second.read_text())["run"] == second.stem
    assert run.runs(tmp_path) == [first, second]
    assert run.earlier(tmp_path, second.stem, 5) == [first]


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (["pass", "not_applicable"], "pass"),
        (["pass", "invalid"], "invalid"),
        (["invalid", "fail", "pass"], "fail"),
        (["not_applicable"], "not_applicable"),
    ],
)
def test_a_host_is_as_good_as_its_worst_line(statuses: list[str], verdict: str) -> None:
    lines = [{"id": f"check_{index}", "status": status} for index, status in enumerate(statuses)]
    assert HostResult("a", {"lines": lines}).verdict == verdict


def test_an_older_document_is_read_for_what_it_has() -> None:
    old = {"schema": 0, "lines": [{"id": "nonce", "status": "pass"}, {"id": "cold", "status": "fail", "measured": 20}]}
    checks = of(HostResult("a", old)).checks
    assert [(check.id, check.layer, check.unit, dict(check.measured)) for check in checks] == [
        ("nonce", "function", "", {}),
        ("cold", "function", "", {"a": 20}),
    ]


@pytest.mark.parametrize("value", [None, 3, "text", [], [None, 7], {"a": 1}, float("nan"), True])
@pytest.mark.parametrize(
    "key", ["lines", "samples", "identity", "warnings", "measured", "limit", "n", "details", "reason", "status", "unit"]
)
def test_what_has_the_wrong_type_is_left_out(key: str, value: Any) -> None:
    found = copy.deepcopy(made())
    (found["lines"][-1] if key not in found else found)[key] = value
    host = HostResult("a", found)
    whole = of(host, HostResult("b", made(2)))
    assert whole.checks
    jsonschema.validate(
        json.loads(json.dumps({**whole.as_dict(), "hosts": whole.as_dict()["hosts"][1:]}, allow_nan=False)), SCHEMA
    )
    assert reading.versions(found) is not None
    assert all(reading.warnings(found))
    assert all(side.values for side in host.sides)


def test_figures_of_another_unit_are_not_mixed() -> None:
    seconds = {"lines": [{"id": "cold", "status": "pass", "measured": 0.01, "unit": "s"}]}
    milliseconds = {"lines": [{"id": "cold", "status": "pass", "measured": 8.0, "unit": "ms"}]}
    (check,) = of(HostResult("a", milliseconds), HostResult("b", seconds)).checks
    assert dict(check.measured) == {"a": 8.0}
    assert check.counts["pass"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a fleet's run"),
        ('{"kind": "edgefleet.wasm.fleet", "schema": 99}', "has schema 99, written by a newer version"),
        ('{"kind": "edgefleet.wasm.fleet", "schema": 1}', "does not say when it was run"),
    ],
)
def test_a_file_that_is_no_run_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "20260101T000000Z.json"
    path.write_text(content)
    with pytest.raises(FleetError, match=message):
        run.read(path)


def test_a_folder_that_cant_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FleetError, match=r"report folder .*file \(edgefleet_report_dir\) can't be written"):
        run.write(fleet(1), tmp_path / "file")
