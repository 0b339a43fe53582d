"""The mirror library against a local HTTP server that misbehaves on demand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils import mirror as library
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import (
    ChecksumMismatch,
    Mirror,
    MirrorError,
    Release,
    SourceUnreachable,
)

# The same in every process: tests are named after its hash.
BODY = random.Random(1).randbytes(3_000_000)  # noqa: S311
PIN = hashlib.sha256(BODY).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


class Source:
    """An HTTP source: what it serves, how it fails, what it was asked."""

    def __init__(self) -> None:
        self.body = BODY
        self.cut_after: int | None = None
        self.silent = 0.0
        self.status = 200
        self.ranges = True
        self.asked: list[str | None] = []
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                source.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tool.tar.gz"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        time.sleep(self.silent)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        status = self.status
        if start:
            status = 206 if start < len(self.body) else 416
        body = b"" if status >= 400 else self.body[start:]
        with contextlib.suppress(OSError):  # a client that waits no longer
            request.send_response(status)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body[: self.cut_after])


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    source = Source()
    thread = threading.Thread(target=source.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield source
    source.server.shutdown()
    source.server.server_close()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")


def release(sha256: str | None = PIN, url: str | None = None, name: str = "some-tool") -> Release:
    return Release(name=name, version="1.2+x1", arch="amd64", file="tool.tar.gz", sha256=sha256, url=url)


def add(
    mirror: Mirror, tmp_path: Path, wanted: Release, body: bytes = BODY, source: str = "built from a module"
) -> None:
    made = tmp_path / "made"
    made.write_bytes(body)
    mirror.add(wanted, made, source)


def leftovers(mirror: Mirror) -> list[str]:
    return sorted(p.name for p in mirror.root.rglob("*") if p.is_file() and "tool.tar.gz" in p.name)


# --- what is asked for


@pytest.mark.parametrize("field", ["name", "version", "arch", "file"])
@pytest.mark.parametrize("value", ["", "../x", "a/b", "/etc", ".hidden"])
def test_release_refuses_what_would_leave_the_folder(field: str, value: str) -> None:
    good = {"name": "tool", "version": "1", "arch": "amd64", "file": "f"}
    with pytest.raises(MirrorError, match=f"^{field} of a release can't be "):
        Release(**{**good, field: value})


@pytest.mark.parametrize("pin", ["", "abc", PIN.upper(), PIN + "0"])
def test_release_refuses_a_pin_that_is_no_sha256_and_names_the_variable(pin: str) -> None:
    with pytest.raises(
        MirrorError, match=r"is no SHA-256 .* correct it in some_tool_releases\['1\.2\+x1'\]\['amd64'\]$"
    ):
        release(sha256=pin)


def test_release_refuses_other_schemes() -> None:
    with pytest.raises(MirrorError, match="url 'file:///etc/passwd' is neither https nor http"):
        release(url="file:///etc/passwd")


# --- add and verify


def test_add_moves_hashes_and_enters(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release())
    assert not (tmp_path / "made").exists()
    path = mirror.root / "some-tool" / "1.2+x1" / "amd64" / "tool.tar.gz"
    assert path == mirror.path(release())
    assert path.read_bytes() == BODY
    assert path.stat().st_mode & 0o777 == 0o644
    manifest = json.loads((mirror.root / "manifest.json").read_text())
    assert manifest == {
        "schema": 1,
        "artifacts": [
            {
                "name": "some-tool",
                "version": "1.2+x1",
                "arch": "amd64",
                "file": "tool.tar.gz",
                "sha256": PIN,
                "size": len(BODY),
                "source": "built from a module",
                "rebuilt": False,
            }
        ],
    }
    assert mirror.verify(release()) == mirror.entry(release())


def test_add_replaces_its_own_entry_and_keeps_the_others(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release(name="one"))
    add(mirror, tmp_path, release(name="two"), body=b"old")
    add(mirror, tmp_path, release(name="two"), body=BODY)
    assert [(entry.name, entry.sha256) for entry in mirror.entries()] == [("one", PIN), ("two", PIN)]


def test_add_of_a_missing_file_is_one_clear_error(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match=r"^some-tool 1\.2\+x1 amd64 \(tool\.tar\.gz\) can't be put into the mirror"):
        mirror.add(release(), tmp_path / "nothing", "nowhere")
    assert leftovers(mirror) == []


def test_own_artifacts_are_vouched_for_by_the_manifest(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release(sha256=None), body=b"ours")
    assert mirror.verify(release(sha256=None)).rebuilt is False


def test_rebuilt_is_refused_unless_allowed(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release(sha256=OTHER))
    with pytest.raises(
        MirrorError,
        match=rf"SHA-256 {PIN}, pinned is {OTHER} \(some_tool_releases\['1\.2\+x1'\]\['amd64'\]\); "
        r"its source: built from a module\. Accept .* edgefleet_mirror_allow_rebuilt: true, .*edgefleet\.wasm\.mirror$",
    ):
        mirror.verify(release(sha256=OTHER))
    assert mirror.verify(release(sha256=OTHER), allow_rebuilt=True).rebuilt is True


def test_a_wrong_pin_is_refused_even_where_rebuilt_is_allowed(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release(), source="https://example.com/tool.tar.gz")
    with pytest.raises(MirrorError, match="Correct the pin, or remove the file from edgefleet_mirror_dir"):
        mirror.verify(release(sha256=OTHER), allow_rebuilt=True)


def test_no_folder(mirror: Mirror) -> None:
    with pytest.raises(
        MirrorError, match=r"mirror folder .* \(edgefleet_mirror_dir\) does not exist; fill it: ansible-p"
    ):
        mirror.verify(release())


def test_no_entry(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release(name="other"))
    with pytest.raises(
        MirrorError, match=r"is not in the mirror .* \(edgefleet_mirror_dir: no entry in manifest\.json\)"
    ):
        mirror.verify(release())


def test_file_missing(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release())
    mirror.path(release()).unlink()
    with pytest.raises(MirrorError, match=r"tool\.tar\.gz is missing from the mirror \(edgefleet_mirror_dir\)"):
        mirror.verify(release())


def test_file_truncated(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release())
    mirror.path(release()).write_bytes(BODY[:-1])
    with pytest.raises(MirrorError, match=r"has 2999999 bytes, manifest\.json says 3000000: truncated or replaced"):
        mirror.verify(release())


def test_file_damaged_in_place_with_its_size_and_mtime_kept(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release())
    path = mirror.path(release())
    settle(path, mirror)
    stat = path.stat()
    path.write_bytes(bytes([BODY[0] ^ 1]) + BODY[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(MirrorError, match="damaged or replaced; remove it and run: ansible-playbook"):
        mirror.verify(release())


@pytest.mark.parametrize("text", ["", '{"schema": 1, "artif', "[]", '{"schema": 1}', '{"schema":1,"artifacts":[{}]}'])
def test_manifest_truncated(mirror: Mirror, text: str) -> None:
    mirror.root.mkdir()
    (mirror.root / "manifest.json").write_text(text)
    with pytest.raises(
        MirrorError, match=r"manifest\.json is truncated or no manifest .*; remove it and run: ansible-p"
    ):
        mirror.verify(release())


def test_manifest_of_another_schema(mirror: Mirror) -> None:
    mirror.root.mkdir()
    (mirror.root / "manifest.json").write_text('{"schema": 2, "artifacts": []}')
    with pytest.raises(MirrorError, match="has schema 2, this version reads 1"):
        mirror.verify(release())


def _add_one(root: Path, number: int) -> None:
    made = root.parent / f"made{number}"
    made.write_bytes(b"x" * number)
    Mirror(root).add(release(sha256=None, name=f"tool{number}"), made, "test")


def test_processes_at_once_lose_no_entry(mirror: Mirror) -> None:
    mirror.root.mkdir()
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_one, args=(mirror.root, number)) for number in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {entry.name for entry in mirror.entries()} == {f"tool{number}" for number in range(12)}


# --- the hash is computed once, not for every host


def settle(path: Path, mirror: Mirror) -> None:
    """Let the file's ctime age as far as the cache asks, without waiting for it."""
    real = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: real + 10)
        Mirror(mirror.root).verify(release())
    assert str(path) in (mirror.root / ".hashes.json").read_text()


def test_second_process_does_not_read_the_file_again(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(mirror, tmp_path, release())
    settle(mirror.path(release()), mirror)
    monkeypatch.setattr(library, "sha256_of", lambda path: pytest.fail(f"{path} was hashed again"))
    assert Mirror(mirror.root).verify(release()).sha256 == PIN


def test_fresh_file_is_not_remembered(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release())
    mirror.verify(release())
    assert not (mirror.root / ".hashes.json").exists()


def test_damaged_cache_is_no_error(mirror: Mirror, tmp_path: Path) -> None:
    add(mirror, tmp_path, release())
    (mirror.root / ".hashes.json").write_text('{"trunc')
    assert mirror.verify(release()).sha256 == PIN


def test_mirror_that_can_only_be_read(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(mirror, tmp_path, release())

    def refuse(path: Path) -> object:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(library, "_locked", refuse)
    assert mirror.verify(release()).sha256 == PIN


# --- fetch


def test_fetch(mirror: Mirror, source: Source) -> None:
    seen: list[tuple[int, int | None]] = []
    entry = mirror.fetch(release(url=source.url), progress=lambda done, total: seen.append((done, total)))
    assert (entry.sha256, entry.source, entry.rebuilt) == (PIN, source.url, False)
    assert seen[-1] == (len(BODY), len(BODY))
    assert mirror.verify(release()) == entry
    assert leftovers(mirror) == ["tool.tar.gz"]


def test_fetch_again_asks_nobody(mirror: Mirror, source: Source) -> None:
    mirror.fetch(release(url=source.url))
    mirror.fetch(release(url=source.url))
    assert len(source.asked) == 1


def test_fetch_replaces_a_rebuilt_file(mirror: Mirror, source: Source, tmp_path: Path) -> None:
    add(mirror, tmp_path, release(), body=b"rebuilt")
    assert mirror.fetch(release(url=source.url)).rebuilt is False
    assert mirror.path(release()).read_bytes() == BODY


def test_fetch_takes_what_was_copied_in_by_hand(mirror: Mirror) -> None:
    path = mirror.path(release())
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert mirror.fetch(release()).source == "copied into the mirror folder"
    assert mirror.verify(release()).sha256 == PIN


def test_fetch_repairs_a_lost_manifest(mirror: Mirror, source: Source) -> None:
    mirror.fetch(release(url=source.url))
    (mirror.root / "manifest.json").unlink()
    assert mirror.fetch(release(url=source.url)).source == source.url
    assert len(source.asked) == 1


def test_fetch_without_a_pin(mirror: Mirror, source: Source) -> None:
    with pytest.raises(MirrorError, match="has no pinned SHA-256: it is built, not downloaded"):
        mirror.fetch(release(sha256=None, url=source.url))


def test_fetch_without_a_url(mirror: Mirror) -> None:
    with pytest.raises(
        SourceUnreachable, match=r"has no url in some_tool_releases\['1.*; copy it to .*tool\.tar\.gz and run"
    ):
        mirror.fetch(release())


def test_mismatch_is_not_kept(mirror: Mirror, source: Source) -> None:
    with pytest.raises(ChecksumMismatch, match=rf"has SHA-256 {PIN}, pinned is {OTHER} .* the download was not kept"):
        mirror.fetch(release(sha256=OTHER, url=source.url))
    assert leftovers(mirror) == []
    assert mirror.entries() == []


def test_cut_download_goes_on_where_it_stopped(mirror: Mirror, source: Source) -> None:
    source.cut_after = 1_000_000
    assert mirror.fetch(release(url=source.url)).sha256 == PIN
    assert source.asked == [None, "bytes=1000000-", "bytes=2000000-"]


def test_next_run_goes_on_too(mirror: Mirror, source: Source) -> None:
    source.cut_after = 100_000
    with pytest.raises(
        SourceUnreachable, match=r"stopped in the middle \(500000 of 3000000 bytes\); run again to go on"
    ):
        mirror.fetch(release(url=source.url))
    assert leftovers(mirror) == [".tool.tar.gz.part"]
    source.cut_after = None
    mirror.fetch(release(url=source.url))
    assert source.asked[-1] == "bytes=500000-"
    assert leftovers(mirror) == ["tool.tar.gz"]


@pytest.mark.parametrize(
    "left", [b"of another file", BODY[:-1] + b"?", BODY + b"more"], ids=["other", "full-length", "longer"]
)
@pytest.mark.parametrize("ranges", [True, False])
def test_leftover_of_something_else_is_dropped(mirror: Mirror, source: Source, left: bytes, ranges: bool) -> None:
    source.ranges = ranges
    part = mirror.path(release()).with_name(".tool.tar.gz.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert mirror.fetch(release(url=source.url)).sha256 == PIN
    assert leftovers(mirror) == ["tool.tar.gz"]


def test_leftover_that_is_whole_needs_no_source(mirror: Mirror, source: Source) -> None:
    part = mirror.path(release()).with_name(".tool.tar.gz.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY)
    assert mirror.fetch(release(url=source.url)).sha256 == PIN
    assert source.asked == []


def refused(_: Source) -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}/tool.tar.gz"


def missing(source: Source) -> str:
    source.status = 404
    return source.url


def silent(source: Source) -> str:
    source.silent = 3.0
    return source.url


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (refused, "Connection refused"),
        (missing, "HTTP Error 404"),
        (silent, "(no answer within 0.3 s|timed out)"),
        (lambda _: "http://name.invalid/tool.tar.gz", "(Name or service|name resolution|No address|no answer within)"),
    ],
)
def test_unreachable_source_is_named_quickly(
    mirror: Mirror, source: Source, failure: Callable[[Source], str], reason: str
) -> None:
    url = failure(source)
    started = time.monotonic()
    with pytest.raises(
        SourceUnreachable, match=rf"{re.escape(url)} can't be reached \(.*{reason}.*\)\. Where there is"
    ):
        mirror.fetch(release(url=url), timeout=0.3)
    assert time.monotonic() - started < 2
    assert leftovers(mirror) == []


def test_full_disk_names_the_mirror(mirror: Mirror, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library, "_copy", full)
    with pytest.raises(MirrorError, match=r"can't be put into the mirror .*No space left on device"):
        mirror.fetch(release(url=source.url))
