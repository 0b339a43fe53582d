# SPDX-License-Identifier: Apache-2.0
"""What a site's cluster looks like from its own host: its workloads, and which of them are not as they were."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3S, K3sError, Kubectl, RunCommand

DATA = Path("/var/lib/rancher/k3s")
CONFIG = Path("/etc/rancher/k3s")
NODE_PASSWORD = Path("/etc/rancher/node/password")
_WORKLOADS = "deployments.apps,statefulsets.apps,daemonsets.apps"


def workloads(kubectl: Kubectl) -> dict[str, int]:
    """Ready pods by workload ("Deployment exam/api"), of those that have any."""
    found = {}
    for one in kubectl.objects(_WORKLOADS, "--all-namespaces"):
        name = f"{one['kind']} {one['metadata']['namespace']}/{one['metadata']['name']}"
        status = one.get("status", {})
        found[name] = int(status.get("readyReplicas") or status.get("numberReady") or 0)
    return {name: ready for name, ready in sorted(found.items()) if ready}


def lacking(before: dict[str, int], now: dict[str, int]) -> str:
    """The first workload that has fewer ready pods than before, in words. Empty if none has."""
    for name, ready in before.items():
        if now.get(name, 0) < ready:
            return f"{name} has {now.get(name, 0)} ready pods, it had {ready}"
    return ""


def program_version(run: RunCommand, program: str = K3S) -> str:
    """The version of the K3s program on disk, such as v1.30.4+k3s1."""
    rc, out, err = run([program, "--version"])
    found = re.search(r"^\S+ version (v\S+)", out)
    if rc != 0 or found is None:
        raise K3sError(f"`{program} --version` ended with {rc} and names no version: {(err or out).strip()[:200]}")
    return found[1]


def minor(version: str) -> tuple[int, int]:
    """1 and 30 of v1.30.4+k3s1."""
    found = re.match(r"v?(\d+)\.(\d+)\.", version)
    if found is None:
        raise K3sError(f"{version!r} is no version of K3s such as v1.30.4+k3s1")
    return int(found[1]), int(found[2])


def claim_folders(kubectl: Kubectl, declared: list[str]) -> dict[str, str]:
    """The folder on this host of each declared volume: a claim as namespace/claim, or a folder by its path."""
    claims = [one for one in declared if not one.startswith("/")]
    known: dict[str, dict[str, Any]] = {}
    if claims:
        for volume in kubectl.objects("persistentvolumes"):
            claim = volume["spec"].get("claimRef") or {}
            known[f"{claim.get('namespace')}/{claim.get('name')}"] = volume["spec"]
    found = {}
    for one in declared:
        spec = known.get(one, {})
        source = spec.get("hostPath") or spec.get("local") or {}
        path = one if one.startswith("/") else source.get("path", "")
        if not path:
            raise K3sError(
                f"keeper_volumes: no claim {one} (namespace/claim) is bound to a folder of this host; "
                "see `k3s kubectl get pvc -A`, or leave it out"
            )
        if not Path(path).is_dir():
            raise K3sError(f"keeper_volumes: {one}: there is no folder {path} on this host")
        found[one] = path
    return found
