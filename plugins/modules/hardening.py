#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: hardening
short_description: Bring a host to its hardening controls, or back
description:
  - Compares all that the role P(edgefleet.wasm.hardening#role) declares with the host in one round trip, and makes
    what differs so. What was there before is kept in C(/var/lib/edgefleet/hardening.json), so that a control that is
    not declared any more is taken back.
  - Changes of sshd and of the firewall are taken back by the host itself unless a new connection confirms them; the
    module's action plugin opens that connection.
  - Refuses, before anything changes, what would lock out the connection that it runs over, what sshd or nft don't
    accept and what would break K3s.
options:
  state:
    description:
      - V(checked) only looks, and fails with every reason not to go on.
      - V(noted) remembers which packages O(packages) will bring, before they are installed.
      - V(present) makes the host so; with no O(controls) everything is taken back.
      - V(confirmed) keeps the changes of sshd and the firewall; only a new connection may say so.
    type: str
    choices: [checked, noted, present, confirmed]
    default: present
  packages:
    description: For O(state=noted).
    type: list
    elements: str
    default: []
  confirm_seconds:
    description: How long the action plugin tries to open a new connection.
    type: int
    default: 60
  controls:
    description: The controls that are on, as C(roles/hardening/vars/main) declares them.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: The control's name.
        type: str
        required: true
      needs:
        description: What the host must have for it; without, the control is named in RV(not_applicable).
        type: list
        elements: str
        default: []
      packages:
        description: Packages that it uses.
        type: list
        elements: str
        default: []
      files:
        description: Files as they have to be, each with C(path), C(content) and C(mode).
        type: list
        elements: dict
        default: []
      settings:
        description: Keys and values by file, for files of one key and its value on a line.
        type: dict
        default: {}
      permissions:
        description: The widest C(mode) and the C(group) by C(path), a shell pattern.
        type: list
        elements: dict
        default: []
      sysctl:
        description: Kernel settings.
        type: dict
        default: {}
      mounts:
        description: Options by mount point.
        type: dict
        default: {}
      modules:
        description: Kernel modules that are unloaded where they are not in use.
        type: list
        elements: str
        default: []
      swap_off:
        description: Whether swap in use is turned off.
        type: bool
        default: false
      units:
        description: Units that are C(started), C(enabled), C(absent) or C(masked).
        type: dict
        default: {}
      sshd:
        description: Keywords of sshd_config.
        type: dict
        default: {}
      ssh_passwords:
        description: Whether sshd takes passwords; V(auto) turns them off where the present connection uses a key.
        type: str
        choices: [auto, enabled, disabled, unchanged]
        default: unchanged
      firewall:
        description: Rules in nft's language, with C($ssh_ports) for the ports of ssh.
        type: str
        default: ''
      ssh_ports:
        description: Those ports; the ones that sshd listens on if empty.
        type: list
        elements: int
        default: []
      ssh_sources:
        description: The addresses that the rules let in by ssh; any if empty.
        type: list
        elements: str
        default: []
      audit:
        description: Rules of the kernel's audit; those for C(b64) are written for C(b32) too where that exists.
        type: list
        elements: str
        default: []
      after:
        description: Commands that a change of its files calls for.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Turn magic keys off, and restrict the kernel's log
  edgefleet.wasm.hardening:
    controls:
      - id: sysctl-kernel
        sysctl: {kernel.sysrq: 0, kernel.dmesg_restrict: 1}

- name: Take every control back
  edgefleet.wasm.hardening:
    controls: []
"""

RETURN = r"""
changes:
  description: What was changed, or would be.
  returned: success
  type: list
  elements: str
not_applicable:
  description: Controls that this host can't have, with the reason.
  returned: success
  type: list
  elements: str
missing_packages:
  description: Packages that the controls need and the host doesn't have.
  returned: success
  type: list
  elements: str
unconfirmed:
  description: Whether a new connection has to confirm the changes.
  returned: success
  type: bool
problems:
  description: One sentence for each reason not to go on.
  returned: failure
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening import guard, plan
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.arguments import ARGUMENTS, control_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.core import Hardening
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import HardeningError, Machine, Memory


def note(machine: Machine, packages: list[str], check_mode: bool) -> dict[str, Any]:
    """Remember what the packages will bring."""
    if not check_mode:
        memory = Memory.load(machine)
        plan.note_packages(machine, memory, packages)
        memory.save(machine)
    return {"changed": False}


def converge(machine: Machine, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look, and unless only that is wanted make the host so."""
    hardening = Hardening(machine, [control_of(one) for one in params["controls"]])
    look = hardening.examine()
    if look.problems:
        return {"failed": True, "msg": " ".join(look.problems), "problems": look.problems}
    looks_only = params["state"] == "checked"
    result = {
        "changed": bool(look.changes) and not looks_only,
        "changes": [change.what for change in look.changes],
        "not_applicable": look.not_applicable,
        "missing_packages": look.missing_packages,
        "unconfirmed": False,
        "diff": [
            {"before": change.before, "after": change.after, "before_header": change.what, "after_header": change.what}
            for change in look.changes
            if not looks_only
        ],
    }
    if looks_only or check_mode:
        return result
    return {**result, "unconfirmed": hardening.converge()}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    machine = Machine(module.run_command, Path("/"))
    try:
        if module.params["state"] == "noted":
            result = note(machine, module.params["packages"], module.check_mode)
        elif module.params["state"] == "confirmed":
            guard.confirm(machine)
            result = {"changed": False}
        else:
            result = converge(machine, module.params, module.check_mode)
    except (HardeningError, OSError) as error:
        result = {"failed": True, "msg": str(error)}
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
