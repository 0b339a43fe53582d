"""The plugin that Ansible sees: each event as it is sent, and an error of the plugin's own."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.callback.fleet_report import CallbackModule
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import collect

from tests.fleets import dice, document

HOSTS = ("a", "b", "c", "d", "e", "f")
TEST = "edgefleet.wasm.wasm_smoke"


@dataclass
class Task:
    action: str = TEST
    check_mode: bool = False
    resolved_action: str | None = None


@dataclass
class Result:
    """As ansible-core 2.19 and later hand it over."""

    name: str
    result: dict[str, Any]
    task: Task = field(default_factory=Task)
    task_fields: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> Any:
        return SimpleNamespace(get_name=lambda: self.name)


class Display:
    verbosity = 0

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def display(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Plugin(CallbackModule):
    """With a folder as it would be configured, and a display that keeps what it is told."""

    def __init__(self, folder: Path | None) -> None:
        self.told = Display()
        super().__init__(display=self.told)
        self._plugin_options = {"report_dir": str(folder) if folder else None}


def started(folder: Path | None, task: Task | None = None) -> Plugin:
    plugin = Plugin(folder)
    plugin.v2_playbook_on_start(SimpleNamespace(_file_name="/somewhere/smoke.yml"))
    variables = SimpleNamespace(get_vars=lambda **_: {"ansible_play_hosts_all": list(HOSTS)})
    plugin.v2_playbook_on_play_start(SimpleNamespace(get_variable_manager=lambda: variables))
    plugin.v2_playbook_on_task_start(task or Task(), is_conditional=False)
    return plugin


def written(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "fleet").glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def good(host: str) -> dict[str, Any]:
    return {"document": document(host, dice(1)), "passed": True}


def test_each_event_has_its_place(tmp_path: Path) -> None:
    plugin = started(tmp_path)
    plugin.v2_runner_on_ok(Result("a", good("a")))
    plugin.v2_runner_on_failed(Result("b", {**good("b"), "passed": False, "msg": "1 of 9 checks did not pass"}))
    plugin.v2_runner_on_failed(Result("c", {"msg": "crun is gone"}), ignore_errors=True)
    plugin.v2_runner_on_unreachable(Result("d", {"msg": "timed out"}))
    plugin.v2_runner_on_ok(Result("e", {"censored": "hidden", "_ansible_no_log": True}))
    # Of other tasks only failures that count say why a host is not tested.
    plugin.v2_runner_on_failed(Result("f", {"msg": "ignored"}, Task("ansible.builtin.command")), ignore_errors=True)
    plugin.v2_runner_on_failed(Result("a", {"msg": "after the test"}, Task("ansible.builtin.assert")))
    plugin.v2_playbook_on_stats(None)
    found = written(tmp_path)
    assert [(one["host"], one["verdict"], one["passed"], one["reason"]) for one in found["hosts"]] == [
        ("a", "pass", True, ""),
        ("b", "pass", False, ""),
        ("c", "not_tested", None, "crun is gone"),
        ("d", "unreachable", None, "timed out"),
        ("e", "not_tested", None, collect.HIDDEN),
        ("f", "not_tested", None, collect.NOT_STARTED),
    ]
    assert found["playbook"] == "smoke.yml"
    assert plugin.told.lines == [f"fleet page {tmp_path}/fleet.html\nfleet data {tmp_path}/fleet/{found['run']}.json"]
    assert plugin.told.warnings == []


def test_results_as_older_versions_of_ansible_hand_them_over(tmp_path: Path) -> None:
    plugin = started(tmp_path)
    host = SimpleNamespace(get_name=lambda: "a")
    plugin.v2_runner_on_ok(SimpleNamespace(_host=host, _task=Task(), _result=good("a"), _task_fields={}))
    plugin.v2_playbook_on_stats(None)
    assert written(tmp_path)["hosts"][0]["verdict"] == "pass"


def test_a_short_name_that_resolves_to_the_test_is_the_test(tmp_path: Path) -> None:
    task = Task("wasm_smoke", resolved_action=TEST)
    plugin = started(tmp_path, task)
    plugin.v2_runner_on_ok(Result("a", good("a"), task))
    plugin.v2_playbook_on_stats(None)
    assert written(tmp_path)["summary"]["pass"] == 1


def test_the_folder_is_the_tasks_own_where_none_is_set(tmp_path: Path) -> None:
    plugin = started(None)
    fields = {"args": {"report_dir": str(tmp_path / "of-the-task")}}
    plugin.v2_runner_on_unreachable(Result("a", {"msg": "gone"}, task_fields=fields))
    plugin.v2_playbook_on_stats(None)
    assert written(tmp_path / "of-the-task")["summary"]["unreachable"] == 1


def test_without_the_test_there_is_no_page(tmp_path: Path) -> None:
    plugin = started(tmp_path, Task("ansible.builtin.ping"))
    plugin.v2_runner_on_unreachable(Result("a", {"msg": "gone"}, Task("ansible.builtin.ping")))
    plugin.v2_playbook_on_stats(None)
    assert list(tmp_path.iterdir()) == []


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    plugin = started(tmp_path, Task(check_mode=True))
    plugin.v2_runner_on_ok(Result("a", good("a")))
    plugin.v2_playbook_on_stats(None)
    assert list(tmp_path.iterdir()) == []


def test_its_own_error_is_one_warning_and_the_end_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = started(tmp_path)
    monkeypatch.setattr(collect.Collector, "tested", lambda *_: 1 / 0)
    for host in HOSTS:
        plugin.v2_runner_on_ok(Result(host, good(host)))
    plugin.v2_playbook_on_stats(None)
    assert plugin.disabled
    assert plugin.told.warnings == ["fleet_report: no page of this run, which goes on: division by zero"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cant_be_written_is_a_warning_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plugin = started(tmp_path / "file")
    plugin.v2_runner_on_ok(Result("a", good("a")))
    plugin.v2_playbook_on_stats(None)
    (warning,) = plugin.told.warnings
    assert f"the report folder {tmp_path}/file (edgefleet_report_dir) can't be written" in warning


def test_an_earlier_run_that_cant_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    bad = tmp_path / "fleet" / "20200101T000000Z.json"
    bad.parent.mkdir()
    bad.write_text("half a fi")
    plugin = started(tmp_path)
    plugin.v2_runner_on_ok(Result("a", good("a")))
    plugin.v2_playbook_on_stats(None)
    assert (tmp_path / "fleet.html").exists()
    (warning,) = plugin.told.warnings
    assert warning.startswith(f"fleet_report: not in the trend: {bad} is not JSON")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_only_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setattr(collect.Progress, "EVERY", 0.0)
    monkeypatch.setattr(collect.Progress, "FROM_HOSTS", 2)
    plugin = started(tmp_path)
    plugin.v2_runner_on_ok(Result("a", good("a")))
    assert [line.partition(",")[0] for line in plugin.told.lines] == ["smoke test: 1/6 hosts"] * terminal
