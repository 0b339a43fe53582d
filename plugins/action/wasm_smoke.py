# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.core import ARGUMENTS, range_error
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError

_MODULE = "edgefleet.wasm.wasm_smoke"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Makes and packs the probes, then runs the module: one round trip."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        super().run(tmp, variables)
        _, params = self.validate_argument_spec(argument_spec=ARGUMENTS)
        wrong = range_error(params)
        if wrong:
            raise AnsibleActionFail(wrong)
        try:
            payload = probes.payload(params["mirror"])
        except SmokeError as error:
            raise AnsibleActionFail(str(error)) from error
        arguments = {
            **params,
            "host": params["host"] or variables.get("inventory_hostname"),
            "payload": payload.as_argument(),
        }
        result: dict[str, Any] = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=variables)
        # The probes are of no use to a reader of -vvv, and a hundred times as long as the rest.
        result.get("invocation", {}).get("module_args", {}).pop("payload", None)
        return result
