#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_reset
short_description: Take K3s off a host, its data included
description:
  - Stops the service (a server's or an agent's), removes the pods through containerd's CRI (with their networks) and
    kills what does not answer, removes the CNI interfaces and network namespaces, the unit, the configuration, the
    datastore and the volumes of local-path.
  - Of the firewall it removes the rules and chains of Kubernetes, CNI and flannel alone, each table in one step.
    Other rules are not rewritten.
  - It unmounts only below C(/run/k3s), C(/var/lib/kubelet/pods) and C(/var/lib/kubelet/plugins), and never removes
    files through a mount or a link. A disk that is mounted below C(/var/lib/rancher/k3s) stays, with its data, and is
    named in RV(kept).
  - The binary itself is an artifact (see M(edgefleet.wasm.artifact)), containerd is left alone.
options:
  confirm:
    description: Must be true. The data can't be brought back.
    type: bool
    required: true
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
- name: Take K3s off the host
  edgefleet.wasm.k3s_reset:
    confirm: true
"""

RETURN = r"""
removed:
  description: What was removed, stopped or unmounted, in this order.
  returned: success
  type: list
  elements: str
kept:
  description: What was left, and why.
  returned: success
  type: list
  elements: str
node:
  description: The name that the node had unless C(node-name) was set.
  returned: success
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_reset import Reset

ARGUMENTS = {"confirm": {"type": "bool", "required": True}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if not module.params["confirm"]:
        module.fail_json(msg="K3s and its data are removed only with confirm=true")
    reset = Reset(run=module.run_command, check=module.check_mode)
    try:
        reset.everything()
    except (K3sError, OSError) as error:
        module.fail_json(msg=f"K3s was not removed completely: {error}", removed=reset.done, kept=reset.kept)
    module.exit_json(
        changed=bool(reset.done),
        removed=reset.done,
        kept=reset.kept,
        node=os.uname().nodename.lower(),
        diff={"before": "".join(f"{line}\n" for line in reset.done), "after": ""},
    )


if __name__ == "__main__":
    main()
