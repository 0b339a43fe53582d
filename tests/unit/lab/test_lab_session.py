"""Which kind of hosts a lab gets, and that it stays with it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lab import topology
from lab.containers import ContainerHosts
from lab.errors import LabError
from lab.machines import VirtualMachineHosts
from lab.paths import LabPaths
from lab.progress import Progress
from lab.session import Lab
from lab.topology import VARIABLE, Asked, Kind, Topology


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    return LabPaths.of("unit", checkout=tmp_path / "checkout", cache=tmp_path / "cache")


def lab(paths: LabPaths, asked: Asked | None = None, *, systemd: bool = True) -> Lab:
    return Lab(paths, Progress(Console(file=io.StringIO())), asked=asked, systemd=systemd)


def test_new_lab_takes_the_kind_of_the_environment(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert isinstance(lab(paths).hosts, ContainerHosts)
    monkeypatch.setenv(VARIABLE, "vm")
    assert isinstance(lab(paths).hosts, VirtualMachineHosts)


def test_lab_that_is_there_keeps_its_kind_for_whoever_only_looks(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology.remember(paths.state, Topology(Kind.VM))
    monkeypatch.setenv(VARIABLE, "containers")
    assert isinstance(lab(paths).hosts, VirtualMachineHosts)
    with pytest.raises(LabError, match="Lab unit has vm hosts, and containers was asked for"):
        lab(paths, Asked())


def test_host_without_systemd_is_a_container(paths: LabPaths) -> None:
    with pytest.raises(LabError, match="--without-systemd is for containers"):
        lab(paths, Asked(Kind.VM), systemd=False)
