#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: site_backup_check
short_description: Rehearse the restore of a backup on the controller
description:
  - Decrypts a backup with the operator's key, unpacks it, compares every file with what was noted when it was made,
    reads every SQLite database in it from end to end, and counts the objects in the datastore.
  - An action plugin alone; it contacts no host. Nothing of the backup stays on the controller.
options:
  src:
    description: The backup on the controller.
    type: path
    required: true
  key:
    description: The key of the backup certificate on the controller.
    type: path
    required: true
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
- name: Can this backup be restored
  edgefleet.wasm.site_backup_check:
    src: /srv/backups/hall-017-20261128T023000Z.edgefleet-backup
    key: /srv/keys/backup.key
"""

RETURN = r"""
of:
  description: The node that the backup is of.
  returned: success
  type: str
made:
  description: When it was made, UTC.
  returned: success
  type: str
k3s:
  description: The version of K3s that it is of.
  returned: success
  type: str
databases:
  description: How many databases were read and are sound.
  returned: success
  type: int
objects:
  description: Number of the datastore's objects by kind.
  returned: success
  type: dict
volumes:
  description: The volumes in it, each with its folder.
  returned: success
  type: dict
"""

# The action plugin of the same name does all of it, on the controller.
