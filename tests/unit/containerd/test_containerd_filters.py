"""Drop-ins and registries as the role's variables say them, and as containerd reads them."""

from __future__ import annotations

import base64
import tomllib
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.edgefleet.wasm.plugins.filter.containerd import FilterModule

FILTERS = FilterModule().filters()
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
HOST = {"url": "https://mirror.example.com:5000"}


def files(registries: Any) -> dict[str, list[dict[str, str]]]:
    made: dict[str, list[dict[str, str]]] = FILTERS["containerd_registry_files"](registries, "/c")
    return made


def test_dropins_are_files_in_the_order_of_their_names() -> None:
    assert FILTERS["containerd_dropin_files"]({"b": "2", "a": "1"}, "/d") == [
        {"path": "/d/60-a.toml", "content": "1"},
        {"path": "/d/60-b.toml", "content": "2"},
    ]


@pytest.mark.parametrize(
    ("dropins", "message"),
    [
        (["a"], "a dictionary of TOML texts by name is wanted"),
        ({"../a": "x"}, r"containerd_dropins\['\.\./a'\]: a name has a to z"),
        ({"a": {"version": 3}}, r"containerd_dropins\['a'\]: TOML text is wanted"),
    ],
)
def test_bad_dropins(dropins: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        FILTERS["containerd_dropin_files"](dropins, "/d")


def test_registry_with_everything() -> None:
    registry = {
        "server": "https://registry-1.docker.io",
        "hosts": [
            {**HOST, "ca": CA, "username": "u", "password": "p:w", "override_path": True},
            {"url": "http://cache:80/v2", "capabilities": ["pull"], "skip_verify": True},
        ],
    }
    made = files({"docker.io": registry})
    assert made["files"] == [{"path": "/c/docker.io/ca-0.crt", "content": f"{CA}\n"}]
    (one,) = made["secret_files"]
    assert one["path"] == "/c/docker.io/hosts.toml"
    authorization = f"Basic {base64.b64encode(b'u:p:w').decode()}"
    assert tomllib.loads(one["content"]) == {
        "server": "https://registry-1.docker.io",
        "host": {
            "https://mirror.example.com:5000": {
                "capabilities": ["pull", "resolve"],
                "ca": "/c/docker.io/ca-0.crt",
                "override_path": True,
                "header": {"authorization": [authorization]},
            },
            "http://cache:80/v2": {"capabilities": ["pull"], "skip_verify": True},
        },
    }


def test_registry_without_password_is_no_secret() -> None:
    made = files({"_default": {"hosts": [HOST]}, "r.example.com:5000": {"server": "https://r.example.com"}})
    assert made["secret_files"] == []
    assert [one["path"] for one in made["files"]] == ["/c/_default/hosts.toml", "/c/r.example.com:5000/hosts.toml"]


@pytest.mark.parametrize(
    ("registries", "message"),
    [
        ("docker.io", "a dictionary of registries by name is wanted"),
        ({"a/b": {"hosts": [HOST]}}, r"containerd_registries\['a/b'\]: the name is a host"),
        ({"..": {"hosts": [HOST]}}, "the name is a host"),
        ({"r": None}, r"\['r'\] says nothing; give it a server or hosts"),
        ({"r": {"mirrors": []}}, "unknown mirrors; known are hosts, server"),
        ({"r": {"hosts": "https://x"}}, r"\.hosts: a list is wanted"),
        ({"r": {"hosts": ["https://x"]}}, r"\.hosts\[0\]: a dictionary is wanted"),
        ({"r": {"hosts": [{}]}}, r"\.hosts\[0\]\.url is missing"),
        ({"r": {"hosts": [{"url": "mirror"}]}}, r"\.url: 'mirror' is no URL such as https://"),
        ({"r": {"server": 'x"\n'}}, r"\.server: .* is no URL"),
        ({"r": {"hosts": [{**HOST, "capabilities": ["get"]}]}}, "capabilities: a list of pull, resolve and push"),
        ({"r": {"hosts": [{**HOST, "ca": "/etc/ca.crt"}]}}, r"\.ca: the text of a certificate \(PEM\) is wanted"),
        ({"r": {"hosts": [{**HOST, "username": "u"}]}}, "username and password go together"),
        ({"r": {"hosts": [{"url": "http://x", "username": "u", "password": "p"}]}}, "a password over http could be"),
    ],
)
def test_bad_registries(registries: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        files(registries)
