"""Through CRI, with a containerd that can be told what to do wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import cri, cri_section, identity, sandboxes, traces
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import EFFORT, Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Containers, owner
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import Engine
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Findings, Level, Line, Status
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.verdicts import Llvm

from tests.unit.smoke.fake_cri import NOW, FakeCri
from tests.unit.smoke.fake_crun import FakeCrun, payload

DEAD = "999999999-1"


def bench(folder: Path, **changes: Any) -> Bench:
    crun, made = FakeCrun(), payload()
    whole = Bench(
        run=crun,
        arch="amd64",
        containers=Containers(crun, "/usr/bin/crun", "cgroupfs", folder, 30),
        payload=made,
        compiled=made.compiled[0],
        no_compiled="",
        engine=Engine("/lib/libwasmedge.so.0", "0.14.1", llvm=Llvm("none", 0.0)),
        level=Level.QUICK,
        effort=EFFORT[Level.QUICK],
        containerd=folder / "containerd.sock",
        options={},
    )
    return dataclasses.replace(whole, **changes)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    if identity.arch() != "amd64":
        pytest.skip("the native control is executed")
    monkeypatch.setattr(sandboxes, "_LOG_SECONDS", 0.2)
    monkeypatch.setattr(sandboxes, "_TRIED_SECONDS", 0.0)
    monkeypatch.setattr(cri_section, "_SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(sandboxes, "_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(traces, "containerd", lambda: None)


def connected(fake: FakeCri) -> Cri:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cri, "Channel", lambda *_: fake)
        return Cri()


def section(of: Bench, runtime: FakeCri) -> Findings:
    return cri_section.section(of, connected(runtime), lambda: NOW)


def lines(of: Bench, runtime: FakeCri) -> dict[str, Line]:
    found = section(of, runtime)
    assert [one.id for one in found.lines] == [check.id for check in cri_section.CHECKS]
    assert runtime.sandboxes == {}
    assert runtime.containers == {}
    return {one.id: one for one in found.lines}


def test_everything_passes(tmp_path: Path) -> None:
    runtime = FakeCri()
    found = section(bench(tmp_path), runtime)
    by_id = {one.id: one for one in found.lines}
    assert {one.reason for one in found.lines} == {""}
    assert by_id["cold_start_cri"].n == EFFORT[Level.QUICK].cri_starts
    assert by_id["cold_start_cri"].measured == pytest.approx(24, abs=0.01)
    assert by_id["cold_ratio_cri"].measured == pytest.approx(1.2)
    assert set(found.samples["cold_start_cri"]) == {"wasm_ms", "native_ms"}
    # Two a pair, in turn, and the warm-up's.
    assert runtime.calls.count("StartContainer") >= 2 * (EFFORT[Level.QUICK].cri_starts + 1)


def test_a_host_too_slow_for_one_pair_in_a_sandbox_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cri_section, "_SANDBOX_SECONDS", 0.0)
    found = lines(bench(tmp_path), FakeCri())
    assert (found["sidecar"].status, found["cycles"].status) == (Status.PASS, Status.PASS)
    for name in ("cold_start_cri", "cold_ratio_cri"):
        assert found[name].status is Status.INVALID
        assert "no pair of containers was started in any of 16 sandboxes" in found[name].reason
        assert "idle" in found[name].next


def test_pods_that_the_kubelet_takes_away_are_made_anew(tmp_path: Path) -> None:
    found = lines(bench(tmp_path), FakeCri(taken=3))
    assert {one.reason for one in found.values()} == {""}


def test_a_pod_that_the_kubelet_removes_at_the_same_time_does_not_stay(tmp_path: Path) -> None:
    found = lines(bench(tmp_path), FakeCri(in_the_way=2))
    assert {one.reason for one in found.values()} == {""}


def test_a_pod_that_goes_in_the_middle_of_measuring_counts_with_what_it_gave(tmp_path: Path) -> None:
    runtime = FakeCri(lifetime=5)
    found = lines(bench(tmp_path), runtime)
    assert {one.reason for one in found.values()} == {""}
    # The warm-up and one pair a pod, beside those of the sidecar and of the cycles.
    assert runtime.calls.count("RunPodSandbox") == EFFORT[Level.QUICK].cri_starts + 1 + EFFORT[Level.QUICK].cycles + 1


def test_a_pod_in_which_nothing_can_be_measured_ends_it(tmp_path: Path) -> None:
    found = lines(bench(tmp_path), FakeCri(lifetime=2))
    assert found["cold_start_cri"].status == "invalid"
    assert found["cold_start_cri"].reason.endswith("is not running")


def test_a_missing_runtime_is_named_with_what_to_do(tmp_path: Path) -> None:
    found = lines(bench(tmp_path), FakeCri(handlers=("",)))
    assert found["sidecar"].status == "fail"
    assert found["sidecar"].reason == 'failed to get sandbox runtime: no runtime for "wasmedge" is configured'
    assert "drop-in of the role wasm_runtime is missing" in found["sidecar"].cause
    assert "--tags wasm_runtime" in found["sidecar"].next
    assert {found[name].status for name in ("cycles", "cold_start_cri", "cold_ratio_cri")} == {"not_applicable"}


def test_a_wrong_handler_is_seen(tmp_path: Path) -> None:
    found = lines(bench(tmp_path), FakeCri(wrong_handler=True))
    assert found["sidecar"].status == "fail"
    assert "Exec format error" in found["sidecar"].reason
    assert "the Wasm handler is not taken" in found["sidecar"].cause


def test_a_slow_engine_fails_by_its_ratio(tmp_path: Path) -> None:
    slow = bench(tmp_path, engine=Engine("/lib/libwasmedge.so.0", "0.14.1", llvm=Llvm("shared", 124.0)))
    found = lines(slow, FakeCri(wasm_ms=90.0))
    assert found["cold_start_cri"].status == "pass"
    assert found["cold_ratio_cri"].status == "fail"
    assert found["cold_ratio_cri"].cause.startswith("engine loads libLLVM (124 MiB")


def test_what_a_pod_leaves_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "left", lambda ids: [f"process 77 (containerd-shim) {len(ids)}"])
    found = lines(bench(tmp_path), FakeCri())
    assert found["cycles"].status == "fail"
    # Pod and container, of the first cycle and of those that count.
    expected = 2 * (EFFORT[Level.QUICK].cycles + 1)
    assert found["cycles"].reason == f"1 things are still there: process 77 (containerd-shim) {expected}"
    assert found["cold_start_cri"].status == "pass"


def test_without_an_image_nothing_can_be_tried(tmp_path: Path) -> None:
    found = lines(bench(tmp_path), FakeCri(images={}))
    assert found["sidecar"].reason.startswith("containerd has no image yet")


def test_without_compiled_probes_the_pod_runs_all_the_same(tmp_path: Path) -> None:
    found = lines(bench(tmp_path, compiled=None, no_compiled="no AOT probe for engine wasmedge 0.15.0"), FakeCri())
    assert found["sidecar"].status == "pass"
    assert found["cold_start_cri"].reason == "no AOT probe for engine wasmedge 0.15.0"


def test_a_host_without_containerd(tmp_path: Path) -> None:
    found = cri_section.measure(bench(tmp_path))
    assert {one.status for one in found.lines} == {"not_applicable"}
    assert "no containerd on this host" in found.lines[0].reason


def test_what_a_killed_test_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    runtime = FakeCri()
    runtime.sandboxes = {
        "mine": ({sandboxes.OWNER: owner()}, tmp_path),
        "dead": ({"app": "x", sandboxes.OWNER: DEAD}, tmp_path),
        "pod": ({"app": "x"}, tmp_path),
    }
    sandboxes.sweep(connected(runtime), lambda marked: marked == owner())
    assert set(runtime.sandboxes) == {"mine", "pod"}
    assert owner().startswith(f"{os.getpid()}-")


def test_shims_of_pods_that_are_gone_are_ended_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "_SHIM_SECONDS", 0.2)
    program = tmp_path / "containerd-shim-runc-v2"
    program.write_bytes(Path("/bin/sh").read_bytes())
    program.chmod(0o755)
    wait = (program, "-c", "while read line; do :; done")
    with contextlib.ExitStack() as stack:
        started = {
            one: stack.enter_context(subprocess.Popen([*wait, "-id", one], stdin=subprocess.PIPE))
            for one in ("left-behind", "another")
        }
        for process in started.values():
            stack.callback(process.kill)
        assert sandboxes.end_shims(["left-behind", "never-there"]) == 1
        assert started["left-behind"].wait(5) == -signal.SIGKILL
        assert started["another"].poll() is None
        assert sandboxes.end_shims(["left-behind"]) == 0
