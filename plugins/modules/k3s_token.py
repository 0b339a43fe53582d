#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_token
short_description: Give a K3s cluster another token
description:
  - Asks the running server for what C(k3s token rotate) asks for, without a token on any command line.
  - Nothing restarts. Nodes that have joined go on; those that join from now on need the new token.
  - K3s's datastore is bound to its token, so that a server whose configuration names the old one does not start any
    more. Where a token is declared, write the configuration next (the role k3s does).
options:
  token:
    description: The new token. If it is empty, K3s makes one at random, each time.
    type: str
    default: ""
  port:
    description: The port of the server (C(https-listen-port)).
    type: int
    default: 6443
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
- name: Give the cluster another token
  edgefleet.wasm.k3s_token:
    token: "{{ k3s_token }}"
"""

RETURN = r"""
path:
  description: Where the server keeps the token.
  returned: success
  type: str
  sample: /var/lib/rancher/k3s/server/token
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3S, K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_token import Supervisor


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "token": {"type": "str", "default": "", "no_log": True},
            "port": {"type": "int", "default": 6443},
        },
        supports_check_mode=True,
    )
    supervisor = Supervisor(module.params["port"])
    if module.check_mode and not Path(K3S).exists():
        # What would install it has run in check mode too.
        module.exit_json(changed=True, path=str(supervisor.token_file), msg="check mode: K3s is not on this host yet")
    try:
        changed = supervisor.rotate(module.params["token"], module.check_mode)
    except K3sError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, path=str(supervisor.token_file))


if __name__ == "__main__":
    main()
