"""A backup put back: what is refused before anything stops, what is replaced, and what another name changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import archive, restore, site
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import Manifest
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.restore import (
    Restore,
    Restored,
    RestoreError,
    Wanted,
    moved_volume,
)

from tests.unit.keeper.conftest import DEPLOYMENT, listed
from tests.unit.roles.conftest import Clock, FakeRun

VOLUME = {
    "kind": "PersistentVolume",
    "metadata": {"name": "pvc-1", "uid": "u", "resourceVersion": "7", "annotations": {"a": "b"}},
    "spec": {
        "hostPath": {"path": "/var/lib/rancher/k3s/storage/pvc-1"},
        "claimRef": {"namespace": "exam", "name": "answers", "uid": "c"},
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["hall"]}]}
                ]
            }
        },
    },
    "status": {"phase": "Bound"},
}


def test_a_volume_follows_its_node_to_the_new_name() -> None:
    moved = moved_volume(VOLUME, "hall", "hall-new")
    assert moved is not None
    assert moved["metadata"] == {"name": "pvc-1", "annotations": {"a": "b"}}
    assert moved["spec"]["claimRef"]["uid"] == "c", "else the claim stays lost"
    term = moved["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
    assert term["values"] == ["hall-new"]
    assert "status" not in moved


@pytest.mark.parametrize("name", ["hal", "other"])
def test_volumes_of_other_nodes_stay(name: str) -> None:
    assert moved_volume(VOLUME, name, "hall-new") is None


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A host with a cluster of its own."""
    for name, text in {
        "etc/systemd/system/k3s.service": "",
        "etc/rancher/k3s/config.yaml": 'cluster-cidr: "10.42.0.0/16"\n',
        "etc/rancher/node/password": "of this host",
        "var/lib/rancher/k3s/server/token": "K10new::server:new",
        "var/lib/rancher/k3s/server/db/state.db-wal": "of the cluster before",
        "var/lib/rancher/k3s/server/logs/audit.log": "of this host",
        "var/lib/rancher/k3s/agent/client-kubelet.crt": "of the cluster before",
        "var/lib/rancher/k3s/agent/etc/kept": "kept",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_folders_are_replaced_whole(tmp_path: Path, server: Path, run: FakeRun) -> None:
    folder = tmp_path / "unpacked"
    top = "/var/lib/rancher/k3s/server"
    entries: list[dict[str, Any]] = [
        {"path": f"{top}/token", "type": "file", "mode": 0o600},
        {"path": f"{top}/tls", "type": "folder", "mode": 0o700},
        {"path": f"{top}/node-token", "type": "link", "target": f"{top}/token"},
        {"path": "/etc/rancher/node/password", "type": "file", "mode": 0o600},
    ]
    for entry in entries:
        entry |= {"uid": 0, "gid": 0, "mtime": 1.0}
        if entry["type"] == "file":
            content = archive.content(folder, entry["path"])
            content.parent.mkdir(parents=True, exist_ok=True)
            content.write_text(f"backed up {entry['path']}")
    manifest = Manifest("hall", "2026-01-01T00:00:00Z", "v1.30.4+k3s1", files=entries)
    for node, password in (("hall-new", "of this host"), ("hall", "backed up /etc/rancher/node/password")):
        restored = Restored(manifest)
        Restore(run, Wanted(Path("x"), node), root=server)._replace(folder, manifest, restored)
        place = server / top.lstrip("/")
        assert (place / "token").read_text() == f"backed up {top}/token"
        assert (place / "token").stat().st_mode & 0o777 == 0o600
        assert (place / "node-token").is_symlink()
        assert not (place / "db/state.db-wal").exists()
        assert (place / "logs/audit.log").read_text() == "of this host"
        assert not (server / "var/lib/rancher/k3s/agent/client-kubelet.crt").exists()
        assert (server / "var/lib/rancher/k3s/agent/etc/kept").exists()
        assert (server / "etc/rancher/node/password").read_text() == password
        assert not [path for path in place.parent.iterdir() if ".restore" in path.name]


def fit(server: Path, run: FakeRun, config: str = 'cluster-cidr: "10.42.0.0/16"\n', k3s: str = "v1.30.1+k3s1") -> None:
    folder = server / "unpacked"
    for path, text in {"/etc/rancher/k3s/config.yaml": config, f"{restore.SERVER}/token": "K10old::server:old"}.items():
        content = archive.content(folder, path)
        content.parent.mkdir(parents=True, exist_ok=True)
        content.write_text(text)
    manifest = Manifest("hall", "2026-01-01T00:00:00Z", k3s)
    Restore(run, Wanted(Path("x"), "hall"), root=server)._require_fit(folder, manifest)


def test_another_patch_of_the_same_minor_fits(server: Path, run: FakeRun) -> None:
    fit(server, run)
    (server / "etc/rancher/k3s/token").write_text("old")
    fit(server, run)


def test_a_host_without_k3s_is_refused(server: Path, run: FakeRun) -> None:
    (server / "etc/systemd/system/k3s.service").unlink()
    with pytest.raises(RestoreError, match=r"no k3s\.service: prepare it first .* edgefleet\.wasm\.site"):
        fit(server, run)


def test_another_minor_is_refused(server: Path, run: FakeRun) -> None:
    with pytest.raises(RestoreError, match=r"backup is of K3s v1\.29\.1\+k3s1 and this host has v1\.30\.4\+k3s1"):
        fit(server, run, k3s="v1.29.1+k3s1")


def test_other_networks_are_refused_by_their_key(server: Path, run: FakeRun) -> None:
    with pytest.raises(RestoreError, match=r"^cluster-cidr, secrets-encryption in this host's"):
        fit(server, run, 'cluster-cidr: "10.52.0.0/16"\nsecrets-encryption: "true"\n')


def test_another_token_is_refused_and_not_told(server: Path, run: FakeRun) -> None:
    (server / "etc/rancher/k3s/token").write_text("hush-new")
    with pytest.raises(RestoreError, match="k3s_token is not the token of the backup's cluster") as refused:
        fit(server, run)
    assert "hush" not in str(refused.value)


def test_workloads_are_waited_for(run: FakeRun, clock: Clock) -> None:
    manifest = Manifest("hall", "x", "v1.30.4+k3s1", workloads={"Deployment exam/api": 2})
    # The first is the backup's.
    states = iter([2, 0, 1, 2])
    run.then(
        "get deployments.apps",
        lambda: (0, listed({**DEPLOYMENT, "status": {"readyReplicas": next(states, 2)}}), ""),
    )
    wanted = Wanted(Path("x"), "hall", workloads_timeout=10)
    Restore(run, wanted, clock=clock, sleep=clock.sleep)._await_workloads(manifest)
    assert next(states, None) is None
    run.on("get deployments.apps", listed())
    with pytest.raises(RestoreError, match=r"after 10 s Deployment exam/api has 0 ready pods, it had 2"):
        Restore(run, wanted, clock=clock, sleep=clock.sleep)._await_workloads(manifest)


def test_the_old_node_goes_and_its_volumes_move(run: FakeRun) -> None:
    created: list[dict[str, Any]] = []
    run.on("get persistentvolumes", listed(VOLUME)).on("delete").on("patch")

    def create() -> tuple[int, str, str]:
        path = run.commands[-1].rsplit("=", 1)[1]
        created.append(json.loads(Path(path).read_text()))
        return 0, "", ""

    run.then("create --filename", create)
    restored = Restored(Manifest("hall", "x", "v1.30.4+k3s1"))
    Restore(run, Wanted(Path("x"), "hall-new"))._rename(restored.manifest, restored)
    assert [one["metadata"]["name"] for one in created] == ["pvc-1"]
    assert restored.done == ["moved PersistentVolume pvc-1 to hall-new", "removed node hall"]
    assert run.ran("delete node hall ")
    assert run.ran("delete pods --all-namespaces --field-selector=spec.nodeName=hall ")


def test_lacking_names_the_first() -> None:
    assert site.lacking({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 1}) == ""
    assert site.lacking({"a": 1, "b": 2}, {"a": 1}) == "b has 0 ready pods, it had 2"
