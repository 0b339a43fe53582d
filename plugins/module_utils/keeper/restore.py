# SPDX-License-Identifier: Apache-2.0
"""A backup put back: on the host that it is of, or on another one under another name.

The host has been prepared by the site play, as any other. What is restored is unpacked and checked before anything is
stopped, and takes its place by renaming folders; a restore that was cut is finished by running it again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import (
    UNIT,
    Expectation,
    K3sError,
    Kubectl,
    Readiness,
    RunCommand,
    wait_until_ready,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import password
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_reset import Reset
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import archive, databases, site
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import Manifest
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.backup import DATASTORE

SERVER = site.DATA / "server"
_LOGS = "logs"
_NEW, _OLD = ".restore-new", ".restore-old"
# Fixed for the life of a cluster: the host's must be the backup's.
_FIXED = ("cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "secrets-encryption", "data-dir")
# An agent's copies of another cluster's certificates; K3s fetches them anew.
_FETCHED = ("*.crt", "*.key", "*.kubeconfig")
_POLL_SECONDS = 2.0
# What the API says of pods at first is as old as the backup: it must say so some times in a row.
_POLLS_WELL = 3
_HOSTNAME = "kubernetes.io/hostname"


class RestoreError(Exception):
    """Why the backup was not put back, and what to do."""


@dataclass
class Wanted:
    """``source`` is a decrypted backup. ``workloads_timeout`` is seconds until its workloads must be ready again."""

    source: Path
    node: str
    runtime_classes: tuple[str, ...] = ()
    ready_timeout: int = 300
    workloads_timeout: int = 300


@dataclass
class Restored:
    """``done`` says what was changed; ``seconds`` from the stop of K3s until its workloads were ready again."""

    manifest: Manifest
    done: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Restore:
    run: RunCommand
    wanted: Wanted
    root: Path = Path("/")
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def everything(self) -> Restored:
        """Check first; then stop, replace, start, and wait for the workloads that the backup had."""
        with ExitStack() as stack:
            # Beside the place where it belongs: renaming works within a file system only.
            parent = self._path(site.DATA)
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".restore-", dir=parent)))
            manifest = archive.unpack(self.wanted.source, folder)
            databases.check(archive.content(folder, str(DATASTORE)))
            self._require_fit(folder, manifest)
            restored = Restored(manifest)
            began = self.clock()
            self._stop()
            self._replace(folder, manifest, restored)
            self._start()
            if manifest.node != self.wanted.node:
                self._rename(manifest, restored)
            self._await_workloads(manifest)
            restored.seconds = self.clock() - began
            return restored

    def _require_fit(self, folder: Path, manifest: Manifest) -> None:
        if not self._path(Path("/etc/systemd/system") / UNIT).exists():
            raise RestoreError(f"this host has no {UNIT}: prepare it first with the playbook edgefleet.wasm.site")
        here = site.program_version(self.run)
        if site.minor(here) != site.minor(manifest.k3s):
            raise RestoreError(
                f"the backup is of K3s {manifest.k3s} and this host has {here}: a datastore goes with its own minor "
                "version only; set k3s_version to one of them, run edgefleet.wasm.site, and restore again"
            )
        config = "/etc/rancher/k3s/config.yaml"
        now, then = self._path(Path(config)), archive.content(folder, config)
        differing = [key for key in _FIXED if _setting(now, key) != _setting(then, key)]
        if differing:
            raise RestoreError(
                f"{', '.join(differing)} in this host's {config} differ from the backup's, and a cluster keeps them "
                "for life; set them in k3s_config as they were, run edgefleet.wasm.site, and restore again"
            )
        declared = self._path(site.CONFIG / "token")
        kept = archive.content(folder, str(SERVER / "token"))
        if declared.exists() and password(declared.read_text()) != password(kept.read_text()):
            raise RestoreError(
                "k3s_token is not the token of the backup's cluster, and K3s would refuse its datastore; "
                "leave k3s_token out or set the cluster's own, run edgefleet.wasm.site, and restore again"
            )

    def _stop(self) -> None:
        """K3s and every pod: they would write into what is being replaced, and their network is another cluster's."""
        reset = Reset(self.run, root=self.root, sleep=self.sleep)
        reset.stop_service()
        reset.end_pods()
        reset.unmount()
        reset.remove_namespaces()
        reset.remove_interfaces()
        for path in (Path("/run/flannel"), Path("/var/lib/cni")):
            shutil.rmtree(self._path(path), ignore_errors=True)

    def _replace(self, folder: Path, manifest: Manifest, restored: Restored) -> None:
        self._swap(folder, str(SERVER), manifest.under(str(SERVER)))
        restored.done.append(f"replaced {SERVER}")
        for pattern in _FETCHED:
            for path in self._path(site.DATA / "agent").glob(pattern):
                path.unlink()
        for name, volume in manifest.volumes.items():
            self._swap(folder, volume, manifest.under(volume))
            restored.done.append(f"replaced volume {name} ({volume})")
        known = next((one for one in manifest.files if one["path"] == str(site.NODE_PASSWORD)), None)
        if known and manifest.node == self.wanted.node:
            # The cluster knows a node of this name by its password.
            archive.place(folder, known, self._path(site.NODE_PASSWORD))
            restored.done.append(f"replaced {site.NODE_PASSWORD}")
        os.sync()

    def _swap(self, folder: Path, top: str, entries: list[dict[str, Any]]) -> None:
        """Build the folder beside its place, then rename it there."""
        place = self._path(Path(top))
        new, old = place.with_name(place.name + _NEW), place.with_name(place.name + _OLD)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True, mode=0o700)
        for entry in sorted(entries, key=lambda one: str(one["path"])):
            archive.place(folder, entry, new / os.path.relpath(entry["path"], top))
        if top == str(SERVER) and (place / _LOGS).is_dir():
            # What this host has logged is its own.
            shutil.copytree(place / _LOGS, new / _LOGS)
        os.sync()
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)

    def _start(self) -> None:
        rc, out, err = self.run(["systemctl", "start", "--no-block", UNIT])
        if rc != 0:
            raise K3sError(f"`systemctl start {UNIT}` ended with {rc}: {(err or out).strip()}")
        expected = Expectation(self.wanted.node, site.program_version(self.run), self.wanted.runtime_classes)
        wait_until_ready(Readiness(self.run, expected), self.wanted.ready_timeout, self.clock, self.sleep)

    def _rename(self, manifest: Manifest, restored: Restored) -> None:
        """Volumes belong to a node by its name, and that can't be changed: they are made anew. The old node goes."""
        kubectl = Kubectl(self.run)
        for volume in kubectl.objects("persistentvolumes"):
            moved = moved_volume(volume, manifest.node, self.wanted.node)
            if moved is None:
                continue
            self._recreate(kubectl, moved)
            restored.done.append(f"moved PersistentVolume {moved['metadata']['name']} to {self.wanted.node}")
        kubectl.text("delete", "node", manifest.node, "--ignore-not-found", "--timeout=60s")
        restored.done.append(f"removed node {manifest.node}")
        # Their node is gone: nobody ends them, and Kubernetes itself waits for a minute until it makes others.
        kubectl.text(
            *("delete", "pods", "--all-namespaces", f"--field-selector=spec.nodeName={manifest.node}"),
            *("--grace-period=0", "--force", "--wait=false"),
        )

    def _recreate(self, kubectl: Kubectl, volume: dict[str, Any]) -> None:
        """Its claim is Lost for a moment, and bound again when the volume of that name is back."""
        name = volume["metadata"]["name"]
        kubectl.text("delete", "persistentvolume", name, "--wait=false")
        kubectl.text("patch", "persistentvolume", name, "--type=merge", '--patch={"metadata":{"finalizers":null}}')
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(volume, file)
            file.flush()
            kubectl.text("create", f"--filename={file.name}")

    def _await_workloads(self, manifest: Manifest) -> None:
        kubectl, began, well = Kubectl(self.run), self.clock(), 0
        while True:
            missing = site.lacking(manifest.workloads, site.workloads(kubectl))
            well = 0 if missing else well + 1
            if well == _POLLS_WELL:
                return
            if missing and self.clock() - began > self.wanted.workloads_timeout:
                raise RestoreError(
                    f"the cluster is restored, but after {self.wanted.workloads_timeout} s {missing}; "
                    "see `k3s kubectl get pods -A` (an image that this host does not have? play edgefleet.wasm.deploy)"
                )
            self.sleep(_POLL_SECONDS)

    def _path(self, path: Path) -> Path:
        return self.root / str(path).lstrip("/")


def moved_volume(volume: dict[str, Any], old: str, new: str) -> dict[str, Any] | None:
    """The volume as an object to be created, for another node. None if it is bound to no node of the old name."""
    text = json.dumps(volume["spec"].get("nodeAffinity") or {})
    if _HOSTNAME not in text or json.dumps(old) not in text:
        return None
    kept = {key: volume["metadata"][key] for key in ("name", "labels", "annotations") if key in volume["metadata"]}
    affinity = json.loads(text.replace(json.dumps(old), json.dumps(new)))
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": kept,
        "spec": {**volume["spec"], "nodeAffinity": affinity},
    }


def _setting(path: Path, key: str) -> str:
    """A scalar of K3s's configuration as the role k3s writes it; empty if it is not there."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = re.search(rf"^{re.escape(key)}:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip().strip("\"'") if found else ""
