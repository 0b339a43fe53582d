"""oha and k6: pinned in one place, and a machine that can't build them says why."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import kit

from lab.builders import oha
from lab.builders.oha import CRATE, Oha
from lab.builders.pulumi import required
from lab.errors import CommandFailed, LabError
from lab.progress import Progress


def builder(folder: Path, version: str | None, **changed: Any) -> Oha:
    """On a machine whose rustc says this; None: there is none."""

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if version is None:
            raise LabError(f"{command[0]}: no such program.")
        return subprocess.CompletedProcess(list(command), 0, version, "")

    return Oha(folder, Progress(), run=run, environ={"CARGO_HOME": "/cargo", "RUSTFLAGS": "-C opt-level=0"}, **changed)


def test_the_crate_is_the_version_that_the_kit_takes() -> None:
    manifest = tomllib.loads((CRATE / "Cargo.toml").read_text())
    assert manifest["dependencies"]["oha"]["version"] == f"={kit.OHA_VERSION}"
    locked = {one["name"]: one for one in tomllib.loads((CRATE / "Cargo.lock").read_text())["package"]}
    assert locked["oha"]["version"] == kit.OHA_VERSION
    without = [name for name, one in locked.items() if "checksum" not in one]
    assert without == ["edgefleet-oha"], "a crate without a hash"


def test_the_recipe_follows_the_compiler_and_the_sources(tmp_path: Path) -> None:
    one = builder(tmp_path, "rustc 1.95.0 (f2d3ce0bd 2026-03-21)\n")
    assert one.compiler == "1.95.0"
    assert one.source() == f"built from crate oha {kit.OHA_VERSION} with rustc 1.95.0"
    assert one.key() != builder(tmp_path, "rustc 1.96.1 (x)\n").key()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "no rustc works here: https://rustup.rs"),
        ("rustc 1.85.1 (x)\n", "Rust 1.88 or later, this is rustc 1.85.1 .*: rustup update"),
        ("", "this is unknown"),
    ],
)
def test_a_machine_that_cannot_build_it_says_why(tmp_path: Path, version: str | None, message: str) -> None:
    with pytest.raises(LabError, match=message):
        builder(tmp_path, version).key()


def test_settings_of_the_machine_do_not_decide_what_is_built(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def stream(command: Sequence[str], **given: Any) -> None:
        seen.update(given, command=command)
        raise CommandFailed(list(command), 101, "error: no network")

    with pytest.raises(LabError, match="cargo could not build it"):
        builder(tmp_path, "rustc 1.95.0 (x)", stream=stream).build(tmp_path)
    assert seen["command"][:4] == ["cargo", "build", "--release", "--locked"]
    assert seen["env"]["RUSTFLAGS"] == "-C target-feature=+crt-static"
    assert seen["env"]["CARGO_HOME"] == "/cargo"


def test_k6_is_pinned() -> None:
    assert required(oha.CRATE.parents[1] / "go" / "k6", "go.k6.io/k6") == "v1.8.1"
