"""What hosts get of the Wasm runtime from the mirror: Debian's packages, and the engine `lean` that is made of them."""

from __future__ import annotations

import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Entry, Mirror, MirrorError
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import wasm_mirror
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.wasm_mirror import Wanted, WasmMirrorError

from lab import aptsources
from lab.builders.base import host_arch
from lab.errors import LabError
from lab.paths import CHECKOUT
from lab.progress import Progress

DEFAULTS = CHECKOUT / "roles" / "wasm_runtime" / "defaults" / "main.yml"


def packages_version() -> str:
    """The name under which the role looks for the packages."""
    return str(yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["wasm_runtime_packages_version"])


def have(mirror: Mirror, progress: Progress) -> list[Entry]:
    """Have them, from the machine's own Debian mirror. The collection does the work, as it does for an operator."""
    sources = [source.line() for source in aptsources.for_release(aptsources.read())]
    wanted = Wanted(host_arch(), packages_version(), sources, lean=True)
    try:
        if not wasm_mirror.fill(mirror, wanted, check=True, report=progress.note).made:
            return wasm_mirror.fill(mirror, wanted, check=False, report=progress.note).entries
        with progress.step("Wasm runtime: Debian's packages, and the engine without LLVM") as step:
            return wasm_mirror.fill(mirror, wanted, check=False, report=step.update).entries
    except (MirrorError, WasmMirrorError) as error:
        raise LabError(str(error)) from error
