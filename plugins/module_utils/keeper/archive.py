# SPDX-License-Identifier: Apache-2.0
"""The file that a backup is: a compressed tar with a manifest, encrypted for one certificate.

``openssl cms`` with AES-256 in GCM: who has the certificate can write backups, and only who has its key can read or
change one unseen. Every Debian host has openssl; nothing has to be installed for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sync_folder

SCHEMA = 1
SUFFIX = ".edgefleet-backup"
_MANIFEST = "manifest.json"
_ROOT = "root"
_CHUNK = 1 << 20
OPENSSL = "openssl"


class ArchiveError(Exception):
    """A backup that can't be written or read, in a sentence with the way out."""


@dataclass(frozen=True)
class Source:
    """One thing to keep: ``path`` is where it belongs, ``content`` the file to read, where that is another."""

    path: Path
    content: Path | None = None


@dataclass
class Manifest:
    """What a backup holds. ``made`` is UTC, ``objects`` counts the datastore's by kind, ``workloads`` ready pods.

    ``volumes`` are folders by the name they were declared with. Each of ``files`` has path, type (file, link, folder),
    mode, uid, gid, and sha256 with size, or target.
    """

    node: str
    made: str
    k3s: str
    objects: dict[str, int] = field(default_factory=dict)
    workloads: dict[str, int] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    schema: int = SCHEMA

    def under(self, folder: str) -> list[dict[str, Any]]:
        """The entries of a folder, itself among them."""
        return [one for one in self.files if one["path"] == folder or one["path"].startswith(f"{folder}/")]


def write(target: Path, certificate: Path, manifest: Manifest, sources: Iterable[Source]) -> None:
    """Write a backup, whole or not at all. Fills ``manifest.files``."""
    part = target.with_name(f".{target.name}.part")
    try:
        with _encrypting(part, certificate) as pipe, tarfile.open(fileobj=pipe, mode="w|gz") as archive:
            for source in sources:
                manifest.files.append(_add(archive, source))
            text = json.dumps(asdict(manifest), indent=1).encode()
            archive.addfile(_member(_MANIFEST, len(text)), io.BytesIO(text))
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except (OSError, tarfile.TarError) as error:
        raise ArchiveError(f"{target} could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def decrypt(source: Path, key: Path, target: Path) -> None:
    """To a file for its owner alone."""
    for path, what in ((source, "the backup"), (key, "the key of the backup certificate")):
        if not path.is_file():
            raise ArchiveError(f"{path}: {what} is not there")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    command = [OPENSSL, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", source, "-inkey", key, "-out", target]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        target.unlink(missing_ok=True)
        raise ArchiveError(
            f"{source} can't be decrypted with {key}: it was made for another certificate, is damaged or was changed "
            f"({_last_line(run.stderr)})"
        )


def unpack(source: Path, folder: Path) -> Manifest:
    """Unpack a decrypted backup below ``folder`` and check every file of it. Nothing of it is trusted before."""
    try:
        with tarfile.open(source, mode="r:gz") as archive:
            hashes = {member.name: _take(archive, member, folder) for member in archive}
        text = (folder / _MANIFEST).read_text(encoding="utf-8")
        document = json.loads(text)
        if document.get("schema") != SCHEMA:
            raise ArchiveError(f"{source}: layout {document.get('schema')} of a backup, this collection reads {SCHEMA}")
        manifest = Manifest(**document)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, TypeError) as error:
        raise ArchiveError(f"{source}: this is no whole backup: {error}") from error
    for one in manifest.files:
        name = f"{_ROOT}{one['path']}"
        if one["type"] == "file" and hashes.get(name) != one["sha256"]:
            raise ArchiveError(f"{source}: {one['path']} is missing or not as it was")
    return manifest


def content(folder: Path, path: str) -> Path:
    """Where an unpacked backup has a file."""
    return folder / _ROOT / path.lstrip("/")


def place(folder: Path, entry: dict[str, Any], target: Path) -> None:
    """Have one entry of an unpacked backup at ``target``, with its owner and mode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry["type"] == "folder":
        target.mkdir(exist_ok=True)
    elif entry["type"] == "link":
        target.unlink(missing_ok=True)
        target.symlink_to(entry["target"])
    else:
        shutil.copyfile(content(folder, entry["path"]), target)
    os.chown(target, entry["uid"], entry["gid"], follow_symlinks=False)
    if entry["type"] != "link":
        target.chmod(entry["mode"])
        os.utime(target, (entry["mtime"], entry["mtime"]))


@contextmanager
def _encrypting(target: Path, certificate: Path) -> Iterator[IO[bytes]]:
    if not certificate.is_file():
        raise ArchiveError(f"{certificate}: the backup certificate is not there; set keeper_backup_certificate")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    command = [OPENSSL, "cms", "-encrypt", "-binary", "-stream", "-aes-256-gcm", "-outform", "DER"]
    command += ["-out", str(target), str(certificate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin is not None  # noqa: S101 - for the type checker
        assert run.stderr is not None  # noqa: S101 - likewise
        broken = None
        try:
            yield run.stdin
            run.stdin.close()
        except BrokenPipeError as error:
            broken = error
        said = run.stderr.read().decode(errors="replace")
        code = run.wait()
    if code != 0 or broken:
        raise ArchiveError(f"openssl can't encrypt for {certificate}: {_last_line(said)}")


def _add(archive: tarfile.TarFile, source: Source) -> dict[str, Any]:
    there = source.path.lstat()
    entry: dict[str, Any] = {
        "path": str(source.path),
        "mode": stat.S_IMODE(there.st_mode),
        "uid": there.st_uid,
        "gid": there.st_gid,
        "mtime": there.st_mtime,
    }
    if source.path.is_symlink():
        return {**entry, "type": "link", "target": str(source.path.readlink())}
    if source.path.is_dir():
        return {**entry, "type": "folder"}
    with (source.content or source.path).open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        hashing = _Hashing(stream)
        try:
            archive.addfile(_member(f"{_ROOT}{source.path}", size), hashing)
        except OSError as error:
            raise ArchiveError(f"{source.path} shrank while it was read ({error}); run the backup again") from error
    return {**entry, "type": "file", "size": size, "sha256": hashing.digest.hexdigest()}


class _Hashing:
    """Reads, and hashes what was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(size)
        self.digest.update(found)
        return found


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> str:
    """One file to below the folder; its hash."""
    parts = PurePosixPath(member.name).parts
    stream = archive.extractfile(member)
    if not member.isfile() or stream is None or ".." in parts or parts[0] not in (_ROOT, _MANIFEST):
        raise ArchiveError(f"{member.name}: no plain file of a backup")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"
