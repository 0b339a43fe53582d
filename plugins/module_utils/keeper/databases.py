# SPDX-License-Identifier: Apache-2.0
"""SQLite databases of a running site: copied as they were at one moment, and checked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sync_folder

_MAGIC = b"SQLite format 3\0"
# Bytes 18 and 19 of the header: 2 where changes go to a write-ahead log.
_VERSIONS = slice(18, 20)
_CHANGES = slice(24, 28)
_HEADER_BYTES = 100
_TRIES = 10
_PAUSE_SECONDS = 0.5
# What SQLite keeps beside a database while it is open.
COMPANIONS = ("-wal", "-shm", "-journal")

Stamp = tuple[bytes, int, int]


class DatabaseError(Exception):
    """A database that can't be copied, or is damaged; the path and what SQLite says."""


def is_database(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def copy(source: Path, target: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """An online copy: one state of the database, whatever writes to it meanwhile. On disk when it returns.

    A program inside WebAssembly has no file locks that a native reader would see. So a copy of a database without a
    write-ahead log counts only if the database's own counter of changes, its size and its journal stayed as they were.
    """
    for _ in range(_TRIES):
        before = _stamp(source)
        target.unlink(missing_ok=True)
        try:
            _copy(source, target)
            damage = _damage(target)
        except sqlite3.Error as error:
            damage = str(error)
        if not damage and (_has_log(source) or _stamp(source) == before):
            with target.open("rb") as stream:
                os.fsync(stream.fileno())
            return
        sleep(_PAUSE_SECONDS)
    reason = damage or "it was written to all the time"
    raise DatabaseError(f"{source}: no whole copy of this database in {_TRIES} tries: {reason}")


def check(path: Path) -> None:
    """Read all of it. DatabaseError if a page or an index is damaged."""
    try:
        damage = _damage(path) if is_database(path) else "no SQLite database"
    except sqlite3.Error as error:
        damage = str(error)
    if damage:
        raise DatabaseError(f"{path}: {damage}")


def put_back(source: Path, target: Path) -> None:
    """Have a copy in a database's place, in one step. Nothing may have the database open."""
    part = target.with_name(f".{target.name}.edgefleet-new")
    shutil.copyfile(source, part)
    part.chmod(0o600)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    # A log of the database before would be replayed into this one.
    for ending in COMPANIONS:
        target.with_name(f"{target.name}{ending}").unlink(missing_ok=True)
    part.replace(target)
    sync_folder(target.parent)


def objects(path: Path) -> dict[str, int]:
    """From K3s's datastore: how many objects there are, by the first part of their key ("secrets", "pods")."""
    query = (
        "SELECT name FROM kine WHERE name LIKE '/registry/%' AND deleted = 0 "
        "AND id IN (SELECT MAX(id) FROM kine GROUP BY name)"
    )
    try:
        with closing(_open(path)) as database:
            names = [str(row[0]) for row in database.execute(query)]
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: this is no datastore of K3s: {error}") from error
    found: dict[str, int] = {}
    for name in names:
        kind = name.split("/")[2]
        found[kind] = found.get(kind, 0) + 1
    return dict(sorted(found.items()))


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(descriptor)
    with closing(_open(source)) as origin, closing(sqlite3.connect(target)) as copied:
        origin.backup(copied)


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30)


def _damage(path: Path) -> str:
    """What SQLite finds wrong with it. Empty if nothing."""
    with closing(_open(path)) as database:
        found = [str(row[0]) for row in database.execute("PRAGMA integrity_check(3)")]
    return "" if found == ["ok"] else "; ".join(found)[:300]


def _has_log(path: Path) -> bool:
    return _header(path)[_VERSIONS] == b"\2\2"


def _stamp(path: Path) -> Stamp:
    journal = path.with_name(f"{path.name}-journal")
    return _header(path)[_CHANGES], path.stat().st_size, journal.stat().st_size if journal.exists() else 0


def _header(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)
