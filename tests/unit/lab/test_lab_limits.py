"""Limits that the hosts share with the machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import limits
from lab.errors import LabError
from lab.progress import Progress


@pytest.fixture
def system(tmp_path: Path) -> Path:
    (tmp_path / "fs/inotify").mkdir(parents=True)
    return tmp_path


def set_instances(system: Path, value: int) -> None:
    (system / "fs/inotify/max_user_instances").write_text(f"{value}\n")


def recorder(calls: list[Sequence[str]]) -> Any:
    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


def test_a_limit_that_is_high_enough_is_left_alone(system: Path) -> None:
    set_instances(system, 8192)
    calls: list[Sequence[str]] = []
    limits.ensure(Progress(), recorder(calls), system)
    assert calls == []


def test_a_low_limit_is_raised(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "root_prefix", lambda _: ["sudo", "-n"])
    set_instances(system, 128)
    calls: list[Sequence[str]] = []
    limits.ensure(Progress(), recorder(calls), system)
    assert calls == [["sudo", "-n", "sysctl", "-q", "-w", "fs.inotify.max_user_instances=1024"]]


def test_who_may_not_raise_it_is_told_the_command(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "root_prefix", lambda _: None)
    set_instances(system, 128)
    with pytest.raises(LabError, match=r"sudo sysctl -w fs\.inotify\.max_user_instances=1024$"):
        limits.ensure(Progress(), recorder([]), system)
