# SPDX-License-Identifier: Apache-2.0
"""Binds what a shared library refers to in itself, so that the loader has no names to look up for it.

A C++ library refers to its own symbols by name, several thousand times, since another library that is loaded before it
may have one of the same name. Where none has, what the loader would find is known beforehand: each such relocation
becomes a relative one (System V ABI: base and addend), in its place in a copy of the file. Nothing else changes.
Names of C++ only, since the host's C libraries, which nobody looks at here, have none of these. What must be one in a
process (STB_GNU_UNIQUE), is chosen when it is loaded (STT_GNU_IFUNC) or belongs to a thread stays a lookup.

The loader takes a relative relocation among those of the procedure linkage table only where it binds these at once: by
RTLD_NOW, as crun opens its engine.
"""

from __future__ import annotations

import struct
from collections.abc import Set
from typing import Any

# Of each machine's psABI: R_*_64 or R_*_ABS64, R_*_GLOB_DAT, R_*_JUMP_SLOT, and the R_*_RELATIVE that they become.
_RELOCATIONS = {"EM_X86_64": (1, 6, 7, 8), "EM_AARCH64": (257, 1025, 1026, 1027)}
_RELA = struct.Struct("<QQq")
_BINDINGS = ("STB_GLOBAL", "STB_WEAK")
_KINDS = ("STT_FUNC", "STT_OBJECT")
# Itanium C++ ABI: what mangled names begin with.
_CXX = "_Z"


def needed(elf: Any) -> list[str]:
    """The libraries that an ELF file names (DT_NEEDED), in their order."""
    dynamic = elf.get_section_by_name(".dynamic")
    return [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")] if dynamic else []


def defined(elf: Any) -> set[str]:
    """The names that it has for others."""
    symbols = elf.get_section_by_name(".dynsym")
    return {one.name for one in symbols.iter_symbols() if _is_defined(one)} if symbols else set()


def bound(elf: Any, elsewhere: Set[str]) -> bytes:
    """The file with its references to itself bound, but those by a name that another one has, too."""
    stream = elf.stream
    stream.seek(0)
    content = bytearray(stream.read())
    absolute, glob_dat, jump_slot, relative = _RELOCATIONS[elf["e_machine"]]
    symbols = list(elf.get_section_by_name(".dynsym").iter_symbols())
    own = [_is_bindable(one) and one.name not in elsewhere for one in symbols]
    for name in (".rela.dyn", ".rela.plt"):
        section = elf.get_section_by_name(name)
        for at in range(section["sh_offset"], section["sh_offset"] + section["sh_size"], _RELA.size) if section else ():
            place, info, addend = _RELA.unpack_from(content, at)
            kind, number = info & 0xFFFFFFFF, info >> 32
            # Only the first kind has an addend on every machine.
            if own[number] and (kind == absolute or (kind in (glob_dat, jump_slot) and addend == 0)):
                _RELA.pack_into(content, at, place, relative, symbols[number]["st_value"] + addend)
    return bytes(content)


def _is_defined(symbol: Any) -> bool:
    return bool(symbol["st_shndx"] != "SHN_UNDEF")


def _is_bindable(symbol: Any) -> bool:
    info = symbol["st_info"]
    placed = _is_defined(symbol) and symbol["st_shndx"] != "SHN_ABS"
    return placed and symbol.name.startswith(_CXX) and info["bind"] in _BINDINGS and info["type"] in _KINDS
