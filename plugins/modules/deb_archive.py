#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: deb_archive
short_description: Install Debian packages from an archive of the mirror
description:
  - For hosts that reach no Debian mirror. The archive, made by M(edgefleet.wasm.wasm_mirror), holds packages with all
    that they need beyond a minimal host, and a list with the SHA-256 of each.
  - A host that has all of O(packages) does not get the archive. On others apt installs those of its packages that they
    lack, and looks at no other source.
options:
  state:
    description:
      - V(verified) checks the mirror on the controller and never touches the host.
      - V(present) installs the packages.
    type: str
    choices: [verified, present]
    default: present
  packages:
    description: Names of the packages that are wanted. Required if O(state=present).
    type: list
    elements: str
    default: []
  brought:
    description: A file on the host to which the names of all packages are added that this brings to the host.
    type: path
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
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - edgefleet.wasm.artifact
"""

EXAMPLES = r"""
- name: Install the Wasm runtime without a network
  edgefleet.wasm.deb_archive:
    name: wasm-runtime-packages
    version: debian-13
    arch: amd64
    file: wasm-runtime-packages-amd64.tar
    mirror: /srv/edgefleet/mirror
    packages: [crun, libwasmedge0]
    brought: /var/lib/edgefleet/wasm_runtime.packages
"""

RETURN = r"""
installed:
  description: The packages that were installed.
  returned: O(state=present)
  type: list
  elements: str
artifact:
  description: What the mirror holds, see M(edgefleet.wasm.artifact).
  returned: O(state=verified)
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance
from ansible_collections.edgefleet.wasm.plugins.module_utils.deb_archive import (
    ARGUMENTS,
    REQUIRED_IF,
    Outcome,
    PackagesError,
    ensure,
)


def apply(module: AnsibleModule) -> Outcome:
    params = module.params
    passed = params["passed"] or {}
    if "artifact" not in passed:
        raise PackagesError("this module is run by its action plugin of the same name, which reads the mirror")
    return ensure(
        module.run_command,
        params["packages"],
        Provenance(**passed["artifact"]),
        Path(passed["source"]) if passed.get("source") else None,
        Path(module.tmpdir),
        brought=Path(params["brought"]),
        check=module.check_mode,
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "passed": {"type": "dict"}},
        required_if=REQUIRED_IF,
        supports_check_mode=True,
    )
    try:
        outcome = apply(module)
    except (PackagesError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=outcome.changed, needs_file=outcome.needs_file, installed=outcome.installed)


if __name__ == "__main__":
    main()
