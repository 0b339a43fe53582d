"""The mirror is filled from releases, else by building, and nothing is made twice."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from rich.console import Console

from lab.builders import Filler, recipe
from lab.errors import LabError
from lab.progress import Progress

NOBODY = "http://127.0.0.1:9"


@dataclass
class FakeBuilder:
    """Builds a file of its key."""

    name: str = "thing"
    version: str = "1.0"
    arch: str = "amd64"
    file: str = "thing.tar"
    recipe_key: str = "a" * 64
    fails: bool = False
    folders: list[Path] = field(default_factory=list)

    def key(self) -> str:
        return self.recipe_key

    def source(self) -> str:
        return "built here"

    def build(self, workdir: Path) -> Path:
        self.folders.append(workdir)
        assert list(workdir.iterdir()) == []
        (workdir / "half").write_text("x", encoding="utf-8")
        if self.fails:
            raise LabError("does not compile")
        (workdir / self.file).write_text(self.recipe_key, encoding="utf-8")
        return workdir / self.file


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(file=io.StringIO(), soft_wrap=True))


@pytest.fixture
def filler(tmp_path: Path, progress: Progress) -> Filler:
    return Filler(Mirror(tmp_path / "mirror"), progress, tmp_path / "build")


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """A server of releases: its files are in <tmp>/origin."""
    folder = tmp_path / "origin"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def release(url: str = NOBODY, content: bytes = b"official", name: str = "thing") -> Release:
    sha256 = hashlib.sha256(content).hexdigest()
    return Release(name, "1.0", "amd64", "thing.tar", sha256, f"{url}/thing.tar")


def shown(progress: Progress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_release_that_can_be_reached_is_not_built(filler: Filler, origin: str, tmp_path: Path) -> None:
    (tmp_path / "origin" / "thing.tar").write_bytes(b"official")
    builder = FakeBuilder()
    filler.have([(release(origin), builder)])
    assert builder.folders == []
    assert not filler.entries[0].rebuilt
    assert filler.entries[0].source == f"{origin}/thing.tar"


def test_a_release_stays_when_the_recipe_changes(filler: Filler, origin: str, tmp_path: Path) -> None:
    (tmp_path / "origin" / "thing.tar").write_bytes(b"official")
    filler.have([(release(origin), FakeBuilder())])
    builder = FakeBuilder(recipe_key="b" * 64)
    filler.have([(release(), builder)])
    assert builder.folders == []


def test_what_can_not_be_reached_is_built_and_says_so(filler: Filler, progress: Progress) -> None:
    filler.have([(release(), FakeBuilder())])
    entry = filler.entries[0]
    assert entry.rebuilt
    assert entry.source == "built here, recipe aaaaaaaaaaaa"
    filler.tell()
    assert "thing 1.0 amd64: built here, recipe aaaaaaaaaaaa" in shown(progress)


def test_a_silent_host_is_asked_once(filler: Filler, progress: Progress) -> None:
    filler.have([(release(), FakeBuilder())])
    filler.have([(release(name="other"), FakeBuilder(name="other"))])
    assert shown(progress).count("start   look for") == 1
    assert shown(progress).count("127.0.0.1:9 can't be reached") == 1


def test_a_wrong_checksum_is_an_error_and_never_built_over(filler: Filler, origin: str, tmp_path: Path) -> None:
    (tmp_path / "origin" / "thing.tar").write_bytes(b"tampered")
    builder = FakeBuilder()
    with pytest.raises(LabError, match=r"pinned is [0-9a-f]{64} \(thing_releases\['1.0'\]\['amd64'\]\)"):
        filler.have([(release(origin), builder)])
    assert builder.folders == []


def test_an_unchanged_recipe_is_not_built_again(filler: Filler, progress: Progress) -> None:
    filler.have([(release(), FakeBuilder())])
    before = shown(progress)
    builder = FakeBuilder()
    filler.have([(release(), builder)])
    assert builder.folders == []
    assert shown(progress) == before  # and no source is asked


def test_a_changed_recipe_is_built_again(filler: Filler) -> None:
    filler.have([(release(), FakeBuilder())])
    builder = FakeBuilder(recipe_key="b" * 64)
    filler.have([(release(), builder)])
    assert len(builder.folders) == 1
    assert filler.entries[-1].source.endswith(recipe(builder))


def test_an_own_artifact_has_no_source_but_its_recipe(filler: Filler, progress: Progress) -> None:
    own = Release("thing", "1.0", "amd64", "thing.tar")
    filler.have([(own, FakeBuilder())])
    filler.have([(own, FakeBuilder(fails=True))])
    assert not filler.entries[0].rebuilt
    assert "look for" not in shown(progress)
    builder = FakeBuilder(recipe_key="b" * 64)
    filler.have([(own, builder)])
    assert len(builder.folders) == 1


def test_a_damaged_file_is_built_again(filler: Filler) -> None:
    filler.have([(release(), FakeBuilder())])
    filler.mirror.path(release()).write_text("cut", encoding="utf-8")
    builder = FakeBuilder()
    filler.have([(release(), builder)])
    assert len(builder.folders) == 1
    assert filler.mirror.verify(release(), allow_rebuilt=True)


def test_the_next_is_loaded_while_the_first_is_built(filler: Filler) -> None:
    loaded = threading.Event()

    class Slow(FakeBuilder):
        def build(self, workdir: Path) -> Path:
            assert loaded.wait(10)
            return super().build(workdir)

    class Loading(FakeBuilder):
        def prefetch(self) -> None:
            loaded.set()

    filler.have([(release(), Slow()), (release(name="other"), Loading(name="other"))])
    assert [entry.name for entry in filler.entries] == ["thing", "other"]


def test_a_failed_build_leaves_neither_entry_nor_folder(filler: Filler, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not compile"):
        filler.have([(release(), FakeBuilder(fails=True))])
    assert filler.mirror.entries() == []
    assert list((tmp_path / "build").iterdir()) == []


def test_what_a_killed_run_left_is_removed(tmp_path: Path, progress: Progress) -> None:
    left = tmp_path / "build" / "k3s-1234" / "sources"
    left.mkdir(parents=True)
    Filler(Mirror(tmp_path / "mirror"), progress, tmp_path / "build")
    assert not (tmp_path / "build").exists()
