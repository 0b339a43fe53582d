# SPDX-License-Identifier: Apache-2.0
"""Section: cold start of a whole pod, from the moment it is bound to this node to the first line of its log.

The pods name their node, as the scheduler would have written it: the kubelet sees them at once, and the scheduler's
queue is not part of what is measured. They run in kube-system, whose pods may have a folder of the host.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import diagnosis, sandboxes, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.checks import module_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cold import NO_PROBE_STEP
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import NOBODY, PREFIX, lives
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri, first_line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.kube_api import KUBECONFIG, Ask, KubeApi
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Findings,
    Layer,
    Level,
    SmokeError,
    Status,
    line,
)

NAME = "pod"
LEAST = Level.STANDARD
COLD = Check(
    "cold_start_pod", Layer.POD, "cold start of a pod: bound to the node, to the first line of its log", unit="ms"
)
RATIO = Check(
    "cold_ratio_pod",
    Layer.POD,
    "cold start of a pod with a compiled module against one with a native program",
    limit=verdicts.RATIO,
    unit="times",
)
CHECKS = (COLD, RATIO)
# In the working folder, and there as long as there may be pods.
FOLDER = "pods"
LOGS = Path("/var/log/pods")
VOLUMES = Path("/var/lib/kubelet/pods")

_NAMESPACE = "kube-system"
_PODS = f"/api/v1/namespaces/{_NAMESPACE}/pods"
_WARM_UP = 1
# Pairs whose pods stand at the same time: each costs the memory of a sandbox and its shim, some 12 MiB.
_TOGETHER = 5
_LOG_SECONDS = 30.0
_GONE_SECONDS = 20.0
# A pod that nobody deletes ends by itself.
_LIFE_SECONDS = 120


def measure(bench: Bench) -> Findings:
    if bench.compiled is None:
        return _all(Status.NOT_APPLICABLE, bench.no_compiled, NO_PROBE_STEP)
    if not KUBECONFIG.exists():
        return _all(Status.NOT_APPLICABLE, f"no K3s server on this host: there is no {KUBECONFIG}", "")
    text = f"edgefleet-smoke {secrets.token_hex(16)}"
    programs = {
        "probe.wasm": module_of(bench.compiled, "echo"),
        "native": native_program(bench.compiled.arch, f"{text}\n".encode()),
    }
    folder = sandboxes.program_folder(bench.containers.folder / FOLDER, programs)
    try:
        with Cri(bench.containerd) as runtime:
            image = sandboxes.smallest_image(runtime)
            pods = Pods(KubeApi(bench.run, bench.containers.folder).ask, folder, image, bench.containers.owner)
            wasm_ms, native_ms = pods.in_turn(text, bench.effort.pod_starts)
            # The kubelet looks for sandboxes whose pods are gone once a minute; ours go with us.
            sandboxes.sweep(runtime, lambda marked: marked != bench.containers.owner)
    except SmokeError as error:
        cause, step = diagnosis.of_pod(str(error))
        return _all(Status.FAIL, str(error), step or "k3s kubectl get events -n kube-system", cause)
    lines = [
        verdicts.cold_start(COLD, wasm_ms, native_ms, bench.engine.llvm),
        verdicts.ratio(RATIO, wasm_ms, native_ms, bench.engine.llvm),
    ]
    return Findings(lines, {COLD.id: {"wasm_ms": wasm_ms, "native_ms": native_ms}})


def _all(status: Status, reason: str, step: str, cause: str = "") -> Findings:
    return Findings([line(check, status, reason, cause=cause, next_step=step) for check in CHECKS])


@dataclass
class Pods:
    """Pods of a test on this node."""

    ask: Ask
    programs: Path
    image: str
    owner: str
    logs: Path = LOGS
    volumes: Path = VOLUMES
    wall: Callable[[], float] = time.time
    node: str = ""

    def in_turn(self, text: str, count: int) -> tuple[list[float], list[float]]:
        """Milliseconds of Wasm and native pods, A B A B, the first pair not counted."""
        sweep(self.ask)
        self.node = self.node or node_of(self.ask, Path("/proc/sys/kernel/hostname").read_text().strip())
        pairs: list[tuple[float, float]] = []
        while len(pairs) < _WARM_UP + count:
            pairs += self._together(text, min(_TOGETHER, _WARM_UP + count - len(pairs)))
        measured = pairs[_WARM_UP:]
        return [wasm for wasm, _ in measured], [native for _, native in measured]

    def _together(self, text: str, count: int) -> list[tuple[float, float]]:
        """So many pairs, one pod after the other, which are taken away together.

        The end of a pod is work that another's start is not to be measured beside, and takes three times as long.
        """
        made: dict[str, str] = {}
        try:
            return [
                (
                    self._start("probe.wasm", secrets.token_hex(16), "wasmedge", made),
                    self._start("native", text, None, made),
                )
                for _ in range(count)
            ]
        finally:
            for name in made:
                with contextlib.suppress(SmokeError):
                    self.ask("DELETE", f"{_PODS}/{name}", {"gracePeriodSeconds": 0})
            folders = [self.volumes / uid for uid in made.values()]
            _until(lambda: not any(folder.exists() for folder in folders), _GONE_SECONDS)

    def _start(self, program: str, expected: str, runtime_class: str | None, made: dict[str, str]) -> float:
        """Milliseconds until a new pod has printed its line. ``made`` gets its name and id."""
        name = f"{PREFIX}-{secrets.token_hex(6)}"
        pod = self._pod(name, program, expected, runtime_class)
        began = self.wall()
        answer = self.ask("POST", _PODS, pod)
        if answer is None:
            raise SmokeError(f"the API server has no namespace {_NAMESPACE}")
        made[name] = answer["metadata"]["uid"]
        at = self._logged(self.logs / f"{_NAMESPACE}_{name}_{made[name]}" / "probe" / "0.log", name, expected)
        return round((at - began) * 1000, 3)

    def _logged(self, log: Path, name: str, expected: str) -> float:
        try:
            nanoseconds, said = first_line(log, _LOG_SECONDS)
        except SmokeError as error:
            raise SmokeError(f"a pod printed nothing in {_LOG_SECONDS:g} s: {self._why(name)}") from error
        text = said.decode("utf-8", "replace")
        if expected not in text:
            raise SmokeError(f"a pod printed {text[:80]!r}: {self._why(name)}")
        return nanoseconds / 1e9

    def _why(self, name: str) -> str:
        """What the kubelet says of it."""
        pod = self.ask("GET", f"{_PODS}/{name}") or {}
        states = [one.get("state", {}) for one in pod.get("status", {}).get("containerStatuses", [])]
        said = [
            f"{kind} {what.get('reason', '')} {what.get('message', '')}" for one in states for kind, what in one.items()
        ]
        events = (
            self.ask("GET", f"/api/v1/namespaces/{_NAMESPACE}/events?fieldSelector=involvedObject.name={name}") or {}
        )
        said += [one.get("message", "") for one in events.get("items", []) if one.get("type") == "Warning"]
        return " ".join("; ".join(said).split())[:300] or pod.get("status", {}).get(
            "message", "no word from the kubelet"
        )

    def _pod(self, name: str, program: str, argument: str, runtime_class: str | None) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {sandboxes.OWNER: self.owner}},
            "spec": {
                "nodeName": self.node,
                **({"runtimeClassName": runtime_class} if runtime_class else {}),
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "activeDeadlineSeconds": _LIFE_SECONDS,
                "tolerations": [{"operator": "Exists"}],
                "containers": [
                    {
                        "name": "probe",
                        "image": self.image,
                        "imagePullPolicy": "Never",
                        # The line's end as in ``sandboxes``.
                        "command": [f"{sandboxes.PROBES}/{program}", argument, "\n"],
                        "resources": {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "10m"}},
                        "securityContext": {
                            "runAsUser": NOBODY,
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [{"name": "probes", "mountPath": sandboxes.PROBES, "readOnly": True}],
                    }
                ],
                "volumes": [{"name": "probes", "hostPath": {"path": str(self.programs), "type": "Directory"}}],
            },
        }


def sweep(ask: Ask) -> None:
    """Delete the pods of tests that are not running any more."""
    answer = ask("GET", f"{_PODS}?labelSelector={sandboxes.OWNER}") or {}
    for pod in answer.get("items", []):
        if not lives(pod["metadata"]["labels"][sandboxes.OWNER]):
            ask("DELETE", f"{_PODS}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})


def node_of(ask: Ask, hostname: str) -> str:
    """The name under which K3s knows this host."""
    nodes = (ask("GET", "/api/v1/nodes") or {}).get("items", [])
    names = [node["metadata"]["name"] for node in nodes]
    mine = [node["metadata"]["name"] for node in nodes if hostname in (node["metadata"]["name"], _hostname(node))]
    if len(mine or names) != 1:
        raise SmokeError(f"which of the nodes {names} is the host {hostname} can't be told")
    return str((mine or names)[0])


def _hostname(node: Mapping[str, Any]) -> str:
    addresses = node.get("status", {}).get("addresses", [])
    return next((str(one["address"]) for one in addresses if one.get("type") == "Hostname"), "")


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
