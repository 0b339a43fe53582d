# SPDX-License-Identifier: Apache-2.0
"""A backup of a site while it runs: datastore, identity, configuration, and the volumes that are declared."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import free_bytes
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import Kubectl, RunCommand
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import archive, databases, site
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import Manifest, Source

FOLDER = Path("/var/backups/edgefleet")
CERTIFICATE = Path("/etc/edgefleet/backup.crt")
DATASTORE = site.DATA / "server/db/state.db"
# Of K3s: what a cluster is recognised by, and what can't be made again. Its add-ons' manifests it writes anew.
KEPT = (site.DATA / "server/token", site.DATA / "server/tls", site.DATA / "server/cred", Path("/etc/rancher"))
OPTIONAL = (site.DATA / "server/agent-token", site.DATA / "server/node-token", site.DATA / "server/manifests")
_MIB = 1 << 20


class BackupError(Exception):
    """No backup, and why."""


@dataclass(frozen=True)
class Wanted:
    """``volumes`` are claims (namespace/claim) or folders; ``keep`` is how many backups stay, the newest of them."""

    node: str
    volumes: list[str] = field(default_factory=list)
    keep: int = 7
    folder: Path = FOLDER
    certificate: Path = CERTIFICATE


@dataclass(frozen=True)
class Made:
    path: Path
    size: int
    seconds: float
    manifest: Manifest
    removed: list[str]


def make(run: RunCommand, wanted: Wanted, now: time.struct_time | None = None) -> Made:
    """Make one and remove those beyond ``keep``; they go only when the new one is whole and on disk."""
    began = time.monotonic()
    moment = now or time.gmtime()
    if not DATASTORE.exists():
        raise BackupError(f"this host has no datastore of K3s ({DATASTORE}): only servers are backed up")
    kubectl = Kubectl(run)
    volumes = site.claim_folders(kubectl, wanted.volumes)
    manifest = Manifest(
        node=wanted.node,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        k3s=site.program_version(run),
        workloads=site.workloads(kubectl),
        volumes=volumes,
    )
    wanted.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted.folder.chmod(0o700)
    _require_room(wanted.folder, volumes)
    target = wanted.folder / f"{wanted.node}-{time.strftime('%Y%m%dT%H%M%SZ', moment)}{archive.SUFFIX}"
    with tempfile.TemporaryDirectory(prefix=".databases-", dir=wanted.folder) as temporary:
        sources = list(_sources(volumes, Path(temporary)))
        copied = next(one.content for one in sources if one.path == DATASTORE)
        manifest.objects = databases.objects(copied) if copied else {}
        archive.write(target, wanted.certificate, manifest, sources)
    removed = rotate(wanted)
    return Made(target, target.stat().st_size, time.monotonic() - began, manifest, removed)


def existing(wanted: Wanted) -> list[Path]:
    """This node's backups on the host, the oldest first."""
    pattern = re.compile(re.escape(wanted.node) + r"-\d{8}T\d{6}Z" + re.escape(archive.SUFFIX))
    if not wanted.folder.is_dir():
        return []
    return sorted(path for path in wanted.folder.iterdir() if pattern.fullmatch(path.name))


def rotate(wanted: Wanted) -> list[str]:
    """Remove the oldest beyond ``keep``; and what a cut backup left."""
    doomed = existing(wanted)[: -wanted.keep]
    for path in doomed:
        path.unlink()
    for left in wanted.folder.glob(".databases-*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in wanted.folder.glob(f".*{archive.SUFFIX}.part"):
        left.unlink(missing_ok=True)
    return [path.name for path in doomed]


def _sources(volumes: dict[str, str], temporary: Path) -> Iterator[Source]:
    databases.copy(DATASTORE, temporary / "state.db")
    yield Source(DATASTORE.parent)
    yield Source(DATASTORE, temporary / "state.db")
    for top in (*KEPT, *(path for path in OPTIONAL if path.exists())):
        for path in _walk(top):
            yield Source(path)
    number = 0
    for folder in volumes.values():
        found = list(_walk(Path(folder)))
        copied = {path for path in found if databases.is_database(path)}
        companions = {f"{path}{ending}" for path in copied for ending in databases.COMPANIONS}
        for path in found:
            if path in copied:
                number += 1
                databases.copy(path, temporary / f"{number}.db")
                yield Source(path, temporary / f"{number}.db")
            # A lock that a program inside WebAssembly holds is a folder; restored, nobody would ever open it again.
            elif str(path) not in companions and not _is_lock(path, copied):
                yield Source(path)


def _is_lock(path: Path, copied: set[Path]) -> bool:
    return path.name.endswith(".lock") and path.with_name(path.name.removesuffix(".lock")) in copied


def _walk(top: Path) -> Iterator[Path]:
    """A file, or a folder with all that is in it; sockets and devices are not kept."""
    yield top
    if top.is_symlink() or not top.is_dir():
        return
    with os.scandir(top) as entries:
        names = sorted(Path(entry.path) for entry in entries)
    for path in names:
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.is_file() or path.is_symlink():
            yield path


def _require_room(folder: Path, volumes: dict[str, str]) -> None:
    """The databases' copies and the backup itself, before it is compressed."""
    tops = [DATASTORE, *(Path(one) for one in volumes.values())]
    size = sum(path.stat().st_size for top in tops for path in _walk(top) if path.is_file() and not path.is_symlink())
    needed = 2 * size + 64 * _MIB
    if free_bytes(folder) < needed:
        raise BackupError(
            f"{folder}: a backup may need {needed // _MIB} MiB and {free_bytes(folder) // _MIB} MiB are free; "
            "free some, or lower keeper_backups_keep"
        )
