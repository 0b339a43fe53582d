# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import ArchiveError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.databases import DatabaseError
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.backups import opened

ARGUMENTS = {"src": {"type": "path", "required": True}, "key": {"type": "path", "required": True}}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Reads a backup from end to end, on the controller."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        try:
            with opened(Path(params["src"]), Path(params["key"])) as backup:
                manifest = backup.manifest
                return {
                    **result,
                    "changed": False,
                    "of": manifest.node,
                    "made": manifest.made,
                    "k3s": manifest.k3s,
                    "databases": backup.databases,
                    "objects": manifest.objects,
                    "volumes": manifest.volumes,
                }
        except (ArchiveError, DatabaseError, OSError) as error:
            return {**result, "failed": True, "msg": f"this backup can't be restored: {error}"}
