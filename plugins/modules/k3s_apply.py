#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_apply
short_description: Apply manifests of the controller to the K3s on a host and wait until they run
description:
  - The controller reads and checks the manifests; the host gets them in one round trip and applies them with K3s's
    own kubectl, server-side, as the field manager C(edgefleet). The host needs nothing but K3s.
  - Whether something changes is what the API server says when it is asked what an apply would do, so that a second
    run reports no change, and what somebody changed by hand is reported and put back.
  - Waits until every Deployment, StatefulSet and DaemonSet among the objects has rolled out.
  - What is no longer in the manifests is not removed.
options:
  src:
    description:
      - Files and folders on the controller. Of a folder its C(.yaml), C(.yml) and C(.json) files are taken, not its
        sub-folders.
    type: list
    elements: path
    required: true
  state:
    description:
      - V(verified) checks the manifests on the controller and never touches the host.
      - V(applied) applies them and waits.
    type: str
    choices: [verified, applied]
    default: applied
  timeout:
    description: Seconds to wait for the workloads.
    type: int
    default: 180
  bundle:
    description: For the action plugin, which passes on here what it has read. Not for use in a playbook.
    type: str
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: On a host without K3s everything is reported as new.
  diff_mode:
    support: full
    details: The values of Secrets are masked by kubectl.
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: See that the manifests are whole, before any host changes
  edgefleet.wasm.k3s_apply:
    src: ["{{ playbook_dir }}/files/shop"]
    state: verified

- name: Apply them
  edgefleet.wasm.k3s_apply:
    src: ["{{ playbook_dir }}/files/shop"]
"""

RETURN = r"""
objects:
  description: All objects of the manifests.
  returned: success
  type: list
  elements: str
  sample: [Namespace shop, Deployment shop/till]
differing:
  description: Those that were created or changed, or would be in check mode.
  returned: when O(state=applied)
  type: list
  elements: str
waited_seconds:
  description: How long the workloads took.
  returned: when O(state=applied)
  type: float
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3S, PATIENCE_SECONDS, K3sError, Kubectl
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_apply import Applier, Outcome, Rollouts
from ansible_collections.edgefleet.wasm.plugins.module_utils.manifests import identity, unpack

ARGUMENTS = {
    "src": {"type": "list", "elements": "path", "required": True},
    "state": {"type": "str", "choices": ["verified", "applied"], "default": "applied"},
    "timeout": {"type": "int", "default": 180},
    "bundle": {"type": "str", "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    objects = unpack(module.params["bundle"])
    names = [identity(one) for one in objects]
    if module.check_mode and not Path(K3S).exists():
        module.exit_json(changed=True, objects=names, differing=names, waited_seconds=0.0)
    kubectl = Kubectl(module.run_command, patience=PATIENCE_SECONDS)
    outcome = Outcome()
    try:
        outcome = Applier(kubectl, check=module.check_mode).apply(objects)
        if not module.check_mode:
            outcome.waited_seconds = Rollouts(kubectl).wait(objects, module.params["timeout"])
    except K3sError as error:
        module.fail_json(msg=str(error), changed=bool(outcome.differing), differing=outcome.differing)
    module.exit_json(
        changed=bool(outcome.differing),
        objects=names,
        differing=outcome.differing,
        waited_seconds=round(outcome.waited_seconds, 1),
        diff={"prepared": outcome.diff},
    )


if __name__ == "__main__":
    main()
