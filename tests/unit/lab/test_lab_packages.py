"""The machine's packages: found missing, named, installed, or one line that says how."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab import packages
from lab.errors import CommandFailed, LabError
from lab.progress import Progress
from tests.unit.lab.fakes import FakeRun

ALL_BUT_PODMAN = "".join(f"{name} installed\n" for name in packages.PACKAGES if name != "podman")


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(file=io.StringIO(), soft_wrap=True))


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def stream(command: list[str], **_: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(packages, "stream", stream)
    return commands


def shown(progress: Progress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_removed_but_configured_counts_as_missing() -> None:
    run = FakeRun({"dpkg-query": (1, "podman config-files\nrunc installed\n")})
    assert packages.missing(["podman", "runc", "netavark"], run) == ["podman", "netavark"]


def test_nothing_missing_does_nothing(progress: Progress, tmp_path: Path, streamed: list[list[str]]) -> None:
    run = FakeRun({"dpkg-query": (0, ALL_BUT_PODMAN + "podman installed\n")})
    packages.ensure(progress, tmp_path / "log", run)
    assert streamed == []
    assert shown(progress) == ""


def test_missing_is_named_with_its_reason_before_the_installation(
    progress: Progress, tmp_path: Path, streamed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "root_prefix", lambda _run: [])
    packages.ensure(progress, tmp_path / "log", FakeRun({"dpkg-query": (1, ALL_BUT_PODMAN)}))
    assert "podman: runs the hosts" in shown(progress)
    assert "runc:" not in shown(progress)
    assert streamed[0][-1] == "podman"
    assert "--no-install-recommends" in streamed[0]


def test_without_root_one_line_tells_the_command(
    progress: Progress, tmp_path: Path, streamed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "root_prefix", lambda _run: None)
    with pytest.raises(LabError) as caught:
        packages.ensure(progress, tmp_path / "log", FakeRun({"dpkg-query": (1, ALL_BUT_PODMAN)}))
    said = str(caught.value)
    assert said == ("1 machine packages are missing; run: sudo apt-get install --yes --no-install-recommends podman")
    assert streamed == []


def test_failing_installation_names_the_command(
    progress: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(command: list[str], **_: Any) -> None:
        raise CommandFailed(command, 100, "E: Unable to locate package podman")

    monkeypatch.setattr(packages, "stream", stream)
    monkeypatch.setattr(packages, "root_prefix", lambda _run: [])
    with pytest.raises(LabError, match=r"(?s)Unable to locate package podman.*install by hand: sudo apt-get install"):
        packages.ensure(progress, tmp_path / "log", FakeRun({"dpkg-query": (1, ALL_BUT_PODMAN)}))


def test_machine_without_dpkg_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.packages.shutil.which", lambda *_, **__: None)
    with pytest.raises(LabError, match="no dpkg"):
        packages.missing(run=FakeRun())


def test_sudo_that_asks_for_a_password_is_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.packages.os.geteuid", lambda: 1000)
    monkeypatch.setattr("lab.packages.shutil.which", lambda *_, **__: "/usr/bin/sudo")
    assert packages.root_prefix(FakeRun({"sudo -n true": (1, "")})) is None
    assert packages.root_prefix(FakeRun()) == ["sudo", "-n"]
