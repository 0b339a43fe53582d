#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_engine_info
short_description: Which crun and which Wasm engine a host has
description:
  - Versions and hashes of crun and WasmEdge as packaged, which engine Wasm pods get, and why it is not the wanted one.
options:
  aot_format:
    description: The format of the site's compiled modules, to judge whether the engine can run them.
    type: int
    choices: [1, 2]
    default: 1
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
- name: Ask the host
  edgefleet.wasm.wasm_engine_info:
  register: engine
"""

RETURN = r"""
identity:
  description: What the host has. Versions and hashes are empty where nothing is installed.
  returned: success
  type: dict
  contains:
    crun:
      description: Version of the distribution's crun.
      type: str
      returned: always
      sample: "1.21"
    features:
      description: What it was built with.
      type: str
      returned: always
      sample: +SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +WASM:wasmedge +YAJL
    crun_sha256:
      description: SHA-256 of its file.
      type: str
      returned: always
    engine:
      description: Version of the package libwasmedge0.
      type: str
      returned: always
      sample: 0.14.1+dfsg-3.1
    library:
      description: The library that programs of the host find.
      type: str
      returned: always
    library_sha256:
      description: SHA-256 of that file.
      type: str
      returned: always
    llvm:
      description: Whether the live engine loads libLLVM, V(yes) or V(no).
      type: str
      returned: always
    wanted:
      description: The engine that was asked for, V(distro), V(archive) or V(lean).
      type: str
      returned: always
    live:
      description: The engine that pods get.
      type: str
      returned: always
    reason:
      description: Why that is not the wanted one.
      type: str
      returned: always
refusals:
  description: Why crun or engine can't run the site's modules. Empty if they can, or are not installed.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import identify, refusals


def main() -> None:
    module = AnsibleModule(
        argument_spec={"aot_format": {"type": "int", "choices": [1, 2], "default": 1}},
        supports_check_mode=True,
    )
    identity = identify(module.run_command).as_dict()
    module.exit_json(changed=False, identity=identity, refusals=refusals(identity, module.params["aot_format"]))


if __name__ == "__main__":
    main()
