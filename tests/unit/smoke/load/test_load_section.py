"""The section: who is loaded when, who is judged, and what is said where nothing can be loaded."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import core
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import EFFORT, Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Limits
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import Engine
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import copies, kit, oha, section, workload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.copies import Copy
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import Loop
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Findings, Level, SmokeError, Status
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Payload

from tests.unit.smoke.load.made import TARGETS, loop

SCHEMA = json.loads((Path(core.__file__).parent / "schema.json").read_text(encoding="utf-8"))
DEPLOYED = {"url": "http://127.0.0.1:30080/", "namespace": "edgefleet-skeleton"}
INDEX = {
    "oha": {"version": "1.16.0", "source": "a test"},
    "skeleton-image": {"version": "0.1.0-wasmedge-0.14.1", "source": "a test"},
    "skeleton-native-image": {"version": "0.1.0", "source": "a test"},
}


@dataclass
class Containers:
    """Stands for the real ones: a folder, and what was asked for."""

    folder: Path
    limits: list[Limits] = field(default_factory=list)

    def bundle(self, name: str, content: bytes, program: str) -> Bundle:
        assert content == b"program"
        return Bundle(self.folder / name, program)


class Site:
    """A host whose copies are this process, and whose generator answers what it is told to."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: dict[str, Any]) -> None:
        self.containers = Containers(tmp_path)
        self.sent: list[tuple[str, float]] = []
        self.answer: Callable[[oha.Ask], Loop] = lambda ask: loop(qps=ask.qps, seconds=ask.seconds)
        (tmp_path / "load").mkdir()
        for file in ("service.wasm", "service"):
            (tmp_path / "load" / file).write_bytes(b"program")
        absent = [name for name in INDEX if name not in index]
        missing = f"the mirror has no {', '.join(absent)} for this architecture" if absent else ""
        monkeypatch.setattr(kit, "unpack", lambda _, folder: kit.Kit(folder, index, missing))
        monkeypatch.setattr(copies, "serving", self._serving)
        monkeypatch.setattr(oha, "run", self._run)
        monkeypatch.setattr(workload, "pids", lambda *_: [os.getpid()])

    @contextlib.contextmanager
    def _serving(self, _run: Any, _containers: Any, _bundle: Bundle, limits: Limits) -> Iterator[Copy]:
        self.containers.limits.append(limits)
        yield Copy(os.getpid())

    def _run(self, _run: Any, _program: Path, folder: Path, ask: oha.Ask) -> Loop:
        self.sent.append((folder.name.removeprefix("sent-"), ask.qps))
        return self.answer(ask)

    def measure(self, level: Level = Level.STANDARD, **options: Any) -> Findings:
        given = {"targets": TARGETS, "workload": None, "load_kit": "/kit", **options}
        bench = Bench(
            run=None,  # type: ignore[arg-type]  # nothing here runs a program
            containers=self.containers,  # type: ignore[arg-type]
            payload=Payload("", {}),
            compiled=None,
            no_compiled="",
            engine=Engine(None, "0.14.1"),
            level=level,
            effort=EFFORT[level],
            options=given,
            arch="amd64",
            containerd=Path("/nonexistent"),
        )
        found = section.measure(bench)
        assert [one.id for one in found.lines] == [check.id for check in section.CHECKS]
        if found.figures:
            jsonschema.validate(found.figures, SCHEMA["properties"]["sections"]["properties"]["load"])
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch, INDEX)


def by_id(found: Findings) -> dict[str, Any]:
    return {one.id: one for one in found.lines}


def test_the_deployed_workload_is_judged_and_all_sides_take_turns(site: Site) -> None:
    found = site.measure(workload=DEPLOYED)
    assert [name for name, _ in site.sent] == ["service", "wasm-0", "native-0"] * 2
    assert {qps for _, qps in site.sent} == {500}
    assert site.containers.limits == [Limits(memory=1024 << 20, cpus=1.0)] * 2
    assert found.figures["judged"] == "service"
    assert set(found.samples) == {"load_p50", "load_ratio"}
    assert set(found.samples["load_p50"]) == {"service_ms"}
    assert by_id(found)["density"].reason == "not at level standard: from full on"


def test_without_one_the_copy_is_judged(site: Site) -> None:
    found = site.measure()
    assert found.figures["judged"] == "wasm"
    assert by_id(found)["load_rate"].status in (Status.PASS, Status.INVALID)


def test_at_level_full_as_many_copies_share_the_rate_as_the_system_has_pods(site: Site) -> None:
    found = site.measure(Level.FULL)
    crowd = [one for one in site.sent if one[1] == 50]
    assert sorted(name for name, _ in crowd) == sorted(f"{side}-{n}" for side in ("wasm", "native") for n in range(10))
    assert by_id(found)["density"].n == 5000
    assert [one["side"] for one in found.figures["rounds"]][-2:] == ["wasm x 10", "native x 10"]


def test_without_targets_nothing_is_loaded(site: Site) -> None:
    found = site.measure(targets=None)
    assert {one.status for one in found.lines} == {Status.NOT_APPLICABLE}
    assert found.lines[0].reason == section.NO_TARGETS
    assert site.sent == []


def test_a_mirror_without_the_reference_service_still_loads_the_deployed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, monkeypatch, {"oha": INDEX["oha"]})
    found = site.measure(workload=DEPLOYED)
    assert {name for name, _ in site.sent} == {"service"}
    reason = "the mirror has no skeleton-image, skeleton-native-image for this architecture"
    assert by_id(found)["load_ratio"].reason == reason
    assert by_id(found)["load_rate"].status is not Status.NOT_APPLICABLE


def test_a_mirror_without_a_generator_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SmokeError, match="the mirror has no oha"):
        Site(tmp_path, monkeypatch, {}).measure(workload=DEPLOYED)


def test_a_service_for_another_engine_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**INDEX, "skeleton-image": {"version": "0.1.0-wasmedge-0.16.0", "source": "a test"}}
    found = Site(tmp_path, monkeypatch, other).measure()
    reason = "the mirror has the reference service 0.1.0-wasmedge-0.16.0, not one for engine wasmedge-0.14.1"
    assert {one.reason for one in found.lines} == {reason}


def test_the_own_target_of_another_kind_is_not_ours(site: Site) -> None:
    own = {"name": "anti-cheat-accuracy", "at_least_percent": 95}
    found = site.measure(targets={**TARGETS, "own": own})
    assert by_id(found)["own_satisfaction"].reason == "the own target of examination-system is anti-cheat-accuracy"


def test_slow_answers_fail_the_lines_of_latency(site: Site) -> None:
    site.answer = lambda ask: loop(latency=lambda _: 0.2, qps=ask.qps, seconds=ask.seconds)
    found = by_id(site.measure(workload=DEPLOYED))
    assert found["load_p99"].measured == pytest.approx(200.5)
    assert found["load_p99"].status is not Status.PASS
    assert found["own_satisfaction"].measured == 0.0
