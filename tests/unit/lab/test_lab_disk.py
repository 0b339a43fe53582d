"""The virtual machines' disk: what goes in, and a host's copy of it, made with the real programs on a small one."""

from __future__ import annotations

import io
import ipaddress
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from lab import debian, disk, process
from lab.aptsources import Source
from lab.disk import Disk, DiskRecipe, network_files
from lab.errors import LabError
from lab.image import Recipe
from lab.progress import Progress

SOURCES = [Source("http://mirror.example.com/debian", "trixie")]
# On Debian these lie where a user does not look.
TOOLS = all(shutil.which(tool, path=process.SEARCH_PATH) for tool in ("mkfs.ext4", "debugfs"))


@pytest.fixture
def small(tmp_path: Path) -> Disk:
    """A disk with the folders that a host's files go to."""
    root = tmp_path / "root"
    for folder in ("etc/ssh", "root/.ssh"):
        (root / folder).mkdir(parents=True)
    found = Disk(tmp_path / "disk")
    found.folder.mkdir()
    process.run(["truncate", "--size=64M", str(found.image)])
    process.run(["mkfs.ext4", "-q", "-d", str(root), str(found.image)])
    return found


def test_disk_and_container_image_are_made_apart() -> None:
    assert DiskRecipe(SOURCES).key != Recipe(SOURCES).key
    line = " ".join(DiskRecipe(SOURCES).command(Path("/x/root")))
    assert "linux-image-cloud-amd64" in line
    # Masked units are for containers.
    assert "/dev/null" not in line
    assert "ssh_host_*" in line


def test_proxy_on_the_loopback_is_reached_under_the_machines_name() -> None:
    recipe = DiskRecipe(SOURCES, proxies={"http": "http://127.0.0.1:3142"})
    assert "http://machine.internal:3142" in recipe.host_apt_conf()
    files = network_files("edge1", "0e:00:00:00:00:01", ipaddress.IPv4Network("10.71.0.0/24"), "10.71.0.11", [])
    assert "10.71.0.1 machine.internal\n" in files["etc/hosts"]


def test_host_is_known_by_name_and_address() -> None:
    network = ipaddress.IPv4Network("10.71.0.0/24")
    files = network_files("edge1", "0e:00:00:00:00:01", network, "10.71.0.11", ["10.0.0.53"])
    assert files["etc/hostname"] == "edge1\n"
    assert "127.0.1.1 edge1\n" in files["etc/hosts"]
    assert "Address=10.71.0.11/24\nGateway=10.71.0.1\n" in files["etc/systemd/network/10-lan.network"]
    assert files["etc/resolv.conf"] == "nameserver 10.0.0.53\n"


@pytest.mark.skipif(not TOOLS, reason="no e2fsprogs")
def test_copy_holds_the_files_with_owner_and_mode(small: Disk, tmp_path: Path) -> None:
    target = tmp_path / "host" / "disk.raw"
    target.parent.mkdir()
    disk.copy(small, target, {"etc/ssh/key": (b"secret\n", 0o600), "etc/hostname": (b"edge1\n", 0o644)})
    shown = process.run(["debugfs", "-R", "stat /etc/ssh/key", str(target)]).stdout
    assert "Mode:  0600" in shown
    assert "User:     0   Group:     0" in shown
    assert process.run(["debugfs", "-R", "cat /etc/hostname", str(target)]).stdout == "edge1\n"
    process.run(["e2fsck", "-fn", str(target)])
    # Neither the half-made copy nor a secret stays beside it.
    assert [path.name for path in target.parent.iterdir()] == ["disk.raw"]


@pytest.mark.skipif(not TOOLS, reason="no e2fsprogs")
def test_file_that_can_not_be_written_is_an_error_and_leaves_no_disk(small: Disk, tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    with pytest.raises(LabError, match=r"the host's files could not be written: .*no/such"):
        disk.copy(small, target, {"no/such/folder": (b"", 0o644)})
    assert not target.exists()


def no_boot(_: Disk) -> list[str]:
    raise AssertionError


def test_disk_that_does_not_boot_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def stream(command: list[str], *, log: Path, **_: object) -> None:
        done.append(log.name)
        log.write_text("Kernel panic - not syncing\n")

    monkeypatch.setattr(debian, "stream", stream)
    progress = Progress(Console(file=io.StringIO()))
    with pytest.raises(LabError, match=r"disk does not boot; its console: .*first-boot\.log"):
        disk.ensure(tmp_path, DiskRecipe(SOURCES), [], progress, lambda made: ["boot", str(made.image)])
    assert done == ["mmdebstrap.log", "mkfs.log", "first-boot.log"]
    assert not (tmp_path / DiskRecipe(SOURCES).key).exists()


def test_other_architecture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "6", "", "aarch64")))
    progress = Progress(Console(file=io.StringIO()))
    with pytest.raises(LabError, match="This machine is aarch64: virtual machines are made on x86_64 only"):
        disk.ensure(tmp_path, DiskRecipe(SOURCES), [], progress, no_boot)


def test_finished_disk_is_not_made_again(tmp_path: Path) -> None:
    recipe = DiskRecipe(SOURCES)
    (tmp_path / recipe.key).mkdir()
    found = disk.ensure(tmp_path, recipe, [], Progress(Console(file=io.StringIO())), no_boot)
    assert found.folder == tmp_path / recipe.key
