# SPDX-License-Identifier: Apache-2.0
"""What this collection put on a host, and where it came from: ``/var/lib/edgefleet/artifacts.json``.

A JSON list; each item has name, version, arch, sha256, pinned_sha256, source, rebuilt, dest, and what its kind needs to
be checked again (the files with their hashes, or the images with their digests).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically

RECORDS = Path("/var/lib/edgefleet/artifacts.json")
LOCK = Path("/run/edgefleet-artifacts.lock")

# The options of every module whose input is an artifact of the mirror, described in doc_fragments/artifact.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["verified", "present", "absent"], "default": "present"},
    "name": {"type": "str", "required": True},
    "version": {"type": "str"},
    "arch": {"type": "str", "choices": ["amd64", "arm64"]},
    "file": {"type": "str"},
    "sha256": {"type": "str"},
    "mirror": {"type": "path"},
    "allow_rebuilt": {"type": "bool", "default": False},
}
RequiredIf = list[tuple[str, str, tuple[str, ...]]]
REQUIRED_IF: RequiredIf = [("state", state, ("version", "arch", "file", "mirror")) for state in ("verified", "present")]

Record = dict[str, Any]


@dataclass(frozen=True)
class Provenance:
    """Which artifact, and where the controller's mirror had it from."""

    name: str
    version: str
    arch: str
    sha256: str
    pinned_sha256: str | None
    source: str
    rebuilt: bool
    size: int

    def record(self, dest: str, **more: Any) -> Record:
        known = asdict(self)
        del known["size"]
        return {**known, "dest": dest, **more}

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.arch}"


class Records:
    """The file. A damaged one counts as empty: everything is then checked and recorded anew."""

    def __init__(self, path: Path = RECORDS, lock: Path = LOCK) -> None:
        self.path = path
        self.lock = lock

    def all(self) -> list[Record]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return []
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    def find(self, name: str, dest: str, version: str | None = None) -> Record | None:
        return next((record for record in self.all() if _matches(record, name, dest, version)), None)

    def put(self, record: Record, *, keep_other_versions: bool = False) -> None:
        version = record["version"] if keep_other_versions else None
        self._rewrite(lambda other: not _matches(other, record["name"], record["dest"], version), [record])

    def drop(self, name: str, dest: str, version: str | None = None) -> None:
        self._rewrite(lambda other: not _matches(other, name, dest, version), [])

    def _rewrite(self, keep: Callable[[Record], bool], add: list[Record]) -> None:
        records = [other for other in self.all() if keep(other)] + add
        if not records:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others may keep files beside it
                self.path.parent.rmdir()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        records.sort(key=lambda item: (str(item.get("name")), str(item.get("dest")), str(item.get("version"))))
        write_atomically(self.path, json.dumps(records, indent=2) + "\n")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time."""
        with self.lock.open("a", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _matches(record: Record, name: str, dest: str, version: str | None) -> bool:
    return (
        record.get("name") == name
        and record.get("dest") == dest
        and (version is None or record.get("version") == version)
    )
