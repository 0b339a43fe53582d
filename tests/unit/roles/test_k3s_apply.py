"""Manifests from file to API server, and the wait for what they start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError, Kubectl, KubectlError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_apply import (
    Applier,
    Rollouts,
    pod_problems,
    unfinished,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.manifests import (
    ManifestError,
    identity,
    load,
    pack,
    unpack,
)

from tests.unit.roles.conftest import Clock, FakeRun

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "till", "namespace": "shop"}}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "till", "namespace": "shop"}}
DIFF = "diff -u -N /tmp/LIVE-12/apps.v1.Deployment.shop.till /tmp/MERGED-34/apps.v1.Deployment.shop.till\n-a\n+b\n"


def write(folder: Path, name: str, *documents: Any) -> Path:
    path = folder / name
    path.write_text("---\n".join(yaml.safe_dump(one) for one in documents))
    return path


# --- manifests


def test_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "20.yaml", DEPLOYMENT, SERVICE)
    write(tmp_path, "10.yml", NAMESPACE)
    (tmp_path / "30.json").write_text(json.dumps({"kind": "List", "items": [{**SERVICE, "metadata": {"name": "x"}}]}))
    (tmp_path / "README.md").write_text("no manifest")
    names = [identity(one) for one in load([tmp_path], yaml.safe_load_all)]
    assert names == ["Namespace shop", "Deployment shop/till", "Service shop/till", "Service x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"m\.yaml is no valid YAML: "),
        ("just text", r"m\.yaml is no Kubernetes object"),
        ("kind: Pod\nmetadata: {name: a}", r"m\.yaml has no apiVersion"),
        ("apiVersion: v1\nmetadata: {name: a}", r"m\.yaml has no kind"),
        ("apiVersion: v1\nkind: Pod", r"m\.yaml \(Pod\) has no metadata.name"),
        ("a: 1\n---\n- b", r"m\.yaml \(document 1\) has no apiVersion"),
    ],
)
def test_what_is_wrong_with_a_manifest(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ManifestError, match=message):
        load([tmp_path / "m.yaml"], yaml.safe_load_all)


def test_missing_files_and_empty_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nowhere does not exist on the controller"):
        load([tmp_path / "nowhere"], yaml.safe_load_all)
    with pytest.raises(ManifestError, match=r"has no manifest \(.yaml, .yml, .json\)"):
        load([tmp_path], yaml.safe_load_all)


def test_an_object_may_be_declared_once(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", SERVICE)
    write(tmp_path, "b.yaml", SERVICE)
    with pytest.raises(ManifestError, match=r"b\.yaml declares Service shop/till, which .*a\.yaml declares too"):
        load([tmp_path], yaml.safe_load_all)


def test_packed_is_one_word_and_comes_back() -> None:
    packed = pack([NAMESPACE, DEPLOYMENT])
    assert packed.isascii()
    assert "shop" not in packed
    assert unpack(packed) == [NAMESPACE, DEPLOYMENT]


# --- apply


def test_nothing_differs_nothing_is_applied(run: FakeRun) -> None:
    run.on("kubectl", "", rc=0)
    outcome = Applier(Kubectl(run)).apply([NAMESPACE, DEPLOYMENT])
    assert outcome.differing == []
    assert not run.ran(" apply ")


def test_what_differs_is_named_and_applied_server_side(run: FakeRun) -> None:
    answers = iter([(0, "", ""), (1, DIFF, "")])
    run.then(" diff ", lambda: next(answers)).on(" apply ")
    outcome = Applier(Kubectl(run)).apply([NAMESPACE, DEPLOYMENT, SERVICE])
    assert outcome.differing == ["Deployment shop/till"]
    assert "+b" in outcome.diff
    (applied,) = run.ran(" apply ")
    assert "--server-side --force-conflicts --field-manager=edgefleet" in applied


def test_namespaces_come_first(run: FakeRun) -> None:
    files: list[list[str]] = []

    def answer() -> tuple[int, str, str]:
        document = json.loads(Path(run.commands[-1].split("--filename=")[1]).read_text())
        files.append([one["kind"] for one in document["items"]])
        return (0, "", "")

    run.then(" diff ", answer)
    Applier(Kubectl(run)).apply([DEPLOYMENT, NAMESPACE, SERVICE])
    assert files == [["Namespace"], ["Deployment", "Service"]]


def test_the_file_with_the_objects_is_gone_afterwards(run: FakeRun) -> None:
    run.on(" diff ", rc=2, err="error: broken")
    with pytest.raises(KubectlError, match="ended with 2: error: broken"):
        Applier(Kubectl(run)).apply([NAMESPACE])
    assert not Path(run.commands[-1].split("--filename=")[1]).exists()


def test_check_mode_counts_what_can_not_be_compared_yet_as_new(run: FakeRun) -> None:
    new = "diff -u -N /tmp/LIVE-1/v1.Namespace..shop /tmp/MERGED-2/v1.Namespace..shop\n"
    run.on("get namespaces", json.dumps({"kind": "List", "items": []})).on(" diff ", new, rc=1)
    outcome = Applier(Kubectl(run), check=True).apply([NAMESPACE, DEPLOYMENT])
    assert sorted(outcome.differing) == ["Deployment shop/till", "Namespace shop"]
    assert not run.ran(" apply ")


# --- rollout


def deployment(**status: int) -> dict[str, Any]:
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "till"}}}
    return {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "generation": 2}, "spec": spec, "status": status}  # type: ignore[dict-item]


DONE = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("status", "missing"),
    [
        (DONE, ""),
        ({**DONE, "observedGeneration": 1}, "its controller has not seen the change yet"),
        ({**DONE, "updatedReplicas": 1}, "1 of 2 pods are updated"),
        ({**DONE, "replicas": 3}, "1 old pods are still there"),
        ({**DONE, "availableReplicas": 1}, "1 of 2 pods are available"),
    ],
)
def test_when_a_deployment_has_rolled_out(status: dict[str, int], missing: str) -> None:
    assert unfinished(deployment(**status)) == missing


def test_when_a_daemon_set_has_rolled_out() -> None:
    one = {
        "kind": "DaemonSet",
        "metadata": {"generation": 1},
        "status": {"observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1},
    }
    assert unfinished(one) == "0 of 1 pods are available"
    one["status"]["numberAvailable"] = 1  # type: ignore[index]
    assert unfinished(one) == ""


def test_only_workloads_are_waited_for(run: FakeRun, clock: Clock) -> None:
    answers = iter([deployment(observedGeneration=1), deployment(**DONE)])
    run.then("deployments.apps/till", lambda: (0, json.dumps(next(answers)), ""))
    assert Rollouts(Kubectl(run), clock, clock.sleep).wait([NAMESPACE, DEPLOYMENT, SERVICE], 60) == 2


def test_the_end_of_the_wait_names_the_pod_and_its_reason(run: FakeRun, clock: Clock) -> None:
    waiting = {"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}}
    pod = {
        "kind": "Pod",
        "metadata": {"name": "till-1"},
        "status": {"containerStatuses": [{"name": "app", "ready": False, **waiting}]},
    }
    run.on("deployments.apps/till", json.dumps(deployment(**{**DONE, "availableReplicas": 0})))
    run.on("--selector=app=till", json.dumps({"kind": "List", "items": [pod]}))
    with pytest.raises(
        K3sError,
        match=r"Deployment shop/till has not rolled out after 10 s \(site_bundle_timeout\): 0 of 2 pods are available; "
        r"pod till-1, app: ErrImageNeverPull: not present",
    ):
        Rollouts(Kubectl(run), clock, clock.sleep).wait([DEPLOYMENT], 10)


def test_a_pod_compiled_for_another_processor_says_so() -> None:
    ended = {"name": "c", "ready": True, "lastState": {"terminated": {"exitCode": 132}}}
    (said,) = pod_problems({"metadata": {"name": "p"}, "status": {"containerStatuses": [ended]}})
    assert said.startswith("pod p, c: ended by an illegal instruction")
    ended["lastState"] = {"terminated": {"exitCode": 137}}
    assert pod_problems({"metadata": {"name": "p"}, "status": {"containerStatuses": [ended]}}) == []


def test_a_pod_that_fits_nowhere_says_why() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has it"}
    assert pod_problems({"metadata": {"name": "p"}, "status": {"conditions": [condition]}}) == [
        "pod p: Unschedulable: no node has it"
    ]
