"""Bad declarations and the good ones beside them: each is one sentence that names key, reason and way out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.k3s_checks import CONFIG, Declaration

ROLE = Path(__file__).resolve().parents[3] / "roles" / "k3s"
KEYS = yaml.safe_load((ROLE / "vars/main/config_keys.yml").read_text())["_k3s_config_keys"]
DROP_IN = f"{CONFIG}.d/50-site.yaml"
PARAMS: dict[str, Any] = {
    "role": "server",
    "config": {},
    "own": {"kubelet-arg": ["cgroup-driver=systemd"], "disable": ["traefik"], "write-kubeconfig-mode": "0600"},
    "keys": KEYS,
    "labels": {"node-type": "edge"},
    "taints": [],
    "system_reserved": {"cpu": "200m", "memory": "384Mi"},
    "kube_reserved": {"cpu": "300m", "memory": "768Mi"},
    "eviction_hard": {"memory.available": "256Mi", "nodefs.available": "5%", "imagefs.available": "5%"},
    "cis": True,
    "server_url": "",
    "token": "",
}
HOST: dict[str, Any] = {
    "memory_mb": 7900,
    "cpus": 4,
    "existing": False,
    "encrypts": False,
    "token_sha256": "",
    "environment": {},
    "config": {},
}


def told(config: dict[str, Any], **params: Any) -> list[str]:
    return Declaration({**PARAMS, "config": config, **params}).problems()


def told_on(host: dict[str, Any], config: dict[str, Any] | None = None, **params: Any) -> list[str]:
    return Declaration({**PARAMS, "config": config or {}, **params}).problems_on({**HOST, **host}, "edge1")


# What is wrong, the words that the sentence must have, and what is right in its place.
BAD: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]] = {
    "unknown key": ({"tls-sans": ["a"]}, ("no key tls-sans", "did you mean tls-san?"), {"tls-san": ["a"]}),
    "agent's key": ({"disable-apiserver-lb": True}, ("for a K3s agent", "leave it out"), {"disable-etcd": False}),
    "unquoted mode": ({"write-kubeconfig-mode": 420}, ("must be a string", "0644 is 420", "quote it"), {}),
    "no mode": ({"write-kubeconfig-mode": "rw"}, ("rw", "octal"), {"write-kubeconfig-mode": "0640"}),
    "YAML boolean": ({"node-name": True}, ("node-name must be a string", "quote it"), {"node-name": "yes"}),
    "list of maps": (
        {"kubelet-arg": [{"max-pods": 110}]},
        ("kubelet-arg has a map", "name=value"),
        {"kubelet-arg": ["max-pods=110"]},
    ),
    "number in a list": ({"tls-san": [10]}, ("tls-san has a number", "quote it"), {"tls-san": ["10"]}),
    "empty value": ({"debug": None}, ("debug must be one bool", "empty"), {"debug": True}),
    "text for a boolean": ({"debug": "on"}, ("debug must be true or false",), {"debug": "true"}),
    "closed choice": (
        {"egress-selector-mode": "auto"},
        ("egress-selector-mode is auto", "disabled"),
        {"egress-selector-mode": "pod"},
    ),
    "no network": (
        {"cluster-cidr": "10.42.0.0/33"},
        ("cluster-cidr has 10.42.0.0/33", "no network"),
        {"cluster-cidr": "10.52.0.0/16"},
    ),
    "family mix": (
        {"cluster-cidr": "fd00:42::/56"},
        ("same families", "cluster-cidr IPv6", "service-cidr IPv4"),
        {"cluster-cidr": "fd00:42::/56", "service-cidr": "fd00:43::/112", "node-ip": "fd00::1"},
    ),
    "family of the node": (
        {"node-ip": "10.0.0.1,fd00::1"},
        ("same families", "node-ip IPv4 and IPv6"),
        {
            "node-ip": "10.0.0.1,fd00::1",
            "cluster-cidr": "10.42.0.0/16,fd00:42::/56",
            "service-cidr": ["10.43.0.0/16", "fd00:43::/112"],
        },
    ),
    "overlap": (
        {"cluster-cidr": "10.43.0.0/15"},
        ("overlap", "choose networks apart"),
        {"cluster-cidr": "10.44.0.0/16"},
    ),
    "DNS outside": (
        {"cluster-dns": "10.44.0.10"},
        ("cluster-dns 10.44.0.10 is not in service-cidr",),
        {"cluster-dns": "10.43.0.20"},
    ),
    "no address": ({"node-ip": "edge1"}, ("node-ip has edge1", "no IP address"), {"node-ip": "10.0.0.1"}),
    "port range": (
        {"service-node-port-range": "32767-30000"},
        ("service-node-port-range is 32767-30000", "lower port first"),
        {"service-node-port-range": "20000-22000"},
    ),
    "port": ({"https-listen-port": 65535}, ("https-listen-port is 65535",), {"https-listen-port": 7443}),
    "embedded registry": ({"embedded-registry": True}, ("refuses to start", "leave it out"), {}),
    "docker": ({"docker": True}, ("docker can't be used", "wasmedge"), {}),
    "moot key": ({"snapshotter": "native"}, ("snapshotter", "/etc/containerd/conf.d"), {}),
    "token in the file": ({"token": "s3cret"}, ("token can't be used", "set k3s_token"), {}),
    "admission plugins": (
        {"kube-apiserver-arg": ["enable-admission-plugins=AlwaysPullImages"]},
        ("NodeRestriction off", "enable-admission-plugins+="),
        {"kube-apiserver-arg": ["enable-admission-plugins+=AlwaysPullImages"]},
    ),
    "no authorization": (
        {"kube-apiserver-arg": ["authorization-mode=AlwaysAllow"]},
        ("authorization-mode must have Node and RBAC",),
        {"kube-apiserver-arg": ["authorization-mode=Node,RBAC,Webhook"]},
    ),
    "anonymous": ({"kube-apiserver-arg": ["anonymous-auth=true"]}, ("anonymous-auth", "leave it out"), {}),
    "old TLS": (
        {"kube-apiserver-arg": ["tls-min-version=VersionTLS10"]},
        ("tls-min-version is VersionTLS10", "VersionTLS13"),
        {"kube-apiserver-arg": ["tls-min-version=VersionTLS13"]},
    ),
    "eviction": (
        {"kubelet-arg": ["eviction-hard=memory.available<100Mi"]},
        ("eviction-hard is set from k3s_eviction_hard",),
        {"kubelet-arg": ["eviction-soft=memory.available<500Mi"]},
    ),
    "no argument": (
        {"kubelet-arg": ["max-pods 110"]},
        ("kubelet-arg has an item that is no argument (max-pods 110...)",),
        {"kubelet-arg": ["--max-pods=110"]},
    ),
    "taint": (
        {"node-taint": ["gpu=true"]},
        ("node-taint: gpu=true is no taint", "NoExecute"),
        {"node-taint": ["gpu=true:NoSchedule", "gpu:NoExecute"]},
    ),
    "reserved label": (
        {"node-label": ["node-role.kubernetes.io/edge=true"]},
        ("node-label: node-role.kubernetes.io/edge", "choose another domain"),
        {"node-label": ["topology.kubernetes.io/zone=a", "example.com/role=edge"]},
    ),
    "node name": ({"node-name": "Edge_1"}, ("node-name is Edge_1", "lower-case"), {"node-name": "edge-1.site"}),
    "no token to join": ({"server": "https://10.0.0.2:6443"}, ("needs its token", "k3s_token"), {}),
    "no policies": ({"disable-network-policy": True}, ("NetworkPolicies", "k3s_cis: false"), {}),
}


@pytest.mark.parametrize(("config", "words", "good"), BAD.values(), ids=BAD.keys())
def test_a_bad_key_is_one_sentence(config: dict[str, Any], words: tuple[str, ...], good: dict[str, Any]) -> None:
    (sentence,) = told(config)
    assert sentence.startswith("k3s_config: ")
    for part in words:
        assert part in sentence
    assert told(good) == []


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"labels": {"a b": "c"}}, ("k3s_node_labels: a b is no label",)),
        ({"labels": {"gpu": True}}, ("k3s_node_labels: gpu must be a text", 'gpu: "True"')),
        ({"labels": {"gpu": "x y"}}, ("k3s_node_labels: gpu has the value x y",)),
        ({"labels": {"kubernetes.io/role": "a"}}, ("Kubernetes' own domain",)),
        ({"taints": ["a=b"]}, ("k3s_node_taints: a=b is no taint",)),
        ({"system_reserved": {"memory": "half"}}, ("k3s_system_reserved: memory is half", "512Mi")),
        ({"kube_reserved": {"ram": "1Gi"}}, ("k3s_kube_reserved: ram can't be reserved",)),
        (
            {"eviction_hard": {"memory.available": "5%", "nodefs.available": "5%"}},
            ("no imagefs.available", "K3s's own"),
        ),
        ({"eviction_hard": {**PARAMS["eviction_hard"], "ram": "5%"}}, ("does not watch ram",)),
        ({"eviction_hard": {**PARAMS["eviction_hard"], "memory.available": "500%"}}, ("memory.available is 500%",)),
        ({"role": "agent", "server_url": "http://a:6443"}, ("k3s_server_url is http://a:6443", "https://")),
    ],
)
def test_a_bad_variable_is_one_sentence(params: dict[str, Any], words: tuple[str, ...]) -> None:
    (sentence,) = told({}, **params)
    for part in words:
        assert part in sentence


def test_good_variables() -> None:
    assert told({}, labels={"example.com/a": "", "b": "1"}, taints=["a=b:NoSchedule"]) == []
    assert told({}, role="agent", server_url="https://[fd00::1]:6443") == []
    assert told({"server": "https://10.0.0.2:6443"}, token="abc") == []
    assert told({"disable-network-policy": True}, cis=False) == []


def test_no_secret_is_told() -> None:
    found = told({"kube-apiserver-arg": ["oidc secret=hunter2", "anonymous-auth=hunter2"]})
    found += told({"tls-san": [{"a": "hunter2"}], "token": "hunter2", "vpn-auth": ["hunter2"]})
    assert len(found) == 5
    assert "hunter2" not in " ".join(found)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"cluster-cidr": "10.52.0.0/16"}, ("cluster-cidr was 10.42.0.0/16", "can't become 10.52.0.0/16")),
        ({"service-cidr": "10.53.0.0/16"}, {}, ("service-cidr was 10.53.0.0/16",)),
        ({}, {"cluster-domain": "site.local"}, ("cluster-domain was cluster.local",)),
        ({"secrets-encryption": "true"}, {}, ("secrets-encryption was true", "secrets-encrypt")),
        ({}, {"node-name": "other"}, ("node-name was edge1", "second node")),
        ({}, {"cluster-init": True}, ("cluster-init was false", "etcd")),
        ({}, {"datastore-endpoint": "mysql://u:hunter2@h/db"}, ("datastore-endpoint was not set",)),
    ],
)
def test_what_a_cluster_was_made_with_stays(
    before: dict[str, Any], after: dict[str, Any], words: tuple[str, ...]
) -> None:
    encrypts = bool(before.get("secrets-encryption"))
    host = {"existing": True, "encrypts": encrypts, "config": {CONFIG: yaml.safe_dump(before)}}
    (sentence,) = told_on(host, after)
    for part in (*words, "set it back", "k3s_config: "):
        assert part in sentence
    assert "hunter2" not in sentence
    assert told_on({**host, "existing": False}, after) == []
    assert told_on(host, before) == []


def test_the_same_in_other_words_is_no_change() -> None:
    text = 'cluster-cidr: ["10.42.0.0/16"]\nsecrets-encryption: "true"\n'
    host = {"existing": True, "encrypts": True, "config": {CONFIG: text}}
    assert told_on(host, {"cluster-cidr": "10.42.0.0/16", "secrets-encryption": True, "node-name": "Edge1"}) == []


@pytest.mark.parametrize("text", [":::\n\t- ", "cluster-cidr\n", "- a\n"])
def test_a_file_that_nobody_can_read_says_nothing_of_the_cluster(text: str) -> None:
    host = {"existing": True, "encrypts": True, "config": {CONFIG: text}}
    assert told_on(host, {"cluster-cidr": "10.52.0.0/16", "secrets-encryption": True}) == []
    # What the datastore itself tells is known all the same.
    (sentence,) = told_on(host, {"cluster-cidr": "10.52.0.0/16"})
    assert "secrets-encryption was true" in sentence


def test_whether_secrets_are_encrypted_is_seen_in_the_datastore_and_not_in_a_file_that_is_gone() -> None:
    assert told_on({"existing": True, "encrypts": True}, {"secrets-encryption": True}) == []
    (sentence,) = told_on({"existing": True, "encrypts": False}, {"secrets-encryption": True})
    assert "secrets-encryption was false" in sentence


def test_another_token_is_refused() -> None:
    host = {"existing": True, "token_sha256": hashlib.sha256(b"first").hexdigest()}
    (sentence,) = told_on(host, token="second")
    assert "k3s_token is not the token" in sentence
    assert "edgefleet.wasm.rotate" in sentence
    assert "second" not in sentence
    assert told_on(host, token="first") == []
    assert told_on(host, token="K10" + "a" * 64 + "::server:first") == []
    assert told_on(host, token="second", role="agent") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [\n", ("is not YAML (line 2)", "mend or remove it")),
        ("- a\n", ("holds no keys",)),
        ("tls-sans: [a]\n", ("no key tls-sans",)),
        ("kubelet-arg: [max-pods=50]\n", ("kubelet-arg is a list", "write kubelet-arg+")),
        ("kubelet-arg+: [system-reserved=memory=1Gi]\n", ("system-reserved is set from k3s_system_reserved",)),
        ("write-kubeconfig-mode: 0644\n", ("write-kubeconfig-mode must be a string",)),
        ("token: s3cret\n", ("token can't be used",)),
    ],
)
def test_a_drop_in_is_judged_too(text: str, words: tuple[str, ...]) -> None:
    (sentence,) = told_on({"config": {CONFIG: "", DROP_IN: text}})
    for part in (DROP_IN, *words):
        assert part in sentence
    assert "s3cret" not in sentence


def test_a_good_drop_in() -> None:
    assert told_on({"config": {DROP_IN: "kubelet-arg+: [max-pods=50]\ntls-san: [a]\n", f"{DROP_IN}2": ""}}) == []


def test_the_environment_may_not_lead_elsewhere() -> None:
    environment = {"/etc/default/k3s": ["K3S_CONFIG_FILE", "HTTP_PROXY", "K3S_URL"]}
    found = told_on({"environment": environment})
    assert len(found) == 2
    assert "/etc/default/k3s sets K3S_CONFIG_FILE" in found[0]
    assert "K3S_URL" in found[1]
    assert len(told_on({"environment": environment}, role="agent")) == 1


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"memory_mb": 1600}, ("keep 1152 MB and k3s_eviction_hard 256 MB of this host's 1600 MB", "lower them")),
        ({"cpus": 0}, ("keep 0.5 of this host's 0 CPUs",)),
    ],
)
def test_figures_that_leave_pods_nothing(host: dict[str, Any], words: tuple[str, ...]) -> None:
    (sentence,) = told_on(host)
    for part in words:
        assert part in sentence
    assert told_on({"memory_mb": 1800}) == []


def test_a_limit_in_percent_counts_too() -> None:
    eviction = {**PARAMS["eviction_hard"], "memory.available": "90%"}
    assert "k3s_eviction_hard 7110 MB" in told_on({}, eviction_hard=eviction)[0]


def test_the_port_is_that_of_the_role() -> None:
    assert Declaration(PARAMS).port == 6443
    assert Declaration({**PARAMS, "config": {"https-listen-port": "7443"}}).port == 7443
    assert Declaration({**PARAMS, "role": "agent"}).port == 6444
