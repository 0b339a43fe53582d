# SPDX-License-Identifier: Apache-2.0
"""Engines for the Wasm runtime that are not as packaged, made on the controller from the hosts' exact packages.

A bundle is a folder on the host: the distribution's crun with a search path added (``DT_RPATH``, nothing else of it is
changed), the engine's library that it finds there, and for `lean` beside it a small stand-in for libLLVM and the C++
libraries that the engine needs, bound beforehand. It is named after the SHA-256 of crun and engine; ``engine.json`` in
it says all that it was made from.

Running a compiled module needs nothing of LLVM; Debian's libwasmedge is linked to it for compiling. The stand-in
defines exactly the symbols that libwasmedge takes from libLLVM: zeroed objects, and functions that end the process with
a message.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sha256_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import (
    CRUN,
    ENGINE_LIBRARY,
    INDEX,
    bundle_folder,
    key_of,
)
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import elf_binding
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.deb_collect import (
    CollectError,
    Run,
    read_archive,
    run_command,
)

try:
    from elftools.elf.elffile import ELFFile
except ImportError:
    ELFFile = None

_Found = TypeVar("_Found")

PACKAGES = ("crun", "libwasmedge0", "libstdc++6")
_LLVM = "libLLVM.so."
# Called by destructors of tables that were never filled: there is nothing to free.
_HARMLESS = ("_ZN4llvm17deallocate_bufferEPvmm",)
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]*")
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_SOURCE = """\
extern void abort(void) __attribute__((noreturn));
extern long write(int, const void *, unsigned long);
static void say(const char *text) {
    unsigned long length = 0;
    while (text[length]) length++;
    if (write(2, text, length) < 0) abort();
}
static void __attribute__((noreturn, cold, noinline)) refuse(const char *name) {
    say("edgefleet lean engine: ");
    say(name);
    say(" of LLVM was called, which running a compiled module does not need; set wasm_runtime_engine: distro\\n");
    abort();
}
#define REFUSED(number, name) void f##number(void) __asm__(name); void f##number(void) { refuse(name); }
#define HARMLESS(number, name) void f##number(void) __asm__(name); void f##number(void) {}
#define OBJECT(number, name, size) char o##number[size] __asm__(name) __attribute__((aligned(16)));
#define THREAD(number, name, size) __thread char t##number[size] __asm__(name) __attribute__((aligned(16)));
"""


class BundleError(Exception):
    """The engine can't be made."""


@dataclass(frozen=True)
class Taken:
    """What a library takes from libLLVM. Objects and thread-local ones with their sizes there."""

    library: str
    version: str
    functions: list[str]
    objects: dict[str, int]
    threads: dict[str, int]

    def source(self) -> str:
        """C that defines all of it."""
        lines = [
            f'{"HARMLESS" if name in _HARMLESS else "REFUSED"}({number}, "{name}")'
            for number, name in enumerate(self.functions)
        ]
        lines += [f'OBJECT({number}, "{name}", {size})' for number, (name, size) in enumerate(self.objects.items())]
        lines += [f'THREAD({number}, "{name}", {size})' for number, (name, size) in enumerate(self.threads.items())]
        return _SOURCE + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Made:
    """A finished bundle: the files of its archive, and the key under which a host asks for it."""

    key: str
    files: dict[str, Path]


@dataclass(frozen=True)
class Source:
    """The hosts' packages, unpacked."""

    root: Path
    versions: Mapping[str, str]
    arch: str

    @property
    def crun(self) -> Path:
        path = self.root / CRUN.lstrip("/")
        if not path.is_file() or path.is_symlink():
            raise BundleError(f"the package crun has no {CRUN}: is it Debian's?")
        return path

    @property
    def library(self) -> Path:
        found = [path for path in self.root.rglob(f"{ENGINE_LIBRARY}*") if path.is_file() and not path.is_symlink()]
        if len(found) != 1:
            raise BundleError(f"the package libwasmedge0 has {len(found)} files {ENGINE_LIBRARY}*, one is wanted")
        return found[0]

    @property
    def llvm(self) -> Path | None:
        return next((path for path in self.root.rglob(f"{_LLVM}*") if not path.is_symlink()), None)

    def needed(self, library: Path) -> dict[str, Path]:
        """Of the libraries that one needs, and those need, the ones that the packages have; not libLLVM. By name."""
        found: dict[str, Path] = {}
        names = _read(library, elf_binding.needed)
        while names:
            name = names.pop()
            path = next(self.root.rglob(name), None)
            if path is not None and name not in found and not name.startswith(_LLVM):
                found[name] = path.resolve()
                names += _read(path, elf_binding.needed)
        return dict(sorted(found.items()))

    def place(self, path: Path) -> str:
        """Where a file of the packages is on a host."""
        return f"/{path.relative_to(self.root)}"


def unpack(archive: Path, arch: str, folder: Path, run: Run = run_command) -> Source:
    """What bundles are made of, out of an archive of packages."""
    packages, content = read_archive(archive)
    missing = sorted(set(PACKAGES) - {one.name for one in packages})
    if missing:
        raise BundleError(f"{archive} has no {', '.join(missing)}; collect it anew")
    root = folder.resolve() / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for one in packages:
        deb = folder / one.file
        deb.write_bytes(content[one.file])
        run(["dpkg-deb", "--extract", str(deb), str(root)], folder)
        deb.unlink()
    return Source(root, {one.name: one.version for one in packages}, arch)


def make_lean(source: Source, folder: Path) -> Made:
    """The distribution's engine without LLVM."""
    taken = taken_from_llvm(source.library, source.llvm)
    key = key_of(sha256_of(source.crun), sha256_of(source.library))
    made = _empty(folder)
    shutil.copyfile(source.library, made / ENGINE_LIBRARY)
    build_stand_in(taken, made / taken.library, source.arch, folder)
    libraries = _bind(source, made, made / taken.library)
    return _finish("lean", key, source, made, [source.crun, source.library, *libraries])


def _bind(source: Source, made: Path, stand_in: Path) -> list[Path]:
    """Put bound copies of the libraries that the engine needs beside it; of which files of the packages they are."""
    libraries = source.needed(source.library)
    everything = (source.crun, source.library, stand_in, *libraries.values())
    names = {path: _read(path, elf_binding.defined) for path in everything}
    for name, path in libraries.items():
        elsewhere = set().union(*(found for other, found in names.items() if other != path))
        (made / name).write_bytes(_read(path, partial(elf_binding.bound, elsewhere=elsewhere)))
    return list(libraries.values())


def make_archive(source: Source, archive: Path, folder: Path) -> Made:
    """An operator's engine, found by the distribution's crun."""
    made = _empty(folder)
    _take_library(archive, made / ENGINE_LIBRARY)
    key = key_of(sha256_of(source.crun), sha256_of(archive))
    return _finish("archive", key, source, made, [source.crun])


def _empty(folder: Path) -> Path:
    made = folder / "bundle"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


def _finish(engine: str, key: str, source: Source, made: Path, used: Sequence[Path]) -> Made:
    own = made / "crun"
    shutil.copyfile(source.crun, own)
    own.chmod(0o755)
    search = str(bundle_folder(engine, key))
    _program(run_command, ["patchelf", "--force-rpath", "--set-rpath", search, str(own)], made, "patchelf")
    described: dict[str, Any] = {
        "engine": engine,
        "key": key,
        "arch": source.arch,
        "made_of": {source.place(path): sha256_of(path) for path in used},
        "packages": dict(source.versions),
        "files": {path.name: sha256_of(path) for path in sorted(made.iterdir())},
    }
    (made / INDEX).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return Made(key, {path.name: path for path in sorted(made.iterdir())})


def taken_from_llvm(library: Path, llvm: Path | None) -> Taken:
    """Which symbols the engine takes from libLLVM, by its own dynamic symbol table."""
    name, version, wanted = _undefined(library)
    if llvm is None or llvm.name != name:
        raise BundleError(f"{library.name} needs {name}, but the packages have {llvm.name if llvm else 'no libLLVM'}")
    functions: list[str] = []
    objects: dict[str, int] = {}
    threads: dict[str, int] = {}
    for symbol, kind, size in _defined(llvm, wanted):
        if not _SYMBOL.fullmatch(symbol):
            raise BundleError(f"{library.name} takes {symbol!r} from {name}, which C can't define")
        if kind == "STT_FUNC":
            functions.append(symbol)
        elif kind in ("STT_OBJECT", "STT_TLS"):
            (threads if kind == "STT_TLS" else objects)[symbol] = size
        else:
            raise BundleError(f"{library.name} takes {symbol} from {name}, which is of kind {kind}")
    missing = sorted(set(wanted) - set(functions) - set(objects) - set(threads))
    if missing:
        raise BundleError(f"{name} has no {', '.join(missing[:3])}: are the packages of one release?")
    return Taken(name, version, functions, objects, threads)


def build_stand_in(taken: Taken, target: Path, arch: str, folder: Path, run: Run = run_command) -> None:
    """Compile the stand-in for libLLVM."""
    (folder / "stand-in.c").write_text(taken.source(), encoding="utf-8")
    (folder / "stand-in.map").write_text(f"{taken.version} {{ global: *; }};\n", encoding="utf-8")
    own = _MACHINES.get(platform.machine())
    compiler, package = "gcc", "gcc libc6-dev"
    if arch != own:
        compiler = f"{_TRIPLETS[arch]}-gcc"
        package = f"gcc-{_TRIPLETS[arch].replace('_', '-')}"
    flags = ["-shared", "-fPIC", "-O2", "-nostdlib", "-s", "-fno-asynchronous-unwind-tables", "-fvisibility=default"]
    link = [f"-Wl,-soname={taken.library}", "-Wl,--version-script=stand-in.map", "-Wl,--hash-style=gnu"]
    link += ["-Wl,-z,relro,-z,now,-z,noexecstack", "-Wl,--build-id=none"]
    _program(run, [compiler, *flags, *link, "-o", str(target), "stand-in.c", "-lc"], folder, package)


def write_tar(target: Path, files: Mapping[str, Path]) -> None:
    """An archive whose bytes depend on its content alone."""
    with tarfile.open(target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if os.access(files[name], os.X_OK) else 0o644
            info.size = files[name].stat().st_size
            with files[name].open("rb") as stream:
                tar.addfile(info, stream)


def _take_library(archive: Path, target: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            found = [one for one in tar if one.isfile() and Path(one.name).name.startswith(ENGINE_LIBRARY)]
            if len(found) != 1:
                raise BundleError(
                    f"{archive.name} has {len(found)} files {ENGINE_LIBRARY}*, one is wanted: the archive of a shared "
                    "build of WasmEdge 0.14 (static ones have only libwasmedge.a)"
                )
            stream = tar.extractfile(found[0])
            assert stream is not None, "a plain file has content"  # noqa: S101 - for the type checker
            with target.open("wb") as out:
                shutil.copyfileobj(stream, out)
    except (tarfile.TarError, EOFError) as error:
        raise BundleError(f"{archive.name} can't be unpacked: {error}") from error


def _undefined(library: Path) -> tuple[str, str, list[str]]:
    """libLLVM's file name, its symbol version, and the symbols that are taken from it."""
    with library.open("rb") as stream:
        elf = _elf(stream)
        needs = elf.get_section_by_name(".gnu.version_r")
        found = [
            (need.name, version.name, version.entry.vna_other)
            for need, all_of in (needs.iter_versions() if needs else ())
            for version in all_of
            if need.name.startswith(_LLVM)
        ]
        if len(found) != 1:
            raise BundleError(f"{library.name} takes symbols of {len(found)} versions from libLLVM, one is wanted")
        name, version, number = found[0]
        numbers = elf.get_section_by_name(".gnu.version")
        symbols = elf.get_section_by_name(".dynsym")
        return (
            name,
            version,
            [
                symbol.name
                for at, symbol in enumerate(symbols.iter_symbols())
                if numbers.get_symbol(at).entry["ndx"] == number
            ],
        )


def _defined(llvm: Path, wanted: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Kind and size of the symbols, from the library that has them."""
    with llvm.open("rb") as stream:
        table = _elf(stream).get_section_by_name(".gnu.hash")
        for name in wanted:
            symbol = table.get_symbol(name) if table else None
            if symbol is not None:
                yield name, symbol["st_info"]["type"], int(symbol["st_size"])


def _read(path: Path, what: Callable[[Any], _Found]) -> _Found:
    with path.open("rb") as stream:
        return what(_elf(stream))


def _elf(stream: IO[bytes]) -> Any:
    if ELFFile is None:
        raise BundleError("pyelftools is missing on the controller: pip install pyelftools")
    return ELFFile(stream)


def _program(run: Run, command: Sequence[str], folder: Path, package: str) -> None:
    if shutil.which(command[0]) is None:
        raise BundleError(f"{command[0]} is missing on the controller; on Debian: apt-get install {package}")
    try:
        run(command, folder)
    except CollectError as error:
        raise BundleError(str(error)) from error
