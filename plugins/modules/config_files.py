#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Have several configuration files as declared, in one round trip
description:
  - Where each file is a task of M(ansible.builtin.template), every one costs four round trips, changed or not. On a
    link of 200 ms that is most of a run. This takes all the files of a role at once.
  - All new contents are validated before the first file is replaced. Each is replaced in one step and is on the disk
    when the module returns.
  - Owner and group are root.
options:
  files:
    description: The files, in the order in which they are put into place. Folders above a file are made.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it lies.
        type: path
        required: true
      state:
        description: A V(file) with this content, a V(directory), or V(absent), which is for files only.
        type: str
        choices: [file, directory, absent]
        default: file
      content:
        description: The text of the file, as a rule from the lookup P(ansible.builtin.template#lookup).
        type: str
      secret_content:
        description: In place of O(files[].content) for text that must not be seen in logs and diffs.
        type: str
      mode:
        description: In octal, quoted. By default V(0644) for files and V(0755) for folders.
        type: str
      replace:
        description: V(false) leaves the content of a file that is there alone, whatever it is.
        type: bool
        default: true
      validate:
        description: A command that must succeed on the new content; V(%s) stands for the file.
        type: str
attributes:
  check_mode:
    support: full
    details: A validator that is not on the host yet is passed over.
  diff_mode:
    support: full
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Write the service and its settings
  edgefleet.wasm.config_files:
    files:
      - path: /etc/systemd/system/example.service
        content: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
      - path: /etc/example/token
        secret_content: "{{ example_token }}"
        mode: "0600"
"""

RETURN = r"""
written:
  description: The paths that were, or in check mode would be, changed.
  returned: success
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.config_files import (
    ARGUMENTS,
    ConfigFileError,
    Entry,
    apply,
    plan,
)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    # Folders that are made on the way to a file get the same mode whatever the login's umask is.
    os.umask(0o022)
    try:
        changes = plan([Entry.of(given) for given in module.params["files"]])
        apply(changes, check_mode=module.check_mode)
    except (ConfigFileError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        written=[str(change.entry.path) for change in changes],
        diff=[
            {
                "before": c.before,
                "after": c.after,
                "before_header": str(c.entry.path),
                "after_header": str(c.entry.path),
            }
            for c in changes
        ],
    )


if __name__ == "__main__":
    main()
