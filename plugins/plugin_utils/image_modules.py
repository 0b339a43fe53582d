# SPDX-License-Identifier: Apache-2.0
"""The WebAssembly programs in an archive of images, looked at before any host gets it.

An engine that can't read a module's native code interprets the module, some twenty times slower, and says nothing. So
what was compiled for another engine is refused on the controller.

A program is what a container can be started with: the image's own entrypoint, and every module with an execute bit.
Other modules are data, such as a model that a program brings its own interpreter for.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import MirrorError
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import AOT_FORMATS
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import MAGIC, Native, native

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]  # a controller needs it for archives in that form only

_CACHE = ".modules.json"
_CHUNK = 1 << 20


class ImageModuleError(MirrorError):
    """An archive can't be read, or has a program that would not run as compiled; the text says which and what to do."""


@dataclass(frozen=True)
class Program:
    """A module that a container can be started with. Damaged ones have a ``fault``, plain ones nothing."""

    image: str
    path: str
    native: Native | None = None
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.path} of {self.image}"


def check(name: str, archive: Path, sha256: str, aot_format: int, arch: str, *, interpreted: bool) -> None:
    """Refuse an archive with a program that an engine reading ``aot_format`` on ``arch`` would interpret.

    With ``interpreted`` plain modules may pass; those compiled for another engine never do.
    """
    found = [complaint(one, aot_format, arch, interpreted=interpreted) for one in remembered(archive, sha256)]
    complaints = [text for text in found if text]
    if complaints:
        raise ImageModuleError(f"{name}: {'; '.join(complaints)}")


def complaint(program: Program, aot_format: int, arch: str, *, interpreted: bool) -> str | None:
    """Why a program would not run as compiled, and what to do; None if it would."""
    if program.fault:
        return f"{program} is damaged: {program.fault}; build the image anew"
    compile_it = (
        f"compile it with `wasmedge compile --generic-binary` of WasmEdge {_versions(aot_format)} on {arch}, "
        "shown an old processor (README of the role site_bundle), and build the image anew"
    )
    made = program.native
    if made is None:
        if interpreted:
            return None
        return (
            f"{program} is not compiled ahead of time, and would be interpreted, about 20 times slower; {compile_it}, "
            "or accept that: interpreted: true"
        )
    if made.format != aot_format:
        return (
            f"{program} was compiled for WasmEdge {_versions(made.format)} (format {made.format}), and hosts read "
            f"format {aot_format} (edgefleet_aot_format): they would interpret it and say nothing; {compile_it}"
        )
    if (made.system, made.arch) != ("linux", arch):
        return f"{program} was compiled for {made.system} {made.arch}, and would be interpreted; {compile_it}"
    return None


def _versions(aot_format: int) -> str:
    known = [f"{major}.{minor}.x" for (major, minor), format_ in AOT_FORMATS.items() if format_ == aot_format]
    return " and ".join(known) or "of a version that was never tried here"


def remembered(archive: Path, sha256: str) -> list[Program]:
    """The programs, read once for all hosts and runs: what is known of a file with this hash lies beside the archive.

    It is trusted as far as the mirror's manifest: who can write one can write the other.
    """
    cache = archive.with_name(_CACHE)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(cache.read_text(encoding="utf-8"))
        if known["sha256"] == sha256:
            return [
                Program(**{**one, "native": Native(**one["native"]) if one["native"] else None})
                for one in known["programs"]
            ]
    found = programs(archive)
    # A mirror on a medium may be read-only: then it is read each time.
    with contextlib.suppress(OSError):
        write_atomically(cache, json.dumps({"sha256": sha256, "programs": [asdict(one) for one in found]}) + "\n")
    return found


def programs(archive: Path) -> list[Program]:
    """All programs of all images in a Docker or OCI archive, plain or compressed with gzip or zstd."""
    try:
        with archive.open("rb") as stream, _tar(stream) as outer:
            return [one for image, config, layers in _images(outer) for one in _programs(outer, image, config, layers)]
    except (tarfile.TarError, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ImageModuleError(f"{archive} is no readable archive of images: {error!r}") from error


@contextlib.contextmanager
def _tar(stream: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """A tar file in a stream that can seek; compressed ones are unpacked beside it first, since their members are read
    in the order of the images."""
    head = stream.read(4)
    stream.seek(0)
    with contextlib.ExitStack() as stack:
        if head[:2] == b"\x1f\x8b" or head == b"\x28\xb5\x2f\xfd":
            plain = stack.enter_context(tempfile.TemporaryFile())
            _unpack(stream, plain, zstd=head[:2] != b"\x1f\x8b")
            plain.seek(0)
            stream = plain
        yield stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))


def _unpack(stream: IO[bytes], target: IO[bytes], *, zstd: bool) -> None:
    if not zstd:
        with gzip.GzipFile(fileobj=stream) as packed:
            while chunk := packed.read(_CHUNK):
                target.write(chunk)
    elif zstandard is None:
        raise ImageModuleError("the archive is compressed with zstd: pip install zstandard on the controller")
    else:
        zstandard.ZstdDecompressor().copy_stream(stream, target)


def _read(outer: tarfile.TarFile, name: str) -> bytes:
    stream = outer.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is no file")
    return stream.read()


def _images(outer: tarfile.TarFile) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Name, configuration and layers' members of each image."""
    if "index.json" in outer.getnames():
        yield from _of_index(outer, json.loads(_read(outer, "index.json")), "")
        return
    for one in json.loads(_read(outer, "manifest.json")):
        yield (
            (one.get("RepoTags") or ["an image without a name"])[0],
            json.loads(_read(outer, one["Config"])),
            one["Layers"],
        )


def _of_index(
    outer: tarfile.TarFile, index: dict[str, Any], inherited: str
) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    for described in index["manifests"]:
        notes = described.get("annotations") or {}
        name = notes.get("io.containerd.image.name") or inherited or notes.get("org.opencontainers.image.ref.name")
        blob = _blob(described)
        if blob not in outer.getnames():
            # An archive of one platform keeps the index of all of them.
            continue
        document = json.loads(_read(outer, blob))
        if "manifests" in document:
            yield from _of_index(outer, document, name or "")
        elif "image" in document["config"]["mediaType"]:
            config = json.loads(_read(outer, _blob(document["config"])))
            yield name or described["digest"], config, [_blob(layer) for layer in document["layers"]]


def _blob(described: dict[str, Any]) -> str:
    return "blobs/" + str(described["digest"]).replace(":", "/", 1)


def _programs(outer: tarfile.TarFile, image: str, config: dict[str, Any], layers: list[str]) -> list[Program]:
    modules: dict[str, tuple[bool, Program]] = {}
    for layer in layers:
        stream = outer.extractfile(layer)
        if stream is None:
            raise ValueError(f"layer {layer} is no file")
        with _tar(stream) as tar:
            for member in tar:
                _take(tar, member, image, modules)
    started = _entrypoint(config.get("config") or {})
    return [program for path, (executable, program) in sorted(modules.items()) if executable or path == started]


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, image: str, modules: dict[str, tuple[bool, Program]]) -> None:
    """One entry of a layer over those below it."""
    path = posixpath.normpath("/" + member.name)
    folder, name = posixpath.split(path)
    if name == ".wh..wh..opq":
        _drop(modules, folder)
    elif name.startswith(".wh."):
        _drop(modules, posixpath.join(folder, name.removeprefix(".wh.")))
    elif member.islnk():
        linked = modules.get(posixpath.normpath("/" + member.linkname))
        if linked:
            modules[path] = (linked[0], Program(image, path, linked[1].native, linked[1].fault))
    elif not member.isdir():
        modules.pop(path, None)
        stream = tar.extractfile(member) if member.isfile() else None
        if stream and stream.read(len(MAGIC)) == MAGIC:
            stream.seek(0)
            modules[path] = (bool(member.mode & 0o111), _program(image, path, stream.read()))


def _drop(modules: dict[str, Any], path: str) -> None:
    for one in [known for known in modules if known == path or known.startswith(path.rstrip("/") + "/")]:
        del modules[one]


def _program(image: str, path: str, module: bytes) -> Program:
    try:
        return Program(image, path, native(module))
    except ValueError as error:
        return Program(image, path, fault=str(error))


def _entrypoint(config: dict[str, Any]) -> str | None:
    """The path of what a container of the image starts, unless its pod says otherwise."""
    command = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "/", command[0])) if command else None
