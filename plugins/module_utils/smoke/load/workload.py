# SPDX-License-Identifier: Apache-2.0
"""The workload as it is deployed: where it answers, which processes it has, the password that its site made."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand

TOPIC = "edgefleet/smoke"
_PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
_SECONDS = 20.0


@dataclass(frozen=True)
class Workload:
    """``secret`` and ``key`` name where the password of ``username`` lies, in the workload's namespace."""

    url: str
    namespace: str
    username: str | None = None
    secret: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Workload:
        """From the module's argument; one error names what is wrong with it."""
        parts = urlsplit(given["url"])
        if parts.scheme not in _PORTS or not parts.hostname:
            raise SmokeError(
                f"workload.url is {given['url']!r} (wasm_smoke_workload): "
                f"write <scheme>://<host>:<port>/..., with one of {', '.join(_PORTS)}"
            )
        if parts.username is not None or parts.password is not None:
            raise SmokeError("workload.url (wasm_smoke_workload) has a user in it: name the Secret in workload.secret")
        login = [given.get(name) for name in ("username", "secret", "key")]
        if any(login) and not all(login):
            raise SmokeError("workload (wasm_smoke_workload): username, secret and key go together: give all or none")
        if any(login) and not parts.scheme.startswith("mqtt"):
            raise SmokeError("workload (wasm_smoke_workload): username, secret and key are for mqtt only")
        return cls(given["url"], given["namespace"], *login)

    @property
    def mqtt(self) -> bool:
        return urlsplit(self.url).scheme.startswith("mqtt")

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme in ("https", "mqtts")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def topics(self) -> tuple[str, str]:
        """Where to publish, and where what was published comes back: on the same topic if nothing else is said."""
        parts = urlsplit(self.url)
        topic = parts.path.strip("/") or TOPIC
        return topic, parse_qs(parts.query).get("reply", [topic])[0]


def pids(run: RunCommand, namespace: str) -> list[int]:
    """The first processes of the namespace's containers, without those that hold a pod's network."""
    ctr = ["ctr", "--namespace", "k8s.io"]
    chosen = f'labels."io.kubernetes.pod.namespace"=={namespace},labels."io.cri-containerd.kind"==container'
    listed = run([*ctr, "containers", "list", "--quiet", chosen], timeout=_SECONDS)
    tasks = run([*ctr, "tasks", "list"], timeout=_SECONDS)
    if listed.rc != 0 or tasks.rc != 0:
        wrong = listed if listed.rc != 0 else tasks
        raise SmokeError(f"containerd does not list the workload's containers: {wrong.complaint}")
    ours = set(listed.out.decode().split())
    rows = [row.split() for row in tasks.out.decode().splitlines()[1:]]
    return sorted(int(pid) for container, pid, *status in rows if container in ours and status == ["RUNNING"])


def password(run: RunCommand, workload: Workload) -> str | None:
    """Out of the cluster's Secret, on the host: it leaves neither the host nor this process but by a private file."""
    if workload.secret is None or workload.key is None:
        return None
    words = ["get", "secret", workload.secret, "--namespace", workload.namespace, "--output", "json"]
    ended = run(["k3s", "kubectl", *words], timeout=_SECONDS)
    named = f"key {workload.key} of Secret {workload.namespace}/{workload.secret} (wasm_smoke_workload)"
    if ended.rc != 0:
        raise SmokeError(f"{named} can't be read: {ended.complaint}")
    try:
        return base64.b64decode(json.loads(ended.out)["data"][workload.key], validate=True).decode()
    except (ValueError, KeyError, TypeError):
        # Without the cause, which could carry a piece of it.
        raise SmokeError(f"there is no {named}") from None
