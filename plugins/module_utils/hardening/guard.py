# SPDX-License-Identifier: Apache-2.0
"""What could cut Ansible off is taken back by the host itself unless a new connection confirms it in time.

Before such a change the files as they are now are copied beside the take-back script, and its timer is started. The
script and a confirmation both begin by renaming that folder, so only one of them acts. Nothing here depends on Ansible
being alive, and a boot takes back what was never confirmed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sync_folder, write_atomically
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import HardeningError, Machine

FOLDER = "/var/lib/edgefleet/hardening"
PENDING = f"{FOLDER}/pending"
TIMER = "edgefleet-takeback.timer"
ABSENT = ".absent"


def pending(machine: Machine) -> bool:
    """Whether a change waits for its confirmation."""
    return machine.path(PENDING).is_dir()


def arm(machine: Machine, files: Mapping[str, str]) -> None:
    """Keep these files (path by name) as they are now, and start the time. What nobody confirmed yet stays kept."""
    if not pending(machine):
        part = machine.path(f"{PENDING}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, path in files.items():
            content = machine.read(path)
            write_atomically(part / (name if content is not None else name + ABSENT), content or "")
        part.rename(machine.path(PENDING))
        sync_folder(machine.path(FOLDER))
    machine.must("systemctl", "restart", TIMER)


def confirm(machine: Machine) -> None:
    """Keep the change for good."""
    confirmed = machine.path(f"{PENDING}.confirmed")
    shutil.rmtree(confirmed, ignore_errors=True)
    try:
        os.rename(machine.path(PENDING), confirmed)  # noqa: PTH104 - one system call, whoever comes first wins
    except FileNotFoundError as error:
        raise HardeningError(
            "this host has taken its ssh and firewall changes back, since no new connection confirmed them in time "
            "(journalctl -u edgefleet-takeback); raise hardening_confirm_seconds if the link is that slow."
        ) from error
    machine.must("systemctl", "stop", TIMER)
    shutil.rmtree(confirmed)


def forget(machine: Machine) -> None:
    """Nothing is waiting any more: all that is guarded has gone."""
    machine.run(["systemctl", "stop", TIMER])
    shutil.rmtree(machine.path(PENDING), ignore_errors=True)
