"""The check and the merge of k3s_config, and the file that comes out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_config import (
    REFUSED,
    effective,
    merge,
    problems,
)

ROLE = Path(__file__).resolve().parents[3] / "roles" / "k3s"
KEYS: dict[str, dict[str, Any]] = yaml.safe_load((ROLE / "vars/main/config_keys.yml").read_text())["_k3s_config_keys"]


def render(config: dict[str, Any]) -> dict[str, Any]:
    """The template as Ansible renders it, read back as K3s reads it (YAML 1.1)."""
    environment = jinja2.Environment(trim_blocks=True, autoescape=False)  # noqa: S701 - it makes YAML
    environment.filters["to_json"] = jinja2.filters.do_tojson
    template = environment.from_string((ROLE / "templates/config.yaml.j2").read_text())
    document: dict[str, Any] = yaml.safe_load(template.render(_k3s_config=config))
    return document


def test_there_are_all_keys_of_k3s_1_30() -> None:
    assert len(KEYS) == 114
    assert set(REFUSED) <= set(KEYS)
    assert {key["on"] for key in KEYS.values()} == {"server", "agent", "both"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"tls-sans": ["a"]}, "K3s has no key tls-sans: .* did you mean tls-san?"),
        ({"kubelet_arg": ["a"]}, "did you mean kubelet-arg?"),
        ({"xyzzy": 1}, "`k3s server --help` lists the keys"),
        ({"t": "secret"}, "t is the short form of token; write token"),
        ({"embedded-registry": True}, "embedded-registry can't be used: K3s refuses to start"),
        ({"data-dir": "/data"}, "mount a disk at /var/lib/rancher"),
        ({"token": "abc"}, "token can't be used: a secret has no place in config.yaml; set k3s_token"),
        ({"pause-image": "pause:3.9"}, "an external one; set containerd_sandbox_image"),
        ({"private-registry": "/etc/r.yaml"}, "registries belong into /etc/containerd/certs.d"),
        ({"flannel-backend": "ipsec"}, "flannel-backend is ipsec, and K3s knows only none, vxlan"),
        ({"disable-apiserver-lb": True}, "is for a K3s agent and this host is a K3s server"),
        (
            {"write-kubeconfig-mode": 420},
            'write-kubeconfig-mode must be a string: .* quote it: write-kubeconfig-mode: "..."',
        ),
        ({"debug": "yes"}, "debug must be true or false, not a text"),
        ({"secrets-encryption": None}, "must be one bool, not an empty value"),
        ({"https-listen-port": "sixty"}, "https-listen-port must be a whole number, not a text"),
        ({"https-listen-port": True}, "https-listen-port must be a whole number, not a boolean"),
        ({"etcd-s3-timeout": "5 minutes"}, "must be a duration such as 5m0s"),
        ({"kubelet-arg": [{"max-pods": 110}]}, "has a map in its list"),
        ({"kubelet-arg": [110]}, "kubelet-arg has a number in its list; quote it"),
        ({"node-name": ["a"]}, "node-name must be one string, not a list"),
        ({"disable": ["runtimes"]}, "RuntimeClass wasmedge"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_key(config: dict[str, Any], sentence: str) -> None:
    (found,) = problems(config, KEYS, "server")
    assert re.search(sentence, found), found
    assert found.startswith("k3s_config: ")


def test_every_problem_is_told_at_once() -> None:
    assert len(problems({"xyzzy": 1, "rootless": True, "debug": "on"}, KEYS, "server")) == 3


def test_no_value_is_told() -> None:
    config = {"vpn-auth": 987654321, "kube-apiserver-arg": [{"a": "hunter2"}], "etcd-s3-secret-key": 987654321}
    told = " ".join(problems(config, KEYS, "server"))
    assert "987654321" not in told
    assert "hunter2" not in told


def test_a_sound_configuration_has_no_problems() -> None:
    config = {
        "debug": True,
        "secrets-encryption": "true",
        "https-listen-port": 7443,
        "kubelet-arg": ["max-pods=110"],
        "disable": "traefik",
        "etcd-s3-timeout": "5m0s",
        "write-kubeconfig-mode": "0640",
    }
    assert problems(config, KEYS, "server") == []


def test_what_agents_may_not_have() -> None:
    assert problems({"kubelet-arg": ["v=2"]}, KEYS, "agent") == []
    (found,) = problems({"tls-san": ["a"]}, KEYS, "agent")
    assert "tls-san is for a K3s server and this host is a K3s agent; leave it out" in found
    (found,) = problems({"server": "https://a:6443"}, KEYS, "agent")
    assert "set k3s_server" in found


def test_files_one_after_the_other_as_k3s_reads_them() -> None:
    files = [
        {"debug": "true", "tls-san": ["a"]},
        {"tls-san+": "b", "disable+": ["x"]},
        {"debug": "false", "tls-san+": ["c"]},
    ]
    assert effective(files) == {"debug": "false", "tls-san": ["a", "b", "c"], "disable": ["x"]}
    assert effective([{"tls-san": ["a"]}, {"tls-san": ["b"]}]) == {"tls-san": ["b"]}


def test_lists_are_added_to_and_everything_else_is_replaced() -> None:
    base = {"kubelet-arg": ["cgroup-driver=systemd"], "write-kubeconfig-mode": "0600", "tls-san": []}
    extra = {"kubelet-arg": "max-pods=50", "write-kubeconfig-mode": "0640", "debug": True, "tls-san": ["a", "b"]}
    assert merge(base, extra) == {
        "kubelet-arg": ["cgroup-driver=systemd", "max-pods=50"],
        "write-kubeconfig-mode": "0640",
        "debug": True,
        "tls-san": ["a", "b"],
    }
    assert base["kubelet-arg"] == ["cgroup-driver=systemd"]


def test_merging_again_adds_nothing() -> None:
    once = merge({"disable": ["traefik"]}, {"disable": ["traefik", "servicelb"]})
    assert once == {"disable": ["traefik", "servicelb"]}


def test_the_file_holds_strings_alone() -> None:
    config = {
        "write-kubeconfig-mode": "0600",
        "token": 'no "quotes": # here\\',
        "debug": True,
        "https-listen-port": 6443,
        "kubelet-arg": ["max-pods=110", "v=1e5"],
        "tls-san": [],
    }
    assert render(config) == {
        "write-kubeconfig-mode": "0600",
        "token": 'no "quotes": # here\\',
        "debug": "true",
        "https-listen-port": "6443",
        "kubelet-arg": ["max-pods=110", "v=1e5"],
    }
