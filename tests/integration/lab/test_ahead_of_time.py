"""Code that is compiled ahead of time runs on processors that have less than the compiling machine's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import wasmtime

from lab.builders import wasm
from lab.builders.toolchain import BASELINE, RESULTS, Toolchain
from lab.paths import LabPaths
from lab.progress import Progress

pytestmark = [pytest.mark.lab, pytest.mark.full]

# A conversion that a newer processor has another instruction for.
MODULE = '(module (func (export "convert") (param i32) (result f64) local.get 0 f64.convert_i32_u))'


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return Toolchain(LabPaths.of("test").cache / "toolchain", Progress())


def converted(toolchain: Toolchain, folder: Path, file: str) -> tuple[int, str]:
    command = [wasm.PROGRAM, "--reactor", f"{RESULTS}/{file}", "convert", "7"]
    return toolchain.attempt(toolchain.on_baseline(command), results=folder)


def test_code_needs_no_more_than_every_host_has(toolchain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "module.wasm").write_bytes(wasmtime.wat2wasm(MODULE))
    compiled = wasm.compile_ahead(toolchain, tmp_path, "module")
    code, said = converted(toolchain, tmp_path, compiled.name)
    assert (code, said.strip()) == (0, "7")


def test_the_engines_own_option_is_not_enough(toolchain: Toolchain, tmp_path: Path) -> None:
    """When this fails, the engine has learned it, and compiling on an emulated processor can go."""
    (tmp_path / "module.wasm").write_bytes(wasmtime.wat2wasm(MODULE))
    emulator, _ = BASELINE[os.uname().machine]
    command = [wasm.PROGRAM, "compile", "--generic-binary", f"{RESULTS}/module.wasm", f"{RESULTS}/new.wasm"]
    code, said = toolchain.attempt([emulator, "-cpu", "max", *command], results=tmp_path)
    assert code == 0, said
    assert converted(toolchain, tmp_path, "new.wasm")[0] != 0
