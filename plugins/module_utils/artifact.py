# SPDX-License-Identifier: Apache-2.0
"""The host's side of ``edgefleet.wasm.artifact``: is what was asked for there, and if not, put it there whole."""

from __future__ import annotations

import contextlib
import fnmatch
import grp
import hashlib
import os
import pwd
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ansible_collections.edgefleet.wasm.plugins.module_utils import artifact_records
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Record, Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import (
    existing_parent,
    free_bytes,
    sha256_of,
    sync_folder,
)

_CHUNK = 1 << 20
_MIB = 1 << 20
_DEFAULT_MODE = 0o644

ARGUMENTS: dict[str, Any] = {
    **artifact_records.ARGUMENTS,
    "dest": {"type": "path"},
    "unpack": {"type": "bool", "default": False},
    "strip": {"type": "int", "default": 0},
    "members": {"type": "list", "elements": "str", "default": []},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str"},
}
REQUIRED_IF: artifact_records.RequiredIf = [
    *artifact_records.REQUIRED_IF,
    ("state", "present", ("dest",)),
    ("state", "absent", ("dest",)),
]


class ArtifactError(Exception):
    """The artifact can't be put in place; nothing of it was."""


@dataclass(frozen=True)
class Wanted:
    """What the host shall have."""

    provenance: Provenance
    dest: Path
    unpack: bool
    strip: int
    members: tuple[str, ...]
    owner: str
    group: str
    mode: int | None

    @classmethod
    def of(cls, params: dict[str, Any], provenance: Provenance) -> Wanted:
        if not Path(params["dest"]).is_absolute():
            raise ArtifactError(f"dest: {params['dest']} is no absolute path")
        return cls(
            provenance=provenance,
            dest=Path(params["dest"]),
            unpack=params["unpack"],
            strip=params["strip"],
            members=tuple(params["members"]),
            owner=params["owner"],
            group=params["group"],
            mode=_parse_mode(params["mode"]),
        )

    def record(self, files: list[FileState]) -> Record:
        return self.provenance.record(
            str(self.dest),
            unpack=[self.strip, *self.members] if self.unpack else None,
            files=[{"path": str(one.path), "sha256": one.sha256, "mode": f"{one.mode:04o}"} for one in files],
        )


@dataclass(frozen=True)
class FileState:
    """A file as it is, or as it shall be."""

    path: Path
    sha256: str
    mode: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.path} {self.mode:04o} {self.uid}:{self.gid} {self.sha256}"


@dataclass(frozen=True)
class Outcome:
    changed: bool
    needs_file: bool
    record: Record | None
    before: str
    after: str


def ensure(wanted: Wanted, source: Path | None, temporary: Path, records: Records, check: bool) -> Outcome:
    """Look, and change what differs. Without the file on the host (``source``), say whether it is needed."""
    if check:
        return _ensure(wanted, source, temporary, records, check)
    try:
        with records.locked():
            return _ensure(wanted, source, temporary, records, check)
    except OSError as error:
        raise ArtifactError(f"{wanted.provenance} can't be put into {wanted.dest}: {error}") from error


def remove(name: str, dest: Path, records: Records, check: bool) -> Outcome:
    """Take away what the record says this artifact put there; for a single file the destination itself."""
    record = records.find(name, str(dest))
    paths = [Path(item["path"]) for item in record["files"]] if record else [dest]
    present = [path for path in paths if path.is_symlink() or path.is_file()]
    outcome = Outcome(
        changed=bool(present or record),
        needs_file=False,
        record=None,
        before="".join(f"{path}\n" for path in present),
        after="",
    )
    if outcome.changed and not check:
        with records.locked():
            for path in present:
                path.unlink()
            records.drop(name, str(dest))
    return outcome


def _ensure(wanted: Wanted, source: Path | None, temporary: Path, records: Records, check: bool) -> Outcome:
    uid, gid = _owner(wanted)
    old = records.find(wanted.provenance.name, str(wanted.dest))
    files = _expected(wanted, old, uid, gid)
    found = [_look(one.path) for one in (_recorded(old, uid, gid) if files is None else files)]
    changed = False
    if files is None or not _same_content(files, found):
        if source is None:
            _check_space(wanted, temporary)
            after = _lines(files) or f"{wanted.dest}/ files of {wanted.provenance} {wanted.provenance.sha256}\n"
            return Outcome(True, True, old, _lines(found), after)
        files = _unpack(wanted, source, uid, gid) if wanted.unpack else _copy(wanted, source, uid, gid)
        _remove_stale(_recorded(old, uid, gid), files)
        changed = True
    elif found != files:
        changed = True
        if not check:
            _set_attributes(files)
    record = wanted.record(files)
    if record != old:
        changed = True
        if not check:
            records.put(record)
    return Outcome(changed, False, record, _lines(found), _lines(files))


def _expected(wanted: Wanted, record: Record | None, uid: int, gid: int) -> list[FileState] | None:
    """The files as they shall be; None where only the archive can tell."""
    if not wanted.unpack:
        if wanted.dest.is_dir():
            raise ArtifactError(f"dest: {wanted.dest} is a folder; name the file, or set unpack: true")
        return [FileState(wanted.dest, wanted.provenance.sha256, wanted.mode or _DEFAULT_MODE, uid, gid)]
    if record is None or record.get("sha256") != wanted.provenance.sha256:
        return None
    if record.get("unpack") != [wanted.strip, *wanted.members]:
        return None
    files = _recorded(record, uid, gid)
    return [replace(one, mode=wanted.mode or one.mode) for one in files] or None


def _recorded(record: Record | None, uid: int, gid: int) -> list[FileState]:
    try:
        items = record["files"] if record else []
        return [FileState(Path(item["path"]), item["sha256"], int(item["mode"], 8), uid, gid) for item in items]
    except (KeyError, TypeError, ValueError):
        return []


def _look(path: Path) -> FileState | None:
    """A plain file as it is. Anything else in its place is as good as nothing: it gets replaced."""
    if path.is_symlink() or not path.is_file():
        return None
    now = path.stat()
    return FileState(path, sha256_of(path), stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid)


def _same_content(files: list[FileState], found: list[FileState | None]) -> bool:
    return all(now and now.sha256 == one.sha256 for one, now in zip(files, found, strict=True))


def _set_attributes(files: list[FileState]) -> None:
    for one in files:
        os.chown(one.path, one.uid, one.gid)
        one.path.chmod(one.mode)


def _lines(files: Iterable[FileState | None] | None) -> str:
    """For a diff."""
    return "".join(f"{one}\n" for one in files or () if one)


def _check_space(wanted: Wanted, temporary: Path) -> None:
    """Before anything is sent: once on the way (the temporary folder), once in place."""
    needs: dict[int, tuple[Path, int]] = {}
    for path in (temporary, wanted.dest):
        parent = existing_parent(path)
        device = parent.stat().st_dev
        needs[device] = (parent, needs.get(device, (parent, 0))[1] + wanted.provenance.size)
    for parent, size in needs.values():
        _require_space(wanted, parent, size)


def _require_space(wanted: Wanted, path: Path, size: int) -> None:
    free = free_bytes(path)
    if free < size:
        raise ArtifactError(
            f"{wanted.provenance}: no room for it under {existing_parent(path)}: "
            f"{size / _MIB:.0f} MiB needed, {free / _MIB:.0f} MiB free; free some and run again"
        )


def _copy(wanted: Wanted, source: Path, uid: int, gid: int) -> list[FileState]:
    one = FileState(wanted.dest, wanted.provenance.sha256, wanted.mode or _DEFAULT_MODE, uid, gid)
    with _staging() as staging, source.open("rb") as stream:
        actual = staging.write(one.path, stream, one.mode, uid, gid)
        if actual.sha256 != one.sha256:
            raise _damaged(wanted, source, actual.sha256)
    return [one]


def _unpack(wanted: Wanted, source: Path, uid: int, gid: int) -> list[FileState]:
    actual = sha256_of(source)
    if actual != wanted.provenance.sha256:
        raise _damaged(wanted, source, actual)
    try:
        with tarfile.open(source) as archive, _staging() as staging:
            chosen = _choose(wanted, archive)
            _require_space(wanted, wanted.dest, sum(member.size for _, member in chosen))
            files = []
            for path, member in chosen:
                stream = archive.extractfile(member)
                assert stream is not None, "a plain file has content"  # noqa: S101 - for the type checker
                # Never more than rwxr-xr-x, whatever an archive asks for.
                files.append(staging.write(path, stream, wanted.mode or member.mode & 0o755, uid, gid))
            return files
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ArtifactError(f"{wanted.provenance} can't be unpacked: {error}") from error


def _choose(wanted: Wanted, archive: tarfile.TarFile) -> list[tuple[Path, tarfile.TarInfo]]:
    """The archive's files that are wanted, each with its place. Links and devices are refused."""
    chosen = []
    for member in archive.getmembers():
        parts = PurePosixPath(member.name).parts[wanted.strip :]
        name = "/".join(parts)
        if member.isdir() or not parts or (wanted.members and not _any_match(name, wanted.members)):
            continue
        if not member.isfile() or ".." in parts or name.startswith("/"):
            raise ArtifactError(
                f"{wanted.provenance}: {member.name} is no plain file below dest; exclude it by members"
            )
        chosen.append((wanted.dest / name, member))
    if not chosen:
        raise ArtifactError(
            f"{wanted.provenance}: the archive has no file that members={list(wanted.members)} "
            f"strip={wanted.strip} chooses"
        )
    return chosen


def _any_match(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class _Staging:
    """Files are written beside their place; only when all are on disk do they take it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, Path]] = []

    def write(self, target: Path, stream: IO[bytes], mode: int, uid: int, gid: int) -> FileState:
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name for each target: what a killed run left is overwritten by the next.
        temporary = target.with_name(f".{target.name}.edgefleet-new")
        temporary.unlink(missing_ok=True)
        self._waiting.append((temporary, target))
        digest = hashlib.sha256()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fchown(out.fileno(), uid, gid)
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        return FileState(target, digest.hexdigest(), mode, uid, gid)

    def publish(self) -> None:
        for temporary, target in self._waiting:
            temporary.replace(target)
        for folder in {target.parent for _, target in self._waiting}:
            sync_folder(folder)

    def discard(self) -> None:
        for temporary, _ in self._waiting:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _staging() -> Iterator[_Staging]:
    staging = _Staging()
    try:
        yield staging
        staging.publish()
    finally:
        staging.discard()


def _remove_stale(old: list[FileState], files: list[FileState]) -> None:
    """What the version before had and this one has not."""
    now = {one.path for one in files}
    for one in old:
        if one.path not in now:
            one.path.unlink(missing_ok=True)


def _damaged(wanted: Wanted, source: Path, actual: str) -> ArtifactError:
    return ArtifactError(
        f"{wanted.provenance} arrived with {source.stat().st_size} bytes and SHA-256 {actual}, sent were "
        f"{wanted.provenance.size} bytes with {wanted.provenance.sha256}: the transfer was cut off; run again"
    )


def _owner(wanted: Wanted) -> tuple[int, int]:
    try:
        uid = pwd.getpwnam(wanted.owner).pw_uid
    except KeyError:
        raise ArtifactError(f"owner: there is no user {wanted.owner} on the host") from None
    try:
        return uid, grp.getgrnam(wanted.group).gr_gid
    except KeyError:
        raise ArtifactError(f"group: there is no group {wanted.group} on the host") from None


def _parse_mode(mode: str | None) -> int | None:
    if mode is None:
        return None
    try:
        value = int(mode, 8)
    except ValueError:
        value = -1
    if not 0 < value <= 0o7777:
        raise ArtifactError(f'mode: {mode!r} is no octal file mode such as "0755" (quote it)')
    return value
