"""The CIS profile on a running host: one test for each item of roles/k3s/vars/cis_items.yml, by its id."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

ROLE = Path(__file__).resolve().parents[3] / "roles" / "k3s"
ITEMS: list[dict[str, Any]] = yaml.safe_load((ROLE / "vars/cis_items.yml").read_text())["k3s_cis_items"]
STATE_DB = "/var/lib/rancher/k3s/server/db/state.db"
AUDIT_LOG = "/var/lib/rancher/k3s/server/logs/audit.log"
RESTRICTED: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "image": "any",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


def kubectl(host: Host, words: str) -> str:
    return str(host.check_output(f"k3s kubectl {words}"))


def arguments(host: Host, component: str) -> dict[str, str]:
    """What K3s says that it has given to a component, at the last start. A repeated argument's values are joined."""
    lines = host.check_output(f"journalctl --unit=k3s --output=cat | grep -F 'Running {component} ' | tail -n 1")
    words = lines.partition(f"Running {component} ")[2].rstrip('"').split()
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def kubelet_configuration(host: Host) -> dict[str, Any]:
    """As the kubelet itself reports it. Asked of a server; for the node of this host."""
    node = host.check_output("hostname").lower()
    answer: dict[str, Any] = json.loads(kubectl(host, f"get --raw /api/v1/nodes/{node}/proxy/configz"))
    return dict(answer["kubeletconfig"])


def value_at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document[int(part)] if isinstance(document, list) else document.get(part)
        if document is None:
            return None
    return document


@contextmanager
def namespace(host: Host) -> Iterator[str]:
    """A new one, without labels of its own."""
    name = f"cis-{secrets.token_hex(4)}"
    kubectl(host, f"create namespace {name}")
    try:
        yield name
    finally:
        kubectl(host, f"delete namespace {name} --wait=false")


def create_pod(host: Host, name: str, spec: dict[str, Any]) -> tuple[int, str]:
    """What the API server says to a pod in this namespace, which is not made."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": name}, "spec": spec}
    deadline = time.monotonic() + 20
    while True:
        run = host.run(f"echo '{json.dumps(pod)}' | k3s kubectl create --dry-run=server -f - 2>&1")
        # The account appears a moment after its namespace.
        if "serviceaccount" not in run.stdout or time.monotonic() > deadline:
            return run.rc, run.stdout
        time.sleep(0.5)


def pod_is_refused(host: Host, changes: dict[str, Any], reason: str) -> None:
    """The API server admits a restricted pod, and not with these changes."""
    with namespace(host) as name:
        code, said = create_pod(host, name, RESTRICTED)
        assert code == 0, said
        code, said = create_pod(host, name, {**RESTRICTED, **changes})
    assert code != 0
    assert 'violates PodSecurity "restricted:latest"' in said
    assert reason in said


def privileged_pod(host: Host) -> None:
    container = {**RESTRICTED["containers"][0], "securityContext": {"privileged": True}}
    pod_is_refused(host, {"containers": [container]}, "privileged")


def host_network_pod(host: Host) -> None:
    pod_is_refused(host, {"hostNetwork": True}, "host namespaces (hostNetwork=true)")


def root_pod(host: Host) -> None:
    context = {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}}
    pod_is_refused(host, {"securityContext": context}, "runAsNonRoot != true")


def host_path_pod(host: Host) -> None:
    pod_is_refused(host, {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "restricted volume types")


def encrypted_secret(host: Host) -> None:
    """What is written into a Secret does not stand in the datastore's files; into a ConfigMap it does."""
    with namespace(host) as name:
        open_text, secret_text = secrets.token_hex(16), secrets.token_hex(16)
        kubectl(host, f"create configmap -n {name} c --from-literal=a={open_text}")
        kubectl(host, f"create secret generic -n {name} s --from-literal=a={secret_text}")
        assert host.run(f"grep -qaF {open_text} {STATE_DB}*").rc == 0
        assert host.run(f"grep -qaF {secret_text} {STATE_DB}*").rc == 1
        assert host.run(f"grep -qaF k8s:enc:aescbc {STATE_DB}*").rc == 0


def audited(host: Host, words: str) -> list[dict[str, Any]]:
    lines = host.check_output(f"grep -F {words} {AUDIT_LOG}").splitlines()
    return [json.loads(line) for line in lines]


def audit_log(host: Host) -> None:
    file = host.file(AUDIT_LOG)
    assert file.mode == 0o600
    assert host.file(str(Path(AUDIT_LOG).parent)).mode == 0o700
    with namespace(host) as name:
        entries = [one for one in audited(host, name) if one["objectRef"]["resource"] == "namespaces"]
        assert ("create", "system:admin") in {(one["verb"], one["user"]["username"]) for one in entries}


def audited_secret(host: Host) -> None:
    """Who did what to which Secret, and never what is in it."""
    with namespace(host) as name:
        text = secrets.token_hex(16)
        kubectl(host, f"create secret generic -n {name} s --from-literal=a={text}")
        (entry,) = [one for one in audited(host, name) if one["objectRef"]["resource"] == "secrets"]
        assert (entry["verb"], entry["user"]["username"]) == ("create", "system:admin")
        assert host.run(f"grep -qF {text} {AUDIT_LOG}").rc == 1


def default_accounts(host: Host) -> None:
    accounts = json.loads(kubectl(host, "get serviceaccounts -A -o json"))["items"]
    mounted = {one["metadata"]["namespace"]: one.get("automountServiceAccountToken") for one in accounts}
    for name in ("default", "kube-node-lease", "kube-public"):
        (one,) = [a for a in accounts if (a["metadata"]["namespace"], a["metadata"]["name"]) == (name, "default")]
        assert one["automountServiceAccountToken"] is False, mounted


def network_policies(host: Host) -> None:
    """All ingress to every pod is denied but what a policy allows; name resolution is allowed."""
    policies = json.loads(kubectl(host, "get networkpolicies -A -o json"))["items"]
    for name in ("default", "kube-node-lease", "kube-public", "kube-system"):
        assert any(
            one["metadata"]["namespace"] == name
            and one["spec"]["podSelector"] == {}
            and one["spec"]["policyTypes"] == ["Ingress"]
            for one in policies
        ), name
    (dns,) = [one for one in policies if one["metadata"]["name"] == "edgefleet-dns"]
    assert {port["port"] for port in dns["spec"]["ingress"][0]["ports"]} == {53}


def weak_cipher(host: Host) -> None:
    """A client that has only a cipher without forward secrecy gets no connection."""
    address = host.ansible.get_variables()["ansible_host"]

    def connect(cipher: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(cipher)
        with socket.create_connection((address, 6443), timeout=10) as plain, context.wrap_socket(plain):
            pass

    connect("ECDHE+AESGCM")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        connect("AES128-SHA")


SEEN: dict[str, Callable[[Host], None]] = {
    one.__name__: one
    for one in (
        audit_log,
        audited_secret,
        default_accounts,
        encrypted_secret,
        host_network_pod,
        host_path_pod,
        network_policies,
        privileged_pod,
        root_pod,
        weak_cipher,
    )
}


@pytest.mark.parametrize("item", ITEMS, ids=[one["id"] for one in ITEMS])
def test_item(host: Host, item: dict[str, Any]) -> None:
    if "private" in item:
        files = host.check_output(f"find {item['private']} -maxdepth 0 -printf '%m %U %p\\n'").splitlines()
        assert files
        for line in files:
            mode, owner, path = line.split()
            assert int(mode, 8) & 0o077 == 0, path
            assert owner == "0", path
    elif "arg" in item:
        component, _, name = item["arg"].partition(".")
        value = arguments(host, component).get(name, "")
        if "is" in item:
            assert value == item["is"]
        elif "has" in item:
            assert item["has"] in value.split(",")
        else:
            assert item["not"] not in value.split(",")
    elif "kubelet" in item:
        assert value_at(kubelet_configuration(host), item["kubelet"]) == item["is"]
    else:
        SEEN[item["seen"]](host)
