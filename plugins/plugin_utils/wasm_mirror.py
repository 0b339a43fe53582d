# SPDX-License-Identifier: Apache-2.0
"""What the Wasm runtime's hosts get from the mirror beside releases: Debian packages, and engines made of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Entry, Mirror, MirrorError, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import archive_file, artifact_of
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import deb_collect, engine_bundle
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.deb_collect import CollectError
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.engine_bundle import BundleError

PACKAGES = "wasm-runtime-packages"
ARCHIVE = "wasm-runtime-archive"
# Raise it when engines come out different from the same packages.
RECIPE = 2

Report = Callable[[str], None]


class WasmMirrorError(Exception):
    """Something can't be had; the text names it and the way out."""


@dataclass(frozen=True)
class Wanted:
    """For one architecture."""

    arch: str
    packages_version: str
    sources: Sequence[str]
    lean: bool = False
    archive: Release | None = None
    allow_rebuilt: bool = False


@dataclass
class Filled:
    made: list[str] = field(default_factory=list)
    """What was not there, or in check mode is not there."""
    entries: list[Entry] = field(default_factory=list)


def packages_release(version: str, arch: str) -> Release:
    """The archive of packages as it is in a mirror."""
    return Release(PACKAGES, version, arch, f"{PACKAGES}-{arch}.tar")


def fill(mirror: Mirror, wanted: Wanted, *, check: bool, report: Report) -> Filled:
    """Have the packages, and the engines that are made of them. What is there already is not made again."""
    filled = Filled()
    packages = packages_release(wanted.packages_version, wanted.arch)
    try:
        entry = _present(mirror, packages)
        if entry is None:
            filled.made.append(str(packages))
            if check:
                return filled
            report(f"{packages}: collected by apt")
            entry = _collect(mirror, packages, wanted.sources)
        filled.entries.append(entry)
        _engines(mirror, wanted, entry, filled, check=check, report=report)
    except (BundleError, CollectError) as error:
        raise WasmMirrorError(f"{packages.name} {wanted.arch}: {error}") from error
    return filled


def _present(mirror: Mirror, release: Release) -> Entry | None:
    try:
        return mirror.verify(release)
    except MirrorError:
        return None


def _collect(mirror: Mirror, release: Release, sources: Sequence[str]) -> Entry:
    if not sources:
        raise CollectError("no sources of Debian packages are named (wasm_runtime_packages_sources)")
    with _workdir(mirror) as name:
        folder = Path(name)
        files = deb_collect.collect(engine_bundle.PACKAGES, sources, release.arch, folder)
        engine_bundle.write_tar(folder / release.file, files)
        return mirror.add(release, folder / release.file, f"Debian packages by apt: {'; '.join(map(_shown, sources))}")


def _shown(source: str) -> str:
    """A line of sources.list without its options and without a password."""
    return re.sub(r"//[^/@\s]*@", "//", re.sub(r"\s*\[[^]]*\]", "", source))


def _engines(mirror: Mirror, wanted: Wanted, packages: Entry, filled: Filled, *, check: bool, report: Report) -> None:
    kinds = [("lean", f"{PACKAGES} {packages.version} ({packages.sha256[:12]})")] if wanted.lean else []
    if wanted.archive:
        operators = mirror.verify(wanted.archive, allow_rebuilt=wanted.allow_rebuilt)
        made_of = f"{ARCHIVE} {operators.version} ({operators.sha256[:12]}) and {PACKAGES} {packages.version}"
        kinds.append(("archive", f"{made_of} ({packages.sha256[:12]})"))
    for engine, made_of in kinds:
        source = f"made here of {made_of}, recipe {RECIPE}"
        known = _made_before(mirror, engine, wanted.arch, source)
        if known is None:
            filled.made.append(f"{artifact_of(engine)} {wanted.arch} of {packages.name} {packages.version}")
            if check:
                continue
            report(f"{artifact_of(engine)} {wanted.arch}: {source}")
            known = _make(mirror, engine, wanted, packages, source)
        filled.entries.append(known)


def _made_before(mirror: Mirror, engine: str, arch: str, source: str) -> Entry | None:
    for entry in mirror.entries():
        if (entry.name, entry.arch, entry.source) == (artifact_of(engine), arch, source):
            return _present(mirror, Release(entry.name, entry.version, entry.arch, entry.file))
    return None


def _make(mirror: Mirror, engine: str, wanted: Wanted, packages: Entry, source: str) -> Entry:
    with _workdir(mirror) as name:
        folder = Path(name)
        archive = mirror.path(packages_release(packages.version, packages.arch))
        unpacked = engine_bundle.unpack(archive, wanted.arch, folder)
        if engine == "lean":
            made = engine_bundle.make_lean(unpacked, folder)
        else:
            assert wanted.archive is not None  # noqa: S101 - for the type checker: its engine is wanted only then
            made = engine_bundle.make_archive(unpacked, mirror.path(wanted.archive), folder)
        file = archive_file(engine, wanted.arch)
        engine_bundle.write_tar(folder / file, made.files)
        return mirror.add(Release(artifact_of(engine), made.key, wanted.arch, file), folder / file, source)


def _workdir(mirror: Mirror) -> tempfile.TemporaryDirectory[str]:
    """On the mirror's own file system: what is finished is moved, not copied."""
    mirror.root.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".work-", dir=mirror.root)
