# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import engine_refusals

DOCUMENTATION = r"""
name: wasm_engine_refusals
short_description: Why a version of WasmEdge can't run compiled modules
description:
  - Engines read compiled modules of one format only, and interpret others without a word, about 20 times slower.
options:
  _input:
    description: The engine's version.
    type: str
    required: true
  aot_format:
    description: The modules' format, 1 (compiled by WasmEdge up to 0.14.1) or 2 (0.15 and 0.16).
    type: int
    required: true
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: See why 0.15.1 can't run modules that were compiled by 0.14.1
  ansible.builtin.debug:
    msg: "{{ '0.15.1' | edgefleet.wasm.wasm_engine_refusals(1) }}"
"""

RETURN = r"""
_value:
  description: The reasons; empty if it can.
  type: list
  elements: str
"""


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"wasm_engine_refusals": engine_refusals}
