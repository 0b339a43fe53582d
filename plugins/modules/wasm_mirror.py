# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_mirror
short_description: Fill the mirror with Debian's packages of the Wasm runtime and the engines that are made of them
description:
  - Collects crun and libwasmedge0, with all that a minimal host lacks for them, by apt in folders of its own, from
    signed package indexes, into one archive for each architecture. Hosts that reach no Debian mirror install from it.
  - Makes of these very packages the engine C(lean), and of an operator's archive of WasmEdge the engine C(archive), for
    the role C(edgefleet.wasm.wasm_runtime).
  - What is there already is not fetched or made again. It runs on the controller and connects to no host.
options:
  path:
    description: The mirror folder.
    type: path
    required: true
  archs:
    description: The architectures to have.
    type: list
    elements: str
    choices: [amd64, arm64]
    default: [amd64]
  packages_version:
    description: A name for the state of the packages. Under a new one they are collected anew.
    type: str
    required: true
  packages_sources:
    description: Where apt finds the packages, as lines of C(sources.list).
    type: list
    elements: str
    required: true
  allow_rebuilt:
    description: Accept an operator's archive whose SHA-256 is not the pinned one because it was built from source.
    type: bool
    default: false
  lean:
    description: Make the engine C(lean).
    type: bool
    default: false
  archive_version:
    description: Make the engine C(archive) from this version of O(archive_releases), which is in the mirror already.
    type: str
  archive_releases:
    description: The pins of the operator's archives, by version and architecture, each with C(file) and C(sha256).
    type: dict
    default: {}
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
requirements:
  - apt and dpkg on the controller
  - for engines patchelf, for C(lean) also a C compiler for the hosts' architecture and pyelftools
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Have what hosts without a Debian mirror need
  edgefleet.wasm.wasm_mirror:
    path: /srv/edgefleet/mirror
    packages_version: debian-13
    packages_sources:
      - deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main
    lean: true
"""

RETURN = r"""
made:
  description: What was not in the mirror and now is; in check mode, what is not there.
  returned: success
  type: list
  elements: str
artifacts:
  description: What the mirror has for it, each with name, version, arch, file, sha256, size, source and rebuilt.
  returned: success
  type: list
  elements: dict
"""

# The action plugin of the same name does all of it, on the controller.
