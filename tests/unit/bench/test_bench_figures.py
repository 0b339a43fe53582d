"""What the bench programs make of samples, and what docs say of that. Nothing is measured here."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle

from lab.builders import wasm
from tests.bench import cold_start, density, lab_host, record
from tests.bench.onhost import cold, many, pieces, sides
from tests.bench.onhost.sides import LEAN, NATIVE, NATIVE_RUNC, SIDES, BenchError
from tools import bench as docs
from tools.errors import GenerateError


def test_summary_keeps_to_values_that_were_measured() -> None:
    found = record.summary([float(value) for value in range(1, 101)])
    assert found == {"median": 50.5, "p95": 95.0, "min": 1.0, "max": 100.0, "n": 100}
    assert record.summary([3.0])["p95"] == 3.0


def test_ratios_are_to_native_crun_in_the_same_run() -> None:
    samples = {"run": {LEAN.name: [8.0, 9.0, 10.0], NATIVE.name: [5.0, 6.0, 7.0], NATIVE_RUNC.name: [20.0]}}
    found = cold_start.figures(samples)["run"]
    assert (found[LEAN.name]["ratio"], found[NATIVE.name]["ratio"], found[NATIVE_RUNC.name]["ratio"]) == (1.5, 1, 3.333)
    assert found[LEAN.name]["samples"] == [8.0, 9.0, 10.0]


def test_sides_take_turns_and_warm_ups_do_not_count() -> None:
    order: list[str] = []

    def one(side: sides.Side) -> dict[str, float]:
        order.append(side.name)
        return {"run": float(len(order))}

    found = cold.in_turn(SIDES, 4, one)["run"]
    assert {name: len(values) for name, values in found.items()} == {side.name: 4 for side in SIDES}
    assert min(value for values in found.values() for value in values) == len(SIDES) * cold.WARM_UP + 1
    firsts = order[:: len(SIDES)]
    assert len(set(firsts[: len(SIDES)])) == len(SIDES), "each side is the first in turn"


def test_no_side_comes_after_the_same_one_each_time() -> None:
    rounds = [[side.name for side in cold.ordered(SIDES, index)] for index in range(len(SIDES))]
    after = [pair for one in rounds for pair in pairwise(one)]
    assert sorted(after) == sorted(permutations((side.name for side in SIDES), 2))


def test_a_pod_is_the_sum_of_its_parts() -> None:
    step = {"program_pss": 200.0, "program_private": 150.0, "pause_pss": 20.0, "shim_pss": 600.0, "kernel": 30.0}
    found = density.per_pod([{"pods": 1, **step}, {"pods": 100, **step}])
    assert (found["all"], found["in_4_gib"], found["program_private"]) == (8.5, 481, 1.5)


@pytest.mark.parametrize(("wrong", "state"), [("engine distro", "live=distro"), ("no runc", "live=lean")])
def test_a_host_whose_figures_would_be_others_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: str, state: str
) -> None:
    monkeypatch.setattr(sides, "read_state", lambda: dict([state.split("=")]))
    monkeypatch.setattr(sides, "RUNC", None)
    with pytest.raises(BenchError, match=wrong):
        sides.check()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("echo something else", "a program printed b'something else"),
        ("true", "a program printed b''"),
        ("echo ready; exit 3", "2 at once: "),
    ],
)
def test_starts_that_do_not_run_are_no_figures(tmp_path: Path, program: str, why: str) -> None:
    runtime = tmp_path / "crun"
    runtime.write_text(f"#!/bin/sh\n{program}\n")
    runtime.chmod(0o755)
    with pytest.raises(BenchError, match=why):
        many.at_once(sides.Side("wasm", str(runtime), "h", wasm=True), tmp_path, Bundle(tmp_path, "p"), 2)


def test_starts_at_once_are_timed_each(tmp_path: Path) -> None:
    runtime = tmp_path / "crun"
    runtime.write_text("#!/bin/sh\nsleep 0.05\necho ready\n")
    runtime.chmod(0o755)
    batch = many.at_once(sides.Side("wasm", str(runtime), "h", wasm=True), tmp_path, Bundle(tmp_path, "p"), 3)
    assert len(batch.each) == 3
    assert all(50 <= one <= batch.all for one in batch.each)


def test_each_variant_takes_away_what_it_says() -> None:
    config: dict[str, Any] = {
        "process": {"capabilities": {}, "noNewPrivileges": True},
        "mounts": [{"destination": place} for place in ("/proc", "/dev", "/dev/mqueue")],
        "linux": {"seccomp": {}, "maskedPaths": [], "readonlyPaths": [], "resources": {"memory": {}}, "namespaces": []},
    }
    pieces.nothing(config)
    assert config == {
        "process": {},
        "mounts": [{"destination": "/proc"}, {"destination": "/dev"}],
        "linux": {"resources": {}, "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """A cold start's layers and a density's result with these medians."""

    def make(lean: float, native: float, cri: float, pod: float) -> tuple[dict[str, Any], dict[str, Any]]:
        run = {LEAN.name: [lean], NATIVE.name: [native]}
        create = {LEAN.name: [cri], NATIVE.name: [10.0]}
        layers = {
            "run": cold_start.figures({"run": run}),
            "cri": cold_start.figures({"create_to_log": create}),
        }
        taken = docs.parts_of({"bench": "x", "trusted": native <= cold_start.TRUSTED_MS, "layers": layers})
        return {name.removeprefix("x_"): one for name, one in taken.items()}, {
            "ratio": {"all": pod, "program_pss": 7.0}
        }

    return make


def verdicts(cold_and_density: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    lines = docs._targets(*cold_and_density).splitlines()[2:]
    return [line.split("|")[-2].strip() for line in lines]


def test_verdicts_follow_from_the_figures(results: Callable[..., Any]) -> None:
    holds, fails = "holds", "does not hold"
    assert verdicts(results(8.0, 5.0, 13.0, 1.5)) == [holds, holds, holds, holds, fails]
    assert verdicts(results(10.1, 5.0, 13.1, 2.1)) == [fails] * 5


def test_milliseconds_of_a_busy_machine_are_not_judged(results: Callable[..., Any]) -> None:
    assert verdicts(results(9.0, 7.1, 13.0, 1.5))[0] == "not judged: the native control took 7.1 ms, trusted are 7"


def test_a_late_generator_is_no_verdict_on_the_service() -> None:
    assert [docs._knee({"lag_p99": 1.0, "past_knee": past}) for past in (False, True)] == ["yes", "no"]
    assert docs._knee({"lag_p99": 400.0, "past_knee": True}).startswith("not judged: the generator itself was 400 ms")


def test_a_result_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenerateError, match=r"cold_start\.json: .*No such file.*; run a bench and"):
        docs.result(tmp_path, "cold_start")


def test_what_runs_on_the_host_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python can start it from the archive alone, and it says what is wrong with this machine."""

    probe = SimpleNamespace(engine_version=wasm.ENGINE_VERSION, modules={"echo": b"\0asm\1\0\0\0"})
    monkeypatch.setattr(probes, "compiled_probes", lambda _mirror: [probe])
    monkeypatch.setattr(lab_host, "image_names", lambda _mirror: {})
    archive = tmp_path / "bench.pyz"
    archive.write_bytes(lab_host.program(Mirror(tmp_path)))
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as names:
        assert "data/images.tar" in names.namelist()
    asked = json.dumps({"what": "run", "count": 1})
    done = subprocess.run(["python3", "-I", str(archive), asked], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bench on this host: the host's Wasm pods get the engine distro, not lean")
