# SPDX-License-Identifier: Apache-2.0
"""Settings that would break K3s, containerd or the pods: refused, whoever asks for them."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import PurePosixPath

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import Control
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.plan import sysctl_path

_FORWARDS = "pods reach nothing without forwarding"
_KUBELET = "the kubelet insists on it with protect-kernel-defaults"
# Path pattern below /proc/sys, the values that are left, and why.
SYSCTL = (
    ("net/ipv4/ip_forward", {"1"}, _FORWARDS),
    ("net/ipv4/conf/*/forwarding", {"1"}, _FORWARDS),
    ("net/bridge/bridge-nf-call-*tables", {"1"}, "kube-proxy's rules don't see the pods' packets otherwise"),
    ("net/ipv4/conf/*/rp_filter", {"0", "2"}, "strict filtering drops pods' packets that come back another way"),
    ("net/ipv4/conf/*/route_localnet", {"1"}, "kube-proxy sends node ports of localhost on with it"),
    ("kernel/modules_disabled", {"0"}, "K3s loads overlay, br_netfilter and vxlan at its start"),
    ("vm/overcommit_memory", {"1"}, _KUBELET),
    ("vm/panic_on_oom", {"0"}, _KUBELET),
    ("kernel/panic", {"10"}, _KUBELET),
    ("kernel/panic_on_oops", {"1"}, _KUBELET),
    ("kernel/keys/root_maxkeys", {"1000000"}, _KUBELET),
    ("kernel/keys/root_maxbytes", {"25000000"}, _KUBELET),
)
# What K3s, flannel, kube-proxy, the CNI plugins and containerd load, or may load.
MODULES = (
    *("overlay", "br_netfilter", "bridge", "veth", "vxlan", "wireguard", "tun", "dummy", "ipvlan", "macvlan"),
    *("nf_*", "nft_*", "nfnetlink*", "ip_set*", "ip_vs*", "ip_tables", "ip6_tables", "iptable_*", "ip6table_*"),
    *("x_tables", "xt_*", "ipt_*", "ip6t_*", "cls_*", "sch_*", "act_*", "ext4", "xfs", "btrfs", "loop"),
)
# Programs run from these, or devices and set-user-id files of images lie there.
FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/opt", "/etc", "/run", "/root", "/var/lib/rancher", "/var/lib/containerd")
FOLDERS_TOO = ("/var/lib/kubelet", "/var/lib/cni", "/var/lib/dpkg")


def problems(controls: Sequence[Control]) -> list[str]:
    """One sentence for each setting that is refused: what, why, and the way out."""
    return [
        *_sysctl_problems({key: value for control in controls for key, value in control.sysctl.items()}),
        *_module_problems([name for control in controls for name in control.modules]),
        *_mount_problems([place for control in controls for place in control.mounts]),
    ]


def _sysctl_problems(wanted: dict[str, str]) -> list[str]:
    return [
        f"hardening_sysctl_settings sets {key} to {value}, and a K3s host needs {' or '.join(sorted(allowed))}: {why}; "
        "take it out."
        for key, value in wanted.items()
        for pattern, allowed, why in SYSCTL
        if (fnmatch.fnmatch(sysctl_path(key), pattern) or fnmatch.fnmatch(pattern, sysctl_path(key)))
        and value not in allowed
    ]


def _module_problems(names: Sequence[str]) -> list[str]:
    return [
        f"hardening_modules_denied names {name}, which K3s, containerd or the pods' network need; take it out."
        for name in names
        if any(fnmatch.fnmatch(name.replace("-", "_"), pattern) for pattern in MODULES)
    ]


def _mount_problems(places: Sequence[str]) -> list[str]:
    found = []
    for place in places:
        for folder in (*FOLDERS, *FOLDERS_TOO):
            if PurePosixPath(folder).is_relative_to(place) or PurePosixPath(place).is_relative_to(folder):
                found.append(
                    f"hardening_mount_options names {place}: containers, K3s or packages run programs from {folder}; "
                    "take it out."
                )
                break
    return found
