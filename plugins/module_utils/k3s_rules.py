# SPDX-License-Identifier: Apache-2.0
"""What K3s, the kubelet and the API server would refuse of a whole configuration, told before anything changes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_config import as_list

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What K3s uses where nothing is said (on a node whose address is IPv4).
CLUSTER_CIDR = "10.42.0.0/16"
SERVICE_CIDR = "10.43.0.0/16"
ARGUMENTS = (
    "etcd-arg",
    "kube-apiserver-arg",
    "kube-cloud-controller-manager-arg",
    "kube-controller-manager-arg",
    "kube-proxy-arg",
    "kube-scheduler-arg",
    "kubelet-arg",
)
# These have a variable of their own.
KUBELET_VARIABLES = {
    "cgroup-driver": "edgefleet_cgroup_driver, which containerd must agree with",
    "eviction-hard": "k3s_eviction_hard",
    "kube-reserved": "k3s_kube_reserved",
    "system-reserved": "k3s_system_reserved",
}
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
# Of the domains kubernetes.io and k8s.io the kubelet sets only these on its own node; with any other it does not start.
KUBELET_LABELS = {
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
}
KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
TLS_VERSIONS = ("VersionTLS12", "VersionTLS13")

_ARGUMENT = re.compile(r"-{0,2}(?P<name>[A-Za-z][A-Za-z0-9.-]*?)(?P<how>[+-]?)(=(?P<value>.*))?", re.DOTALL)
_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_KEY = re.compile(rf"(?:(?P<domain>{_DOMAIN})/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")
_NODE = re.compile(_DOMAIN)
_MODE = re.compile(r"0?[0-7]{3}")
_RANGE = re.compile(r"(\d+)-(\d+)")


def config_problems(config: Mapping[str, Any], role: str, has_token: bool) -> list[str]:
    """One sentence for each thing in ``k3s_config`` that would stop K3s or lose a safety, with the way out."""
    found = [*_networks(config), *_addresses(config), *_ports(config), *_arguments(config), *_names(config)]
    labels = {str(one).partition("=")[0]: str(one).partition("=")[2] for one in as_list(config.get("node-label"))}
    found += label_problems(labels, "node-label")
    found += taint_problems([str(one) for one in as_list(config.get("node-taint"))], "node-taint")
    if role == "server" and config.get("server"):
        found += url_problems(str(config["server"]), "server")
        if not has_token:
            found.append("server is set, so this server joins another one and needs its token; set k3s_token.")
    return [f"k3s_config: {one}" for one in found]


def _parts(config: Mapping[str, Any], key: str) -> list[str]:
    """The items of those keys that K3s splits at commas."""
    return [part.strip() for item in as_list(config.get(key)) for part in str(item).split(",") if part.strip()]


def _networks(config: Mapping[str, Any]) -> Iterator[str]:
    nets: dict[str, list[Network]] = {}
    for key, default in (("cluster-cidr", CLUSTER_CIDR), ("service-cidr", SERVICE_CIDR)):
        for text in _parts(config, key) or [default]:
            try:
                nets.setdefault(key, []).append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                yield f"{key} has {text}, which is no network; write it like {default}."
                return
    nodes = [address for text in _parts(config, "node-ip") if (address := _address(text))]
    # Without node-ip the defaults hold only where the node has an IPv4 address; that is K3s's to find out.
    families = {key: {net.version for net in value} for key, value in nets.items()}
    if nodes:
        families["node-ip"] = {address.version for address in nodes}
    if len({frozenset(value) for value in families.values()}) > 1:
        said = ", ".join(f"{key} {' and '.join(f'IPv{n}' for n in sorted(value))}" for key, value in families.items())
        yield f"cluster-cidr, service-cidr and node-ip must be of the same families ({said}); write them alike."
        return
    for one in nets["cluster-cidr"]:
        for other in nets["service-cidr"]:
            if one.version == other.version and one.overlaps(other):
                yield f"cluster-cidr {one} and service-cidr {other} overlap; choose networks apart."
    for text in _parts(config, "cluster-dns"):
        address = _address(text)
        if address and not any(address in net for net in nets["service-cidr"]):
            said = ", ".join(str(net) for net in nets["service-cidr"])
            yield f"cluster-dns {text} is not in service-cidr ({said}), whence its Service has it; choose one inside."


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _addresses(config: Mapping[str, Any]) -> Iterator[str]:
    for key in ("node-ip", "node-external-ip", "cluster-dns", "bind-address", "advertise-address"):
        for text in _parts(config, key):
            if not _address(text):
                yield f"{key} has {text}, which is no IP address; names are not looked up there."


def _ports(config: Mapping[str, Any]) -> Iterator[str]:
    # The next one up is the API server's own.
    for key, highest in (("https-listen-port", 65534), ("advertise-port", 65535), ("lb-server-port", 65534)):
        text = str(config.get(key, 1024))
        if text.isdecimal() and not 0 < int(text) <= highest and (key, text) != ("advertise-port", "0"):
            yield f"{key} is {text}; ports go from 1 to {highest}."
    text = str(config.get("service-node-port-range", "30000-32767"))
    match = _RANGE.fullmatch(text)
    if not match or not 0 < int(match[1]) < int(match[2]) <= 65535:
        yield f"service-node-port-range is {text}; write it like 30000-32767, the lower port first."


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    mode = config.get("write-kubeconfig-mode")
    if isinstance(mode, str) and not _MODE.fullmatch(mode):
        yield f'write-kubeconfig-mode is {mode}, which is no file mode; write it in octal and in quotes: "0600".'
    name = str(config.get("node-name") or "")
    if name and (not _NODE.fullmatch(name) or len(name) > 253):
        yield f"node-name is {name}; a node's name has lower-case letters, digits, - and dots."


def _arguments(config: Mapping[str, Any]) -> Iterator[str]:
    for key in ARGUMENTS:
        for item in as_list(config.get(key)):
            match = _ARGUMENT.fullmatch(str(item))
            if not match:
                first = str(item).split("=", maxsplit=1)[0].split(":", maxsplit=1)[0][:40]
                yield f"{key} has an item that is no argument ({first}...); write name=value, without blanks."
                continue
            # An item may hold a secret: only its name is told.
            reason = _argument(key, match["name"], match["how"], match["value"] or "")
            if reason:
                yield f"{key}: {match['name']} {reason}"


def _argument(key: str, name: str, how: str, value: str) -> str:
    if key == "kubelet-arg" and name in KUBELET_VARIABLES:
        return f"is set from {KUBELET_VARIABLES[name]}; set that instead."
    if name == "tls-min-version" and value not in TLS_VERSIONS:
        return f"is {value}; write {' or '.join(TLS_VERSIONS)}: older ones are broken."
    return _api_server_argument(name, how, value) if key == "kube-apiserver-arg" else ""


def _api_server_argument(name: str, how: str, value: str) -> str:
    words = set(value.split(","))
    reasons = {
        "enable-admission-plugins": (
            not how and "NodeRestriction" not in words,
            "replaces K3s's own list and would turn NodeRestriction off; write enable-admission-plugins+=...",
        ),
        "disable-admission-plugins": (
            bool({"NodeRestriction", "PodSecurity"} & words),
            "would turn off what keeps nodes and pods apart (NodeRestriction, PodSecurity); leave those two out.",
        ),
        "authorization-mode": (
            "AlwaysAllow" in words or (not how and not {"Node", "RBAC"} <= words),
            "must have Node and RBAC, and not AlwaysAllow; write authorization-mode=Node,RBAC,...",
        ),
        "anonymous-auth": (value != "false", "would let anybody ask the API server; leave it out."),
    }
    wrong, reason = reasons.get(name, (False, ""))
    return reason if wrong else ""


def label_problems(labels: Mapping[str, Any], variable: str) -> list[str]:
    """What the kubelet or the API server would refuse of labels."""
    found = []
    for key, value in labels.items():
        match = _KEY.fullmatch(str(key))
        domain = (match["domain"] or "") if match else ""
        if not match:
            found.append(
                f"{variable}: {key} is no label; write letters, digits, - _ . with a domain before a / at most."
            )
        elif not isinstance(value, str):
            found.append(
                f'{variable}: {key} must be a text: YAML reads {value} its own way; quote it: {key}: "{value}".'
            )
        elif not _VALUE.fullmatch(value):
            found.append(
                f"{variable}: {key} has the value {value}; a label's has letters, digits, - _ . and 63 at most."
            )
        elif _reserved(domain) and key not in KUBELET_LABELS and not _under(domain, KUBELET_DOMAINS):
            found.append(
                f"{variable}: {key} is in Kubernetes' own domain and the kubelet does not start with it; "
                "choose another domain, or none."
            )
    return found


def _under(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)


def _reserved(domain: str) -> bool:
    return _under(domain, ("kubernetes.io", "k8s.io"))


def taint_problems(taints: list[str], variable: str) -> list[str]:
    """Taints as K3s takes them: key=value:Effect or key:Effect."""
    found = []
    for taint in taints:
        rest, _, effect = taint.rpartition(":")
        key, _, value = rest.partition("=")
        if effect not in TAINT_EFFECTS or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            found.append(
                f"{variable}: {taint} is no taint; write key=value:Effect with one of {', '.join(TAINT_EFFECTS)}."
            )
    return found


def url_problems(url: str, variable: str) -> list[str]:
    """The address of a server to join."""
    if not re.fullmatch(r"https://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?/?", url):
        return [f"{variable} is {url}; K3s takes only https://<address>:<port>."]
    return []
