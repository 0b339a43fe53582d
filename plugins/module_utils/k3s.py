# SPDX-License-Identifier: Apache-2.0
"""A running K3s as seen from its host: kubectl's answers as data, and whether the node is ready for work."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

K3S = "/usr/local/bin/k3s"
UNIT = "k3s.service"

RunCommand = Callable[[list[str]], tuple[int, str, str]]
"""``AnsibleModule.run_command`` as far as it is used here."""

# A service that systemd had to start so often within one wait will not come up by waiting longer.
_RESTARTS_GIVE_UP = 8
_POLL_SECONDS = 2.0
# One call may not use up the wait when the API server accepts connections but does not answer.
_REQUEST_TIMEOUT = "10s"


class K3sError(Exception):
    """What went wrong, in a sentence with the way out."""


class KubectlError(K3sError):
    """kubectl said no; ``stderr`` is its own text."""

    def __init__(self, words: list[str], rc: int, stderr: str) -> None:
        super().__init__(f"`k3s kubectl {' '.join(words)}` ended with {rc}: {_last_line(stderr)}")
        self.rc = rc
        self.stderr = stderr


class Kubectl:
    """K3s's own kubectl with K3s's own administrator's kubeconfig."""

    def __init__(self, run: RunCommand, k3s: str = K3S) -> None:
        self._run = run
        self._k3s = k3s

    def text(self, *words: str, accept: tuple[int, ...] = (0,)) -> tuple[int, str]:
        rc, out, err = self._run([self._k3s, "kubectl", f"--request-timeout={_REQUEST_TIMEOUT}", *words])
        if rc not in accept:
            raise KubectlError(list(words), rc, err)
        return rc, out

    def objects(self, *words: str) -> list[dict[str, Any]]:
        """``kubectl get`` of any number of things; those that don't exist are left out."""
        _, out = self.text("get", *words, "--ignore-not-found", "--output=json")
        if not out.strip():
            return []
        try:
            document: dict[str, Any] = json.loads(out)
        except ValueError as error:
            raise K3sError(f"`k3s kubectl get {' '.join(words)}` printed no JSON: {error}") from error
        items: list[dict[str, Any]] = document["items"] if document.get("kind") == "List" else [document]
        return items


@dataclass(frozen=True)
class Expectation:
    """What the role has promised."""

    node: str
    version: str
    runtime_classes: tuple[str, ...] = ()


class Readiness:
    """Asks once, in the order in which a node comes up; the first thing that is missing is the answer."""

    def __init__(self, run: RunCommand, expected: Expectation) -> None:
        self._run = run
        self._kubectl = Kubectl(run)
        self._expected = expected
        self.server_version = ""
        self.node: dict[str, Any] = {}

    def missing(self) -> str:
        """What is not ready yet, in words. Empty when all is."""
        try:
            return self._service() or self._api() or self._objects()
        except KubectlError as error:
            return f"the API server does not answer ({_last_line(error.stderr)})"

    def restarts(self) -> int:
        return int(self._unit().get("NRestarts") or 0)

    def _unit(self) -> dict[str, str]:
        return unit_properties(self._run, "LoadState", "ActiveState", "SubState", "Job", "NRestarts")

    def _service(self) -> str:
        unit = self._unit()
        if unit.get("LoadState") != "loaded":
            return f"{UNIT} does not exist"
        # While a job waits, the answers still come from the process that is about to be replaced.
        if unit.get("Job", "0") not in ("", "0") or unit.get("ActiveState") != "active":
            return f"{UNIT} is {unit.get('ActiveState')} ({unit.get('SubState')})"
        return ""

    def _api(self) -> str:
        self._kubectl.text("get", "--raw=/readyz")
        _, out = self._kubectl.text("get", "--raw=/version")
        self.server_version = str(json.loads(out)["gitVersion"])
        if self.server_version != self._expected.version:
            return f"the API server says {self.server_version}, wanted is {self._expected.version}"
        return ""

    def _objects(self) -> str:
        classes = [f"runtimeclasses.node.k8s.io/{name}" for name in self._expected.runtime_classes]
        wanted = [f"nodes/{self._expected.node}", "serviceaccounts/default", *classes]
        found = {(one["kind"], one["metadata"]["name"]): one for one in self._kubectl.objects("-n", "default", *wanted)}
        node = found.get(("Node", self._expected.node))
        if node is None:
            return f"node {self._expected.node} has not registered"
        self.node = node_summary(node)
        if not self.node["ready"]:
            return f"node {self._expected.node} is not ready ({self.node['reason']})"
        if self.node["version"] != self._expected.version:
            return f"node {self._expected.node} runs {self.node['version']}, wanted is {self._expected.version}"
        for name in self._expected.runtime_classes:
            if ("RuntimeClass", name) not in found:
                return f"RuntimeClass {name} does not exist yet"
        if ("ServiceAccount", "default") not in found:
            return "the ServiceAccount default does not exist yet: no pod could be made"
        return ""


def wait_until_ready(
    readiness: Readiness,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Seconds until everything was ready; K3sError with the last thing that was missing."""
    began = clock()
    restarts = readiness.restarts()
    while missing := readiness.missing():
        waited = clock() - began
        more = readiness.restarts() - restarts
        if more >= _RESTARTS_GIVE_UP:
            raise K3sError(f"K3s does not stay up ({more} restarts in {waited:.0f} s): {missing}")
        if waited >= timeout:
            raise K3sError(f"K3s is not ready after {waited:.0f} s (k3s_ready_timeout): {missing}")
        sleep(_POLL_SECONDS)
    return clock() - began


def node_summary(node: dict[str, Any]) -> dict[str, Any]:
    conditions = {one["type"]: one for one in node["status"].get("conditions", [])}
    ready = conditions.get("Ready", {"status": "Unknown", "reason": "NoCondition"})
    info = node["status"].get("nodeInfo", {})
    reason = ": ".join(part for part in (ready.get("reason"), ready.get("message")) if part)
    return {
        "name": node["metadata"]["name"],
        "ready": ready["status"] == "True",
        "reason": reason or "no reason given",
        "version": info.get("kubeletVersion", ""),
        "container_runtime": info.get("containerRuntimeVersion", ""),
    }


def unit_properties(run: RunCommand, *names: str, unit: str = UNIT) -> dict[str, str]:
    """``systemctl show``; a unit that does not exist has LoadState=not-found."""
    rc, out, err = run(["systemctl", "show", unit, *(f"--property={name}" for name in names)])
    if rc != 0:
        raise K3sError(f"`systemctl show {unit}` ended with {rc}: {_last_line(err)}")
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def journal_errors(run: RunCommand, lines: int = 5) -> list[str]:
    """The last lines in K3s's journal that look like the reason. K3s writes klog and logrus lines, no priorities."""
    _, out, _ = run(["journalctl", f"--unit={UNIT}", "--lines=300", "--output=cat", "--no-pager"])
    bad = [line for line in out.splitlines() if re.search(r'level="?(fatal|error)|^[EF]\d{4} |^Error', line)]
    return [line[:300] for line in bad[-lines:]]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
