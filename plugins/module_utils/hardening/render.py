# SPDX-License-Identifier: Apache-2.0
"""The files that depend on what the host has: kernel settings, modules, mounts, audit rules."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import Control, File

SYSCTL = "/etc/sysctl.d/99-edgefleet-hardening.conf"
MODULES = "/etc/modprobe.d/edgefleet-hardening.conf"
MOUNTS = "/etc/systemd/system/edgefleet-mounts.service"
AUDIT = "/etc/audit/rules.d/50-edgefleet.rules"
_HEADER = "# Written by the role edgefleet.wasm.hardening: change {} in the inventory instead.\n"
_MOUNT_UNIT = """[Unit]
Description=Mount options of edgefleet
DefaultDependencies=no
After=local-fs.target systemd-remount-fs.service
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
{}
[Install]
WantedBy=sysinit.target
"""


def files(controls: Sequence[Control]) -> list[File]:
    """Those of these files that have something in them."""
    parts = (
        (SYSCTL, "hardening_sysctl_settings", 0o644, _sysctl(controls)),
        (MODULES, "hardening_modules_denied and hardening_modules_allowed", 0o644, _modules(controls)),
        (MOUNTS, "hardening_mount_options", 0o644, _mounts(controls)),
        (AUDIT, "hardening_audit_rules", 0o640, _audit(controls, os.uname().machine)),
    )
    return [File(path, _HEADER.format(variable) + text, mode) for path, variable, mode, text in parts if text]


def _sysctl(controls: Sequence[Control]) -> str:
    """With a dash: a setting that a later kernel doesn't have any more is no failure of the boot."""
    return "".join(f"-{key} = {value}\n" for one in controls for key, value in one.sysctl.items())


def _modules(controls: Sequence[Control]) -> str:
    """Neither by itself nor on demand."""
    names = [name for one in controls for name in one.modules]
    return "".join(f"blacklist {name}\ninstall {name} /bin/false\n" for name in names)


def _mounts(controls: Sequence[Control]) -> str:
    lines = [
        f"ExecStart=-/usr/bin/mount -o remount,{','.join(options)} {place}\n"
        for one in controls
        for place, options in one.mounts.items()
    ]
    return _MOUNT_UNIT.format("".join(lines)) if lines else ""


def _audit(controls: Sequence[Control], machine: str) -> str:
    rules = [rule for one in controls for rule in one.audit]
    if not rules:
        return ""
    # A program of the other word size would not be seen.
    both = [
        rule.replace("arch=b64", f"arch={size}")
        for rule in rules
        for size in (("b64", "b32") if machine == "x86_64" and "arch=b64" in rule else ("b64",))
    ]
    return "".join(f"{rule}\n" for rule in both)
