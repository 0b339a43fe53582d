# SPDX-License-Identifier: Apache-2.0
"""The mirror folder on the controller: every artifact that a host gets comes out of it, verified.

    <mirror>/manifest.json
    <mirror>/<name>/<version>/<arch>/<file>

Standard library only: the collection's plugins, the playbooks and other programs on the controller share this file.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sha256_of, sync_folder, write_atomically

MANIFEST = "manifest.json"
SCHEMA = 1
WAY_OUT = "ansible-playbook edgefleet.wasm.mirror"

# A file that changed less than this long ago may change again within one tick of its time stamps: not remembered.
_SETTLED_SECONDS = 2.0
_CHUNK = 1 << 20
_ATTEMPTS = 5
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and the bytes in all (None when the source does not say)."""


class MirrorError(Exception):
    """Something about the mirror is wrong; the text names it and the way out."""


class SourceUnreachable(MirrorError):  # noqa: N818 - says what happened
    """The release's source did not answer, refused, or stopped in the middle."""


class ChecksumMismatch(MirrorError):  # noqa: N818 - says what happened
    """What the source gave is not what is pinned. It was not kept."""


@dataclass(frozen=True)
class Release:
    """What is wanted. Without ``sha256`` it is an artifact of our own, vouched for by the manifest alone."""

    name: str
    version: str
    arch: str
    file: str
    sha256: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        for field in ("name", "version", "arch", "file"):
            value = getattr(self, field)
            if not isinstance(value, str) or not _COMPONENT.fullmatch(value):
                raise MirrorError(f"{field} of a release can't be {value!r}: letters, digits and . _ + - only")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise MirrorError(
                f"{self}: {self.sha256!r} is no SHA-256 (64 lower-case hex digits); correct it in {self.variable}"
            )
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise MirrorError(f"{self}: url {self.url!r} is neither https nor http; correct it in {self.variable}")

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.arch} ({self.file})"

    @property
    def place(self) -> str:
        """Where it lies in a mirror folder."""
        return f"{self.name}/{self.version}/{self.arch}/{self.file}"

    @property
    def variable(self) -> str:
        """Where an operator finds the pin: the variable with this key."""
        return f"{self.name.replace('-', '_')}_releases['{self.version}']['{self.arch}']"


@dataclass(frozen=True)
class Entry:
    """What the mirror holds, as its manifest says."""

    name: str
    version: str
    arch: str
    file: str
    sha256: str
    size: int
    source: str
    rebuilt: bool

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.name, self.version, self.arch, self.file)


class Mirror:
    """One mirror folder. Safe for any number of processes at once."""

    def __init__(self, path: Path | str) -> None:
        self.root = Path(path).expanduser().absolute()
        self._hashes = _HashCache(self.root)

    def path(self, release: Release) -> Path:
        return self.root / release.place

    def entries(self) -> list[Entry]:
        manifest = self.root / MANIFEST
        try:
            text = manifest.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise MirrorError(f"{manifest} can't be read: {error}") from error
        return _parse_manifest(manifest, text)

    def entry(self, release: Release) -> Entry | None:
        wanted = (release.name, release.version, release.arch, release.file)
        return next((entry for entry in self.entries() if entry.key == wanted), None)

    def verify(self, release: Release, allow_rebuilt: bool = False) -> Entry:
        """The entry of a file that is there, whole, and what was asked for. Else one MirrorError."""
        if not self.root.is_dir():
            raise MirrorError(
                f"{release}: the mirror folder {self.root} (edgefleet_mirror_dir) does not exist; fill it: {WAY_OUT}"
            )
        entry = self.entry(release)
        if entry is None:
            raise MirrorError(
                f"{release} is not in the mirror {self.root} (edgefleet_mirror_dir: no entry in {MANIFEST}); "
                f"fill it: {WAY_OUT}"
            )
        self._verify_file(release, entry)
        _verify_pin(release, entry, allow_rebuilt)
        return entry

    def add(self, release: Release, file: Path | str, source: str) -> Entry:
        """Move a file into the mirror and enter it in the manifest, as rebuilt when it is not what is pinned."""
        target = self.path(release)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _move(Path(file), target)
        except OSError as error:
            raise MirrorError(f"{release} can't be put into the mirror {self.root}: {error}") from error
        return self._enter(release, source)

    def fetch(self, release: Release, timeout: float = 5.0, progress: Progress | None = None) -> Entry:
        """Have the pinned file in the mirror: as it is, or downloaded, continuing what an earlier run left.

        ``timeout`` is for the first answer, and for each silence after it. What does not match the pin is not kept.
        """
        if release.sha256 is None:
            raise MirrorError(f"{release} has no pinned SHA-256: it is built, not downloaded")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / ".fetch.lock"):
                found = self._present(release)
                return found if found else self._download(release, timeout, progress)
        except OSError as error:
            raise MirrorError(f"{release} can't be put into the mirror {self.root}: {error}") from error

    def _present(self, release: Release) -> Entry | None:
        """The pinned file, if it is there; one that was copied in by hand gets its entry."""
        target = self.path(release)
        if not target.is_file() or self._hashes.sha256(target) != release.sha256:
            return None
        entry = self.entry(release)
        if entry and entry.sha256 == release.sha256:
            return entry
        return self._enter(release, release.url or "copied into the mirror folder")

    def _download(self, release: Release, timeout: float, progress: Progress | None) -> Entry:
        if release.url is None:
            raise SourceUnreachable(
                f"{release} is not in the mirror {self.root} and has no url in {release.variable}; "
                f"copy it to {self.path(release)} and run: {WAY_OUT}"
            )
        target = self.path(release)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        # What an earlier run left may be whole, a part, or of another file: then once more from the start.
        actual = sha256_of(part) if part.exists() else None
        for _ in range(2 if actual else 1):
            if actual == release.sha256:
                break
            _download_all(release, release.url, part, timeout, progress)
            actual = sha256_of(part)
            if actual != release.sha256:
                part.unlink()
        if actual != release.sha256:
            raise ChecksumMismatch(
                f"{release}: {release.url} has SHA-256 {actual}, pinned is {release.sha256} ({release.variable}); "
                "the download was not kept. Compare the pin with the checksum that the project publishes"
            )
        return self.add(release, part, release.url)

    def _enter(self, release: Release, source: str) -> Entry:
        target = self.path(release)
        actual = sha256_of(target)
        entry = Entry(
            name=release.name,
            version=release.version,
            arch=release.arch,
            file=release.file,
            sha256=actual,
            size=target.stat().st_size,
            source=source,
            rebuilt=release.sha256 is not None and actual != release.sha256,
        )
        with _locked(self.root / ".lock"):
            kept = [other for other in self.entries() if other.key != entry.key]
            artifacts = [asdict(one) for one in sorted([*kept, entry], key=lambda one: one.key)]
            manifest = json.dumps({"schema": SCHEMA, "artifacts": artifacts}, indent=2)
            write_atomically(self.root / MANIFEST, manifest + "\n")
        return entry

    def _verify_file(self, release: Release, entry: Entry) -> None:
        target = self.path(release)
        try:
            size = target.stat().st_size
            if size != entry.size:
                raise MirrorError(
                    f"{release}: {target} has {size} bytes, {MANIFEST} says {entry.size}: truncated or replaced; "
                    f"remove it and run: {WAY_OUT}"
                )
            actual = self._hashes.sha256(target)
        except FileNotFoundError as error:
            raise MirrorError(
                f"{release}: {target} is missing from the mirror (edgefleet_mirror_dir); fill it: {WAY_OUT}"
            ) from error
        except OSError as error:
            raise MirrorError(f"{release}: {target} can't be read: {error}") from error
        if actual != entry.sha256:
            raise MirrorError(
                f"{release}: {target} has SHA-256 {actual}, {MANIFEST} says {entry.sha256}: damaged or replaced; "
                f"remove it and run: {WAY_OUT}"
            )


def _verify_pin(release: Release, entry: Entry, allow_rebuilt: bool) -> None:
    if release.sha256 is None or entry.sha256 == release.sha256:
        return
    differs = (
        f"{release}: the mirror's file has SHA-256 {entry.sha256}, "
        f"pinned is {release.sha256} ({release.variable}); its source: {entry.source}"
    )
    if not entry.rebuilt:
        raise MirrorError(
            f"{differs}. Correct the pin, or remove the file from edgefleet_mirror_dir and run: {WAY_OUT}"
        )
    if not allow_rebuilt:
        raise MirrorError(
            f"{differs}. Accept rebuilt artifacts with edgefleet_mirror_allow_rebuilt: true, "
            f"or fetch the release: {WAY_OUT}"
        )


def _parse_manifest(manifest: Path, text: str) -> list[Entry]:
    way_out = f"remove it and run: {WAY_OUT} (files that match their pin are kept)"
    try:
        document: Any = json.loads(text)
        if document["schema"] != SCHEMA:
            raise MirrorError(f"{manifest} has schema {document['schema']!r}, this version reads {SCHEMA}; {way_out}")
        names = [field.name for field in fields(Entry)]
        return [Entry(**{name: artifact[name] for name in names}) for artifact in document["artifacts"]]
    except (ValueError, KeyError, TypeError) as error:
        raise MirrorError(f"{manifest} is truncated or no manifest of a mirror ({error}); {way_out}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _move(source: Path, target: Path) -> None:
    """Into place in one step, also from another file system."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    try:
        shutil.move(source, temporary)
        with Path(temporary).open("rb") as stream:
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


class _HashCache:
    """SHA-256 by file identity, so that 500 hosts do not each make the controller read 150 MB.

    It lies beside the manifest and is trusted as far: who can write one can write the other. A file counts as the same
    while device, inode, size, mtime and ctime are; ctime can't be set by a program. Ansible's workers are processes of
    their own, so the cache is a file.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / ".hashes.json"

    def sha256(self, path: Path) -> str:
        try:
            # One process hashes, the others wait and read its result.
            with _locked(self._root / ".hashes.lock"):
                return self._lookup(path)
        except PermissionError:
            return sha256_of(path)
        except OSError as error:
            if error.filename == str(path):
                raise
            return sha256_of(path)

    def _lookup(self, path: Path) -> str:
        identity = self._identity(path)
        known = self._read()
        record = known.get(str(path))
        if isinstance(record, list) and len(record) == 2 and record[0] == identity and isinstance(record[1], str):
            return record[1]
        actual = sha256_of(path)
        settled = time.time() - path.stat().st_ctime > _SETTLED_SECONDS
        if settled and self._identity(path) == identity:
            known[str(path)] = [identity, actual]
            write_atomically(self._file, json.dumps(known) + "\n")
        return actual

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    @staticmethod
    def _identity(path: Path) -> list[int]:
        stat = path.stat()
        return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _download_all(release: Release, url: str, part: Path, timeout: float, progress: Progress | None) -> None:
    """Fill ``part``, going on after an interruption as long as each attempt gets further."""
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _download_once(release, url, part, timeout, progress)
        except _StaleError:
            part.unlink()
        except _CutOffError as error:
            if attempt == _ATTEMPTS or part.stat().st_size <= before:
                raise SourceUnreachable(
                    f"{release}: {url} stopped in the middle ({error}); run again to go on"
                ) from error
    raise SourceUnreachable(f"{release}: {url} refuses to be continued; run again to start over")


class _CutOffError(Exception):
    """The body ended early."""


class _StaleError(Exception):
    """The source has nothing after what an earlier run left."""


def _download_once(release: Release, url: str, part: Path, timeout: float, progress: Progress | None) -> None:
    offset = part.stat().st_size if part.exists() else 0
    with _open(release, url, offset, timeout) as response:
        if response.status != 206:
            offset = 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdigit() else None
        with part.open("ab" if offset else "wb") as stream:
            done = _copy(response, stream, offset, total, progress)
    if total is not None and done != total:
        raise _CutOffError(f"{done} of {total} bytes")


def _copy(
    response: http.client.HTTPResponse, stream: IO[bytes], done: int, total: int | None, progress: Progress | None
) -> int:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _CutOffError(f"{done} of {total or 'unknown'} bytes, {error}") from error
        if not chunk:
            return done
        stream.write(chunk)
        done += len(chunk)
        if progress:
            progress(done, total)


def _open(release: Release, url: str, offset: int, timeout: float) -> http.client.HTTPResponse:
    """The answer's head within ``timeout``, name resolution and redirects included (no socket option bounds those)."""
    request = urllib.request.Request(url, headers={"User-Agent": "edgefleet.wasm"})  # noqa: S310
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    result: list[http.client.HTTPResponse | Exception] = []

    def work() -> None:
        try:
            result.append(urllib.request.urlopen(request, timeout=timeout))  # noqa: S310 - scheme checked by Release
        except (OSError, http.client.HTTPException, ValueError) as error:
            result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    answer = result[0] if result else TimeoutError(f"no answer within {timeout:g} s")
    if isinstance(answer, http.client.HTTPResponse):
        return answer
    if isinstance(answer, urllib.error.HTTPError) and answer.code == 416 and offset:
        raise _StaleError
    raise SourceUnreachable(
        f"{release}: {url} can't be reached ({answer}). Where there is another way to the file, "
        f"copy it into edgefleet_mirror_dir as {release.place} and run: {WAY_OUT}"
    )
