# SPDX-License-Identifier: Apache-2.0
"""The module's arguments, which its action plugin checks too, and what they mean."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import Control, File, Permission

_WORDS = {"type": "list", "elements": "str", "default": []}
_KEYS = {"type": "dict", "default": {}}
CONTROL: dict[str, Any] = {
    "id": {"type": "str", "required": True},
    "needs": _WORDS,
    "packages": _WORDS,
    "files": {"type": "list", "elements": "dict", "default": []},
    "settings": _KEYS,
    "permissions": {"type": "list", "elements": "dict", "default": []},
    "sysctl": _KEYS,
    "mounts": _KEYS,
    "modules": _WORDS,
    "swap_off": {"type": "bool", "default": False},
    "units": _KEYS,
    "sshd": _KEYS,
    "ssh_passwords": {"type": "str", "choices": ["auto", "enabled", "disabled", "unchanged"], "default": "unchanged"},
    "firewall": {"type": "str", "default": ""},
    "ssh_ports": {"type": "list", "elements": "int", "default": []},
    "ssh_sources": _WORDS,
    "audit": _WORDS,
    "after": _WORDS,
}
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["checked", "noted", "present", "confirmed"], "default": "present"},
    "packages": _WORDS,
    "confirm_seconds": {"type": "int", "default": 60},
    "controls": {"type": "list", "elements": "dict", "default": [], "options": CONTROL},
}


def control_of(given: dict[str, Any]) -> Control:
    """A control from the module's arguments. Modes are text, since YAML makes decimals of them."""
    return Control(
        id=given["id"],
        needs=tuple(given["needs"]),
        packages=tuple(given["packages"]),
        files=tuple(File(one["path"], one["content"], int(one["mode"], 8)) for one in given["files"]),
        settings={path: {k: str(v) for k, v in keys.items()} for path, keys in given["settings"].items()},
        permissions=tuple(
            Permission(one["path"], int(one["mode"], 8), one.get("group", "root")) for one in given["permissions"]
        ),
        sysctl={key: str(value) for key, value in given["sysctl"].items()},
        mounts={place: list(options) for place, options in given["mounts"].items()},
        modules=tuple(given["modules"]),
        swap_off=given["swap_off"],
        units=dict(given["units"]),
        sshd=dict(given["sshd"]),
        ssh_passwords=given["ssh_passwords"],
        firewall=given["firewall"],
        ssh_ports=tuple(given["ssh_ports"]),
        ssh_sources=tuple(given["ssh_sources"]),
        audit=tuple(given["audit"]),
        after=tuple(given["after"]),
    )
