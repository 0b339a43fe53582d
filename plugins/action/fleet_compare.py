# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import compare, run
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetError

ARGUMENTS: dict[str, Any] = {
    "report_dir": {"type": "path", "required": True},
    "before": {"type": "str"},
    "after": {"type": "str"},
    "threshold": {"type": "float", "default": 10.0},
    "fail_on": {"type": "str", "choices": ["none", "slower", "unproven"], "default": "none"},
}
_FAILS = {"none": (), "slower": (compare.SLOWER,), "unproven": (compare.SLOWER, compare.INVALID)}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """All of it runs on the controller: there is no module to run elsewhere."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        try:
            found = _compare(params)
        except FleetError as error:
            return {**result, "failed": True, "msg": str(error)}
        told = compare.told(found)
        passed = found.verdict not in _FAILS[params["fail_on"]]
        outcome = {"changed": False, "failed": not passed, "passed": passed, "msg": told[0], "told": told}
        return {**result, **outcome, **found.as_dict()}


def _compare(params: dict[str, Any]) -> compare.Comparison:
    if not 1 <= params["threshold"] <= 100:
        raise FleetError(
            f"threshold is {params['threshold']:g}, must be from 1 to 100 percent (edgefleet_compare_threshold)"
        )
    folder = Path(params["report_dir"]).absolute()
    after = _run(folder, params["after"], "after")
    before = _run(folder, params["before"], "before", older_than=after)
    return compare.compare(run.read(before), run.read(after), params["threshold"] / 100)


def _run(folder: Path, name: str | None, which: str, older_than: Path | None = None) -> Path:
    """The file of a run: by its path, by its name in the report folder, or the newest there."""
    if name:
        path = Path(name) if "/" in name else folder / run.FOLDER / f"{name}.json"
        if path.is_file():
            return path
        listed = ", ".join(one.stem for one in run.runs(folder)[-5:]) or "none"
        raise FleetError(f"{path} (edgefleet_compare_{which}) does not exist; newest runs in {folder}: {listed}")
    found = run.earlier(folder, older_than.stem, 1) if older_than else run.runs(folder)
    if not found:
        what = f"a run before {older_than.stem}" if older_than else "a run"
        raise FleetError(
            f"{folder / run.FOLDER} does not have {what}: set edgefleet_report_dir, name the run with "
            f"edgefleet_compare_{which}, or play edgefleet.wasm.smoke with ANSIBLE_CALLBACKS_ENABLED="
            "edgefleet.wasm.fleet_report"
        )
    return found[-1]
