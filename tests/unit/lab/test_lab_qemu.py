"""QEMU's command line, and which accelerator is believed to work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lab import clock, qemu
from lab.disk import FIRST_BOOT_DONE, Disk
from lab.progress import Step
from lab.qemu import PROBE_PASSED, Guest, Qemu, clock_words
from tests.unit.lab.fakes import Answer, FakeRun

DISK = Disk(Path("/cache/disk/abc"))
GUEST = Guest("ef-1-edge1", Path("/state/disk.raw"), Path("/state/console.log"), "ef1t11", "0e:00:00:00:00:01")


@pytest.fixture
def step() -> Step:
    return Step("up", lambda _: None)


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /dev/kvm that opens."""
    device, boot = tmp_path / "kvm", tmp_path / "boot_id"
    device.touch()
    boot.write_text("boot-1\n")
    monkeypatch.setattr(qemu, "KVM", device)
    monkeypatch.setattr(qemu, "BOOT_ID", boot)


def test_host_has_its_own_disk_network_and_console() -> None:
    line = " ".join(Qemu(Path("/q")).command(GUEST, DISK, "tcg"))
    assert line.startswith("/q/usr/lib64/ld-linux-x86-64.so.2 --library-path /q/usr/lib/x86_64-linux-gnu /q/usr/bin/")
    assert "-name guest=ef-1-edge1 " in line
    assert "-kernel /cache/disk/abc/vmlinuz -initrd /cache/disk/abc/initrd.img" in line
    assert "file=/state/disk.raw,format=raw,if=none,id=disk,cache=writeback" in line
    assert "ifname=ef1t11,script=no,downscript=no" in line
    assert "path=/state/console.log,append=on" in line
    assert "-accel tcg,thread=multi -cpu max,la57=off" in line


def test_emulated_host_is_told_how_fast_its_clock_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "tsc_khz", lambda: 2400000)
    assert clock_words("tcg") == ["tsc=reliable", "tsc_early_khz=2400000"]
    assert clock_words("kvm") == []
    monkeypatch.setattr(qemu, "tsc_khz", lambda: None)
    assert clock_words("tcg") == []


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="no time stamp counter")
def test_clock_is_measured_the_same_twice() -> None:
    first, second = clock.tsc_khz(), clock.tsc_khz()
    assert first
    assert second
    assert abs(first - second) < first / 500
    assert 100_000 < first < 10_000_000


def test_probe_writes_nothing_to_the_common_disk() -> None:
    assert "snapshot=on" in Qemu(Path("/q")).probe_command(DISK)[-1]


def test_first_boot_fits_into_a_kernels_command_line_as_one_word() -> None:
    command = Qemu(Path("/q")).first_boot_command(DISK, "tcg")
    line = command[command.index("-append") + 1]
    assert len(line) < 2048
    assert line.count('"') == 2
    assert line.endswith('"')
    assert FIRST_BOOT_DONE in line


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ((0, f"[    1.9] Kernel panic - not syncing: {PROBE_PASSED}\n"), "kvm"),
        ((134, ""), "tcg"),
        ((0, "[    1.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n"), "tcg"),
    ],
)
@pytest.mark.usefixtures("kvm")
def test_kvm_is_believed_when_user_space_ran(step: Step, tmp_path: Path, answer: Answer, found: str) -> None:
    run = FakeRun({"-accel kvm": answer})
    assert Qemu(Path("/q"), run).accelerator(DISK, tmp_path / "known.json", step) == found


@pytest.mark.usefixtures("kvm")
def test_machine_is_probed_once_until_it_boots_again(step: Step, tmp_path: Path) -> None:
    run = FakeRun({"-accel kvm": (134, "")})
    program, known = Qemu(Path("/q"), run), tmp_path / "known.json"
    assert [program.accelerator(DISK, known, step) for _ in range(3)] == ["tcg"] * 3
    assert len(run.asked) == 1
    qemu.BOOT_ID.write_text("boot-2\n")
    program.accelerator(DISK, known, step)
    assert len(run.asked) == 2
    program.accelerator(Disk(Path("/cache/disk/other")), known, step)
    assert len(run.asked) == 3


def test_without_kvm_nothing_is_tried(step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        raise AssertionError

    monkeypatch.setattr(qemu, "KVM", tmp_path / "none")
    assert Qemu(Path("/q"), refuse).accelerator(DISK, tmp_path / "known.json", step) == "tcg"
