# SPDX-License-Identifier: Apache-2.0
"""A set: all that a change of versions or configuration changes on a host, kept whole so that it can be put back.

Programs, units, configuration and Wasm engine as they were, with the datastore of a server as it was at that moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sha256_of, sync_folder, write_atomically

# What else is in them when a set is put back goes: a drop-in of the new version, say.
FOLDERS = ("etc/containerd", "etc/rancher/k3s", "usr/local/lib/edgefleet/wasm-engine")
K3S_FILES = (
    "usr/local/bin/k3s",
    "etc/systemd/system/k3s.service",
    "etc/systemd/system/k3s.service.*",
    "etc/systemd/system/k3s-agent.service",
    "etc/systemd/system/k3s-agent.service.*",
    "etc/sysctl.d/90-k3s.conf",
    # The plugins of pods' networks are found through it, and K3s does not set it back by itself.
    "var/lib/rancher/k3s/data/current",
    "var/lib/rancher/k3s/data/previous",
)
OTHER_FILES = (
    "usr/local/bin/containerd*",
    "usr/local/bin/ctr",
    "etc/systemd/system/containerd.service",
    "etc/systemd/system/containerd.service.*",
    "var/lib/edgefleet/artifacts.json",
)
_K3S_FOLDER = Path("etc/rancher/k3s")
_MANIFEST = "set.json"
_FILES = "files"
_DATASTORE = "state.db"


class SetError(Exception):
    """A set that is not whole."""


@dataclass(frozen=True)
class Entry:
    """A file, link or folder. ``sha256`` is of a file's content, ``target`` a link's."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    sha256: str = ""
    target: str = ""


@dataclass(frozen=True)
class Set:
    """``workloads`` is ready pods by workload at that moment; ``k3s`` the version of the program."""

    folder: Path
    k3s: str
    workloads: dict[str, int]
    entries: tuple[Entry, ...]

    @property
    def datastore(self) -> Path | None:
        path = self.folder / _DATASTORE
        return path if path.exists() else None


def scan(root: Path = Path("/")) -> tuple[Entry, ...]:
    """The host as it is now."""
    found = {path: _entry(path, root) for path in _paths(root)}
    return tuple(found[path] for path in sorted(found))


def size(root: Path = Path("/")) -> int:
    """Bytes that a set of this host takes, without the datastore."""
    return sum(path.stat().st_size for path in _paths(root) if path.is_file() and not path.is_symlink())


def new_datastore(folder: Path) -> Path:
    """Where the datastore's copy belongs before ``save`` completes the set."""
    part = _part(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    return part / _DATASTORE


def save(folder: Path, k3s: str, workloads: dict[str, int], root: Path = Path("/")) -> Set:
    """Copy the host's files into a set: it is there whole and on disk, or not there."""
    part = _part(folder)
    (part / _FILES).mkdir(parents=True, exist_ok=True, mode=0o700)
    entries = scan(root)
    for entry in entries:
        if entry.type == "file":
            _copy(root / entry.path.lstrip("/"), part / _FILES / entry.sha256, entry.sha256)
    document = {"k3s": k3s, "workloads": workloads, "entries": [asdict(entry) for entry in entries]}
    write_atomically(part / _MANIFEST, json.dumps(document), 0o600)
    os.sync()
    part.rename(folder)
    sync_folder(folder.parent)
    return load(folder)


def load(folder: Path) -> Set:
    try:
        document = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return Set(folder, document["k3s"], document["workloads"], entries_of(document["entries"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetError(f"{folder}: no whole set: {error}") from error


def entries_of(document: Iterable[dict[str, Any]]) -> tuple[Entry, ...]:
    return tuple(Entry(**entry) for entry in document)


def differing(entries: Iterable[Entry], root: Path = Path("/")) -> list[str]:
    """What is not as these entries say, missing or too many."""
    wanted, there = {entry.path: entry for entry in entries}, {entry.path: entry for entry in scan(root)}
    return sorted(path for path in {*wanted, *there} if wanted.get(path) != there.get(path))


def of_k3s(paths: Iterable[str]) -> bool:
    """Whether K3s is among what these paths belong to."""
    named = [Path(path.lstrip("/")) for path in paths]
    # What is in a folder of drop-ins belongs to what the folder belongs to.
    tops = {top for path in named for top in (path, *path.parents)}
    return _K3S_FOLDER in tops or any(top.match(pattern) for top in tops for pattern in K3S_FILES)


def put_back(kept: Set, root: Path = Path("/")) -> list[str]:
    """Have the files of a set, and no others, in their places. May be cut at any point and called again."""
    paths = differing(kept.entries, root)
    entries = {entry.path: entry for entry in kept.entries}
    # Folders before what is in them, and what goes from the inside out.
    for path in sorted(path for path in paths if path in entries):
        _place(kept, entries[path], root / path.lstrip("/"))
    for path in sorted((path for path in paths if path not in entries), reverse=True):
        _remove(root / path.lstrip("/"))
    os.sync()
    return paths


def _paths(root: Path) -> Iterator[Path]:
    for pattern in (*K3S_FILES, *OTHER_FILES):
        for path in root.glob(pattern):
            yield from _walk(path)
    for folder in FOLDERS:
        if (root / folder).exists():
            yield from _walk(root / folder)


def _walk(path: Path) -> Iterator[Path]:
    if path.name.startswith(".") and path.name.endswith((".edgefleet-new", ".part")):
        return  # what a cut run left
    yield path
    if path.is_dir() and not path.is_symlink():
        for one in sorted(path.iterdir()):
            yield from _walk(one)


def _entry(path: Path, root: Path) -> Entry:
    there = path.lstat()
    name = f"/{path.relative_to(root)}"
    owner = (there.st_uid, there.st_gid)
    if path.is_symlink():
        return Entry(name, "link", 0, *owner, target=str(path.readlink()))
    mode = stat.S_IMODE(there.st_mode)
    if path.is_dir():
        return Entry(name, "folder", mode, *owner)
    return Entry(name, "file", mode, *owner, sha256=sha256_of(path))


def _place(kept: Set, entry: Entry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.type == "folder":
        if target.is_symlink() or target.is_file():
            target.unlink()
        target.mkdir(exist_ok=True)
        os.chown(target, entry.uid, entry.gid)
        target.chmod(entry.mode)
        return
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    part = target.with_name(f".{target.name}.edgefleet-new")
    part.unlink(missing_ok=True)
    if entry.type == "link":
        part.symlink_to(entry.target)
    else:
        _copy(kept.folder / _FILES / entry.sha256, part, entry.sha256)
        os.chown(part, entry.uid, entry.gid)
        part.chmod(entry.mode)
    part.replace(target)
    sync_folder(target.parent)


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """On disk when it returns, and what it should be."""
    digest = hashlib.sha256()
    with source.open("rb") as stream, target.open("wb") as out:
        os.fchmod(out.fileno(), 0o600)
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != sha256:
        target.unlink()
        raise SetError(f"{source}: not what it was when it was noted (SHA-256 {sha256})")


def _part(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.part")
