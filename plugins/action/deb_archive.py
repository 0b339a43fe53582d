# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ansible_collections.edgefleet.wasm.plugins.module_utils.deb_archive import ARGUMENTS, REQUIRED_IF
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.mirror_action import MirrorAction


class ActionModule(MirrorAction):
    module = "edgefleet.wasm.deb_archive"
    arguments = ARGUMENTS
    required_if = REQUIRED_IF
