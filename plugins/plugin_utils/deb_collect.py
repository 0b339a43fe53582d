# SPDX-License-Identifier: Apache-2.0
"""Debian packages with all that a minimal host lacks for them, as one archive for hosts that reach no Debian mirror.

apt does the work, in folders of its own, so that any machine with apt can do it for any release and architecture. It
takes only what a signed package index names. ``packages.json`` in the archive lists name, version, file and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

INDEX = "packages.json"
# What every host has: packages that these need are not collected.
_BASE = ("?essential", "?priority(required)", "systemd")
_INST = re.compile(r"^Inst (\S+) ", re.MULTILINE)

Run = Callable[[Sequence[str], Path], str]
"""Runs a command in a folder; its output. Raises CollectError."""


class CollectError(Exception):
    """The packages can't be had."""


@dataclass(frozen=True)
class Package:
    """One package file."""

    name: str
    version: str
    file: str
    sha256: str


def run_command(command: Sequence[str], folder: Path) -> str:
    """Run a program; its output, or one error with its last words."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CollectError(f"{command[0]} is not on this machine: packages are collected by Debian's apt") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()[-3:]
        raise CollectError(f"`{command[0]}` failed: {' '.join(errors).strip()}")
    return done.stdout


def collect(
    names: Sequence[str], sources: Sequence[str], arch: str, folder: Path, *, run: Run = run_command
) -> dict[str, Path]:
    """Fetch the packages, and what they need that a minimal host lacks; the archive's files by their names."""
    apt = Apt(folder / "apt", sources, arch, run)
    apt.update()
    closure = apt.closure(names)
    missing = sorted(set(names) - closure)
    if missing:
        raise CollectError(f"these sources have no {', '.join(missing)}: {'; '.join(sources)}")
    needed = sorted(closure - apt.closure(_BASE) | set(names))
    debs = folder / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir()
    apt.download(needed, debs)
    packages = [_described(path, run) for path in sorted(debs.glob("*.deb"))]
    if [package.name for package in packages] != needed:
        raise CollectError(f"apt fetched {[package.name for package in packages]}, wanted were {needed}")
    index = folder / INDEX
    index.write_text(json.dumps([vars(package) for package in packages], indent=2) + "\n", encoding="utf-8")
    return {INDEX: index, **{package.file: debs / package.file for package in packages}}


class Apt:
    """apt in folders of its own, with the machine's proxies and nothing else of it."""

    def __init__(self, root: Path, sources: Sequence[str], arch: str, run: Run) -> None:
        self._run = run
        for name in ("state/lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._folder = root
        (root / "sources.list").write_text("".join(f"{line}\n" for line in sources), encoding="utf-8")
        # A host on which nothing is installed.
        (root / "status").touch()
        settings = {
            "Dir::State": root / "state",
            "Dir::State::status": root / "status",
            "Dir::Cache": root / "cache",
            "Dir::Etc::sourcelist": root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        # Without this a source that can't be reached is only a warning.
        self._apt("-o", "APT::Update::Error-Mode=any", "update")

    def closure(self, names: Sequence[str]) -> set[str]:
        """These packages and what they need, on a host that has nothing."""
        return set(_INST.findall(self._apt("--simulate", "install", *names)))

    def download(self, names: Sequence[str], folder: Path) -> None:
        self._apt("download", *names, folder=folder)

    def _apt(self, *words: str, folder: Path | None = None) -> str:
        return self._run(["apt-get", "--quiet", "--yes", *self._options, *words], folder or self._folder)


def _described(path: Path, run: Run) -> Package:
    fields = run(["dpkg-deb", "--field", str(path), "Package", "Version"], path.parent)
    found = dict(line.split(": ", 1) for line in fields.splitlines() if ": " in line)
    # A mirror's file name can't have every character of a version.
    plain = path.rename(path.with_name(f"{found['Package']}.deb"))
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    return Package(found["Package"], found["Version"], plain.name, digest)


def read_archive(archive: Path) -> tuple[list[Package], dict[str, bytes]]:
    """The packages of an archive, each verified against its list."""
    try:
        with tarfile.open(archive) as tar:
            content = {one.name: stream.read() for one in tar if one.isfile() and (stream := tar.extractfile(one))}
        packages = [Package(**one) for one in json.loads(content.pop(INDEX))]
    except (tarfile.TarError, KeyError, TypeError, ValueError, EOFError) as error:
        raise CollectError(f"{archive} is no archive of packages ({error}); collect it anew") from error
    for package in packages:
        if hashlib.sha256(content.get(package.file, b"")).hexdigest() != package.sha256:
            raise CollectError(f"{archive}: {package.file} is not what {INDEX} says; collect it anew")
    return packages, content
