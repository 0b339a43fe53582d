# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.core import ARGUMENTS, range_error
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError

_MODULE = "edgefleet.wasm.wasm_smoke"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Makes and packs the probes, runs the module in one round trip, keeps the document."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        super().run(tmp, variables)
        _, params = self.validate_argument_spec(argument_spec=ARGUMENTS)
        wrong = range_error(params)
        if wrong:
            raise AnsibleActionFail(wrong)
        host = params["host"] or str(variables["inventory_hostname"])
        try:
            report = _report(params["report_dir"], host) if not self._task.check_mode else None
            payload = probes.payload(params["mirror"])
        except SmokeError as error:
            raise AnsibleActionFail(str(error)) from error
        arguments = {**params, "host": host, "payload": payload.as_argument()}
        result: dict[str, Any] = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=variables)
        # The probes are of no use to a reader of -vvv, and a hundred times as long as the rest.
        result.get("invocation", {}).get("module_args", {}).pop("payload", None)
        if report and "document" in result:
            write_atomically(report, json.dumps(result["document"], indent=2) + "\n")
        return result


def _report(folder: str | None, host: str) -> Path | None:
    """Where the document goes; that of an earlier run is gone from here on, as this one may have none."""
    if folder is None:
        return None
    if "/" in host:
        raise SmokeError(f"host {host!r} can't be the name of a file in report_dir {folder}: it has a slash")
    path = Path(folder).absolute() / f"{host}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SmokeError(f"report_dir {folder} (edgefleet_report_dir) can't be written: {error}") from error
    return path
