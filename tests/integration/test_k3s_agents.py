"""An agent whose labels and taints change, whose server is away, who leaves the cluster, whose token is wrong."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import playbook, recap, shell

pytestmark = [pytest.mark.lab, pytest.mark.full]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    for lab in brought_up("k3s-agents", "--agents", "1"):
        converge(lab)
        yield lab


def hosts(lab: Lab) -> dict[str, Host]:
    return {one.host.name: one.host for one in lab.hosts.status()}


def k3s(lab: Lab, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """site.yml as far as K3s, which is what changes here."""
    return playbook(lab.paths, "edgefleet.wasm.site", "--tags=k3s", f"--extra-vars={json.dumps(variables)}", *words)


def converge(lab: Lab) -> None:
    run = playbook(lab.paths, "edgefleet.wasm.site")
    assert run.returncode == 0, run.stdout + run.stderr


def node(lab: Lab) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(shell(lab.hosts, hosts(lab)["edge1"], "k3s kubectl get node agent1 -o json"))
    return answer


def error(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode != 0, run.stdout
    return " ".join(run.stdout.partition("fatal: [agent1]")[2].split())


def process(lab: Lab) -> str:
    return shell(lab.hosts, hosts(lab)["agent1"], "systemctl show -P MainPID k3s-agent")


def test_labels_and_taints_follow_the_declaration(lab: Lab) -> None:
    """Somebody else's stay, ours are put back and taken away, on the node of an agent."""
    server = hosts(lab)["edge1"]
    shell(
        lab.hosts,
        server,
        "k3s kubectl label node agent1 theirs=1; k3s kubectl taint node agent1 theirs=1:PreferNoSchedule",
    )
    declared = {"k3s_node_labels": {"node-type": "edge", "camera": "usb"}, "k3s_node_taints": ["camera=usb:NoSchedule"]}
    run = k3s(lab, "--limit=agent1", **declared)
    assert run.returncode == 0, run.stdout
    there = node(lab)
    assert {"node-type": "edge", "camera": "usb", "theirs": "1"}.items() <= there["metadata"]["labels"].items()
    assert {one["key"] for one in there["spec"]["taints"]} == {"camera", "theirs"}

    shell(lab.hosts, server, "k3s kubectl label --overwrite node agent1 camera=csi")
    told = k3s(lab, "--limit=agent1", "--check", "--diff", **declared)
    assert "Node agent1: label camera=usb" in told.stdout
    assert recap(told.stdout)["agent1"]["changed"] == 1, told.stdout

    run = k3s(lab, "--limit=agent1")
    assert run.returncode == 0, run.stdout
    there = node(lab)
    assert "camera" not in there["metadata"]["labels"]
    assert [one["key"] for one in there["spec"]["taints"]] == ["theirs"]
    again = k3s(lab, "--limit=agent1")
    assert recap(again.stdout)["agent1"]["changed"] == 0, again.stdout


def test_a_server_that_is_away(lab: Lab) -> None:
    """The run neither hangs nor says that all is well; when the server is back, so is the agent."""
    shell(lab.hosts, hosts(lab)["edge1"], "systemctl stop k3s")
    try:
        run = k3s(lab, "--limit=agent1", k3s_ready_timeout=30, k3s_config={"debug": True})
    finally:
        shell(lab.hosts, hosts(lab)["edge1"], "systemctl start k3s")
    assert re.search(r"not ready after \d+ s \(k3s_ready_timeout\).*the server can.{1,2}t be reached", error(run))
    run = k3s(lab)
    assert run.returncode == 0, run.stdout


def test_a_server_does_not_become_an_agent_nor_back(lab: Lab) -> None:
    before = process(lab)
    moved = '{"all": {"children": {"edge": {"children": {"k3s_servers": {"hosts": {"agent1": {}}}}}}}}'
    run = k3s(lab, "--limit=agent1", f"--inventory={written(lab, moved)}")
    assert re.search(r"agent1 must be in one of the groups k3s_servers and k3s_agents", error(run))
    assert process(lab) == before


def written(lab: Lab, text: str) -> str:
    path = lab.paths.inventory.parent / "moved.json"
    path.write_text(text)
    return str(path)


def test_an_agent_that_is_reset_is_forgotten_and_may_come_back(lab: Lab) -> None:
    confirmed = ("edgefleet.wasm.reset", "--extra-vars=edgefleet_reset_confirm=true", "--limit=agent1")
    run = playbook(lab.paths, *confirmed)
    assert run.returncode == 0, run.stdout
    listed = shell(lab.hosts, hosts(lab)["edge1"], "k3s kubectl get nodes -o name")
    assert listed.split() == ["node/edge1"]
    again = playbook(lab.paths, *confirmed)
    assert recap(again.stdout)["agent1"]["changed"] == 0, again.stdout

    # With a token that the server does not know: the run ends before its time, with the server and the reason. Of an
    # agent that has joined the server asks its certificate instead.
    wrong = playbook(lab.paths, "edgefleet.wasm.site", "--limit=agent1", "--extra-vars=k3s_token=hunter2hunter2")
    said = error(wrong)
    assert re.search(r"K3s will not come up .* Server https://\S+:6443: the server rejects the token", said), said
    assert "hunter2" not in wrong.stdout + wrong.stderr
    converge(lab)
    assert node(lab)["metadata"]["name"] == "agent1"
