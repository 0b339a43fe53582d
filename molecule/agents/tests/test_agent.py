"""What each agent must look like."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://k3s_agents"]


@pytest.mark.parametrize("unit", ["containerd", "k3s-agent"])
def test_service_runs_and_is_enabled(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_has_nothing_of_a_server(host: Host) -> None:
    assert not host.file("/etc/systemd/system/k3s.service").exists
    assert not host.file("/var/lib/rancher/k3s/server/db").exists
    assert not host.file("/etc/rancher/k3s/k3s.yaml").exists


def token_of(host: Host) -> str:
    return str(host.file("/etc/rancher/k3s/token").content_string).strip()


def test_token_lies_in_a_file_that_only_root_reads(host: Host) -> None:
    file = host.file("/etc/rancher/k3s/token")
    assert (file.user, file.mode) == ("root", 0o600)
    # With the hash of the server's CA, so that the agent knows whom it gives its password.
    assert token_of(host).startswith("K10")


def test_token_is_nowhere_else(host: Host) -> None:
    password = token_of(host).rsplit(":", 1)[-1]
    assert len(password) >= 16
    places = "/etc/rancher/k3s/config.yaml /etc/systemd/system /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    # The pattern comes over standard input: in an argument the search would find itself.
    found = host.run(
        f"cat /etc/rancher/k3s/token | sed 's/.*://' > /run/pattern; grep -rlF -f /run/pattern {places} 2>/dev/null"
    )
    journal = host.run("journalctl --no-pager -o cat | grep -cF -f /run/pattern; rm /run/pattern")
    assert found.stdout == ""
    assert journal.stdout.strip() == "0"


def test_answers_for_pods_on_other_nodes(host: Host) -> None:
    """The node port leads from this agent to the workload, wherever its pod runs."""
    url = f"http://{host.ansible.get_variables()['ansible_host']}:30080/?nonce=agent"
    program = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=10).read().decode())"
    assert json.loads(host.check_output("python3 -c %s", program))["nonce"] == "agent"
