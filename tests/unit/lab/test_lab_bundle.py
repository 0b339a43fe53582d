"""What the lab's variables name is what its builders make."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab.builders import wasm
from lab.builders.toolchain import Toolchain
from lab.paths import CHECKOUT
from lab.progress import Progress


def test_the_images_to_deploy_are_those_that_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm, "host_arch", lambda: "amd64")
    variables = yaml.safe_load((CHECKOUT / "inventories/lab/group_vars/edge.yml").read_text())
    built = {(b.name, b.version, b.file) for b in wasm.builders(Toolchain(tmp_path, Progress()))}
    named = {(i["name"], i["version"], i["file"]) for i in variables["site_bundle_images"]}
    assert named
    assert named <= built
