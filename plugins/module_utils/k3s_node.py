# SPDX-License-Identifier: Apache-2.0
"""What is declared for a node and its cluster, held in the API: labels, taints, a few objects.

K3s sets labels anew at each start but takes none away, and taints only when a node registers. What was declared last
time is remembered on the node, in annotations, so that what is no longer declared goes and everybody else's stays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError, Kubectl, KubectlError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_apply import Applier
from ansible_collections.edgefleet.wasm.plugins.module_utils.manifests import Object, identity

LABELS = "edgefleet.wasm/labels"
TAINTS = "edgefleet.wasm/taints"
PART = "edgefleet.wasm/part"
PRUNED = "networkpolicies.networking.k8s.io,serviceaccounts"
# The node controller changes taints too: a patch that met another is made anew.
_ATTEMPTS = 5
_REMOVAL_SECONDS = 60


@dataclass
class Cluster:
    """One run. ``done`` says what was changed (or would be, in check mode)."""

    kubectl: Kubectl
    check: bool = False
    done: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    sleep: Callable[[float], None] = time.sleep

    def node(self, name: str, labels: Mapping[str, str], taints: Sequence[str]) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            found = self.kubectl.objects(f"nodes/{name}")
            if not found:
                raise K3sError(f"node {name} is not registered; is that its name (node-name in k3s_config)?")
            patch, said = node_patch(found[0], labels, taints)
            if not patch:
                return
            try:
                if not self.check:
                    self.kubectl.text("patch", f"nodes/{name}", "--type=merge", f"--patch={json.dumps(patch)}")
            except KubectlError as error:
                if "Conflict" not in error.stderr or attempt == _ATTEMPTS:
                    raise
                self.sleep(1)
                continue
            self._note(f"Node {name}", said)
            return

    def objects(self, wanted: list[Object], owner: str) -> None:
        """Those of this owner: no more, no less. ``owner`` is the value of the label edgefleet.wasm/part."""
        there = self.kubectl.objects(PRUNED, "--all-namespaces", f"--selector={PART}={owner}")
        names = {identity(one) for one in wanted}
        for one in (one for one in there if identity(one) not in names):
            self._note(identity(one), ["removed"])
            if not self.check:
                place = (f"--namespace={one['metadata']['namespace']}", one["kind"].lower(), one["metadata"]["name"])
                self.kubectl.text("delete", "--ignore-not-found", *place)
        if wanted:
            outcome = Applier(self.kubectl, check=self.check).apply(wanted)
            self.done += outcome.differing
            if outcome.diff:
                self.diff.append({"prepared": outcome.diff})

    def forget(self, name: str) -> None:
        """Take a node out of the cluster. K3s removes its password with it, so that a host of its name may join."""
        if not self.kubectl.objects(f"nodes/{name}"):
            return
        self._note(f"Node {name}", ["removed"])
        if not self.check:
            self.kubectl.text("delete", f"nodes/{name}", "--ignore-not-found", f"--timeout={_REMOVAL_SECONDS}s")

    def _note(self, what: str, said: list[str]) -> None:
        self.done.append(f"{what}: {', '.join(said)}")
        self.diff.append({"prepared": "".join(f"{what}: {one}\n" for one in said)})


def node_patch(node: Object, labels: Mapping[str, str], taints: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The merge patch that makes a node as declared, and in words what it does. Both empty if it is."""
    metadata = node["metadata"]
    notes = metadata.get("annotations") or {}
    now = metadata.get("labels") or {}
    patch_labels: dict[str, str | None] = {key: value for key, value in labels.items() if now.get(key) != value}
    patch_labels.update({key: None for key in _remembered(notes, LABELS) if key not in labels and key in now})
    said = [f"label {key}" + ("=" + value if value is not None else " removed") for key, value in patch_labels.items()]

    there = {_taint_text(one): one for one in node.get("spec", {}).get("taints") or []}
    gone = [text for text in _remembered(notes, TAINTS) if text not in taints and text in there]
    new = [text for text in taints if text not in there]
    said += [f"taint {text} removed" for text in gone] + [f"taint {text}" for text in new]

    memory = {LABELS: json.dumps(sorted(labels)), TAINTS: json.dumps(sorted(taints))}
    forgotten = {key: text for key, text in memory.items() if notes.get(key) != text}
    said += [f"annotation {key}" for key in forgotten]
    if not said:
        return {}, []
    # With its version: what changed meanwhile is not overwritten.
    patch: dict[str, Any] = {"metadata": {"resourceVersion": metadata.get("resourceVersion")}}
    if forgotten:
        patch["metadata"]["annotations"] = forgotten
    if patch_labels:
        patch["metadata"]["labels"] = patch_labels
    if gone or new:
        kept = [one for text, one in there.items() if text not in gone and not _replaced(one, new)]
        patch["spec"] = {"taints": [*kept, *(_taint(text) for text in new)]}
    return patch, said


def _remembered(notes: Mapping[str, str], key: str) -> list[str]:
    try:
        found = json.loads(notes.get(key, "[]"))
    except ValueError:
        return []
    return [str(one) for one in found] if isinstance(found, list) else []


def _taint(text: str) -> dict[str, str]:
    rest, _, effect = text.rpartition(":")
    key, _, value = rest.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def _taint_text(taint: Mapping[str, Any]) -> str:
    value = taint.get("value")
    return f"{taint['key']}{'=' + value if value else ''}:{taint['effect']}"


def _replaced(taint: Mapping[str, Any], new: Sequence[str]) -> bool:
    """A node has one taint of a key and an effect."""
    return any((one["key"], one["effect"]) == (taint["key"], taint["effect"]) for one in map(_taint, new))
