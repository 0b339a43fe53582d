#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Put a file or an archive of the mirror on a host, verified on both sides
description:
  - The controller verifies the mirror's file against its manifest and its pinned SHA-256, the host verifies what
    it has. Only a host that differs gets the file. Files appear in one step, or not at all.
  - The files of an unpacked archive are verified one by one on every run, so that a file that was changed or removed on
    the host is put back.
  - What was put where, and where it came from, is kept in C(/var/lib/edgefleet/artifacts.json) on the host.
options:
  state:
    description:
      - V(verified) checks the mirror on the controller and never touches the host.
      - V(present) puts the artifact on the host.
      - V(absent) removes the files that V(present) put there under the same O(name) and O(dest).
    type: str
    choices: [verified, present, absent]
    default: present
  dest:
    description: The file on the host, or with O(unpack=true) the folder. Required unless O(state=verified).
    type: path
  unpack:
    description: The artifact is a tar archive; unpack it into O(dest). Plain files only, links and devices are refused.
    type: bool
    default: false
  strip:
    description: Leave out so many leading folders of each name in the archive.
    type: int
    default: 0
  members:
    description: Unpack only files whose name (after O(strip)) matches one of these shell patterns. Empty means all.
    type: list
    elements: str
    default: []
  owner:
    description: Owner of the files.
    type: str
    default: root
  group:
    description: Group of the files.
    type: str
    default: root
  mode:
    description:
      - Mode of the files, as a quoted octal number.
      - The default is C(0644) for a file, and for an archive the mode of each of its files without write for others.
    type: str
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
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - edgefleet.wasm.artifact
"""

EXAMPLES = r"""
- name: See that the mirror has what the play needs, before any host changes
  edgefleet.wasm.artifact:
    state: verified
    name: containerd
    version: 2.0.11
    arch: amd64
    file: containerd-static-2.0.11-linux-amd64.tar.gz
    sha256: 80c9b4afb94c21c86783d99c92b531969692a5c393c73e4735676d7caf61b1ed
    mirror: /srv/edgefleet/mirror

- name: Unpack it
  edgefleet.wasm.artifact:
    name: containerd
    version: 2.0.11
    arch: amd64
    file: containerd-static-2.0.11-linux-amd64.tar.gz
    sha256: 80c9b4afb94c21c86783d99c92b531969692a5c393c73e4735676d7caf61b1ed
    mirror: /srv/edgefleet/mirror
    dest: /usr/local
    unpack: true

- name: Remove it
  edgefleet.wasm.artifact:
    state: absent
    name: containerd
    dest: /usr/local
"""

RETURN = r"""
artifact:
  description: What the mirror holds (O(state=verified)), or the record on the host.
  returned: unless O(state=absent)
  type: dict
  contains:
    name:
      description: Name of the artifact.
      type: str
      returned: always
    version:
      description: Version of the artifact.
      type: str
      returned: always
    arch:
      description: Architecture of the artifact.
      type: str
      returned: always
    sha256:
      description: SHA-256 of the mirror's file.
      type: str
      returned: always
    pinned_sha256:
      description: The SHA-256 that was asked for, if any.
      type: str
      returned: always
    source:
      description: Where the mirror had the file from.
      type: str
      returned: always
    rebuilt:
      description: Whether it was built from source, so that its SHA-256 is not the pinned one.
      type: bool
      returned: always
    size:
      description: Size of the mirror's file in bytes.
      type: int
      returned: O(state=verified)
    dest:
      description: Where it is on the host.
      type: str
      returned: O(state=present)
    files:
      description: The files on the host, each with path, sha256 and mode.
      type: list
      elements: dict
      returned: O(state=present)
  sample:
    name: containerd
    version: 2.0.11
    arch: amd64
    sha256: 80c9b4afb94c21c86783d99c92b531969692a5c393c73e4735676d7caf61b1ed
    pinned_sha256: 80c9b4afb94c21c86783d99c92b531969692a5c393c73e4735676d7caf61b1ed
    source: https://github.com/containerd/containerd/releases/download/v2.0.11/containerd-static-2.0.11-linux-amd64.tar.gz
    rebuilt: false
    size: 36175811
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact import (
    ARGUMENTS,
    REQUIRED_IF,
    ArtifactError,
    Outcome,
    Wanted,
    ensure,
    remove,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Records


def apply(module: AnsibleModule, records: Records) -> Outcome:
    params = module.params
    if params["state"] == "absent":
        return remove(params["name"], Path(params["dest"]), records, module.check_mode)
    passed = params["passed"] or {}
    if "artifact" not in passed:
        raise ArtifactError("this module is run by its action plugin of the same name, which reads the mirror")
    wanted = Wanted.of(params, Provenance(**passed["artifact"]))
    source = Path(passed["source"]) if passed.get("source") else None
    return ensure(wanted, source, Path(passed["temporary"]).expanduser(), records, module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "passed": {"type": "dict"}},
        required_if=REQUIRED_IF,
        supports_check_mode=True,
    )
    try:
        outcome = apply(module, Records())
    except ArtifactError as error:
        module.fail_json(msg=str(error))
    answer: dict[str, object] = {"changed": outcome.changed, "needs_file": outcome.needs_file}
    if module.params["state"] != "absent":
        answer["artifact"] = outcome.record
    if module._diff:
        answer["diff"] = {"before": outcome.before, "after": outcome.after}
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
