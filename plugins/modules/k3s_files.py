#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_files
short_description: Write K3s's files on a host in one round trip
description:
  - Kernel settings, folders, files, secrets, lines in files of the operator, and the rights of files that K3s writes
    itself. Everything belongs to root. Only what differs is written, each file in one step.
  - Secrets and lines in the operator's files are neither logged nor shown as a difference.
options:
  settings:
    description: Kernel settings by their name, such as C(kernel.panic). They are set at once; at boot by a file.
    type: dict
    default: {}
  folders:
    description: Modes by folder.
    type: dict
    default: {}
  files:
    description: Files that anyone may see in a difference.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      content:
        description: What is in it.
        type: str
        required: true
      mode:
        description: Its mode.
        type: str
        default: "0644"
  secrets:
    description:
      - Files for root alone, each with C(path) and C(content), as JSON in base64. So packed, the host's log of what its
        modules are given can leave them out, line breaks and all.
    type: str
    default: ""
  block_path:
    description: A file of the operator's in which O(block_lines) stand, behind the others. For root alone.
    type: path
  block_lines:
    description: The lines. With none, those of an earlier run are taken out.
    type: list
    elements: str
    default: []
  absent:
    description: Files that must not be there.
    type: list
    elements: path
    default: []
  private:
    description: Patterns of files that K3s writes itself. Those that are there become root's alone.
    type: list
    elements: str
    default: []
  units:
    description:
      - Units by whether they are to run, now and at boot. They are looked at, not changed; RV(units_differing) tells
        which are not so, for M(ansible.builtin.systemd_service).
    type: dict
    default: {}
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details: Secrets are left out.
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Write a file and a secret
  edgefleet.wasm.k3s_files:
    files:
      - path: /etc/rancher/k3s/audit-policy.yaml
        content: "{{ policy | to_nice_yaml }}"
        mode: "0600"
    secrets: "{{ [{'path': '/etc/rancher/k3s/token', 'content': token}] | to_json | b64encode }}"
"""

RETURN = r"""
written:
  description: What was changed, or would be in check mode.
  returned: success
  type: list
  elements: str
units_differing:
  description: Which of O(units) do not run, or are not started at boot, as they should; or do, and should not.
  returned: success
  type: list
  elements: str
"""

import base64
import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError, units_differing
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_files import Files, FilesError

ARGUMENTS = {
    "settings": {"type": "dict", "default": {}},
    "folders": {"type": "dict", "default": {}},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "mode": {"type": "str", "default": "0644"},
        },
    },
    "secrets": {"type": "str", "default": "", "no_log": True},
    "block_path": {"type": "path"},
    "block_lines": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "absent": {"type": "list", "elements": "path", "default": []},
    "private": {"type": "list", "elements": "str", "default": []},
    "units": {"type": "dict", "default": {}},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    if params["block_lines"] and not params["block_path"]:
        module.fail_json(msg="block_lines: name the file that they belong to in block_path")
    files = Files(check=module.check_mode)
    try:
        # First what may fail.
        files.settings({name: str(value) for name, value in params["settings"].items()})
        for name, mode in params["folders"].items():
            files.folder(name, int(mode, 8))
        for one in params["files"]:
            files.file(one["path"], one["content"], int(one["mode"], 8))
        for one in json.loads(base64.b64decode(params["secrets"]) or "[]"):
            files.secret(one["path"], one["content"])
        if params["block_path"]:
            files.block(params["block_path"], params["block_lines"])
        for name in params["absent"]:
            files.absent(name)
        for pattern in params["private"]:
            files.private(pattern)
        wanted = {name: module.boolean(up) for name, up in params["units"].items()}
        differing = units_differing(module.run_command, wanted)
    except (FilesError, K3sError, OSError) as error:
        module.fail_json(msg=str(error), changed=bool(files.done), written=files.done)
    module.exit_json(changed=bool(files.done), written=files.done, diff=files.diff, units_differing=differing)


if __name__ == "__main__":
    main()
