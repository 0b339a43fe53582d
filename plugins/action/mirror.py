# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, MirrorError
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror_fill import fill, wanted

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "archs": {"type": "list", "elements": "str", "choices": ["amd64", "arm64"], "default": ["amd64"]},
    "allow_rebuilt": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 5},
    "artifacts": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "releases": {"type": "dict", "required": True},
        },
    },
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """All of it runs on the controller, whatever host the task is for: there is no module to run elsewhere."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        display = Display()
        try:
            filled = fill(
                Mirror(params["path"]),
                wanted(params["artifacts"], params["archs"]),
                allow_rebuilt=params["allow_rebuilt"],
                timeout=params["timeout"],
                check=self._task.check_mode,
                report=display.display,
            )
        except MirrorError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": filled.changed, "artifacts": [asdict(entry) for entry in filled.entries]}
