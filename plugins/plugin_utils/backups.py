# SPDX-License-Identifier: Apache-2.0
"""Backups on the controller: decrypted with the operator's key, unpacked and checked, in a folder that goes again.

The key opens the backups of every site, so it is used here and never sent to a host.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import archive, databases
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import ArchiveError, Manifest
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.backup import DATASTORE


@dataclass(frozen=True)
class Opened:
    """``tar`` is the decrypted backup; ``databases`` is how many were read from end to end and are sound."""

    tar: Path
    manifest: Manifest
    databases: int


@contextmanager
def opened(source: Path, key: Path) -> Iterator[Opened]:
    """A backup that was rehearsed as far as it goes without a host: every file and every database of it was read."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-backup-") as temporary:
        tar, folder = Path(temporary) / "backup.tar", Path(temporary) / "unpacked"
        archive.decrypt(source, key, tar)
        folder.mkdir(mode=0o700)
        manifest = archive.unpack(tar, folder)
        found = [one["path"] for one in manifest.files if one["type"] == "file"]
        sound = [path for path in found if databases.is_database(archive.content(folder, path))]
        for path in sound:
            databases.check(archive.content(folder, path))
        there = databases.objects(archive.content(folder, str(DATASTORE)))
        if there != manifest.objects:
            raise ArchiveError(f"{source}: its datastore has {there}, noted were {manifest.objects}")
        yield Opened(tar, manifest, len(sound))
