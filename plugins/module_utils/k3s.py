# SPDX-License-Identifier: Apache-2.0
"""A running K3s as seen from its host: kubectl's answers as data, and whether the node is ready for work."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

K3S = "/usr/local/bin/k3s"
UNITS = {"server": "k3s.service", "agent": "k3s-agent.service"}
UNIT = UNITS["server"]
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CRICTL = (K3S, "crictl", "--runtime-endpoint", f"unix://{CONTAINERD_SOCKET}")

RunCommand = Callable[[list[str]], tuple[int, str, str]]
"""``AnsibleModule.run_command`` as far as it is used here."""

# A service that systemd had to start so often within one wait will not come up by waiting longer.
_RESTARTS_GIVE_UP = 8
_POLL_SECONDS = 2.0
# One call may not use up the wait when the API server accepts connections but does not answer.
_REQUEST_TIMEOUT = "10s"
# How long the modules that change something are patient, and between two requests.
PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 3.0
NO_ANSWER = re.compile(
    r"context deadline exceeded|Client\.Timeout exceeded|i/o timeout|TLS handshake timeout|connection refused|"
    r"connection reset|unexpected EOF|the server is currently unable to handle the request|"
    r"Timeout: request did not complete"
)
# An agent asks as its kubelet does, through the way to its server that it keeps itself.
KUBELET_KUBECONFIG = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig"
# For so long a cause that only somebody can remove must stand before the wait is given up.
_HOPELESS_SECONDS = 20.0


class K3sError(Exception):
    """What went wrong, in a sentence with the way out."""


class KubectlError(K3sError):
    """kubectl said no; ``stderr`` is its own text."""

    def __init__(self, words: list[str], rc: int, stderr: str) -> None:
        super().__init__(f"`k3s kubectl {' '.join(words)}` ended with {rc}: {_last_line(stderr)}")
        self.rc = rc
        self.stderr = stderr


class Kubectl:
    """K3s's own kubectl, by default with K3s's own administrator's kubeconfig.

    ``patience``: how many seconds a request that got no answer is made again. A server that has just come up on a slow
    or busy host answers its first requests later than kubectl waits; all that is asked here may be asked twice.
    """

    def __init__(
        self,
        run: RunCommand,
        kubeconfig: str = "",
        *,
        patience: float = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run = run
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._command = [K3S, "kubectl", f"--request-timeout={_REQUEST_TIMEOUT}"]
        if kubeconfig:
            self._command.append(f"--kubeconfig={kubeconfig}")

    def text(self, *words: str, accept: tuple[int, ...] = (0,)) -> tuple[int, str]:
        began = self._clock()
        while True:
            rc, out, err = self._run([*self._command, *words])
            if rc in accept:
                return rc, out
            if not NO_ANSWER.search(err) or self._clock() - began >= self._patience:
                raise KubectlError(list(words), rc, err)
            self._sleep(_RETRY_SECONDS)

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
    role: str = "server"
    server: str = ""


class Readiness:
    """Asks once, in the order in which a node comes up; the first thing that is missing is the answer."""

    def __init__(self, run: RunCommand, expected: Expectation) -> None:
        self._run = run
        self._kubectl = Kubectl(run, KUBELET_KUBECONFIG if expected.role == "agent" else "")
        self._expected = expected
        self.service = UNITS[expected.role]
        self.server_version = ""
        self.node: dict[str, Any] = {}

    def missing(self) -> str:
        """What is not ready yet, in words. Empty when all is."""
        self.server_version = ""
        try:
            return self._service() or self._api() or self._objects()
        except KubectlError as error:
            return f"the API server does not answer ({_last_line(error.stderr)})"

    def cause(self) -> Cause | None:
        """Why waiting may not help: what an agent says of its server, or that a server runs another version."""
        if self._expected.role != "agent":
            return _OTHER if self.server_version not in ("", self._expected.version) else None
        # Of this process alone: what an earlier one said may be mended.
        run = unit_properties(self._run, "InvocationID", unit=self.service).get("InvocationID")
        lines = journal(self._run, f"_SYSTEMD_INVOCATION_ID={run}", 40) if run else []
        return next((cause for line in reversed(lines) if (cause := cause_of(line, self._expected.server))), None)

    def restarts(self) -> int:
        return int(self._unit().get("NRestarts") or 0)

    def _unit(self) -> dict[str, str]:
        properties = ("LoadState", "ActiveState", "SubState", "Job", "NRestarts")
        return unit_properties(self._run, *properties, unit=self.service)

    def _service(self) -> str:
        unit = self._unit()
        if unit.get("LoadState") != "loaded":
            return f"{self.service} does not exist"
        # While a job waits, the answers still come from the process that is about to be replaced.
        if unit.get("Job", "0") not in ("", "0") or unit.get("ActiveState") != "active":
            return f"{self.service} is {unit.get('ActiveState')} ({unit.get('SubState')})"
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
        # A kubelet may not look at service accounts; the server has waited for this one.
        account = ["serviceaccounts/default"] if self._expected.role == "server" else []
        wanted = [f"nodes/{self._expected.node}", *account, *classes]
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
        if account and ("ServiceAccount", "default") not in found:
            return "the ServiceAccount default does not exist yet: no pod could be made"
        return ""


@dataclass(frozen=True)
class Cause:
    """Why a node does not come up: ``text`` in words, ``hopeless`` if waiting does not help."""

    text: str
    hopeless: bool


# The process that was started last answers, so its program is another: the host's own keeper has put it back.
_OTHER = Cause("another program than the wanted one is installed; why, `edgefleet-keeper status` may tell", True)
_CAUSES = (
    (
        r"CA hash does not match|CA cert validation failed.*unknown authority",
        True,
        "the token belongs to another cluster (its CA hash is not this server's); was the server made anew? Then "
        "reset the agent (edgefleet.wasm.reset) and run this again",
    ),
    (
        r"[Nn]ode password rejected",
        True,
        "the server knows another host under this node's name (node password rejected); if this host was made anew, "
        "remove the old node on the server: k3s kubectl delete node <name>; else set node-name in k3s_config",
    ),
    (
        r"401 Unauthorized|403 Forbidden|token is not valid|invalid token|not authorized",
        True,
        "the server rejects the token; leave k3s_token out so that it is read from the server, or correct it",
    ),
    (
        r"certificate has expired or is not yet valid",
        True,
        "the clocks of agent and server differ (a certificate is not valid at this host's time); set the time",
    ),
    (r"flag provided but not defined", True, "K3s does not know a key of its configuration"),
    (
        r"connection refused|no route to host|i/o timeout|deadline exceeded|network is unreachable|connection reset|"
        r"no such host|\bEOF\b|failed to get CA certs|503 Service Unavailable",
        False,
        "the server can't be reached; is it up, is its port open to this host, and is its address right?",
    ),
)


def cause_of(line: str, server: str) -> Cause | None:
    """What a line in an agent's journal means. None if it means nothing for joining."""
    for pattern, hopeless, text in _CAUSES:
        if re.search(pattern, line):
            return Cause(f"server {server}: {text}", hopeless)
    return None


def wait_until_ready(
    readiness: Readiness,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Seconds until everything was ready; K3sError with the last thing that was missing, and why."""
    began = clock()
    hopeless_since: float | None = None
    restarts = readiness.restarts()
    while missing := readiness.missing():
        waited = clock() - began
        cause = readiness.cause()
        if cause:
            missing += f". {cause.text[0].upper()}{cause.text[1:]}"
        hopeless_since = (hopeless_since or clock()) if cause and cause.hopeless else None
        more = readiness.restarts() - restarts
        if more >= _RESTARTS_GIVE_UP:
            raise K3sError(f"K3s does not stay up ({more} restarts in {waited:.0f} s): {missing}")
        if hopeless_since is not None and clock() - hopeless_since >= _HOPELESS_SECONDS:
            raise K3sError(f"K3s will not come up (tried for {waited:.0f} s): {missing}")
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


def units_differing(run: RunCommand, wanted: Mapping[str, bool]) -> list[str]:
    """Those of the units that are not both enabled and running, or neither of both. Looks only."""
    differing = []
    for name, up in wanted.items():
        unit = unit_properties(run, "ActiveState", "UnitFileState", unit=name)
        seen = (unit.get("ActiveState") == "active", unit.get("UnitFileState") == "enabled")
        if seen != (up, up):
            differing.append(name)
    return differing


def journal(run: RunCommand, selection: str, lines: int) -> list[str]:
    """The last lines of the journal that are selected."""
    _, out, _ = run(["journalctl", selection, f"--lines={lines}", "--output=cat", "--no-pager"])
    return out.splitlines()


def journal_errors(run: RunCommand, unit: str = UNIT, lines: int = 5) -> list[str]:
    """The last lines in K3s's journal that look like the reason. K3s writes klog and logrus lines, no priorities."""
    found = journal(run, f"--unit={unit}", 300)
    bad = [line for line in found if re.search(r'level="?(fatal|error)|^[EF]\d{4} |^Error', line)]
    return [line[:300] for line in bad[-lines:]]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
