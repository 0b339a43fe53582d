# SPDX-License-Identifier: Apache-2.0
"""What a WebAssembly module says of itself: its sections, and the native code that WasmEdge's compiler has added."""

from __future__ import annotations

import signal
from dataclasses import dataclass

MAGIC = b"\0asm"
VERSION = b"\1\0\0\0"
CUSTOM_SECTION = 0
# The custom section that holds native code, at the end of what otherwise is the plain module.
NATIVE_SECTION = b"wasmedge"
# How native code ends that was made for a newer processor, as a runtime passes it on; and in words.
ILLEGAL_INSTRUCTION = 128 + signal.SIGILL
NEWER_PROCESSOR = "ended by an illegal instruction: its code was compiled for a newer processor than this host's"
_SYSTEMS = {1: "linux", 2: "macos", 3: "windows"}
_ARCHITECTURES = {1: "amd64", 2: "arm64", 3: "riscv64"}


@dataclass(frozen=True)
class Native:
    """For whom the native code in a module is. An engine that reads another ``format`` interprets, without a word."""

    format: int
    system: str
    arch: str


def sections(module: bytes) -> list[tuple[int, bytes]]:
    """The sections of a module, id and content; ValueError if it is none, or cut."""
    if not module.startswith(MAGIC + VERSION):
        raise ValueError("not a WebAssembly module of version 1")
    found, at = [], len(MAGIC + VERSION)
    while at < len(module):
        kind = module[at]
        size, at = unsigned(module, at + 1)
        if at + size > len(module):
            raise ValueError(f"a section of {size} bytes does not end within the module")
        found.append((kind, module[at : at + size]))
        at += size
    return found


def unsigned(data: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number of up to 64 bits and the place after it; ValueError if it is cut or too long."""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number is cut or too long")


def is_native(section: tuple[int, bytes]) -> bool:
    """Whether a section holds WasmEdge's native code."""
    kind, content = section
    return kind == CUSTOM_SECTION and content.startswith(bytes([len(NATIVE_SECTION)]) + NATIVE_SECTION)


def native(module: bytes) -> Native | None:
    """For whom the native code in a module is; None if it has none. ValueError if the module or the code is damaged."""
    content = next((section[1] for section in sections(module) if is_native(section)), None)
    if content is None:
        return None
    version, at = unsigned(content, 1 + len(NATIVE_SECTION))
    if at + 2 > len(content):
        raise ValueError("its native code is cut")
    system, arch = content[at], content[at + 1]
    return Native(version, _SYSTEMS.get(system, f"system {system}"), _ARCHITECTURES.get(arch, f"architecture {arch}"))
