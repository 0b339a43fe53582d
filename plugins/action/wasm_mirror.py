# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, MirrorError
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror_fill import wanted
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.wasm_mirror import ARCHIVE, Wanted, WasmMirrorError, fill

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "archs": {"type": "list", "elements": "str", "choices": ["amd64", "arm64"], "default": ["amd64"]},
    "packages_version": {"type": "str", "required": True},
    "packages_sources": {"type": "list", "elements": "str", "required": True},
    "allow_rebuilt": {"type": "bool", "default": False},
    "lean": {"type": "bool", "default": False},
    "archive_version": {"type": "str"},
    "archive_releases": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """All of it runs on the controller, whatever host the task is for: there is no module to run elsewhere."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        made, entries = [], []
        try:
            for arch in params["archs"]:
                filled = fill(
                    Mirror(params["path"]),
                    _wanted(params, arch),
                    check=self._task.check_mode,
                    report=Display().display,
                )
                made += filled.made
                entries += filled.entries
        except (MirrorError, WasmMirrorError) as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": bool(made), "made": made, "artifacts": [asdict(entry) for entry in entries]}


def _wanted(params: dict[str, Any], arch: str) -> Wanted:
    archive = None
    if params["archive_version"]:
        pins = {"name": ARCHIVE, "version": params["archive_version"], "releases": params["archive_releases"]}
        (archive,) = wanted([pins], [arch])
    return Wanted(
        arch, params["packages_version"], params["packages_sources"], params["lean"], archive, params["allow_rebuilt"]
    )
