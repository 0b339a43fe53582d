#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: site_trial
short_description: Guard a change of versions or configuration, so that the host goes back by itself if it does no good
description:
  - With C(begun) it requires that the host is well, that the step is one that K3s allows and that there is room; then
    it keeps programs, units, configuration, Wasm engine and datastore as they are, and starts the host's own watcher. A
    change that was cut goes on with what was kept when it began.
  - With C(kept) the change is whole. It waits until API server and node are ready at the version of the program on disk
    and every workload has as many ready pods as before, and keeps it; or the host goes back, and this fails.
  - With C(returned) the host goes back now. With C(rolled_back) it goes to the set before the last change that was
    kept; the datastore stays as it is.
  - The role C(keeper) has to be on the host. What is decided there needs no Ansible.
options:
  state:
    description: What to do.
    type: str
    choices: [begun, kept, returned, rolled_back]
    required: true
  version:
    description: With C(begun), the version of K3s that the change brings.
    type: str
  reason:
    description: With C(returned), why.
    type: str
    default: asked for
  timeout:
    description: With C(kept) and C(rolled_back), seconds until all must be well.
    type: int
    default: 300
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details:
      - With C(begun) and C(rolled_back) it looks whether the change might begin, where K3s is; nothing is kept.
      - Without K3s there is nothing that C(rolled_back) might change.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Guard what follows
  edgefleet.wasm.site_trial:
    state: begun
    version: v1.30.4+k3s1
"""

RETURN = r"""
msg:
  description: How it ended, in one sentence.
  returned: always, but with C(begun)
  type: str
continued:
  description: Whether an earlier change, that was cut, goes on.
  returned: with C(begun), but not in check mode
  type: bool
outcome:
  description: C(kept) or C(returned).
  returned: with the other states, but not in check mode
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3S
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import settings
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.program import ERRORS, run_command, told
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.state import Outcome
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.trial import Trial

ARGUMENTS = {
    "state": {"type": "str", "choices": ["begun", "kept", "returned", "rolled_back"], "required": True},
    "version": {"type": "str"},
    "reason": {"type": "str", "default": "asked for"},
    "timeout": {"type": "int", "default": 300},
}


def foreseen(trial: Trial, state: str, version: str) -> dict[str, Any]:
    """What check mode says where K3s is: whether the change might begin."""
    if state == "begun":
        trial.preflight(version)
        return {"changed": True}
    if state == "rolled_back":
        return {"changed": True, "msg": f"check mode: the host would go back to K3s {trial.earlier().k3s}"}
    return {"changed": True, "msg": "check mode: nothing was kept or put back"}


def ended(trial: Trial, state: str, reason: str, timeout: int) -> Outcome:
    if state == "kept":
        return trial.keep(timeout)
    return trial.back(reason) if state == "returned" else trial.roll_back(timeout)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, required_if=[("state", "begun", ("version",))], supports_check_mode=True
    )
    state, version = module.params["state"], module.params["version"]
    if module.check_mode and not (settings.SETTINGS.exists() and Path(K3S).exists()):
        # What installs it, in the same play, is guarded then; nothing is rolled back.
        module.exit_json(changed=state != "rolled_back", msg="check mode: K3s and keeper are not on this host yet")
    try:
        # Not Ansible's own way to run commands: it ends the module where a program can't be started at all.
        trial = Trial(run_command, settings.load())
        if module.check_mode:
            module.exit_json(**foreseen(trial, state, version))
        if state == "begun":
            module.exit_json(changed=True, continued=not trial.begin(version))
        outcome = ended(trial, state, module.params["reason"], module.params["timeout"])
    except ERRORS as error:
        module.fail_json(msg=str(error))
    wanted = "returned" if state == "returned" else "kept"
    if outcome.outcome != wanted:
        module.fail_json(msg=told(outcome), outcome=outcome.outcome)
    module.exit_json(changed=True, msg=told(outcome), outcome=outcome.outcome)


if __name__ == "__main__":
    main()
