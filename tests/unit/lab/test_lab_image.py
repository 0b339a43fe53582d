"""What the host image is made of, and when it has to be made again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab import debian, image
from lab.aptsources import Source
from lab.errors import CommandFailed, LabError
from lab.image import Recipe
from lab.podman import Podman
from lab.progress import Progress
from tests.unit.lab.fakes import FakeRun

SOURCES = [Source("http://mirror.example.com/debian", "trixie")]


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(file=io.StringIO(), soft_wrap=True))


def test_key_changes_with_everything_that_decides_the_content(tmp_path: Path) -> None:
    certificate = tmp_path / "own.crt"
    certificate.write_text("one")
    recipes = [
        Recipe(SOURCES),
        Recipe(SOURCES, packages=("systemd",)),
        Recipe([*SOURCES, Source("http://mirror.example.com/debian", "trixie-updates")]),
        Recipe(SOURCES, proxies={"http": "http://proxy:3128"}),
        Recipe(SOURCES, certificates=[certificate]),
    ]
    keys = [recipe.key for recipe in recipes]
    assert len(set(keys)) == len(keys)
    certificate.write_text("two")
    assert recipes[-1].key != keys[-1]
    assert Recipe(SOURCES).key == keys[0]


def test_proxy_on_the_machines_loopback_is_reached_through_podmans_name() -> None:
    recipe = Recipe(SOURCES, proxies={"http": "http://127.0.0.1:3142", "https": "http://proxy.example.com:3128"})
    assert recipe.host_apt_conf() == (
        'Acquire::http::Proxy "http://host.containers.internal:3142";\n'
        'Acquire::https::Proxy "http://proxy.example.com:3128";\n'
    )
    # The build itself runs on the machine.
    assert '--aptopt=Acquire::http::Proxy "http://127.0.0.1:3142"' in recipe.command(Path("/tmp/x.tar"))  # noqa: S108


def test_no_host_inherits_keys_of_the_image() -> None:
    hooks = " ".join(part for part in Recipe(SOURCES).command(Path("x.tar")) if part.startswith("--customize-hook"))
    assert "ssh_host_*" in hooks
    assert "machine-id" in hooks


def test_full_disk_is_said_before_the_build(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "NEEDED_BYTES", 1 << 60)
    monkeypatch.setattr(debian, "stream", lambda *_, **__: pytest.fail("built all the same"))
    podman = Podman(FakeRun({"image exists": (1, "")}), prefix=[])
    with pytest.raises(LabError, match=f"{tmp_path}.* GiB free, the host image needs .* EDGEFLEET_CACHE"):
        image.ensure(tmp_path, Recipe(SOURCES), podman, progress)


def test_failing_build_names_the_sources_and_leaves_no_image(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(command: list[str], **_: Any) -> None:
        Path(command[-2]).write_text("half")
        raise CommandFailed(command, 1, "E: 404 Not Found")

    monkeypatch.setattr(debian, "stream", stream)
    podman = Podman(FakeRun({"image exists": (1, "")}), prefix=[])
    with pytest.raises(LabError, match=r"(?s)mirror\.example\.com/debian trixie main.*404 Not Found"):
        image.ensure(tmp_path, Recipe(SOURCES), podman, progress)
    assert list(tmp_path.glob("*.tar")) == []


def test_tar_in_the_cache_is_imported_without_a_build(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[list[str]] = []
    monkeypatch.setattr(debian, "stream", lambda *_, **__: pytest.fail("built all the same"))
    monkeypatch.setattr("lab.podman.stream", lambda command, **_: imported.append(command))
    recipe = Recipe(SOURCES)
    (tmp_path / f"{recipe.key}.tar").write_text("whole")
    assert image.ensure(tmp_path, recipe, Podman(FakeRun({"image exists": (1, "")}), prefix=[]), progress) == recipe.tag
    assert imported[0][-2:] == [str(tmp_path / f"{recipe.key}.tar"), recipe.tag]
