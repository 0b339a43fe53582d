# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible import constants as C  # noqa: N812 - as Ansible calls it everywhere
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.core import ARGUMENTS, range_error
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import arch_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import kit
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import section as load
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.workload import Workload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Level, SmokeError

_MODULE = "edgefleet.wasm.wasm_smoke"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Makes and packs the probes, runs the module in one round trip, keeps the document.

    For a load three round trips more carry the generators over.
    """

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
            load_kit = self._carried_kit(params) if self._needs_kit(params) else None
        except SmokeError as error:
            raise AnsibleActionFail(str(error)) from error
        arguments = {**params, "host": host, "payload": payload.as_argument(), "load_kit": load_kit}
        arguments["drill"] = _drill(params["report_dir"], host)
        result: dict[str, Any] = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=variables)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        # The probes are of no use to a reader of -vvv, and a hundred times as long as the rest.
        result.get("invocation", {}).get("module_args", {}).pop("payload", None)
        if report and "document" in result:
            write_atomically(report, json.dumps(result["document"], indent=2) + "\n")
        return result

    def _needs_kit(self, params: dict[str, Any]) -> bool:
        level = Level(params["level"])
        return bool(params["targets"] and params["mirror"]) and level.holds(load.LEAST) and not self._task.check_mode

    def _carried_kit(self, params: dict[str, Any]) -> str:
        """The kit for the host's architecture, on the host; it goes away with the task's temporary folder."""
        mqtt = bool(params["workload"]) and Workload.of(params["workload"]).mqtt
        machine = self._low_level_execute_command("uname -m")["stdout"].strip()
        archive = kit.made_once(Path(C.DEFAULT_LOCAL_TMP), Mirror(params["mirror"]), arch_of(machine), mqtt)
        folder = self._make_tmp_path()
        carried: str = self._connection._shell.join_path(folder, "load-kit.tar.gz")
        self._transfer_file(str(archive), carried)
        self._fixup_perms2((folder, carried))
        return carried


def _drill(folder: str | None, host: str) -> Any:
    """What playbooks/drill.yml has kept of the host, if anything."""
    path = Path(folder or ".").absolute() / "drills" / f"{host}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if folder else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AnsibleActionFail(f"{path} can't be read ({error}): remove it, or drill the host again") from error


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
