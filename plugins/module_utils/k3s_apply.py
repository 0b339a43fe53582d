# SPDX-License-Identifier: Apache-2.0
"""Server-side apply by K3s's kubectl: what differs, apply only then, wait until the workloads have rolled out."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError, Kubectl
from ansible_collections.edgefleet.wasm.plugins.module_utils.manifests import Object, identity
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import ILLEGAL_INSTRUCTION, NEWER_PROCESSOR

FIELD_MANAGER = "edgefleet"
WORKLOADS = {"Deployment": "deployments.apps", "StatefulSet": "statefulsets.apps", "DaemonSet": "daemonsets.apps"}
# Conflicts are forced: what somebody changed by hand in a field that the bundle declares is put back.
_SERVER_SIDE = ("--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}")
_POLL_SECONDS = 2.0
_DIFF_HEADER = re.compile(r"^diff .*/LIVE-\d+/(\S+) ")


@dataclass
class Outcome:
    """``differing`` are the objects that were (or in check mode would be) created or changed."""

    differing: list[str] = field(default_factory=list)
    diff: str = ""
    waited_seconds: float = 0.0


class Applier:
    def __init__(self, kubectl: Kubectl, check: bool = False) -> None:
        self._kubectl = kubectl
        self._check = check

    def apply(self, objects: list[Object]) -> Outcome:
        """Namespaces first: the API server can't even compare what is to stand in one that does not exist."""
        outcome = Outcome()
        namespaces = [one for one in objects if one["kind"] == "Namespace"]
        others = [one for one in objects if one["kind"] != "Namespace"]
        if self._check and namespaces:
            new = self._new_namespaces(namespaces)
            homeless = [one for one in others if one["metadata"].get("namespace") in new]
            others = [one for one in others if one not in homeless]
            outcome.differing += [identity(one) for one in homeless]
        for group in (namespaces, others):
            if group:
                self._converge(group, outcome)
        return outcome

    def _new_namespaces(self, namespaces: list[Object]) -> set[str]:
        there = {one["metadata"]["name"] for one in self._kubectl.objects("namespaces")}
        return {one["metadata"]["name"] for one in namespaces} - there

    def _converge(self, group: list[Object], outcome: Outcome) -> None:
        with _file(group) as file:
            rc, text = self._kubectl.text("diff", *_SERVER_SIDE, f"--filename={file}", accept=(0, 1))
            if rc == 0:
                return
            outcome.diff += text
            outcome.differing += _names_in(text, group)
            if not self._check:
                self._kubectl.text("apply", *_SERVER_SIDE, f"--filename={file}")


class Rollouts:
    """Waits for the workloads among the objects; a pod that can't start is named with its reason."""

    def __init__(
        self,
        kubectl: Kubectl,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kubectl = kubectl
        self._clock = clock
        self._sleep = sleep

    def wait(self, objects: list[Object], timeout: float) -> float:
        began = self._clock()
        for one in objects:
            if one["kind"] in WORKLOADS:
                self._wait_for(one, began, timeout)
        return self._clock() - began

    def _wait_for(self, one: Object, began: float, timeout: float) -> None:
        namespace = one["metadata"].get("namespace", "default")
        name = f"{WORKLOADS[one['kind']]}/{one['metadata']['name']}"
        while True:
            found = self._kubectl.objects("-n", namespace, name)
            missing = unfinished(found[0]) if found else "it does not exist"
            if not missing:
                return
            if self._clock() - began >= timeout:
                reasons = self._pod_problems(namespace, found[0]) if found else []
                raise K3sError(
                    f"{identity(one)} has not rolled out after {timeout:.0f} s (site_bundle_timeout): "
                    + "; ".join([missing, *reasons])
                )
            self._sleep(_POLL_SECONDS)

    def _pod_problems(self, namespace: str, workload: Object) -> list[str]:
        labels = workload["spec"]["selector"].get("matchLabels", {})
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = self._kubectl.objects("-n", namespace, "pods", f"--selector={selector}")
        return [text for pod in pods for text in pod_problems(pod)]


def unfinished(workload: Object) -> str:
    """What a rollout still waits for, as the controllers report it. Empty when it is done."""
    metadata, status = workload["metadata"], workload.get("status", {})
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return "its controller has not seen the change yet"
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
        surplus = 0
    else:
        wanted = workload["spec"].get("replicas", 1)
        updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
        surplus = status.get("replicas", 0) - updated
    if updated < wanted:
        return f"{updated} of {wanted} pods are updated"
    if surplus > 0:
        return f"{surplus} old pods are still there"
    return f"{available} of {wanted} pods are available" if available < wanted else ""


def pod_problems(pod: Object) -> list[str]:
    """Why a pod does not run, as the scheduler or the kubelet says it."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    found = [
        f"pod {name}: {one.get('reason')}: {one.get('message', '')}"
        for one in status.get("conditions", [])
        if one["type"] == "PodScheduled" and one["status"] != "True"
    ]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            found.append(f"pod {name}, {container['name']}: {waiting.get('reason')}: {waiting.get('message', '')}")
        elif not container.get("ready"):
            found.append(f"pod {name}, {container['name']}: runs, but is not ready")
        if container.get("lastState", {}).get("terminated", {}).get("exitCode") == ILLEGAL_INSTRUCTION:
            found.append(f"pod {name}, {container['name']}: {NEWER_PROCESSOR} (README of the role site_bundle)")
    return [text.rstrip(": ")[:400] for text in found]


def _names_in(diff: str, group: list[Object]) -> list[str]:
    """Of the objects compared those that kubectl's diff is about. It names files: group.version.kind.namespace.name."""
    headers = [match[1] for line in diff.splitlines() if (match := _DIFF_HEADER.match(line))]
    return [identity(one) for one in group if any(_is_about(header, one) for header in headers)]


def _is_about(header: str, one: Object) -> bool:
    version = one["apiVersion"].replace("/", ".")
    namespace = one["metadata"].get("namespace", "")
    start, end = f"{version}.{one['kind']}.", f".{one['metadata']['name']}"
    return header.startswith(start) and header.endswith(end) and (not namespace or header == f"{start}{namespace}{end}")


@contextmanager
def _file(objects: list[Any]) -> Iterator[Path]:
    """For root alone, since it may hold Secrets, and gone afterwards."""
    descriptor, name = tempfile.mkstemp(prefix="edgefleet-", suffix=".json")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, stream)
        yield Path(name)
    finally:
        Path(name).unlink()
