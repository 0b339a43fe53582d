# SPDX-License-Identifier: Apache-2.0
"""Debian packages out of an archive of the mirror, installed by apt without any other source."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils import artifact_records
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import (
    existing_parent,
    free_bytes,
    sha256_of,
    write_atomically,
)

INDEX = "packages.json"
# Unpacked, packages are some four times as large; both are there for a moment.
_GROWTH = 5
_MIB = 1 << 20

ARGUMENTS: dict[str, Any] = {
    **artifact_records.ARGUMENTS,
    "state": {"type": "str", "choices": ["verified", "present"], "default": "present"},
    "packages": {"type": "list", "elements": "str", "default": []},
    "brought": {"type": "path"},
}
REQUIRED_IF: artifact_records.RequiredIf = [
    *artifact_records.REQUIRED_IF,
    ("state", "present", ("packages", "brought")),
]

RunCommand = Callable[[list[str]], tuple[int, str, str]]


class PackagesError(Exception):
    """The packages can't be installed."""


@dataclass(frozen=True)
class Outcome:
    changed: bool
    needs_file: bool
    installed: list[str]


def ensure(
    run: RunCommand,
    wanted: Sequence[str],
    provenance: Provenance,
    source: Path | None,
    workdir: Path,
    *,
    brought: Path,
    check: bool,
) -> Outcome:
    """Have the packages installed. Which ones that brings to the host is noted first, so that a reset finds them."""
    if not set(wanted) - _installed(run):
        return Outcome(False, False, [])
    if source is None or check:
        _check_space(provenance, workdir)
        return Outcome(True, True, [])
    debs = _unpack(provenance, source, workdir)
    missing = {name: path for name, path in debs.items() if name not in _installed(run)}
    lacking = sorted(set(wanted) - set(debs) - _installed(run))
    if lacking:
        raise PackagesError(f"{provenance} has no {', '.join(lacking)}; collect it anew")
    _note(brought, missing)
    # Of a run that was cut: half installed packages.
    _apt(run, provenance, ["dpkg", "--configure", "--pending"])
    options = ["-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=/dev/null"]
    options += ["-o", "DPkg::Lock::Timeout=120", "-o", "APT::Install-Recommends=false"]
    files = [str(path) for path in missing.values()]
    _apt(run, provenance, ["apt-get", "--yes", "--quiet", *options, "install", *files])
    needed_by_others = sorted(set(missing) - set(wanted))
    if needed_by_others:
        _apt(run, provenance, ["apt-mark", "auto", *needed_by_others])
    return Outcome(True, False, sorted(missing))


def _installed(run: RunCommand) -> set[str]:
    _, out, _ = run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n"])
    return {line.split()[1] for line in out.splitlines() if line.startswith("installed ")}


def _apt(run: RunCommand, provenance: Provenance, command: list[str]) -> None:
    code, out, err = run(["env", "DEBIAN_FRONTEND=noninteractive", *command])
    if code:
        text = f"{out}\n{err}"
        lines = [line.strip() for line in text.splitlines() if re.search(r"^E: |Depends: |error", line)]
        said = "; ".join(lines) or text.strip()[-300:]
        raise PackagesError(f"{provenance}: `{command[0]}` failed: {said}")


def _unpack(provenance: Provenance, source: Path, workdir: Path) -> dict[str, Path]:
    """The archive's packages by their names, each what its list says."""
    actual = sha256_of(source)
    if actual != provenance.sha256:
        raise PackagesError(
            f"{provenance} arrived with {source.stat().st_size} bytes and SHA-256 {actual}, sent were "
            f"{provenance.size} bytes with {provenance.sha256}: the transfer was cut off; run again"
        )
    try:
        with tarfile.open(source) as archive:
            plain = [one for one in archive if one.isfile() and "/" not in one.name]
            archive.extractall(workdir, members=plain, filter="data")
        listed = json.loads((workdir / INDEX).read_text(encoding="utf-8"))
        debs = {one["name"]: workdir / one["file"] for one in listed}
        wrong = [one["file"] for one in listed if sha256_of(debs[one["name"]]) != one["sha256"]]
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError) as error:
        raise PackagesError(f"{provenance} is no archive of packages: {error}; collect it anew") from error
    if wrong:
        raise PackagesError(f"{provenance}: {', '.join(wrong)} is not what {INDEX} in it says; collect it anew")
    return debs


def _note(brought: Path, packages: Sequence[str] | dict[str, Path]) -> None:
    known = set(brought.read_text(encoding="utf-8").split()) if brought.is_file() else set()
    brought.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(brought, "".join(f"{name}\n" for name in sorted(known | set(packages))))


def _check_space(provenance: Provenance, workdir: Path) -> None:
    for path in (workdir, Path("/usr")):
        free = free_bytes(path)
        needed = _GROWTH * provenance.size
        if free < needed:
            raise PackagesError(
                f"{provenance}: no room for it under {existing_parent(path)}: {needed / _MIB:.0f} MiB needed, "
                f"{free / _MIB:.0f} MiB free; free some and run again"
            )
