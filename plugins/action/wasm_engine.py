# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import (
    ARGUMENTS,
    REQUIRED_IF,
    archive_file,
    artifact_of,
    key_of,
)
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.mirror_action import MirrorAction


class ActionModule(MirrorAction):
    """Finds the bundle for the host's packages. One that was never made is no error: the host can do without."""

    module = "edgefleet.wasm.wasm_engine"
    arguments = ARGUMENTS
    required_if = REQUIRED_IF

    def _made_for(self, params: dict[str, Any]) -> Release | None:
        identity, engine = params["identity"], params["engine"]
        if engine == "distro" or not identity.get("crun_sha256"):
            return None
        other = params["archive_sha256"] if engine == "archive" else identity["library_sha256"]
        key = key_of(identity["crun_sha256"], other)
        return Release(artifact_of(engine), key, params["arch"], archive_file(engine, params["arch"]))

    def release(self, params: dict[str, Any]) -> Release | None:
        wanted = self._made_for(params)
        return wanted if wanted and Mirror(params["mirror"]).entry(wanted) else None

    def passed(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = self._made_for(params)
        if wanted is None or Mirror(params["mirror"]).entry(wanted):
            return {}
        packages = f"crun {params['identity']['crun']} and libwasmedge0 {params['identity']['engine']}"
        return {
            "lacking": f"the mirror has no {wanted.name} for this host's {packages}; give "
            "wasm_runtime_packages_version a new value and run ansible-playbook edgefleet.wasm.mirror"
        }
