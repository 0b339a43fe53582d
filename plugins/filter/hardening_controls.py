# SPDX-License-Identifier: Apache-2.0
"""The table of controls, as the module ``hardening`` takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

DOCUMENTATION = r"""
name: hardening_controls
short_description: The controls that are on, for the module hardening
description:
  - Takes the table of the role P(edgefleet.wasm.hardening#role), leaves out what is off, and puts the items of each
    control together.
positional: modules_allowed
options:
  _input:
    description: The table.
    type: list
    elements: dict
    required: true
  modules_allowed:
    description: Kernel modules that the table denies and this inventory allows.
    type: list
    elements: str
    default: []
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Show the kernel settings of a table
  ansible.builtin.debug:
    msg: "{{ table | edgefleet.wasm.hardening_controls | map(attribute='sysctl') }}"
  vars:
    table:
      - id: sysctl-kernel
        enabled: true
        items: [{id: sysrq, why: nobody is at the keyboard, sysctl: {kernel.sysrq: "0"}}]
"""

RETURN = r"""
_value:
  description: One dictionary for each control that is on.
  type: list
  elements: dict
"""

COPIED = (
    "id",
    "needs",
    "packages",
    "swap_off",
    "units",
    "ssh_passwords",
    "firewall",
    "ssh_ports",
    "ssh_sources",
    "after",
)
DICTIONARIES = ("sysctl", "mounts", "sshd")
LISTS = ("permissions", "modules", "audit")


def hardening_controls(table: Iterable[Mapping[str, Any]], modules_allowed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The controls that are on; what the module renders by itself has a file without content in the table."""
    return [_control(row, {_module(name) for name in modules_allowed}) for row in table if boolean(row["enabled"])]


def _control(row: Mapping[str, Any], allowed: set[str]) -> dict[str, Any]:
    control: dict[str, Any] = {key: row[key] for key in COPIED if key in row}
    control["files"] = [dict(file) for file in row.get("files", []) if "content" in file]
    control["settings"] = {}
    for kind in DICTIONARIES:
        control[kind] = {}
    for kind in LISTS:
        control[kind] = []
    for item in row.get("items", []):
        for kind in DICTIONARIES:
            _over(control[kind], item.get(kind, {}))
        for kind in LISTS:
            control[kind] += item.get(kind, [])
        for path, keys in item.get("settings", {}).items():
            control["settings"].setdefault(path, {}).update(keys)
    control["modules"] = [name for name in control["modules"] if _module(name) not in allowed]
    if row.get("audit_locked"):
        control["audit"].append("-e 2")
    return control


def _over(whole: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Later ones win, however their keywords are written."""
    written = {key.lower(): key for key in whole}
    for key, value in more.items():
        whole.pop(written.get(key.lower(), key), None)
        whole[key] = value


def _module(name: str) -> str:
    return name.replace("-", "_")


class FilterModule:
    """For Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"hardening_controls": hardening_controls}
