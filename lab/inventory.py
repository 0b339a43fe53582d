"""The inventory that Ansible uses: written by `up`, the lab's only word to the collection."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from lab import ssh
from lab.hosts import Host
from lab.paths import LabPaths
from lab.topology import Kind


def content(paths: LabPaths, hosts: Sequence[Host], kind: Kind) -> dict[str, Any]:
    """The groups: what a host is to K3s, and what kind of lab host it is."""
    connection: dict[str, Any] = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(paths.key),
        "ansible_ssh_common_args": shlex.join(ssh.options(paths)),
        "ansible_python_interpreter": "/usr/bin/python3",
        "edgefleet_mirror_dir": str(paths.mirror),
        "edgefleet_report_dir": str(paths.reports),
        # The service that the lab builds from this checkout; which images: group_vars/edge.yml.
        "site_bundle_manifests": [str(paths.checkout / "wasm" / "skeleton" / "manifests")],
    }
    folder = ssh.control_folder(paths)
    if folder is not None:
        connection["ansible_control_path_dir"] = str(folder)
    servers = [host.name for host in hosts if host.name.startswith("edge")]
    agents = [host.name for host in hosts if host.name not in servers]
    variables = {host.name: {"ansible_host": host.address} for host in hosts}
    if len(servers) > 1:
        # With one server an agent needs no word; several get the agents in turn.
        for number, agent in enumerate(agents):
            variables[agent]["k3s_server"] = servers[number % len(servers)]
    return {
        "edge": {
            "children": {
                "k3s_servers": {"hosts": {name: variables[name] for name in servers}},
                "k3s_agents": {"hosts": {name: variables[name] for name in agents}},
                "lab_containers": {"hosts": _members(variables if kind is Kind.CONTAINERS else ())},
                "lab_vms": {"hosts": _members(variables if kind is Kind.VM else ())},
            },
            "vars": connection,
        }
    }


def _members(names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {name: {} for name in names}


def write(paths: LabPaths, hosts: Sequence[Host], kind: Kind) -> None:
    """Put hosts.yml in place, with the committed group_vars beside it."""
    paths.inventory.mkdir(parents=True, exist_ok=True)
    beside = paths.inventory / "group_vars"
    if beside != paths.group_vars and not beside.is_symlink():
        beside.symlink_to(paths.group_vars)
    header = f"# Lab {paths.name} ({paths.id}); written by `python -m lab up`, removed by `python -m lab down`.\n---\n"
    part = paths.inventory / ".hosts.part"
    part.write_text(header + yaml.safe_dump(content(paths, hosts, kind), sort_keys=False), encoding="utf-8")
    part.rename(paths.inventory / "hosts.yml")


def remove(paths: LabPaths) -> None:
    """Take hosts.yml away; the folder of the default lab is the checkout's own."""
    (paths.inventory / "hosts.yml").unlink(missing_ok=True)
    (paths.inventory / ".hosts.part").unlink(missing_ok=True)
