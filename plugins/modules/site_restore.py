#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: site_restore
short_description: Put a backup back on its host, or on another one under another name
description:
  - Decrypts the backup on the controller and reads every file and database of it; only then is it sent to the host.
    The key stays on the controller. What is sent is decrypted, inside ssh, and lies on the host in a folder of the
    login's own until the restore has ended.
  - On the host, which the playbook C(edgefleet.wasm.site) has prepared, it replaces the whole cluster with its
    secrets and the volumes that are in the backup. Everything that runs there ends. K3s's version and configuration
    stay as they are declared for the host.
  - Under another name the old node is removed, and the volumes that were bound to it by name are bound to this one.
  - Waits until the workloads have as many ready pods as they had.
options:
  src:
    description: The backup on the controller.
    type: path
    required: true
  key:
    description: The key of the backup certificate on the controller.
    type: path
    required: true
  node:
    description: Name of this host's node. The default is the host's name.
    type: str
  runtime_classes:
    description: Runtime classes that must exist.
    type: list
    elements: str
    default: []
  ready_timeout:
    description: Seconds to wait for K3s.
    type: int
    default: 300
  workloads_timeout:
    description: Seconds to wait for the workloads.
    type: int
    default: 300
  source:
    description: For the action plugin, which passes on where the decrypted backup is. Not for use in a playbook.
    type: path
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Decrypts and checks the backup on the controller; the host is not asked.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Put a hall back on a new host
  edgefleet.wasm.site_restore:
    src: /srv/backups/hall-017-20261128T023000Z.edgefleet-backup
    key: /srv/keys/backup.key
"""

RETURN = r"""
of:
  description: The node that the backup is of.
  returned: when the backup could be read
  type: str
made:
  description: When it was made, UTC.
  returned: when the backup could be read
  type: str
k3s:
  description: The version of K3s that it is of.
  returned: when the backup could be read
  type: str
done:
  description: What was replaced, moved and removed.
  returned: success, but not in check mode
  type: list
  elements: str
seconds:
  description: From the stop of K3s until the workloads were ready again.
  returned: success, but not in check mode
  type: float
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import ArchiveError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.databases import DatabaseError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.restore import Restore, RestoreError, Wanted

ARGUMENTS = {
    "node": {"type": "str"},
    "runtime_classes": {"type": "list", "elements": "str", "default": []},
    "ready_timeout": {"type": "int", "default": 300},
    "workloads_timeout": {"type": "int", "default": 300},
    "source": {"type": "path", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    params = module.params
    wanted = Wanted(
        source=Path(params["source"]),
        node=(params["node"] or os.uname().nodename).lower(),
        runtime_classes=tuple(params["runtime_classes"]),
        ready_timeout=params["ready_timeout"],
        workloads_timeout=params["workloads_timeout"],
    )
    try:
        restored = Restore(module.run_command, wanted).everything()
    except (ArchiveError, DatabaseError, K3sError, RestoreError, OSError) as error:
        module.fail_json(msg=f"the restore did not end well: {error}")
    module.exit_json(changed=True, done=restored.done, seconds=round(restored.seconds, 1))


if __name__ == "__main__":
    main()
