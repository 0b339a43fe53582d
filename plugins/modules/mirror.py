#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: mirror
short_description: Fill the mirror folder on the controller with pinned releases
description:
  - Downloads what the mirror folder lacks, verifies it against its pinned SHA-256 and enters it in C(manifest.json).
    A download that does not match is not kept; one that was cut is continued by the next run.
  - A release's file that was copied to C(<path>/<name>/<version>/<arch>/<file>) by hand is taken over when it matches.
  - It runs on the controller, whatever host the task is for, and connects to no host.
options:
  path:
    description: The mirror folder.
    type: path
    required: true
  artifacts:
    description: What is wanted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the artifact. Errors name its pins after it, as C(<name>_releases).
        type: str
        required: true
      version:
        description: The version, one of O(artifacts[].releases).
        type: str
        required: true
      releases:
        description: The pins, by version and architecture, each with C(file), C(url) and C(sha256).
        type: dict
        required: true
  archs:
    description: The architectures to have.
    type: list
    elements: str
    choices: [amd64, arm64]
    default: [amd64]
  allow_rebuilt:
    description:
      - Be content with an artifact in the mirror that was built from source. Without this the release takes its place.
    type: bool
    default: false
  timeout:
    description: Seconds within which a source has to answer.
    type: int
    default: 5
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
- name: Have containerd for both architectures
  edgefleet.wasm.mirror:
    path: /srv/edgefleet/mirror
    archs: [amd64, arm64]
    artifacts:
      - name: containerd
        version: "{{ containerd_version }}"
        releases: "{{ containerd_releases }}"
"""

RETURN = r"""
artifacts:
  description: The manifest's entries of what was asked for and is there.
  returned: success
  type: list
  elements: dict
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
    file:
      description: Name of the file.
      type: str
      returned: always
    sha256:
      description: SHA-256 of the file.
      type: str
      returned: always
    size:
      description: Size of the file in bytes.
      type: int
      returned: always
    source:
      description: The address it came from, or what it was built from.
      type: str
      returned: always
    rebuilt:
      description: Whether it was built from source, so that its SHA-256 is not the pinned one.
      type: bool
      returned: always
"""

# The action plugin of the same name does all of it, on the controller.
