# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import Host, Limits, notes
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import problems as host_problems
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.k3s_checks import Declaration

ARGUMENTS = {
    "role": {"type": "str", "choices": ["server", "agent"], "required": True},
    "config": {"type": "dict", "required": True},
    "own": {"type": "dict", "required": True},
    "keys": {"type": "dict", "required": True},
    "labels": {"type": "dict", "required": True},
    "taints": {"type": "list", "elements": "str", "required": True},
    "system_reserved": {"type": "dict", "required": True},
    "kube_reserved": {"type": "dict", "required": True},
    "eviction_hard": {"type": "dict", "required": True},
    "cis": {"type": "bool", "required": True},
    "server_url": {"type": "str", "default": ""},
    "token": {"type": "str", "default": "", "no_log": True},
    "min_memory_mb": {"type": "int", "required": True},
    "min_disk_mb": {"type": "int", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Judges the declaration on the controller, looks at the host in one round trip, and judges both together."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(ARGUMENTS)
        declared = Declaration(params)
        found = declared.problems()
        if found:
            return {**result, "failed": True, "msg": " ".join(found), "problems": found}
        limits = Limits(params["min_memory_mb"], params["min_disk_mb"], declared.port, declared.role)
        answer: dict[str, Any] = self._execute_module(
            module_name="edgefleet.wasm.k3s_preflight",
            module_args={
                "role": limits.role,
                "port": limits.port,
            },
            task_vars=task_vars or {},
        )
        answer.pop("invocation", None)
        if answer.get("failed") or "host" not in answer:
            return {**result, **answer}
        host, node = answer["host"], answer["node"]
        found = host_problems(Host(**host), limits)
        if host["systemd"]:
            found += declared.problems_on(host, node)
        # They may hold secrets, and have served their purpose.
        public = {key: value for key, value in host.items() if key not in ("config", "token_sha256")}
        if found:
            return {**result, "failed": True, "msg": " ".join(found), "problems": found, "host": public}
        return {**result, "changed": False, "host": public, "node": node, "warnings": notes(Host(**host))}
