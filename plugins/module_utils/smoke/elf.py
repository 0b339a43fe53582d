# SPDX-License-Identifier: Apache-2.0
"""The native control: a static Linux program that prints one text and ends, made byte by byte.

It does what the Wasm probe does (start, one write, end), so that their difference is the engine's share. No compiler is
needed, on the controller or on the host, and there is no library to load: what remains is the OCI runtime's own time.

The file is a 64-byte ELF header, one 56-byte program header, the machine code, the text. All of it is mapped in one
readable and executable piece. The entry point is the first byte after the headers.
"""

from __future__ import annotations

import struct

_BASE = 0x400000
_EHDR_SIZE = 64
_PHDR_SIZE = 56
_CODE_AT = _EHDR_SIZE + _PHDR_SIZE
_MACHINES = {"amd64": 62, "arm64": 183}  # EM_X86_64, EM_AARCH64


def native_program(arch: str, text: bytes) -> bytes:
    """A program that writes ``text`` to standard output and exits with 0."""
    code = _CODES[arch](len(text))
    body = code + text
    size = _CODE_AT + len(body)
    return _elf_header(_MACHINES[arch]) + _program_header(size) + body


def _elf_header(machine: int) -> bytes:
    ident = b"\x7fELF" + bytes(
        [
            2,  # 64 bit
            1,  # little endian
            1,  # ELF version
            0,  # System V ABI
        ]
    )
    return ident.ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH",
        2,  # ET_EXEC: at a fixed address
        machine,
        1,  # ELF version
        _BASE + _CODE_AT,  # entry point
        _EHDR_SIZE,  # the program header follows this header
        0,  # no section headers
        0,  # flags
        _EHDR_SIZE,
        _PHDR_SIZE,
        1,  # one program header
        0,  # no section headers: size, count, index of names
        0,
        0,
    )


def _program_header(size: int) -> bytes:
    return struct.pack(
        "<IIQQQQQQ",
        1,  # PT_LOAD
        4 | 1,  # readable, executable
        0,  # from the start of the file,
        _BASE,  # to this address,
        _BASE,
        size,  # all of it
        size,
        0x10000,  # aligned to arm64's largest page
    )


def _amd64(length: int) -> bytes:
    after_lea = bytes.fromhex("ba") + struct.pack("<I", length)  # mov edx, length
    after_lea += bytes.fromhex(
        "b801000000"  # mov eax, 1       write
        "0f05"  #       syscall
        "31ff"  #       xor edi, edi     exit code 0
        "b83c000000"  # mov eax, 60      exit
        "0f05"  #       syscall
    )
    return (
        bytes.fromhex("bf01000000")  # mov edi, 1       standard output
        + bytes.fromhex("488d35")  # lea rsi, [rip + distance]: the text, right behind the code
        + struct.pack("<i", len(after_lea))
        + after_lea
    )


def _arm64(length: int) -> bytes:
    if length >= 1 << 16:
        raise ValueError("a text of 64 KiB or more does not fit into one movz")
    words = (
        0xD2800020,  # movz x0, #1      standard output
        0x100000E1,  # adr  x1, +28     the text: seven instructions from here
        0xD2800002 | length << 5,  # movz x2, #length
        0xD2800808,  # movz x8, #64     write
        0xD4000001,  # svc  #0
        0xD2800000,  # movz x0, #0      exit code 0
        0xD2800BA8,  # movz x8, #93     exit
        0xD4000001,  # svc  #0
    )
    return struct.pack(f"<{len(words)}I", *words)


_CODES = {"amd64": _amd64, "arm64": _arm64}
