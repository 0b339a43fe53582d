# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
type: aggregate
short_description: One page and one JSON file about the smoke test of a fleet
description:
  - Collects what M(edgefleet.wasm.wasm_smoke) returned on every host of a run, and why it returned nothing where a host
    failed before or could not be reached.
  - Writes the run as C(fleet/<time>.json) and a page for a browser as C(fleet.html) into the report folder. The page
    needs no network, and shows the trend against earlier runs that are in the folder.
    C(plugins/plugin_utils/fleet/schema.json) is the JSON Schema of the file.
  - On a terminal a line now and then says how far a test of ten hosts or more is.
  - An error of its own is one warning. It never ends a play.
  - Writes nothing in check mode, nor when the test was not run.
requirements:
  - enabled by name, as C(callbacks_enabled = edgefleet.wasm.fleet_report) in the section C([defaults]) of ansible.cfg
    or as C(ANSIBLE_CALLBACKS_ENABLED) in the environment
options:
  report_dir:
    description:
      - Folder on the controller for both files.
      - That of the test's task (its option C(report_dir), in the collection's playbook C(edgefleet_report_dir)) if not
        given, and C(./reports) if that has none either.
    type: str
    env:
      - name: EDGEFLEET_FLEET_REPORT_DIR
    ini:
      - section: callback_fleet_report
        key: report_dir
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
enable: |
  # ansible.cfg
  [defaults]
  callbacks_enabled = edgefleet.wasm.fleet_report
once: |
  # for one run
  ANSIBLE_CALLBACKS_ENABLED=edgefleet.wasm.fleet_report ansible-playbook -i inventory edgefleet.wasm.smoke
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.collect import Collector, Progress
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.report import write_report

_MODULE = "edgefleet.wasm.wasm_smoke"


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """Forwards events; what is made of them is in plugin_utils/fleet."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "edgefleet.wasm.fleet_report"
    CALLBACK_NEEDS_ENABLED = True
    # Ansible sends nothing more to a plugin that says so.
    disabled: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._collector = Collector()
        self._progress: Progress | None = None
        self._playbook = ""
        self._play: Any = None
        self._started: datetime | None = None
        self._task_dir: str | None = None
        self._check_mode = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._safely(self._on_playbook, playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002 - Ansible's
        self._safely(self._on_task, task)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._safely(self._on_end, result, False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._safely(self._on_end, result, not ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._safely(self._on_unreachable, result)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002 - Ansible's
        self._safely(self._on_stats)

    def _safely(self, handle: Callable[..., None], *args: Any) -> None:
        """An error here is one warning, and the end of the report; the play goes on."""
        if self.disabled:
            return
        try:
            handle(*args)
        except Exception as error:  # noqa: BLE001 - whatever it is, the play is worth more than its report
            self.disabled = True
            kind = "" if str(error) else type(error).__name__
            self._display.warning(f"fleet_report: no page of this run, which goes on: {kind}{error}")

    def _on_playbook(self, playbook: Any) -> None:
        self._playbook = Path(str(playbook._file_name)).name

    def _on_task(self, task: Any) -> None:
        if not _is_test(task):
            return
        self._started = self._started or datetime.now(UTC)
        self._check_mode = bool(task.check_mode)
        # All hosts of the play, those too that were lost before this task; --limit has been applied.
        hosts = self._play.get_variable_manager().get_vars(play=self._play)["ansible_play_hosts_all"]
        self._collector.expect(str(host) for host in hosts)
        if sys.stdout.isatty():
            self._progress = Progress(len(self._collector), time.monotonic, self._display.display)

    def _on_end(self, result: Any, failed: bool) -> None:
        host = str(_part(result, "host").get_name())
        if not _is_test(_part(result, "task")):
            if failed:
                self._collector.failed(host, _part(result, "result"))
            return
        self._see_folder(result)
        self._show(self._collector.tested(host, _part(result, "result")).verdict)

    def _on_unreachable(self, result: Any) -> None:
        host = str(_part(result, "host").get_name())
        if _is_test(_part(result, "task")):
            self._see_folder(result)
        self._show(self._collector.unreachable(host, _part(result, "result")).verdict)

    def _see_folder(self, result: Any) -> None:
        """The task's own folder, its templates filled in."""
        arguments = _part(result, "task_fields").get("args") or {}
        self._task_dir = str(arguments["report_dir"]) if arguments.get("report_dir") else self._task_dir

    def _show(self, verdict: str) -> None:
        if self._progress:
            self._progress.add(verdict)

    def _on_stats(self) -> None:
        if self._started is None or self._check_mode:
            return
        run = self._collector.run(self._started, datetime.now(UTC), self._playbook)
        folder = Path(self.get_option("report_dir") or self._task_dir or "reports").expanduser().absolute()
        written = write_report(run, folder)
        for problem in written.problems:
            self._display.warning(f"fleet_report: {problem}")
        self._display.display(f"fleet page {written.page}\nfleet data {written.data}")


def _is_test(task: Any) -> bool:
    return _MODULE in (task.action, getattr(task, "resolved_action", None))


def _part(result: Any, name: str) -> Any:
    """A part of a task's result by the name of ansible-core 2.19 and later, or that of before."""
    return getattr(result, name) if hasattr(result, name) else getattr(result, f"_{name}")
