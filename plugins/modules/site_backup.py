#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: site_backup
short_description: Back up a K3s server with its applications' volumes while it runs
description:
  - Writes one encrypted file on the host with the datastore (by SQLite's online backup), the cluster's token,
    certificates, credentials and encryption configuration, K3s's configuration, and the declared volumes.
  - SQLite databases in the volumes are copied online too, each as it was at one moment; other files as they are read.
  - Only the key of the certificate can read it. That key is not on the host.
  - The oldest backups beyond O(keep) are removed once the new one is whole.
options:
  node:
    description: Name of this host's node; the backup's name begins with it. The default is the host's name.
    type: str
  volumes:
    description:
      - The volumes to include, each a claim as C(namespace/claim) whose volume is a folder of this host, or the path
        of a folder.
    type: list
    elements: str
    default: []
  keep:
    description: How many backups stay on the host, at least 1.
    type: int
    default: 7
  folder:
    description: Where they lie on the host.
    type: path
    default: /var/backups/edgefleet
  certificate:
    description: The certificate on the host that backups are encrypted for.
    type: path
    default: /etc/edgefleet/backup.crt
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
- name: Back up, with the answers of the exam
  edgefleet.wasm.site_backup:
    volumes: [exam/answers]
"""

RETURN = r"""
path:
  description: The backup on the host.
  returned: success, but not in check mode
  type: str
size:
  description: Its size in bytes.
  returned: success, but not in check mode
  type: int
seconds:
  description: How long it took.
  returned: success, but not in check mode
  type: float
objects:
  description: Number of the datastore's objects by kind.
  returned: success, but not in check mode
  type: dict
removed:
  description: Names of the older backups that were removed.
  returned: success, but not in check mode
  type: list
  elements: str
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import ArchiveError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.backup import BackupError, Wanted, make
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.databases import DatabaseError

ARGUMENTS = {
    "node": {"type": "str"},
    "volumes": {"type": "list", "elements": "str", "default": []},
    "keep": {"type": "int", "default": 7},
    "folder": {"type": "path", "default": "/var/backups/edgefleet"},
    "certificate": {"type": "path", "default": "/etc/edgefleet/backup.crt"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    if params["keep"] < 1:
        module.fail_json(msg=f"keep: {params['keep']} backups can't be kept; the least is 1 (keeper_backups_keep)")
    if module.check_mode:
        # A backup is a change whenever it is asked for; whether it would work shows only when it is made.
        module.exit_json(changed=True)
    wanted = Wanted(
        node=(params["node"] or os.uname().nodename).lower(),
        volumes=params["volumes"],
        keep=params["keep"],
        folder=Path(params["folder"]),
        certificate=Path(params["certificate"]),
    )
    try:
        made = make(module.run_command, wanted)
    except (ArchiveError, BackupError, DatabaseError, K3sError, OSError) as error:
        module.fail_json(msg=f"no backup was made: {error}")
    module.exit_json(
        changed=True,
        path=str(made.path),
        size=made.size,
        seconds=round(made.seconds, 1),
        objects=made.manifest.objects,
        removed=made.removed,
    )


if __name__ == "__main__":
    main()
