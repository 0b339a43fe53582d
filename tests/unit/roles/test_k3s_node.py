"""Labels, taints and objects as declared: what is added, what is taken back, what belongs to others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError, Kubectl, KubectlError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_node import LABELS, TAINTS, Cluster, node_patch

from tests.unit.roles.conftest import Clock, FakeRun


def node(
    labels: dict[str, str] | None = None,
    taints: list[dict[str, str]] | None = None,
    memory: tuple[list[str], list[str]] | None = None,
) -> dict[str, Any]:
    notes = {LABELS: json.dumps(memory[0]), TAINTS: json.dumps(memory[1])} if memory else {}
    metadata = {"name": "edge1", "resourceVersion": "7", "labels": labels or {}, "annotations": notes}
    return {"kind": "Node", "metadata": metadata, "spec": {"taints": taints} if taints else {}}


THEIRS = {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}
OURS = {"key": "camera", "value": "usb", "effect": "NoSchedule"}


def test_a_new_node_learns_what_is_declared() -> None:
    patch, said = node_patch(node({"kubernetes.io/os": "linux"}), {"node-type": "edge"}, ["camera=usb:NoSchedule"])
    assert patch["metadata"]["labels"] == {"node-type": "edge"}
    assert patch["metadata"]["resourceVersion"] == "7"
    assert patch["metadata"]["annotations"] == {LABELS: '["node-type"]', TAINTS: '["camera=usb:NoSchedule"]'}
    assert patch["spec"]["taints"] == [OURS]
    assert said[:2] == ["label node-type=edge", "taint camera=usb:NoSchedule"]


def test_a_node_as_declared_is_left_alone() -> None:
    there = node({"node-type": "edge", "x": "y"}, [THEIRS, OURS], (["node-type"], ["camera=usb:NoSchedule"]))
    assert node_patch(there, {"node-type": "edge"}, ["camera=usb:NoSchedule"]) == ({}, [])


def test_what_is_no_longer_declared_goes_and_what_others_set_stays() -> None:
    there = node({"a": "1", "b": "2", "theirs": "3"}, [THEIRS, OURS], (["a", "b"], ["camera=usb:NoSchedule"]))
    patch, _ = node_patch(there, {"b": "2"}, [])
    assert patch["metadata"]["labels"] == {"a": None}
    assert patch["spec"]["taints"] == [THEIRS]


def test_a_label_that_somebody_changed_is_put_back() -> None:
    patch, said = node_patch(node({"a": "x"}, memory=(["a"], [])), {"a": "1"}, [])
    assert patch["metadata"]["labels"] == {"a": "1"}
    assert "annotations" not in patch["metadata"]
    assert said == ["label a=1"]


def test_a_taint_with_another_value_takes_the_place_of_the_first() -> None:
    there = node(taints=[OURS], memory=([], ["camera=usb:NoSchedule"]))
    patch, _ = node_patch(there, {}, ["camera=csi:NoSchedule"])
    assert patch["spec"]["taints"] == [{"key": "camera", "effect": "NoSchedule", "value": "csi"}]


def test_a_memory_that_can_not_be_read_is_made_anew() -> None:
    there = node({"a": "1"})
    there["metadata"]["annotations"] = {LABELS: "{", TAINTS: "7"}
    patch, _ = node_patch(there, {"a": "1"}, [])
    assert patch["metadata"]["annotations"] == {LABELS: '["a"]', TAINTS: "[]"}


def test_a_patch_that_met_another_is_made_anew(run: FakeRun, clock: Clock) -> None:
    answers = iter([(1, "", "Error from server (Conflict): modified"), (0, "patched", "")])
    run.on("get nodes/edge1", json.dumps(node())).then("patch nodes/edge1", lambda: next(answers))
    cluster = Cluster(Kubectl(run), sleep=clock.sleep)
    cluster.node("edge1", {"a": "1"}, [])
    assert len(run.ran("patch nodes/edge1 --type=merge")) == 2
    assert cluster.done == [f"Node edge1: label a=1, annotation {LABELS}, annotation {TAINTS}"]


def test_another_refusal_is_an_error(run: FakeRun) -> None:
    run.on("get nodes/edge1", json.dumps(node())).on("patch", rc=1, err="Error from server (Forbidden): no")
    with pytest.raises(KubectlError, match="Forbidden"):
        Cluster(Kubectl(run)).node("edge1", {"a": "1"}, [])


def test_a_node_that_is_not_there(run: FakeRun) -> None:
    run.on("get nodes/edge1", "")
    with pytest.raises(K3sError, match="node edge1 is not registered"):
        Cluster(Kubectl(run)).node("edge1", {}, [])


def test_check_mode_says_what_would_be(run: FakeRun) -> None:
    run.on("get nodes/edge1", json.dumps(node()))
    cluster = Cluster(Kubectl(run), check=True)
    cluster.node("edge1", {"a": "1"}, [])
    assert cluster.done
    assert not run.ran("patch")


def policy(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata}


@pytest.mark.parametrize("check", [False, True])
def test_objects_that_are_no_longer_wanted_go(run: FakeRun, check: bool) -> None:
    there = {"kind": "List", "items": [policy("a"), policy("old")]}
    run.on("get networkpolicies.networking.k8s.io,serviceaccounts", json.dumps(there)).on("diff --server-side").on(
        "delete"
    )
    cluster = Cluster(Kubectl(run), check=check)
    cluster.objects([policy("a")], "mine")
    assert cluster.done == ["NetworkPolicy default/old: removed"]
    assert "--selector=edgefleet.wasm/part=mine" in run.commands[0]
    expected = [] if check else ["delete --ignore-not-found --namespace=default networkpolicy old"]
    assert [line.split("10s ")[1] for line in run.ran("delete")] == expected


def test_a_node_is_forgotten_once(run: FakeRun) -> None:
    run.on("get nodes/agent1", json.dumps(node())).on("delete nodes/agent1", "deleted")
    cluster = Cluster(Kubectl(run))
    cluster.forget("agent1")
    assert cluster.done == ["Node agent1: removed"]
    gone = FakeRun().on("get nodes/agent1", "")
    again = Cluster(Kubectl(gone))
    again.forget("agent1")
    assert again.done == []
