# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import ArchiveError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.databases import DatabaseError
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.backups import Opened, opened

ARGUMENTS = {
    "src": {"type": "path", "required": True},
    "key": {"type": "path", "required": True},
    "node": {"type": "str"},
    "runtime_classes": {"type": "list", "elements": "str", "default": []},
    "ready_timeout": {"type": "int", "default": 300},
    "workloads_timeout": {"type": "int", "default": 300},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Decrypts and checks the backup on the controller, and carries it to the module of the same name."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        try:
            with opened(Path(params["src"]), Path(params["key"])) as backup:
                told = {"of": backup.manifest.node, "made": backup.manifest.made, "k3s": backup.manifest.k3s}
                if self._task.check_mode:
                    return {**result, **told, "changed": True}
                return {**result, **told, **self._on_host(params, backup, task_vars or {})}
        except (ArchiveError, DatabaseError, OSError) as error:
            return {**result, "failed": True, "msg": f"nothing was restored: {error}"}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _on_host(self, params: dict[str, Any], backup: Opened, task_vars: dict[str, Any]) -> dict[str, Any]:
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        target = shell.join_path(shell.tmpdir, "backup")
        try:
            self._transfer_file(str(backup.tar), target)
            self._fixup_perms2((shell.tmpdir, target))
        except AnsibleError as error:
            reason = re.sub(r"\s+", " ", str(error)).strip()
            return {"failed": True, "msg": f"nothing was restored: the backup could not be sent to the host: {reason}"}
        passed = {name: value for name, value in params.items() if name not in ("src", "key") and value is not None}
        answer: dict[str, Any] = self._execute_module(
            module_name="edgefleet.wasm.site_restore", module_args={**passed, "source": target}, task_vars=task_vars
        )
        answer.pop("invocation", None)
        return answer
