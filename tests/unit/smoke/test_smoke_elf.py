"""The native control is a program that the kernel takes."""

from __future__ import annotations

import platform
import struct
import subprocess
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import identity
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no native control for this machine")
def test_it_runs_and_prints_its_text(tmp_path: Path) -> None:
    program = tmp_path / "native"
    program.write_bytes(native_program(identity.arch(), b"edgefleet-smoke 0123\n"))
    program.chmod(0o755)
    done = subprocess.run([program], capture_output=True, check=True)
    assert done.stdout == b"edgefleet-smoke 0123\n"
    assert done.stderr == b""


@pytest.mark.parametrize(("arch", "machine"), [("amd64", 62), ("arm64", 183)])
def test_headers_describe_the_file(arch: str, machine: int) -> None:
    program = native_program(arch, b"text\n")
    assert program[:5] == b"\x7fELF\x02"
    kind, found, _, entry, header_at = struct.unpack_from("<HHIQQ", program, 16)
    assert (kind, found, header_at) == (2, machine, 64)
    load, flags, offset, address, _, in_file, in_memory, _ = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (load, flags, offset) == (1, 5, 0)
    assert in_file == in_memory == len(program)
    assert entry - address == 64 + 56
    assert program.endswith(b"text\n")


def test_arm64_code_is_what_was_seen_running() -> None:
    # Under qemu-aarch64: mov x0,#1; adr x1,+28; mov x2,#5; mov x8,#64; svc #0; mov x0,#0; mov x8,#93; svc #0
    code = native_program("arm64", b"text\n")[120:-5]
    assert code.hex() == "200080d2e1000010a20080d2080880d2010000d4000080d2a80b80d2010000d4"


def test_a_text_too_long_for_arm64_is_refused() -> None:
    with pytest.raises(ValueError, match="64 KiB"):
        native_program("arm64", b"x" * (1 << 16))
