# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: from_toml
short_description: Read a TOML document
description:
  - Turns TOML text, such as what C(containerd config dump) prints, into a dictionary.
options:
  _input:
    description: The text.
    type: str
    required: true
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: See which sandbox image containerd really uses
  ansible.builtin.debug:
    msg: >-
      {{ (dump.stdout | edgefleet.wasm.from_toml).plugins['io.containerd.cri.v1.images'].pinned_images.sandbox }}
"""

RETURN = r"""
_value:
  description: The document.
  type: dict
"""


def from_toml(text: Any) -> dict[str, Any]:
    if not isinstance(text, str):
        raise AnsibleFilterError(f"from_toml: text is wanted, not {type(text).__name__}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AnsibleFilterError(f"from_toml: no TOML document: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"from_toml": from_toml}
