"""The hardened site as a whole: what is reached and what is not, what an auditor says, and that K3s is well."""

from __future__ import annotations

import json
import os
import re
import socket
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

REPORTS = Path(os.environ.get("MOLECULE_PROJECT_DIRECTORY", ".")) / "reports"


def address(host: Host) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def reached(host: Host, port: int) -> str:
    """How a connection from the controller ends: open, refused, or dropped without a word."""
    try:
        with socket.create_connection((address(host), port), timeout=3):
            return "open"
    except TimeoutError:
        return "dropped"
    except OSError:
        return "refused"


def test_declared_ports_are_open(host: Host) -> None:
    assert reached(host, 22) == "open"
    assert reached(host, 6443) == "open"


def test_undeclared_ports_are_dropped_though_somebody_listens(host: Host) -> None:
    # The kubelet listens on all addresses.
    assert host.socket("tcp://:::10250").is_listening
    assert reached(host, 10250) == "dropped"


def test_table_is_what_drops(host: Host) -> None:
    """Without the table the same listener is reached: the test above fails for its reason."""
    host.check_output("systemctl stop edgefleet-firewall.service")
    try:
        assert reached(host, 10250) == "open"
    finally:
        host.check_output("systemctl start edgefleet-firewall.service")
    assert reached(host, 10250) == "dropped"


def test_workload_answers_on_its_node_port(host: Host) -> None:
    out = host.check_output("k3s kubectl get services -n edgefleet-skeleton -o json")
    (port,) = [port["nodePort"] for one in json.loads(out)["items"] for port in one["spec"]["ports"]]
    with urllib.request.urlopen(f"http://{address(host)}:{port}/?nonce=hardened", timeout=10) as answer:
        assert json.load(answer)["nonce"] == "hardened"


def test_rules_of_kube_proxy_are_there(host: Host) -> None:
    assert int(host.check_output("iptables-save | grep -c KUBE-")) > 20


def test_nothing_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_firewall_is_a_service_of_its_own(host: Host) -> None:
    assert host.service("edgefleet-firewall").is_enabled
    assert not host.service("nftables").is_enabled
    assert not re.search(r"^\s*flush\s+ruleset", host.file("/etc/edgefleet/firewall.nft").content_string, re.MULTILINE)


def audit(text: str) -> dict[str, Any]:
    """The auditor's figures out of its report."""
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
    values = {key: value for key, value in pairs if not key.endswith("[]")}
    return {
        "version": values["lynis_version"],
        "index": int(values["hardening_index"]),
        "tests": int(values["lynis_tests_done"]),
        "warnings": sum(key == "warning[]" for key, _ in pairs),
        "suggestions": sum(key == "suggestion[]" for key, _ in pairs),
        "warned": sorted(value.split("|")[0] for key, value in pairs if key == "warning[]"),
    }


def test_auditor_finds_less(host: Host) -> None:
    """lynis on the host as it came (the scenario's prepare) and as it is now; the figures go to docs/hardening.md."""
    before = audit(host.file("/var/log/lynis-before.dat").content_string)
    done = host.run("lynis audit system --quick --quiet --no-colors")
    assert done.rc in {0, 78}, done.stderr
    after = audit(host.file("/var/log/lynis-report.dat").content_string)
    container = host.run("systemd-detect-virt --container --quiet").rc == 0
    kind = "containers" if container else "vm"
    figures = {"hosts": kind, "date": f"{datetime.now(UTC):%Y-%m-%d}", "n": 1, "before": before, "after": after}
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / f"hardening-lynis-{kind}.json").write_text(json.dumps(figures, indent=2) + "\n")
    assert before["version"] == after["version"]
    assert after["index"] > before["index"], figures
    assert after["suggestions"] < before["suggestions"], figures


@pytest.mark.parametrize("path", ["/var/lib/edgefleet/hardening.json", "/etc/ssh/sshd_config.d/00-edgefleet.conf"])
def test_only_root_reads(host: Host, path: str) -> None:
    assert host.file(path).mode == 0o600
