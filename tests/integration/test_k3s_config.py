"""Bad configurations of K3s against a host that runs it: each refused beforehand, the running service untouched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import playbook, recap, shell

pytestmark = [pytest.mark.lab, pytest.mark.full]

PROCESS = "systemctl show -P MainPID -P ActiveEnterTimestamp k3s"
LOOK = f"""
{PROCESS}
sha256sum /etc/rancher/k3s/config.yaml /etc/systemd/system/k3s.service /etc/systemd/system/k3s.service.env
find /etc /usr/local /var/lib/edgefleet -newer /tmp/began -type f
k3s kubectl get networkpolicies,serviceaccounts -A -o jsonpath='{{.items[*].metadata.resourceVersion}}'
"""
# Name of the case -> what the host is given, the sentence that must come of it.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown-key": ({"k3s_config": {"tls-sans": ["a"]}}, r"K3s has no key tls-sans: .* did you mean tls-san\?"),
    "agents-key": (
        {"k3s_config": {"disable-apiserver-lb": True}},
        r"disable-apiserver-lb is for a K3s agent .* leave it",
    ),
    "unquoted-mode": (
        {"k3s_config": {"write-kubeconfig-mode": 0o644}},
        r"write-kubeconfig-mode must be a string: .* quote",
    ),
    "yaml-boolean": ({"k3s_config": {"node-name": True}}, r"node-name must be a string: YAML reads a boolean"),
    "list-of-maps": ({"k3s_config": {"kubelet-arg": [{"max-pods": 110}]}}, r"kubelet-arg has a map .* - name=value"),
    "empty-value": ({"k3s_config": {"debug": None}}, r"debug must be one bool, not an empty value"),
    "wrong-type": ({"k3s_config": {"https-listen-port": "http"}}, r"https-listen-port must be a whole number"),
    "family-mix": (
        {"k3s_config": {"cluster-cidr": "fd00:42::/56"}},
        r"same families \(cluster-cidr IPv6, service-cidr IPv4",
    ),
    "no-network": (
        {"k3s_config": {"service-cidr": "10.43.0.0/40"}},
        r"service-cidr has 10\.43\.0\.0/40, which is no network",
    ),
    "port-range": (
        {"k3s_config": {"service-node-port-range": "80-"}},
        r"service-node-port-range is 80-; write it like",
    ),
    "embedded-registry": (
        {"k3s_config": {"embedded-registry": True}},
        r"embedded-registry can.{1,2}t be used: K3s refuses",
    ),
    "docker": ({"k3s_config": {"docker": True}}, r"docker can.{1,2}t be used: .* wasmedge"),
    "moot-key": ({"k3s_config": {"pause-image": "pause:3.9"}}, r"pause-image .* set containerd_sandbox_image"),
    "token-in-file": ({"k3s_config": {"token": "hunter2"}}, r"token can.{1,2}t be used: .* set k3s_token"),
    "changed-token": ({"k3s_token": "hunter2"}, r"k3s_token is not the token .* edgefleet\.wasm\.rotate"),
    "changed-network": (
        {"k3s_config": {"cluster-cidr": "10.52.0.0/16"}},
        r"cluster-cidr was 10\.42\.0\.0/16 .* can.{1,2}t become 10\.52\.0\.0/16",
    ),
    "changed-domain": ({"k3s_config": {"cluster-domain": "site.local"}}, r"cluster-domain was cluster\.local"),
    "encryption-off": (
        {"k3s_config": {"secrets-encryption": False}},
        r"secrets-encryption was true .* `k3s secrets-encrypt`",
    ),
    "admission": (
        {"k3s_config": {"kube-apiserver-arg": ["enable-admission-plugins=AlwaysPullImages"]}},
        r"would turn NodeRestriction off; write enable-admission-plugins\+=",
    ),
    "old-tls": (
        {"k3s_config": {"kube-apiserver-arg": ["tls-min-version=VersionTLS10"]}},
        r"tls-min-version is VersionTLS10; write VersionTLS12",
    ),
    "eviction": ({"k3s_eviction_hard": {"memory.available": "100Mi"}}, r"k3s_eviction_hard has no nodefs\.available"),
    "too-much": ({"k3s_kube_reserved": {"memory": "900Gi"}}, r"which leaves pods less than 256 MB; lower them"),
    "taint": ({"k3s_node_taints": ["camera=usb"]}, r"k3s_node_taints: camera=usb is no taint; write key=value:Effect"),
    "kubelets-label": (
        {"k3s_node_labels": {"node-role.kubernetes.io/edge": "true"}},
        r"k3s_node_labels: node-role\.kubernetes\.io/edge is in Kubernetes.{1,2} own domain",
    ),
}
# In the group of agents.
OTHER_ROLE = "becomes-an-agent"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    for lab in brought_up("k3s-config"):
        run = playbook(lab.paths, "edgefleet.wasm.site")
        assert run.returncode == 0, run.stdout + run.stderr
        yield lab


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    return lab.hosts.status()[0].host


def inventory(lab: Lab, folder: Path) -> Path:
    """The lab's own, with its host once for each case under the case's name."""
    document = yaml.safe_load((lab.paths.inventory / "hosts.yml").read_text())
    groups = document["edge"]["children"]
    real = groups["k3s_servers"]["hosts"]["edge1"]
    kind = next(name for name in ("lab_containers", "lab_vms") if groups[name]["hosts"])
    for name, (variables, _) in CASES.items():
        groups["k3s_servers"]["hosts"][name] = {**real, **variables}
        groups[kind]["hosts"][name] = {}
    groups["k3s_agents"]["hosts"][OTHER_ROLE] = {**real, "k3s_server": "edge1"}
    groups[kind]["hosts"][OTHER_ROLE] = {}
    (folder / "group_vars").symlink_to((lab.paths.inventory / "group_vars").resolve())
    (folder / "hosts.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def errors(output: str) -> dict[str, str]:
    """The text of each host's error, on one line."""
    found = re.findall(
        r"^fatal: \[(\S+)\]: (.*?)(?=^(?:fatal|ok|skipping|changed): |^\S*(?:TASK|PLAY) )", output, re.M | re.S
    )
    assert len({host for host, _ in found}) == len(found), output
    return {host: " ".join(text.split()) for host, text in found}


@pytest.fixture(scope="module")
def refusals(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of site.yml for all cases, each as a host of its own; processes, files and objects before and after."""
    folder = inventory(lab, tmp_path_factory.mktemp("inventory"))
    shell(lab.hosts, host, "touch /tmp/began")
    before = shell(lab.hosts, host, LOOK)
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={folder}",
            "--limit=!edge1",
            # It is one host, and its sshd takes ten at a time.
            "--forks=5",
            "--verbose",
            "edgefleet.wasm.site",
        ],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    return {
        "errors": errors(run.stdout),
        "recap": recap(run.stdout),
        "output": run.stdout + run.stderr,
        "before": before,
        "after": shell(lab.hosts, host, LOOK),
    }


def test_nothing_changes_whatever_is_wrong(refusals: dict[str, Any]) -> None:
    figures = {name: figure for name, figure in refusals["recap"].items() if name != "localhost"}
    assert set(figures) == {*CASES, OTHER_ROLE}
    assert all(one == {"changed": 0, "unreachable": 0, "failed": 1} for one in figures.values()), figures
    assert "hunter2" not in refusals["output"]
    assert "config.yaml" in refusals["before"]
    assert refusals["after"] == refusals["before"]


@pytest.mark.parametrize(("name", "sentence"), [(name, case[1]) for name, case in CASES.items()], ids=CASES)
def test_each_is_refused_for_its_reason(refusals: dict[str, Any], name: str, sentence: str) -> None:
    assert re.search(sentence, refusals["errors"][name]), refusals["errors"][name]
    assert "Traceback" not in refusals["errors"][name]


def test_a_server_does_not_become_an_agent(refusals: dict[str, Any]) -> None:
    assert re.search(
        r"this host is a K3s server \(k3s\.service\) and the inventory makes it a K3s agent; .* edgefleet\.wasm\.reset",
        refusals["errors"][OTHER_ROLE],
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kubelet-arg: [max-pods=50]", r"50-mine\.yaml: kubelet-arg is a list .* write kubelet-arg\+"),
        ("write-kubeconfig-mode: 0644", r"50-mine\.yaml: write-kubeconfig-mode must be a string"),
        ("a: [", r"50-mine\.yaml is not YAML \(line 2\), and K3s does not start with it"),
    ],
)
def test_a_file_of_the_operator_is_refused_too(lab: Lab, host: Host, text: str, sentence: str) -> None:
    drop_in = "/etc/rancher/k3s/config.yaml.d/50-mine.yaml"
    before = shell(lab.hosts, host, PROCESS)
    shell(lab.hosts, host, f"mkdir -p $(dirname {drop_in}); echo '{text}' > {drop_in}")
    try:
        run = playbook(lab.paths, "edgefleet.wasm.site")
    finally:
        shell(lab.hosts, host, f"rm -r $(dirname {drop_in})")
    assert run.returncode != 0
    assert shell(lab.hosts, host, PROCESS) == before
    assert re.search(sentence, errors(run.stdout)["edge1"]), run.stdout


def test_what_is_right_goes_through(lab: Lab) -> None:
    """Else the runs above could fail for another reason than theirs."""
    run = playbook(lab.paths, "edgefleet.wasm.site")
    assert run.returncode == 0, run.stdout
    assert recap(run.stdout)["edge1"]["changed"] == 0, run.stdout


def test_a_secret_in_the_configuration_lies_in_one_file_alone(lab: Lab, host: Host) -> None:
    """Not in the run's output, nor in the host's log of what Ansible's modules are given, nor in arguments."""
    secret = "hunter2hunter2"
    given = {
        "k3s_config": {"etcd-s3-secret-key": secret},
        "k3s_https_proxy": f"http://me:{secret}@proxy.example.com:3128",
    }
    run = playbook(
        lab.paths, "edgefleet.wasm.site", "--tags=k3s", "--diff", "-vvv", f"--extra-vars={json.dumps(given)}"
    )
    assert run.returncode == 0, run.stdout
    # The command line of this run says it, and Ansible repeats nothing else.
    assert secret not in run.stdout.partition("PLAY [")[2]
    assert secret in shell(lab.hosts, host, "cat /etc/rancher/k3s/config.yaml")
    assert secret in shell(lab.hosts, host, "cat /etc/systemd/system/k3s.service.env")
    assert shell(lab.hosts, host, "stat -c %a /etc/systemd/system/k3s.service.env").strip() == "600"
    # The searches are made here: in their own arguments they would find themselves.
    arguments = shell(lab.hosts, host, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "k3s" in arguments
    assert secret not in arguments
    assert secret not in shell(lab.hosts, host, "journalctl --no-pager --output=cat")
    run = playbook(lab.paths, "edgefleet.wasm.site", "--tags=k3s")
    assert run.returncode == 0, run.stdout
    assert secret not in shell(lab.hosts, host, "cat /etc/systemd/system/k3s.service.env")
