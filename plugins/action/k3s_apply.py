# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.manifests import ManifestError, identity, load, pack

ARGUMENTS = {
    "src": {"type": "list", "elements": "path", "required": True},
    "state": {"type": "str", "choices": ["verified", "applied"], "default": "applied"},
    "timeout": {"type": "int", "default": 180},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Reads the manifests on the controller and hands them to the module of the same name."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        try:
            objects = load([Path(source) for source in params["src"]], yaml.safe_load_all)
        except ManifestError as error:
            return {**result, "failed": True, "msg": str(error)}
        if params["state"] == "verified":
            return {**result, "changed": False, "objects": [identity(one) for one in objects]}
        answer: dict[str, Any] = self._execute_module(
            module_name="edgefleet.wasm.k3s_apply",
            module_args={**params, "bundle": pack(objects)},
            task_vars=task_vars or {},
        )
        answer.pop("invocation", None)
        return {**result, **answer}
