# SPDX-License-Identifier: Apache-2.0
"""K3s's config.yaml: merging the role's keys with the operator's, and what is wrong with them, in sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

_FORMS = {
    "bool": re.compile(r"true|false"),
    "int": re.compile(r"-?\d+"),
    "duration": re.compile(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+"),
}
_FORM_NAMES = {"bool": "true or false", "int": "a whole number", "duration": "a duration such as 5m0s"}

# Values that K3s would accept or ignore without a word, but that can't work on a host that these roles have prepared.
REFUSED = {
    "cluster-reset": "it is a command, not a setting: K3s would reset its cluster at every start; run it by hand",
    "cluster-reset-restore-path": "it is a command, not a setting: K3s would restore at every start; run it by hand",
    "config": "K3s does not read the place of its configuration from the configuration itself; leave it out",
    "container-runtime-endpoint": "containerd's socket is set by the containerd role; leave it out",
    "data-dir": "containerd's CNI folders lie in K3s's default data folder; mount a disk at /var/lib/rancher instead",
    "disable-agent": "without its agent the host is no node and can't run pods; leave it out",
    "docker": "pods run under the external containerd, which alone has the wasmedge runtime; leave it out",
    "embedded-registry": "K3s refuses to start with it and an external containerd; leave it out",
    "rootless": "containerd and its runtimes run as root; leave it out",
    "with-node-id": "the node's name would not be known before its first start; set node-name instead",
}


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


def problems(config: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]], role: str) -> list[str]:
    """What is wrong with ``k3s_config``: one sentence each, with the key, the reason and the way out."""
    found = []
    for key, value in config.items():
        known = keys.get(key)
        if known is None:
            found.append(_unknown(key, keys))
        elif key in REFUSED:
            found.append(f"k3s_config: {key} can't be used: {REFUSED[key]}.")
        elif known["on"] not in ("both", role):
            found.append(f"k3s_config: {key} is for a K3s {known['on']} and this host is a K3s {role}; leave it out.")
        else:
            reason = _type_problem(key, value, known["type"])
            if reason:
                found.append(f"k3s_config: {key} {reason}.")
    return found


def _unknown(key: str, keys: Mapping[str, Mapping[str, Any]]) -> str:
    for name, known in keys.items():
        if known.get("alias") == key:
            return f"k3s_config: {key} is the short form of {name}; write {name}."
    close = difflib.get_close_matches(str(key), keys, n=1)
    way_out = f"did you mean {close[0]}?" if close else "`k3s server --help` lists the keys."
    return f"k3s_config: K3s has no key {key}: it would be skipped without an error; {way_out}"


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


def _name_of(value: Any) -> str:
    if value is None:
        return "an empty value"
    for kinds, name in (((bool,), "a boolean"), ((int, float), "a number"), ((str,), "a text"), ((list,), "a list")):
        if isinstance(value, kinds):
            return name
    return "a map"
