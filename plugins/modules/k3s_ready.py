#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_ready
short_description: Wait until the K3s on this host is ready for pods
description:
  - Waits, in one round trip, until the service is up and no restart is pending, the API server answers C(/readyz) and
    reports the wanted version, this host's node is Ready at that version, the runtime classes exist, and pods can be
    made in the namespace C(default) (its ServiceAccount appears a moment after the node).
  - It looks at what the API reports, not at the file on disk.
  - An agent asks as its kubelet does. When it can't join, the error says what its journal tells of the server; a cause
    that waiting does not remove (a token that is rejected, say) ends the wait early.
  - Changes nothing. In check mode it asks once, does not wait and does not fail.
options:
  role:
    description: What the host is.
    type: str
    choices: [server, agent]
    default: server
  server:
    description: The address of an agent's server, for its errors.
    type: str
    default: ""
  version:
    description: The version that API server and node must report, for example C(v1.30.4+k3s1).
    type: str
    required: true
  node:
    description: Name of this host's node. The default is the host's name in lower case, as K3s does it.
    type: str
  runtime_classes:
    description: Runtime classes that must exist.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait.
    type: int
    default: 300
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Wait until K3s can run Wasm pods
  edgefleet.wasm.k3s_ready:
    version: v1.30.4+k3s1
    runtime_classes: [wasmedge]
    timeout: 300
"""

RETURN = r"""
ready:
  description: Whether everything was ready. Always true outside check mode.
  returned: success
  type: bool
missing:
  description: What is not ready. Empty if all is.
  returned: success
  type: str
waited_seconds:
  description: How long it took.
  returned: success
  type: float
server_version:
  description: The version that the API server reports.
  returned: success
  type: str
  sample: v1.30.4+k3s1
node:
  description: This host's node as the API reports it.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: when ready
    ready:
      description: Whether its condition Ready is true.
      type: bool
      returned: when ready
    reason:
      description: The reason and message of that condition.
      type: str
      returned: when ready
    version:
      description: The kubelet's version.
      type: str
      returned: when ready
    container_runtime:
      description: The container runtime and its version.
      type: str
      returned: when ready
      sample: containerd://2.0.11
journal:
  description: The last errors in K3s's journal.
  returned: failure
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import (
    Expectation,
    K3sError,
    Readiness,
    journal_errors,
    wait_until_ready,
)

ARGUMENTS = {
    "role": {"type": "str", "choices": ["server", "agent"], "default": "server"},
    "server": {"type": "str", "default": ""},
    "version": {"type": "str", "required": True},
    "node": {"type": "str"},
    "runtime_classes": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 300},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    expected = Expectation(
        node=(params["node"] or os.uname().nodename).lower(),
        version=params["version"],
        runtime_classes=tuple(params["runtime_classes"]),
        role=params["role"],
        server=params["server"],
    )
    readiness = Readiness(module.run_command, expected)
    try:
        missing = readiness.missing() if module.check_mode else ""
        waited = 0.0 if module.check_mode else wait_until_ready(readiness, params["timeout"])
    except K3sError as error:
        module.fail_json(
            msg=f"{error}. Look at: journalctl -u {readiness.service} -n 200",
            journal=journal_errors(module.run_command, readiness.service),
        )
    module.exit_json(
        changed=False,
        ready=not missing,
        missing=missing,
        waited_seconds=round(waited, 1),
        server_version=readiness.server_version,
        node=readiness.node,
    )


if __name__ == "__main__":
    main()
