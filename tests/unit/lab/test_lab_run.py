"""The whole run: which stage failed, where its output is, what to do; and the request from outside."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab import run, workload
from lab.errors import CommandFailed, LabError
from lab.hosts import Host
from lab.paths import LabPaths
from lab.progress import Progress, Step
from lab.session import Lab

HOST = Host("edge1", "10.0.0.11")
SERVICES = [{"spec": {"ports": [{"port": 8080, "nodePort": 30080}]}}]


class FakeHosts:
    """Hosts that only answer what kubectl is asked for, or fail."""

    def __init__(self, services: Sequence[Any], pods: Sequence[Any] = (), *, code: int = 0) -> None:
        self.items = {"services": [*services], "pods": [*pods]}
        self.code = code

    def exec(self, _: str, command: Sequence[str]) -> tuple[int, str]:
        (what,) = self.items.keys() & set(command)
        return self.code, json.dumps({"items": self.items[what]})


@pytest.fixture
def step() -> Step:
    return Step("ask", lambda _: None)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    paths = LabPaths.of("unit", checkout=tmp_path / "checkout", cache=tmp_path / "cache")
    return Lab(paths, Progress(Console(file=io.StringIO(), soft_wrap=True, width=200)))


def shown(lab: Lab) -> str:
    file = lab.progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def echo(url: str, **other: str) -> str:
    return json.dumps({"nonce": url.rpartition("=")[2], "platform": "wasm32-wasi", **other})


def test_workload_that_gives_our_nonce_back_as_wasm_is_believed(step: Step) -> None:
    said = workload.ask(FakeHosts(SERVICES), HOST, step, echo)
    assert said.startswith("http://10.0.0.11:30080/ -> ")


def test_the_node_with_the_pod_is_asked(step: Step) -> None:
    pods = [{"status": {"phase": "Pending"}}, {"status": {"phase": "Running", "hostIP": "10.0.0.12"}}]
    assert workload.ask(FakeHosts(SERVICES, pods), HOST, step, echo).startswith("http://10.0.0.12:30080/ -> ")


@pytest.mark.parametrize("wrong", [{"nonce": "stale"}, {"platform": "linux-x86_64"}])
def test_other_answer_is_an_error(step: Step, wrong: dict[str, str]) -> None:
    with pytest.raises(LabError, match="answers, but not as our WebAssembly workload does"):
        workload.ask(FakeHosts(SERVICES), HOST, step, lambda url: echo(url, **wrong))


def test_silence_is_an_error_with_the_last_reason(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "SECONDS", 0.1)

    def refuse(url: str) -> str:
        raise ConnectionRefusedError("refused")

    with pytest.raises(LabError, match=r"no answer within .* from outside the host; last: refused"):
        workload.ask(FakeHosts(SERVICES), HOST, step, refuse)


@pytest.mark.parametrize("hosts", [FakeHosts([]), FakeHosts([], code=1)])
def test_missing_service_names_namespace_and_playbook(step: Step, hosts: FakeHosts) -> None:
    with pytest.raises(LabError, match=r"edge1: no Service .* edgefleet-skeleton\. Did `edgefleet\.wasm\.deploy`"):
        workload.ask(hosts, HOST, step, echo)


def test_failed_playbook_names_stage_log_and_next_step(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: Any) -> None:
        raise CommandFailed(command, 2, "fatal: [edge1]")

    monkeypatch.setattr("lab.process.stream", fail)
    with pytest.raises(LabError) as caught, run.stage("site"):
        run.play(lab, "site", 0)
    said = str(caught.value)
    assert said.startswith("stage site: edgefleet.wasm.site failed (exit code 2)")
    assert str(lab.paths.logs / "site.log") in said
    assert "lab shell --name unit edge1" in said


def test_times_are_shown_even_when_a_stage_fails(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_builder(mirror: Path, progress: Progress) -> None:
        with progress.step("build"):
            raise LabError("no compiler")

    monkeypatch.setattr(Lab, "packages", lambda _: None)
    monkeypatch.setattr("lab.builders.fill", no_builder)
    with pytest.raises(LabError, match="stage artifacts: no compiler"):
        run.everything(lab)
    assert "FAILED  build" in shown(lab)
    assert "FAILED build" in shown(lab)
    assert "all" in shown(lab)


def test_ansible_uses_this_checkout_and_no_colours_in_a_pipe(lab: Lab) -> None:
    environment = run.ansible_environment(lab, {"HOME": "/h", "PATH": "/x"})
    assert environment["ANSIBLE_CONFIG"] == str(lab.paths.checkout / "ansible.cfg")
    assert environment["ANSIBLE_FORCE_COLOR"] == "0"
    assert environment["HOME"] == "/h"


def test_only_reports_of_this_run_are_listed(tmp_path: Path) -> None:
    old, new, other = tmp_path / "old.json", tmp_path / "new.md", tmp_path / "stages" / "lab.log"
    other.parent.mkdir()
    for path in (old, new, other):
        path.write_text("")
    os.utime(old, (1, 1))
    assert run.reports_since(tmp_path, time.time() - 60) == [new]
    assert run.reports_since(tmp_path / "missing", 0) == []
