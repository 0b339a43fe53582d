#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_engine
short_description: Choose the engine that Wasm pods get
description:
  - Sets the link that containerd's runtime for Wasm uses, C(/usr/local/lib/edgefleet/wasm-engine/bin/crun). No restart
    of containerd is needed, and running containers stay.
  - With V(distro) it points at C(/usr/bin/crun). With V(archive) and V(lean) it points at a bundle of the mirror (see
    M(edgefleet.wasm.wasm_mirror)) that was made for exactly this host's crun (and libwasmedge), after the bundle has
    run a module on this host.
  - When a package update changes one of these files, or one of the bundle is changed or lost, the link points at
    C(/usr/bin/crun) at once, without Ansible. Put back, the bundle is used again. A host for whose packages the mirror
    has no bundle keeps the distribution's engine, and is told so.
options:
  engine:
    description: The engine.
    type: str
    choices: [distro, archive, lean]
    required: true
  mirror:
    description: The mirror folder on the controller. Required unless O(engine=distro), as is O(arch).
    type: path
  arch:
    description: Architecture of the host.
    type: str
    choices: [amd64, arm64]
  identity:
    description: What M(edgefleet.wasm.wasm_engine_info) has told about the host.
    type: dict
    required: true
  archive_sha256:
    description: SHA-256 of the operator's archive. Required with O(engine=archive).
    type: str
  archive_version:
    description: The version that the operator's engine has to say of itself. Required with O(engine=archive).
    type: str
  passed:
    description: For the action plugin, which passes on here what it found in the mirror. Not for use in a playbook.
    type: dict
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
  register: host

- name: Run Wasm without loading LLVM
  edgefleet.wasm.wasm_engine:
    engine: lean
    mirror: /srv/edgefleet/mirror
    arch: amd64
    identity: "{{ host.identity }}"
"""

RETURN = r"""
live:
  description: The engine that pods get now.
  returned: success
  type: str
reason:
  description: Why that is not the wanted one; else empty.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact import ArtifactError
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import ARGUMENTS, REQUIRED_IF
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine_host import EngineError, Host, Outcome


def apply(module: AnsibleModule) -> Outcome:
    params, passed = module.params, module.params["passed"] or {}
    host = Host(module.run_command, Records(), check=module.check_mode)
    if params["engine"] == "distro":
        return host.distro()
    if "lacking" in passed:
        return host.lacking(params["engine"], passed["lacking"])
    if "artifact" not in passed:
        raise EngineError("this module is run by its action plugin of the same name, which reads the mirror")
    provenance = Provenance(**passed["artifact"])
    return host.bundle(params["engine"], provenance.version, params["archive_version"] or "", provenance, passed)


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "passed": {"type": "dict"}},
        required_if=REQUIRED_IF,
        supports_check_mode=True,
    )
    try:
        outcome = apply(module)
    except (ArtifactError, EngineError, OSError) as error:
        module.fail_json(msg=str(error))
    answer = {"changed": outcome.changed, "needs_file": outcome.needs_file}
    module.exit_json(**answer, live=outcome.live, reason=outcome.reason)


if __name__ == "__main__":
    main()
