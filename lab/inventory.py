"""The inventory that Ansible uses: written by `up`, the lab's only word to the collection."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from lab import ssh
from lab.hosts import Host
from lab.paths import LabPaths


def content(paths: LabPaths, hosts: Sequence[Host]) -> dict[str, Any]:
    """The groups. Every host is a site of its own, so a K3s server each; there are no agents yet."""
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
    servers = {host.name: {"ansible_host": host.address} for host in hosts}
    return {
        "edge": {
            "children": {"k3s_servers": {"hosts": servers}, "k3s_agents": {"hosts": {}}},
            "vars": connection,
        }
    }


def write(paths: LabPaths, hosts: Sequence[Host]) -> None:
    """Put hosts.yml in place, with the committed group_vars beside it."""
    paths.inventory.mkdir(parents=True, exist_ok=True)
    beside = paths.inventory / "group_vars"
    if beside != paths.group_vars and not beside.is_symlink():
        beside.symlink_to(paths.group_vars)
    header = f"# Lab {paths.name} ({paths.id}); written by `python -m lab up`, removed by `python -m lab down`.\n---\n"
    part = paths.inventory / ".hosts.part"
    part.write_text(header + yaml.safe_dump(content(paths, hosts), sort_keys=False), encoding="utf-8")
    part.rename(paths.inventory / "hosts.yml")


def remove(paths: LabPaths) -> None:
    """Take hosts.yml away; the folder of the default lab is the checkout's own."""
    (paths.inventory / "hosts.yml").unlink(missing_ok=True)
    (paths.inventory / ".hosts.part").unlink(missing_ok=True)
