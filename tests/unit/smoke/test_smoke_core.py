"""The whole run, on a host whose runtime can be told what to do wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import core, drill, identity, programs
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.core import SmokeSpec, range_error, smoke
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import section as load
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Payload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended
from ansible_collections.edgefleet.wasm.plugins.modules import wasm_smoke

from lab.paths import CHECKOUT
from tests.unit.smoke.fake_crun import FakeCrun, compiled, payload

SCHEMA = json.loads((Path(core.__file__).parent / "schema.json").read_text(encoding="utf-8"))
PODS = [(what, layer) for what in ("start", "ratio") for layer in ("cri", "pod")]
WITHOUT_TARGETS = {check.id for check in (*load.CHECKS, *drill.CHECKS)}
TRAP = Ended(1, b"before\n[error] execution failed: unreachable\nafter\n", "could not get wasmedge result from VM")
SILENT = Ended(1, b"", "could not load `libwasmedge.so.0`: cannot open shared object file")


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts do not depend on the machine that the test runs on, apart from the native control that it executes."""
    if identity.arch() != "amd64":
        pytest.skip("the fake runs the native control, and the payload has compiled probes for amd64")


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of lab hosts on this machine would be seen here."""
    monkeypatch.setattr(programs, "running", dict)


def clock() -> Iterator[datetime]:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    while True:
        yield at
        at += timedelta(seconds=2)


def document(crun: FakeCrun, base: Path, given: Payload | None = None, **changes: Any) -> dict[str, Any]:
    """As the module returns it: valid by the schema, and nothing left in the working folder."""
    spec = SmokeSpec(
        host="hall-1",
        runtime="/usr/bin/crun",
        cgroup_manager="cgroupfs",
        samples=5,
        timeout=30,
        options=dict.fromkeys(core.ARGUMENTS),
        payload=given or payload(),
        bases=(base,),
        containerd=Path("/nonexistent/containerd.sock"),
    )
    ticks = clock()
    found = smoke(crun, dataclasses.replace(spec, **changes), lambda: next(ticks)).as_dict()
    jsonschema.validate(json.loads(json.dumps(found)), SCHEMA)
    assert list(base.iterdir()) == []
    return found


def by_id(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in found["lines"]}


def test_a_host_that_is_as_it_should_be_passes_everything(tmp_path: Path) -> None:
    found = document(FakeCrun(), tmp_path)
    # There is neither containerd nor K3s here, nor an engine that a container has mapped.
    elsewhere = WITHOUT_TARGETS | {
        "sidecar",
        "programs",
        "cycles",
        "cold_start_engine",
        *(f"cold_{what}_{layer}" for what, layer in PODS),
    }
    assert [(one["id"], one["status"]) for one in found["lines"]] == [
        (check.id, "not_applicable" if check.id in elsewhere else "pass") for check in core.every_check()
    ]
    assert found["summary"] == {"pass": 19, "fail": 0, "invalid": 0, "not_applicable": 8 + len(WITHOUT_TARGETS)}
    assert (found["host"], found["started"], found["seconds"]) == ("hall-1", "2026-01-02T03:04:05+00:00", 2.0)
    assert found["identity"]["engine"]["version"] == "0.14.1"
    assert found["identity"]["compiled_probes"] == {"version": "1-wasmedge-0.14.1", "source": "built here"}
    assert {side: len(times) for side, times in found["samples"]["cold_start_crun"].items()} == {
        "wasm_ms": 5,
        "native_ms": 5,
    }


def test_wasm_and_native_alternate(tmp_path: Path) -> None:
    crun = FakeCrun()
    document(crun, tmp_path)
    bundles = [command[command.index("--bundle") + 1].rsplit("/", 1)[1] for command in crun.ran("run")]
    timed = [name for name in bundles if name.startswith("cold-")]
    assert timed == ["cold-wasm", "cold-native"] * 7
    fib = [name for name in bundles if name.startswith("fib")]
    assert fib == ["fib", *["fib", "fib-aot"] * 3]


def test_an_engine_that_interprets_fails(tmp_path: Path) -> None:
    line = by_id(document(FakeCrun(interprets_all=True), tmp_path))["aot"]
    assert line["status"] == "fail"
    assert line["reason"].startswith("the engine interprets")
    assert line["measured"] < 10


def test_a_probe_without_compiled_code_fails(tmp_path: Path) -> None:
    """The plain module where the compiled one should be."""
    given = payload()
    line = by_id(document(FakeCrun(), tmp_path, payload(fib=given.plain["fib"])))["aot"]
    assert (line["status"], line["n"]) == ("fail", 3)
    assert line["reason"].startswith("the engine interprets")


@pytest.mark.parametrize("name", ["echo", "trap"])
def test_the_compiled_code_of_another_module_fails(tmp_path: Path, name: str) -> None:
    line = by_id(document(FakeCrun(), tmp_path, payload(fib=compiled(payload().plain[name]))))["aot"]
    assert line["status"] == "fail"
    assert "not this collection's plain probe" in line["reason"]


def test_a_compiled_probe_that_does_not_run_fails_both_of_its_checks(tmp_path: Path) -> None:
    loading = Ended(1, b"[error] loading failed: malformed section\n", "could not get wasmedge result from VM")
    lines = by_id(document(FakeCrun(broken={"fib-aot": loading, "cold-wasm": loading}), tmp_path))
    for name in ("aot", "cold_start_crun"):
        assert lines[name]["status"] == "fail"
        assert "loading failed: malformed section; could not get wasmedge result" in lines[name]["reason"]


def test_a_wrong_result_of_compiled_code_fails(tmp_path: Path) -> None:
    class Wrong(FakeCrun):
        def __call__(self, *args: Any, **kwargs: Any) -> Ended:
            ended = super().__call__(*args, **kwargs)
            if any(str(word).endswith("/fib-aot") for word in args[0]):
                word, n, result, nanoseconds = ended.out.split()
                return dataclasses.replace(ended, out=b"%s %s %d %s\n" % (word, n, int(result) + 1, nanoseconds))
            return ended

    line = by_id(document(Wrong(), tmp_path))["aot"]
    assert (line["status"], line["reason"]) == ("fail", "compiled and interpreted code gave different results")


def test_no_compiled_probe_for_the_hosts_engine(tmp_path: Path) -> None:
    lines = by_id(document(FakeCrun(engine_version="0.15.0"), tmp_path))
    for name in ("aot", "cold_start_crun"):
        assert lines[name]["status"] == "not_applicable"
        assert lines[name]["reason"].startswith(
            "no AOT probe for engine wasmedge 0.15.0 amd64: the mirror has them for"
        )
    assert lines["nonce"]["status"] == "pass"


def test_a_slow_cold_start_fails(tmp_path: Path) -> None:
    line = by_id(document(FakeCrun(wasm_ms=24.3), tmp_path))["cold_start_crun"]
    assert (line["status"], line["measured"]) == ("fail", 24.3)


def test_a_slow_native_control_is_invalid(tmp_path: Path) -> None:
    line = by_id(document(FakeCrun(native_ms=12.0), tmp_path))["cold_start_crun"]
    assert line["status"] == "invalid"
    assert "native control itself took 12.0 ms" in line["reason"]


def test_a_native_control_that_does_not_run_is_invalid(tmp_path: Path) -> None:
    line = by_id(document(FakeCrun(broken={"cold-native": SILENT}), tmp_path))["cold_start_crun"]
    assert line["status"] == "invalid"
    assert line["reason"].startswith("the native control does not run")


def test_a_runtime_without_the_handler_fails_by_name(tmp_path: Path) -> None:
    found = document(FakeCrun(features="+SYSTEMD +YAJL", broken={"nonce": SILENT}), tmp_path)
    lines = by_id(found)
    assert lines["handler"]["reason"] == "/usr/bin/crun was built without +WASM:wasmedge"
    assert lines["nonce"]["status"] == "fail"
    assert "could not load `libwasmedge.so.0`" in lines["nonce"]["reason"]
    # What must fail would do so here for any reason: no pass out of that.
    assert {lines[check.id]["status"] for check in core.every_check()[2:]} == {"not_applicable"}


def test_a_missing_runtime_fails_by_name(tmp_path: Path) -> None:
    missing = Ended(127, b"", "/usr/bin/crun: No such file or directory")
    lines = by_id(document(FakeCrun(features=None, broken={"nonce": missing}), tmp_path))
    assert lines["handler"]["reason"] == "/usr/bin/crun can't be run"
    assert lines["nonce"]["reason"] == "/usr/bin/crun: No such file or directory"


@pytest.mark.parametrize(
    ("check", "ended", "reason"),
    [
        ("nonce", Ended(0, b"edgefleet-smoke " + b"0" * 32 + b"\n", ""), "instead of the nonce"),
        ("nonce", Ended(0, b"", ""), "it printed nothing"),
        ("nonce", Ended(-9, b"", "", timed_out=True), "no end within the time limit"),
        ("trap", TRAP, "it went on after the trap"),
        ("trap", Ended(0, b"before\n", ""), "the failure is not seen from outside"),
        ("trap", Ended(1, b"", "boom"), "it did not come to the trap: boom"),
        ("corrupt", Ended(0, b"", ""), "the failure is not seen from outside"),
        ("corrupt", Ended(-9, b"", "", timed_out=True), "no end within the time limit"),
        ("missing", Ended(0, b"", ""), "the failure is not seen from outside"),
    ],
)
def test_a_check_fails_for_its_reason(tmp_path: Path, check: str, ended: Ended, reason: str) -> None:
    line = by_id(document(FakeCrun(broken={check: ended}), tmp_path))[check]
    assert line["status"] == "fail"
    assert reason in line["reason"]
    assert line["next"]


def test_half_a_module_that_runs_fails(tmp_path: Path) -> None:
    given = payload()
    ended = Ended(1, f"edgefleet-smoke {given.nonce}\n".encode(), "")
    line = by_id(document(FakeCrun(broken={"corrupt": ended}), tmp_path, given))["corrupt"]
    assert (line["status"], line["reason"]) == ("fail", "half a module ran")


def test_arguments_and_environment_that_do_not_arrive_fail(tmp_path: Path) -> None:
    lines = by_id(document(FakeCrun(broken={"echo": Ended(0, b"/probe.wasm\0", "")}), tmp_path))
    assert lines["args"]["reason"].startswith("the module got [] instead of")
    assert "is not in the module's environment" in lines["env"]["reason"]


def test_containers_left_behind_fail(tmp_path: Path) -> None:
    lines = by_id(document(FakeCrun(leaves_behind=True), tmp_path))
    for name in ("trap", "corrupt", "missing"):
        assert lines[name]["reason"] == "the OCI runtime left the container behind"


@pytest.mark.parametrize("ended", [Ended(1, b"", "no such container"), Ended(0, b'{"pid": 99999999}', "")])
def test_a_look_at_the_engine_that_fails_costs_no_check(tmp_path: Path, ended: Ended) -> None:
    class Stateless(FakeCrun):
        def __call__(self, *args: Any, **kwargs: Any) -> Ended:
            return ended if "state" in args[0] else super().__call__(*args, **kwargs)

    found = document(Stateless(), tmp_path)
    assert found["summary"] == {"pass": 19, "fail": 0, "invalid": 0, "not_applicable": 8 + len(WITHOUT_TARGETS)}
    assert (found["identity"]["engine"]["version"], found["identity"]["engine"]["llvm"]) == ("0.14.1", None)


def test_check_mode_starts_no_container(tmp_path: Path) -> None:
    crun = FakeCrun()
    found = document(crun, tmp_path, check_mode=True)
    assert found["check_mode"] is True
    assert {one["status"] for one in found["lines"]} == {"not_applicable"}
    assert [one["id"] for one in found["lines"]] == [check.id for check in core.every_check()]
    assert found["identity"]["engine"]["version"] == "0.14.1"
    assert crun.ran("run") == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 4}, "samples is 4, must be from 5 to 1000 (wasm_smoke_samples in the smoke playbook)"),
        ({"timeout": 601}, "timeout is 601, must be from 1 to 600 (wasm_smoke_timeout in the smoke playbook)"),
        ({}, None),
    ],
)
def test_ranges(changed: dict[str, int], message: str | None) -> None:
    assert range_error({"samples": None, "timeout": 30} | changed) == message


def test_options_are_documented_as_they_are() -> None:
    documented = yaml.safe_load(wasm_smoke.DOCUMENTATION)["options"]
    assert bare(documented) == bare(core.ARGUMENTS)


def bare(options: dict[str, Any]) -> dict[str, Any]:
    """Options without what stands in one of specification and documentation only."""
    found = {}
    for name, option in options.items():
        found[name] = {key: value for key, value in option.items() if key not in ("description", "no_log")}
        nested = found[name].pop("suboptions", None) or found[name].pop("options", None)
        if nested:
            found[name]["options"] = bare(nested)
    return found


def test_the_document_is_as_returned_values_say(tmp_path: Path) -> None:
    contains = yaml.safe_load(wasm_smoke.RETURN)["document"]["contains"]
    found = document(FakeCrun(), tmp_path)
    assert set(found) == set(contains) == set(SCHEMA["properties"])
    for one in found["lines"]:
        assert set(one) == set(contains["lines"]["contains"])
    types = {"int": int, "str": str, "bool": bool, "dict": dict, "list": list, "float": float}
    for name, value in found.items():
        assert isinstance(value, types[contains[name]["type"]])


def test_every_line_is_explained_in_the_documentation() -> None:
    said = (CHECKOUT / "docs/smoke-test.md").read_text(encoding="utf-8")
    assert [check.id for check in core.every_check() if f"`{check.id}`" not in said] == []
