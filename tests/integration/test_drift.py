"""What is changed by hand on a converged host: check mode names it, the next run heals it, the one after is quiet.

Hardening's own controls are drifted in test_hardening.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import lab_command, lab_of, playbook, shell

pytestmark = [pytest.mark.lab, pytest.mark.full]

NAME = "drift"
SITE = "edgefleet.wasm.site"
CTR = "ctr --address /run/containerd/containerd.sock --namespace k8s.io images"
COREDNS = "docker.io/rancher/mirrored-coredns-coredns:1.10.1"
KUBECTL = "k3s kubectl"

# What a changed task's answer has to name -> how it is drifted, how one sees that it is healed.
DRIFT: dict[str, tuple[str, str]] = {
    "/etc/containerd/config.toml": (
        "echo '# by hand' >> /etc/containerd/config.toml",
        "! grep -q 'by hand' /etc/containerd/config.toml",
    ),
    "/etc/containerd/conf.d/50-wasmedge.toml": (
        "rm /etc/containerd/conf.d/50-wasmedge.toml",
        "grep -q wasmedge /etc/containerd/conf.d/50-wasmedge.toml",
    ),
    "/etc/containerd/wasmedge-base-spec.json": (
        "sed -i s/compat-smart/none/ /etc/containerd/wasmedge-base-spec.json",
        "grep -q compat-smart /etc/containerd/wasmedge-base-spec.json",
    ),
    "/etc/systemd/system/containerd.service": (
        "sed -i /KillMode/d /etc/systemd/system/containerd.service",
        "grep -q KillMode=process /etc/systemd/system/containerd.service",
    ),
    "/usr/local/bin/ctr": (
        "cd /usr/local/bin && cp ctr /run/ctr && cp ctr /run/drifted && echo >> /run/drifted && mv /run/drifted ctr",
        "cmp /run/ctr /usr/local/bin/ctr",
    ),
    "/usr/local/bin/k3s": (
        "chmod 0700 /usr/local/bin/k3s",
        "[ $(stat -c %a /usr/local/bin/k3s) = 755 ]",
    ),
    "/etc/rancher/k3s/config.yaml": (
        "echo 'debug: true' >> /etc/rancher/k3s/config.yaml",
        "! grep -q debug /etc/rancher/k3s/config.yaml",
    ),
    "/etc/systemd/system/k3s.service": (
        "chmod 0666 /etc/systemd/system/k3s.service",
        "[ $(stat -c %a /etc/systemd/system/k3s.service) = 644 ]",
    ),
    "/etc/systemd/system/k3s.service.env": (
        "chmod 0644 /etc/systemd/system/k3s.service.env",
        "[ $(stat -c %a /etc/systemd/system/k3s.service.env) = 600 ]",
    ),
    "k3s.service": ("systemctl disable -q k3s", "systemctl is-enabled k3s"),
    "containerd.service": ("systemctl disable -q containerd", "systemctl is-enabled containerd"),
    COREDNS: (f"{CTR} rm {COREDNS}", f"{CTR} ls -q | grep -qx {COREDNS}"),
    "node-type": (
        f"{KUBECTL} label node --all node-type-",
        f"{KUBECTL} get nodes -l node-type=edge -o name | grep -q node/",
    ),
    "default/edgefleet-same-namespace": (
        f"{KUBECTL} -n default delete networkpolicy --all",
        f"{KUBECTL} -n default get networkpolicy -o name | grep -q networkpolicy",
    ),
    "/usr/local/bin/kubectl": ("rm /usr/local/bin/kubectl", "[ -L /usr/local/bin/kubectl ]"),
    "/usr/local/bin/crictl": ("rm /usr/local/bin/crictl", "[ -L /usr/local/bin/crictl ]"),
}


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    subprocess.run(lab_command("run", "--name", NAME), cwd=CHECKOUT, check=True, timeout=1800)
    lab = lab_of(NAME)
    yield lab
    with lab.locked():
        lab.down()


@pytest.fixture(scope="module")
def edge(site: Lab) -> Host:
    return site.hosts.status()[0].host


def changed_by(lab: Lab, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[dict[str, Any]]:
    """Play site.yml; what its changed tasks answered."""
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "ansible.posix.json")
    run = playbook(lab.paths, SITE, *words)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr
    document = json.loads(run.stdout[run.stdout.index("{") :])
    answers = [
        {"task": task["task"]["name"], **answer}
        for play in document["plays"]
        for task in play["tasks"]
        for answer in task["hosts"].values()
    ]
    return [answer for answer in answers if answer.get("changed")]


def test_every_drift_is_named_by_check_mode_and_healed(site: Lab, edge: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for change, _ in DRIFT.values():
        shell(site.hosts, edge, change)
    reported = json.dumps(changed_by(site, monkeypatch, "--check", "--diff"))
    assert [name for name in DRIFT if name not in reported] == []
    # Check mode has only looked.
    still = [name for name, (_, healed) in DRIFT.items() if site.hosts.exec(edge.name, ["sh", "-c", healed])[0] == 0]
    assert still == []

    changed_by(site, monkeypatch)
    broken = [name for name, (_, healed) in DRIFT.items() if site.hosts.exec(edge.name, ["sh", "-c", healed])[0] != 0]
    assert broken == []
    assert changed_by(site, monkeypatch) == []
