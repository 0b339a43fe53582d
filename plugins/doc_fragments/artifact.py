# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules whose input is an artifact of the mirror; see module_utils/artifact_records.py."""

    DOCUMENTATION = r"""
options:
  name:
    description: Name of the artifact in the mirror.
    type: str
    required: true
  version:
    description: Version of the artifact. Required unless O(state=absent), as are O(arch), O(file) and O(mirror).
    type: str
  arch:
    description: Architecture of the artifact.
    type: str
    choices: [amd64, arm64]
  file:
    description: Name of the file in the mirror.
    type: str
  sha256:
    description:
      - The pinned SHA-256. Without it the mirror's manifest alone says what is right, as for artifacts of one's own.
    type: str
  mirror:
    description: The mirror folder on the controller (see M(edgefleet.wasm.mirror)).
    type: path
  allow_rebuilt:
    description:
      - Accept an artifact that was built from source instead of released, so that its SHA-256 is not the pinned one.
    type: bool
    default: false
  passed:
    description: For the action plugin, which passes on here what it found in the mirror. Not for use in a playbook.
    type: dict
"""
