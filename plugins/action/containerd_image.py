# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import REQUIRED_IF
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_images import ARGUMENTS
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Entry
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import image_modules
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.mirror_action import MirrorAction


class ActionModule(MirrorAction):
    module = "edgefleet.wasm.containerd_image"
    arguments = ARGUMENTS
    required_if = REQUIRED_IF

    def inspect(self, params: dict[str, Any], file: Path, entry: Entry) -> None:
        if params["aot_format"] is None:
            return
        name = f"{entry.name} {entry.version} {entry.arch}"
        interpreted = params["interpreted"]
        image_modules.check(name, file, entry.sha256, params["aot_format"], entry.arch, interpreted=interpreted)
