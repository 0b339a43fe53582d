# SPDX-License-Identifier: Apache-2.0
"""What a clock that was ahead leaves behind: dead pod sandboxes and containers that were made in the future.

The kubelet takes a pod's newest sandbox, and a container's newest instance, for the one that counts. While a dead one
is the newest for years to come, it makes another again and again under a name that its own last one holds already
("failed to reserve sandbox name"), and the pod never comes up. It removes old ones by itself, but never the newest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import CRICTL, K3sError, RunCommand

# crictl's own two seconds are too short for a host that has just booted.
_CRICTL = (*CRICTL, "--timeout", "60s")


@dataclass
class Sandboxes:
    """``now`` is the time of day as the host has it, in seconds since 1970."""

    run: RunCommand
    now: Callable[[], float] = time.time

    def prune(self) -> list[str]:
        """Remove what is dead and was made in the future. The names of it; K3sError if containerd does not do it."""
        pods = self._dead(self._listed("items", "pods"), "SANDBOX_READY")
        gone = {pod["id"] for pod in pods}
        containers = self._dead(self._listed("containers", "ps", "--all"), "CONTAINER_RUNNING")
        # A sandbox takes its containers with it.
        containers = [one for one in containers if one["podSandboxId"] not in gone]
        if pods:
            self._crictl("rmp", "--force", *sorted(gone))
        if containers:
            self._crictl("rm", "--force", *sorted(one["id"] for one in containers))
        return [
            *(f"sandbox {pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods),
            *(f"container {one['metadata']['name']} ({one['id'][:13]})" for one in containers),
        ]

    def _dead(self, found: list[dict[str, Any]], alive: str) -> list[dict[str, Any]]:
        # CRI gives nanoseconds, in JSON as text.
        limit = self.now() * 1e9
        return [one for one in found if one["state"] != alive and int(one["createdAt"]) > limit]

    def _listed(self, key: str, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._crictl(*words, "--output", "json") or "{}").get(key) or []
        return found

    def _crictl(self, *words: str) -> str:
        rc, out, err = self.run([*_CRICTL, *words])
        if rc != 0:
            raise K3sError(
                f"`k3s crictl {' '.join(words)}` ended with {rc}: {(err or out).strip()[-300:]}; "
                "look at: journalctl -u containerd"
            )
        return out
