"""What the server knows of its agents, and what runs across nodes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from testinfra.host import Host

testinfra_hosts = ["ansible://k3s_servers"]

NAMESPACE = "edgefleet-skeleton"
READY_SECONDS = 120


def kubectl(host: Host, *words: str) -> Any:
    """Ask the API server; ``words`` is what follows ``kubectl get``."""
    run = host.run("k3s kubectl get -o json " + " ".join(words))
    assert run.rc == 0, run.stderr
    return json.loads(run.stdout)


def test_every_host_is_a_ready_node_with_its_labels(host: Host) -> None:
    nodes = {node["metadata"]["name"]: node for node in kubectl(host, "nodes")["items"]}
    assert set(nodes) == {"edge1", "agent1", "agent2"}
    for node in nodes.values():
        conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
        assert conditions["Ready"] == "True"
        assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.30.4+k3s1"
        assert node["metadata"]["labels"]["node-type"] == "edge"
    servers = [
        name for name, node in nodes.items() if "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
    ]
    assert servers == ["edge1"]


@pytest.fixture(scope="module")
def one_pod_a_node(host: Host) -> Iterator[dict[str, Any]]:
    """The workload's container once on each node, by node name."""
    (deployment,) = kubectl(host, f"-n {NAMESPACE}", "deployments")["items"]
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] = {"app": "everywhere"}
    daemons = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "everywhere", "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": "everywhere"}}, "template": template},
    }
    host.check_output("echo %s | k3s kubectl apply -f -", yaml.safe_dump(daemons))
    deadline = time.monotonic() + READY_SECONDS
    ready: list[Any] = []
    while len(ready) < 3 and time.monotonic() < deadline:
        time.sleep(1)
        pods = kubectl(host, f"-n {NAMESPACE}", "pods", "-l app=everywhere")["items"]
        ready = [p for p in pods if any(s["ready"] for s in p["status"].get("containerStatuses", []))]
    yield {pod["spec"]["nodeName"]: pod for pod in ready}
    host.check_output(f"k3s kubectl -n {NAMESPACE} delete daemonset everywhere")


def test_wasm_runs_on_every_node_and_is_reached_from_the_server(host: Host, one_pod_a_node: dict[str, Any]) -> None:
    assert set(one_pod_a_node) == {"edge1", "agent1", "agent2"}
    for node, pod in one_pod_a_node.items():
        port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
        ask = (
            "import json,sys,urllib.request;"
            f"print(json.load(urllib.request.urlopen('http://{pod['status']['podIP']}:{port}/?nonce={node}',timeout=10))['nonce'])"
        )
        assert host.check_output("python3 -c %s", ask) == node
