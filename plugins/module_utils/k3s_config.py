# SPDX-License-Identifier: Apache-2.0
"""K3s's config.yaml key by key: merging it as K3s does, and what is wrong with a key, in sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

_FORMS = {
    "bool": re.compile(r"true|false"),
    "int": re.compile(r"-?\d+"),
    "duration": re.compile(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+"),
}
_FORM_NAMES = {"bool": "true or false", "int": "a whole number", "duration": "a duration such as 5m0s"}

_OWN_CONTAINERD = "K3s passes it only to a containerd of its own, and this host has an external one"
# Values that K3s would accept or ignore without a word, but that can't work on a host that these roles have prepared.
REFUSED = {
    "agent-token": "a secret has no place in config.yaml; name a file on the host with agent-token-file",
    "airgap-extra-registry": f"{_OWN_CONTAINERD}; name the images as the pods do when they are put into the mirror",
    "cluster-reset": "it is a command, not a setting: K3s would reset its cluster at every start; run it by hand",
    "cluster-reset-restore-path": "it is a command, not a setting: K3s would restore at every start; run it by hand",
    "config": "K3s does not read the place of its configuration from the configuration itself; leave it out",
    "container-runtime-endpoint": "containerd's socket is set by the containerd role; leave it out",
    "data-dir": "containerd's CNI folders lie in K3s's default data folder; mount a disk at /var/lib/rancher instead",
    "default-runtime": f"{_OWN_CONTAINERD}, whose default is crun; give pods a runtimeClassName instead",
    "disable-agent": "without its agent the host is no node and can't run pods; leave it out",
    "disable-default-registry-endpoint": f"{_OWN_CONTAINERD}; registries belong into /etc/containerd/certs.d",
    "docker": "pods run under the external containerd, which alone has the wasmedge runtime; leave it out",
    "embedded-registry": "K3s refuses to start with it and an external containerd; leave it out",
    "kube-cloud-controller-arg": "it is the old name of kube-cloud-controller-manager-arg; write that",
    "kube-controller-arg": "it is the old name of kube-controller-manager-arg; write that",
    "pause-image": f"{_OWN_CONTAINERD}; set containerd_sandbox_image",
    "private-registry": f"{_OWN_CONTAINERD}; registries belong into /etc/containerd/certs.d",
    "rootless": "containerd and its runtimes run as root; leave it out",
    "selinux": f"{_OWN_CONTAINERD}; set enable_selinux in a drop-in of /etc/containerd/conf.d",
    "snapshotter": f"{_OWN_CONTAINERD}; set it in a drop-in of /etc/containerd/conf.d",
    "token": "a secret has no place in config.yaml; set k3s_token, which goes into a file that only root can read",
    "token-file": "the role keeps the token in a file of its own; set k3s_token",
    "with-node-id": "the node's name would not be known before its first start; set node-name instead",
}
REFUSED_ON_AGENTS = {
    "server": "the role finds it; set k3s_server (a host of the inventory) or k3s_server_url",
}

Keys = Mapping[str, Mapping[str, Any]]
"""The table of K3s's keys, as in the role's vars/main/config_keys.yml."""


def merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """``extra`` over ``base``: items of lists are added behind, everything else is replaced.

    K3s takes the last of several component arguments of one name, so that an added ``kubelet-arg`` wins.
    """
    merged = dict(base)
    for key, value in extra.items():
        before = merged.get(key)
        if isinstance(before, list):
            added = value if isinstance(value, list) else [value]
            merged[key] = [*before, *(item for item in added if item not in before)]
        else:
            merged[key] = value
    return merged


def effective(files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several files as K3s reads them, one after the other: a later key replaces, ``key+`` adds."""
    result: dict[str, Any] = {}
    for file in files:
        for key, value in file.items():
            name = str(key)
            if name.endswith("+"):
                name = name[:-1]
                result[name] = [*as_list(result.get(name)), *as_list(value)]
            else:
                result[name] = value
    return result


def as_list(value: Any) -> list[Any]:
    """A value as K3s sees it: a scalar counts as one item."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def problems(config: Mapping[str, Any], keys: Keys, role: str, label: str = "k3s_config") -> list[str]:
    """What is wrong with each key by itself: one sentence each, with the key, the reason and the way out."""
    found = []
    for key, value in config.items():
        known = keys.get(key)
        if known is None:
            found.append(_unknown(key, keys, label))
        elif key in REFUSED or (role == "agent" and key in REFUSED_ON_AGENTS):
            found.append(f"{label}: {key} can't be used: {REFUSED.get(key) or REFUSED_ON_AGENTS[key]}.")
        elif known["on"] not in ("both", role):
            found.append(f"{label}: {key} is for a K3s {known['on']} and this host is a K3s {role}; leave it out.")
        else:
            reason = _type_problem(key, value, known["type"]) or _choice_problem(value, known.get("values"))
            if reason:
                found.append(f"{label}: {key} {reason}.")
    return found


def drop_in_problems(config: Mapping[str, Any], keys: Keys, role: str, own: Mapping[str, Any], label: str) -> list[str]:
    """The same for a file in config.yaml.d, which K3s reads behind the role's: there a list takes the role's away."""
    plain = {str(key).removesuffix("+"): value for key, value in config.items()}
    found = problems(plain, keys, role, label)
    for key in config:
        if isinstance(own.get(key), list) and own[key]:
            found.append(
                f"{label}: {key} is a list that is read later, so what the role has put there would go; write {key}+."
            )
    return found


def fixed_problems(before: Mapping[str, Any], after: Mapping[str, Any], keys: Keys, node: str) -> list[str]:
    """Which keys differ that can't be changed on a cluster that exists. ``node`` is its name without node-name."""
    found = []
    for key, known in keys.items():
        if not known.get("fixed"):
            continue
        default = node if key == "node-name" else known["default"]
        old, new = (_plain(config.get(key), default) for config in (before, after))
        if old != new:
            found.append(
                f"k3s_config: {key} was {_said(old)} when this cluster was made and can't become {_said(new)}: "
                f"{_FIXED.get(key, _FIXED_ANYWAY)}; set it back, or reset the host first (its data is lost)."
            )
    return found


_FIXED_ANYWAY = "nodes and Services have their addresses from it"
_FIXED = {
    "cluster-dns": "running pods have it as their name server",
    "cluster-domain": "running pods and the service account tokens carry it",
    "cluster-init": "it would move the datastore to etcd, which can't be undone",
    "datastore-endpoint": "K3s would begin an empty cluster in the other datastore",
    "node-name": "K3s would register a second node and leave the first",
    "secrets-encryption": "K3s would not read, or not encrypt, the Secrets that are there (see `k3s secrets-encrypt`)",
}


def _plain(value: Any, default: Any) -> list[str]:
    items = as_list(default if value is None or value in ([], "") else value)
    return sorted(part.strip().lower() for item in items for part in str(item).split(","))


def _said(items: list[str]) -> str:
    # A datastore's address holds a password.
    return ", ".join(re.sub(r"://.*", "://...", item) for item in items) or "not set"


def _unknown(key: str, keys: Keys, label: str) -> str:
    for name, known in keys.items():
        if known.get("alias") == key:
            return f"{label}: {key} is the short form of {name}; write {name}."
    close = difflib.get_close_matches(str(key), keys, n=1)
    way_out = f"did you mean {close[0]}?" if close else "`k3s server --help` lists the keys."
    return f"{label}: K3s has no key {key}: a server skips it without an error, an agent does not start; {way_out}"


def _type_problem(key: str, value: Any, kind: str) -> str:
    """Why K3s would not understand this value as it stands. Empty if it would; never with the value, a secret maybe."""
    if kind == "list":
        return _list_problem(key, value if isinstance(value, list) else [value])
    if isinstance(value, list | Mapping) or value is None:
        return f"must be one {kind}, not {_name_of(value)}"
    if kind == "string" and not isinstance(value, str):
        return f'must be a string: YAML reads {_name_of(value)} its own way (0644 is 420); quote it: {key}: "..."'
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if kind in _FORMS and not _FORMS[kind].fullmatch(text):
        return f"must be {_FORM_NAMES[kind]}, not {_name_of(value)}"
    return ""


def _list_problem(key: str, items: list[Any]) -> str:
    for item in items:
        if isinstance(item, Mapping):
            return "has a map in its list, which K3s turns into garbage; write each item as one string: - name=value"
        if not isinstance(item, str):
            return f"has {_name_of(item)} in its list; quote it"
    if key == "disable" and "runtimes" in items:
        return "has runtimes in its list, with which the RuntimeClass wasmedge comes; leave it out"
    return ""


def _choice_problem(value: Any, choices: list[str] | None) -> str:
    if choices and value not in choices:
        return f"is {value}, and K3s knows only {', '.join(choices)}"
    return ""


def _name_of(value: Any) -> str:
    if value is None:
        return "an empty value"
    for kinds, name in (((bool,), "a boolean"), ((int, float), "a number"), ((str,), "a text"), ((list,), "a list")):
        if isinstance(value, kinds):
            return name
    return "a map"
