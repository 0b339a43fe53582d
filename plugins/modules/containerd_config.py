#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_config
short_description: Write containerd's files after containerd itself has understood them
description:
  - Tries all files together in a folder of their own by C(containerd config dump), next to the drop-ins of others, and
    requires that every value shows in what containerd makes of them. containerd drops names that it does not know
    (such as those of containerd 1.x) without a word. Only then the files take their places.
  - Files that the same O(owner) wrote earlier and does not declare any more are removed.
  - Restarts nothing, see M(edgefleet.wasm.containerd_service).
options:
  owner:
    description: Whose files these are.
    type: str
    required: true
  files:
    description: All files of this owner. Without any, those that it wrote earlier are removed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where the file is on the host.
        type: path
        required: true
      content:
        description: What is in it.
        type: str
        required: true
      mode:
        description: Its mode, as a quoted octal number.
        type: str
        default: "0644"
  secret_files:
    description: More files, whose content is never shown and whose mode is C(0600).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where the file is on the host.
        type: path
        required: true
      content:
        description: What is in it.
        type: str
        required: true
  base_spec:
    description: A file with containerd's default specification of a container and more annotations.
    type: dict
    suboptions:
      path:
        description: Where the file is on the host.
        type: path
        required: true
      annotations:
        description: Annotations that every container of the runtime gets.
        type: dict
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
- name: Keep at most two downloads at once
  edgefleet.wasm.containerd_config:
    owner: downloads
    files:
      - path: /etc/containerd/conf.d/70-downloads.toml
        content: |
          version = 3
          [plugins.'io.containerd.cri.v1.images']
          max_concurrent_downloads = 2
"""

RETURN = r"""
files:
  description: The files that were written or removed.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_config import (
    CTR,
    ConfigError,
    File,
    base_spec,
    ensure,
)

_PATH = {"type": "path", "required": True}
ARGUMENTS: dict[str, Any] = {
    "owner": {"type": "str", "required": True},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": _PATH,
            "content": {"type": "str", "required": True},
            "mode": {"type": "str", "default": "0644"},
        },
    },
    "secret_files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": _PATH, "content": {"type": "str", "required": True, "no_log": True}},
    },
    "base_spec": {
        "type": "dict",
        "options": {"path": _PATH, "annotations": {"type": "dict", "required": True}},
    },
}


def wanted(module: AnsibleModule) -> list[File]:
    params = module.params
    try:
        files = [File(Path(one["path"]), one["content"], int(one["mode"], 8)) for one in params["files"]]
    except ValueError as error:
        raise ConfigError(f'files: mode is no octal number such as "0644" (quote it): {error}') from error
    files += [File(Path(one["path"]), one["content"], 0o600, secret=True) for one in params["secret_files"]]
    spec = params["base_spec"]
    # In check mode containerd may not be there yet.
    if spec and (CTR.is_file() or not module.check_mode):
        files.append(File(Path(spec["path"]), base_spec(module.run_command, spec["annotations"])))
    return files


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        outcome = ensure(module.run_command, module.params["owner"], wanted(module), check=module.check_mode)
    except (ConfigError, OSError) as error:
        module.fail_json(msg=str(error))
    answer: dict[str, object] = {"changed": outcome.changed, "files": outcome.files}
    if module._diff:
        answer["diff"] = {"before": outcome.before, "after": outcome.after}
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
