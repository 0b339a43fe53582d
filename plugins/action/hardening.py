# SPDX-License-Identifier: Apache-2.0
"""The controller's side of the hardening: after a change that could cut it off, it comes back over a new connection."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.arguments import ARGUMENTS

MODULE = "edgefleet.wasm.hardening"
_PAUSE_SECONDS = 2.0
display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module, and confirms what it did from outside."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        result.update(self._module(self._task.args, task_vars))
        if result.get("failed") or not result.pop("unconfirmed", False):
            return result
        return {**result, **self._confirm(params["confirm_seconds"], task_vars)}

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
        answer.pop("invocation", None)
        return answer

    def _confirm(self, seconds: int, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """A connection that was open before says nothing: the firewall lets established ones go on."""
        deadline = time.monotonic() + seconds
        said = ""
        while time.monotonic() < deadline:
            try:
                self._connection.reset()
                answer = self._module({"state": "confirmed"}, task_vars)
            except AnsibleError as error:
                # The last line is ssh's own reason; before it stands what the host shows to everybody.
                said = str(error).strip().splitlines()[-1].strip()
                display.vv(f"no new connection yet: {said}")
                time.sleep(_PAUSE_SECONDS)
                continue
            return {"failed": True, "msg": answer.get("msg", "")} if answer.get("failed") else {}
        return {
            "failed": True,
            "msg": (
                f"no new ssh connection was let in within {seconds} s after sshd or the firewall had changed ({said}); "
                "the host takes these changes back by itself at that time. Look at the hardening_ssh_* and "
                "hardening_firewall_* variables, then run this again."
            ),
        }
