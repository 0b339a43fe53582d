#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_image
short_description: Import an image archive of the mirror into containerd and pin its images
description:
  - The controller verifies the mirror's file, the host imports it into containerd's namespace C(k8s.io) under the names
    in the archive. Docker and OCI archives, plain or compressed with gzip or zstd.
  - Pinned images are never collected by the kubelet, since a site has no registry to pull them from again.
  - A host that has all images of the archive, whole and pinned, does not get the file. One that lost an image gets it
    again.
  - Several versions of an artifact may be on a host at once. What came from where is kept in
    C(/var/lib/edgefleet/artifacts.json).
options:
  state:
    description:
      - V(verified) checks the mirror on the controller and never touches the host.
      - V(present) imports and pins the images.
      - V(absent) removes the images that V(present) imported, of O(version) or of all versions.
    type: str
    choices: [verified, present, absent]
    default: present
  aot_format:
    description:
      - The format of compiled WebAssembly modules that the hosts' engine reads. V(1) is that of WasmEdge up to 0.14,
        V(2) that of 0.15 and 0.16. The controller looks into the archive and refuses one with a program that was not
        compiled ahead of time for that engine and for O(arch), since it would be interpreted, about 20 times slower.
      - A program is the entrypoint of an image, and every module with an execute bit. Other modules are data.
      - Without it the archive is not looked into.
    type: int
    choices: [1, 2]
  interpreted:
    description:
      - Accept programs that are not compiled at all. What was compiled for another engine is refused all the same.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: posix
requirements:
  - containerd 2 on the host, as the role edgefleet.wasm.containerd installs it
author:
  - The edgefleet maintainers
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - edgefleet.wasm.artifact
"""

EXAMPLES = r"""
- name: Have K3s's own images on the host
  edgefleet.wasm.containerd_image:
    name: k3s-airgap-images
    version: v1.30.4+k3s1
    arch: amd64
    file: k3s-airgap-images-amd64.tar.zst
    sha256: a9d6ede2a8fa4779b1b60b6a40f95a03b5b09a79edc2bbc6765b367e1f91ba90
    mirror: /srv/edgefleet/mirror

- name: Remove them
  edgefleet.wasm.containerd_image:
    state: absent
    name: k3s-airgap-images
"""

RETURN = r"""
artifact:
  description: What the mirror holds (O(state=verified)), or the record on the host.
  returned: unless O(state=absent), and not in check mode where the archive is still to be imported
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
      description: Always C(containerd:k8s.io).
      type: str
      returned: O(state=present)
    images:
      description: The digest of each image by its name.
      type: dict
      returned: O(state=present)
      sample:
        docker.io/rancher/mirrored-pause:3.6: sha256:74c4244427b7312c5b901fe0f67cbc53683d06f4f24c6faee65d4182bf0fa893
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import REQUIRED_IF, Provenance, Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_images import (
    ARGUMENTS,
    Containerd,
    ImageError,
    Outcome,
    ensure,
    remove,
)


def apply(module: AnsibleModule, containerd: Containerd, records: Records) -> Outcome:
    params = module.params
    if params["state"] == "absent":
        return remove(containerd, params["name"], params["version"], records, check=module.check_mode)
    passed = params["passed"] or {}
    if "artifact" not in passed:
        raise ImageError("this module is run by its action plugin of the same name, which reads the mirror")
    source = Path(passed["source"]) if passed.get("source") else None
    wanted = Provenance(**passed["artifact"])
    temporary = Path(passed["temporary"]).expanduser()
    return ensure(containerd, wanted, source, temporary, records, check=module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "passed": {"type": "dict"}},
        required_if=REQUIRED_IF,
        supports_check_mode=True,
    )
    try:
        outcome = apply(module, Containerd(module.run_command), Records())
    except (ImageError, OSError) as error:
        module.fail_json(msg=str(error))
    answer: dict[str, object] = {"changed": outcome.changed, "needs_file": outcome.needs_file}
    if outcome.record:
        answer["artifact"] = outcome.record
    if module._diff:
        answer["diff"] = {"before": outcome.before, "after": outcome.after}
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
