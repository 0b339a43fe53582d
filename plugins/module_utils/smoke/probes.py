# SPDX-License-Identifier: Apache-2.0
"""Controller: plain probe modules out of their sources, compiled ones out of the mirror."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Entry, Mirror, MirrorError, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import engine_starts, identity
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload

ARTIFACT = "wasm-probes"
# Part of the artifact's version: raised with every change of a source in AOT.
VERSION = "1"
PLAIN = ("echo", "fib", "files", "grow", "nonce", "socket", "spin", "trap", "wait")
AOT = ("echo", "fib")

_SOURCES = Path(__file__).parent / "wat"
_NONCE_PLACE = "@" * 32
_MEMBER_LIMIT = 4 << 20
_REFERENCE_STARTS = 10


def wat(name: str) -> str:
    """The source of a probe."""
    return (_SOURCES / f"{name}.wat").read_text(encoding="utf-8")


def compile_wat(name: str, nonce: str = "0" * 32) -> bytes:
    """The plain module of a probe."""
    try:
        import wasmtime  # noqa: PLC0415 - only the controller needs it, and its absence has a message of its own
    except ImportError as error:
        raise SmokeError(
            "wasm_smoke needs the Python package wasmtime on the controller, for the Python that runs Ansible: "
            f"pip install wasmtime ({error})"
        ) from error
    return bytes(wasmtime.wat2wasm(wat(name).replace(_NONCE_PLACE, nonce)))


def payload(mirror: str | None) -> Payload:
    """All that one host needs, with a nonce that no other run has."""
    nonce = secrets.token_hex(16)
    plain = {name: compile_wat(name, nonce) for name in PLAIN}
    made = Payload(nonce, plain, reference=_reference(plain["echo"]))
    if mirror is None:
        return replace(made, no_compiled="no mirror folder was given (edgefleet_mirror_dir)")
    compiled = compiled_probes(Mirror(mirror))
    if not compiled:
        return replace(made, no_compiled=f"the mirror {mirror} has no {ARTIFACT} of version {VERSION}-*")
    return replace(made, compiled=compiled)


def _reference(module: bytes) -> dict[str, list[float]]:
    """wasmtime's cold starts on this controller; none where it is of another kind than what the control is made for."""
    try:
        native = native_program(identity.arch(), b"edgefleet-smoke\n")
        return engine_starts.wasmtime_starts(module, native, _REFERENCE_STARTS)
    except (KeyError, OSError, RuntimeError):
        return {}


def compiled_probes(mirror: Mirror) -> tuple[Compiled, ...]:
    """Those of every engine and architecture that the mirror has: the host knows which are its own."""
    found = []
    try:
        for entry in mirror.entries():
            if entry.name == ARTIFACT and entry.version.startswith(f"{VERSION}-"):
                release = Release(entry.name, entry.version, entry.arch, entry.file)
                mirror.verify(release)
                found.append(_unpacked(mirror.path(release), entry))
    except MirrorError as error:
        raise SmokeError(str(error)) from error
    return tuple(found)


def _unpacked(archive: Path, entry: Entry) -> Compiled:
    try:
        with tarfile.open(archive) as tar:
            index = json.loads(_member(tar, "probes.json"))
            return Compiled(
                engine=_text(index["engine"]),
                engine_version=_text(index["engine_version"]),
                arch=_text(index["arch"]),
                version=entry.version,
                source=entry.source,
                modules={_text(one["name"]): _module(tar, one) for one in index["modules"]},
            )
    except (OSError, EOFError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise SmokeError(
            f"{archive} is no archive of compiled probes ({error!r}); "
            "remove it from edgefleet_mirror_dir and build it again"
        ) from error


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is no file")
    return stream.read(_MEMBER_LIMIT)


def _module(tar: tarfile.TarFile, one: dict[str, Any]) -> bytes:
    content = _member(tar, _text(one["file"]))
    actual = hashlib.sha256(content).hexdigest()
    if actual != one["sha256"]:
        raise ValueError(f"{one['file']} has SHA-256 {actual}, probes.json says {one['sha256']}")
    return content


def _text(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._+-]+", value):
        raise ValueError(f"{value!r} in probes.json is no name")
    return value
