"""A site with an agent: upgraded and taken back under guard, its token rotated; the agent stays one, and joined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import ask, playbook, prepared, shell, until
from tests.integration.upgrades import (
    BROKEN,
    CURRENT,
    OTHER,
    build,
    declared,
    status,
    up_and_back,
    versions,
    with_broken,
)

pytestmark = [pytest.mark.lab, pytest.mark.full]

# The words of the server's token that no start of K3s changes, and those that the agent joined with.
TOKENS = ("sed s/.*:// /var/lib/rancher/k3s/server/token", "sed s/.*:// /etc/rancher/k3s/token")
NODES = "k3s kubectl wait --for=condition=Ready node --all --timeout=1s"
WHAT_IS_A_SERVERS = "ls -d /etc/systemd/system/k3s.service* /etc/rancher/k3s/k3s.yaml /var/lib/rancher/k3s/server/db"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    build(OTHER)
    for lab in brought_up("upgrade-agents", "--agents", "1"):
        prepared(lab)
        yield lab


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> tuple[Host, Host]:
    """The server and its agent."""
    found = {one.host.name: one.host for one in lab.hosts.status()}
    return found["edge1"], found["agent1"]


def tokens(lab: Lab, hosts: tuple[Host, Host]) -> list[str]:
    return [shell(lab.hosts, host, look).strip() for host, look in zip(hosts, TOKENS, strict=True)]


def joins_as_an_agent(lab: Lab, hosts: tuple[Host, Host]) -> None:
    """After a boot, too: a server's unit that nobody started would come up then."""
    server, agent = hosts
    lab.hosts.reboot(agent.name)
    until(
        "the agent is back", 120, lambda: shell(lab.hosts, agent, "systemctl is-active k3s-agent").strip() == "active"
    )
    until("all nodes are ready", 120, lambda: shell(lab.hosts, server, NODES).count("condition met") == 2)
    code, there = lab.hosts.exec(agent.name, ["sh", "-c", f"{WHAT_IS_A_SERVERS} 2>/dev/null"])
    assert code != 0
    assert there == ""


def test_up_and_back(lab: Lab, hosts: tuple[Host, Host], tmp_path: Path) -> None:
    before = tokens(lab, hosts)
    assert before[0] == before[1]
    up_and_back(lab, hosts[0], tmp_path)
    assert tokens(lab, hosts) == before
    joins_as_an_agent(lab, hosts)
    until("the workload answers", 120, lambda: bool(ask(lab.hosts, hosts[0])))


def test_an_agent_whose_program_does_not_start_goes_back(lab: Lab, hosts: tuple[Host, Host], tmp_path: Path) -> None:
    server, agent = hosts
    words = (*declared(with_broken(lab, tmp_path / "mirror"), BROKEN), "-e", "k3s_ready_timeout=90", "--limit=agent1")
    run = playbook(lab.paths, "edgefleet.wasm.upgrade", *words)
    assert run.returncode != 0
    told = " ".join(run.stdout.split())
    assert f"agent1 was not upgraded, it is back to K3s {CURRENT}: k3s-agent.service does not stay up" in told
    assert "does not stay up" in status(lab, agent)
    assert versions(lab, server) == {CURRENT}
    joins_as_an_agent(lab, hosts)


def test_the_token_is_rotated_on_both(lab: Lab, hosts: tuple[Host, Host]) -> None:
    before = tokens(lab, hosts)
    run = playbook(lab.paths, "edgefleet.wasm.rotate", "--extra-vars", "edgefleet_rotate_token=true")
    assert run.returncode == 0, run.stdout + run.stderr
    server, agent = tokens(lab, hosts)
    assert server == agent != before[0]
    assert server not in run.stdout
    joins_as_an_agent(lab, hosts)
