# SPDX-License-Identifier: Apache-2.0
"""What the controller refuses of a host's K3s before anything changes: the declaration by itself, then on its host."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils import k3s_config, k3s_figures, k3s_rules
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import password

CONFIG = "/etc/rancher/k3s/config.yaml"
_ENCRYPTION = "secrets-encryption"
# Variables by which K3s would go another way than the role has written. The file wins over all others.
_ENVIRONMENT = {
    "K3S_CONFIG_FILE": "K3s would read another file than the role writes",
    "K3S_DATA_DIR": "K3s would keep its data where containerd does not look for CNI's plugins",
    "K3S_CLUSTER_RESET": "K3s would reset its cluster at every start",
}
_ENVIRONMENT_OF_SERVERS = {"K3S_URL": "this server would join that one"}


class Declaration:
    """What the role is given for one host. ``params`` are those of the action plugin ``k3s_preflight``."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.role: str = params["role"]
        self.keys: k3s_config.Keys = params["keys"]
        self.own: dict[str, Any] = params["own"]
        self.given: dict[str, Any] = params["config"]
        self.config = k3s_config.merge(self.own, self.given)
        self.token: str = params["token"] or ""
        self._params = params

    @property
    def port(self) -> int:
        """The port that K3s takes on this host."""
        key, default = ("https-listen-port", 6443) if self.role == "server" else ("lb-server-port", 6444)
        return int(self.config.get(key, default))

    def problems(self) -> list[str]:
        """Everything that can be told without the host."""
        params = self._params
        found = k3s_config.problems(self.given, self.keys, self.role)
        if not found:
            # With values of a wrong type the rules would say odd things.
            found = k3s_rules.config_problems(self.given, self.role, bool(self.token))
        found += k3s_rules.label_problems(params["labels"], "k3s_node_labels")
        found += k3s_rules.taint_problems(params["taints"], "k3s_node_taints")
        found += k3s_figures.figure_problems(self._reserved(), params["eviction_hard"])
        if params["server_url"]:
            found += k3s_rules.url_problems(params["server_url"], "k3s_server_url")
        if params["cis"] and str(self.config.get("disable-network-policy", False)).lower() == "true":
            found.append(
                "k3s_config: disable-network-policy leaves the NetworkPolicies of k3s_cis without effect; "
                "leave it out, or set k3s_cis: false."
            )
        return found

    def _reserved(self) -> dict[str, Any]:
        return {f"k3s_{name}": self._params[name] for name in ("system_reserved", "kube_reserved")}

    def problems_on(self, host: Mapping[str, Any], node: str) -> list[str]:
        """What does not go with the host as it is. ``host`` is what the module ``k3s_preflight`` has found."""
        found = k3s_figures.host_problems(
            self._reserved(), self._params["eviction_hard"], host["memory_mb"], host["cpus"]
        )
        found += _environment_problems(host["environment"], self.role)
        drop_ins, bad = _load({path: text for path, text in host["config"].items() if path != CONFIG})
        found += bad
        for path, document in drop_ins.items():
            found += k3s_config.drop_in_problems(document, self.keys, self.role, self.config, path)
        if found:
            return found
        after = k3s_config.effective([self.config, *drop_ins.values()])
        if drop_ins:
            asked = k3s_config.effective([self.given, *drop_ins.values()])
            found += [
                one.replace("k3s_config:", f"k3s_config with {', '.join(drop_ins)}:")
                for one in k3s_rules.config_problems(asked, self.role, bool(self.token))
            ]
        if host["existing"]:
            found += self._fixed_problems(host, drop_ins.values(), after, node)
            found += self._token_problems(host["token_sha256"])
        return found

    def _fixed_problems(
        self, host: Mapping[str, Any], drop_ins: Iterable[dict[str, Any]], after: Mapping[str, Any], node: str
    ) -> list[str]:
        """By the role's file as it is on the host; one that nobody can read says nothing, and is written anew."""
        now, unreadable = _load({path: text for path, text in host["config"].items() if path == CONFIG})
        before = k3s_config.effective([*now.values(), *drop_ins])
        if self.role == "server":
            before[_ENCRYPTION] = host["encrypts"]
        known = {_ENCRYPTION: self.keys[_ENCRYPTION]} if unreadable else self.keys
        return k3s_config.fixed_problems(before, after, known, node)

    def _token_problems(self, there: str) -> list[str]:
        if self.role != "server" or not self.token or not there:
            return []
        if hashlib.sha256(password(self.token).encode()).hexdigest() == there:
            return []
        return [
            "k3s_token is not the token that this server's datastore is encrypted with, and K3s would not start with "
            "it; set it back (or leave it out), or play edgefleet.wasm.rotate with -e edgefleet_rotate_token=true."
        ]


def _environment_problems(environment: Mapping[str, list[str]], role: str) -> list[str]:
    reasons = {**_ENVIRONMENT, **(_ENVIRONMENT_OF_SERVERS if role == "server" else {})}
    return [
        f"{path} sets {name}, with which {reasons[name]}; take that line out."
        for path, names in environment.items()
        for name in names
        if name in reasons
    ]


def _load(texts: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The files as data, and a sentence for each that is not what K3s can read."""
    documents: dict[str, dict[str, Any]] = {}
    found = []
    for path, text in texts.items():
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f" (line {mark.line + 1})" if mark else ""
            found.append(f"{path} is not YAML{place}, and K3s does not start with it; mend or remove it.")
            continue
        if document is None:
            continue
        if isinstance(document, dict):
            documents[path] = {str(key): value for key, value in document.items()}
        else:
            found.append(f"{path} holds no keys with values, and K3s does not start with it; mend or remove it.")
    return documents, found
