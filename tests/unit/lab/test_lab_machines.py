"""Virtual machines kept, made anew, ended: real processes that only look like QEMU, a network that is pretended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab import disk as disks
from lab import lan, ssh
from lab.disk import Disk
from lab.errors import LabError
from lab.machines import VirtualMachineHosts
from lab.paths import LabPaths
from lab.progress import Progress
from lab.qemu import Guest, Qemu
from tests.unit.lab.fakes import Answer, FakeRun

SLEEP = "import time; time.sleep(600)"


class FakeQemu(Qemu):
    """A process that sleeps, with the arguments by which QEMU's would be known."""

    def command(self, guest: Guest, disk: Disk, accelerator: str) -> list[str]:
        return [sys.executable, "-c", SLEEP, "-name", f"guest={guest.name}", accelerator, str(disk.folder)]


class Machine:
    """One lab."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = LabPaths.of("unit", checkout=tmp_path / "checkout", cache=tmp_path / "cache")
        self.paths.state.mkdir(parents=True)
        self.disk = Disk(tmp_path / "disk")
        self.systemd: Answer = (0, "running\n")
        self.taps: list[dict[str, Any]] = []
        self.copied: list[Path] = []
        monkeypatch.setattr(VirtualMachineHosts, "boot_seconds", 1.0)
        monkeypatch.setattr(ssh, "ensure_key", self._key)
        monkeypatch.setattr(disks, "copy", self._copy)
        monkeypatch.setattr(lan, "FORWARD", tmp_path / "ip_forward")
        (tmp_path / "ip_forward").write_text("1\n")
        self.run = FakeRun(
            {
                "is-system-running": lambda _: self.systemd,
                "link show": lambda _: (0, json.dumps(self.taps)),
                "tuntap add": self._tap,
                "boot_id": (255, ""),
            }
        )
        self.progress = Progress(Console(file=io.StringIO(), soft_wrap=True))

    def _key(self, path: Path, comment: str, *_: object) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("private")
        path.with_name(f"{path.name}.pub").write_text(f"ssh-ed25519 AAAA {comment}\n")
        return f"ssh-ed25519 AAAA {comment}"

    def _tap(self, command: list[str]) -> Answer:
        self.taps.append({"ifname": command[command.index("dev") + 1], "master": self.hosts().lan.bridge})
        return 0, ""

    def _copy(self, _disk: Disk, target: Path, *_: object) -> None:
        self.copied.append(target)
        target.write_text("disk")

    def hosts(self) -> VirtualMachineHosts:
        return VirtualMachineHosts(self.paths, lambda _: (FakeQemu(Path("/q")), self.disk, "tcg"), list, run=self.run)

    def up(self, *names: str) -> None:
        self.copied.clear()
        self.hosts().up(names or ["edge1"], self.progress)

    def pid(self, name: str = "edge1") -> int:
        return int((self.paths.state / "machines" / name / "pid").read_text())

    def said(self) -> str:
        file = self.progress.console.file
        assert isinstance(file, io.StringIO)
        return file.getvalue()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path, monkeypatch)
    yield made
    made.hosts().down(made.progress)


def test_new_host_runs_in_a_session_of_its_own_and_is_known_by_its_id(machine: Machine) -> None:
    machine.up()
    assert machine.hosts().names() == ["edge1"]
    assert machine.hosts().status()[0].state == "running"
    assert os.getsid(machine.pid()) == machine.pid()
    # The shell that put the id down held the lock; what it became does not.
    deadline = time.monotonic() + 30
    while "start.lock" in opened(machine.pid()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "null" in opened(machine.pid())
    assert "start.lock" not in opened(machine.pid())


def opened(pid: int) -> set[str]:
    """The names of the files that a process has open; one that it closes meanwhile is none of them."""
    names = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.add(fd.readlink().name)
    return names


def test_running_host_is_kept(machine: Machine) -> None:
    machine.up()
    before = machine.pid()
    machine.up()
    assert machine.pid() == before
    assert machine.copied == []


def test_host_that_is_off_is_started_with_its_disk(machine: Machine) -> None:
    machine.up()
    os.kill(machine.pid(), 9)
    machine.up()
    assert machine.hosts().status()[0].state == "running"
    assert machine.copied == []


def test_half_made_host_is_made_anew(machine: Machine) -> None:
    folder = machine.paths.state / "machines" / "edge1"
    folder.mkdir(parents=True)
    (folder / "disk.raw.part").touch()
    machine.up()
    assert "edge1 was half made: made anew" in machine.said()
    assert not (folder / "disk.raw.part").exists()


def test_host_from_another_disk_is_made_anew(machine: Machine) -> None:
    machine.up()
    before = machine.pid()
    machine.disk = Disk(machine.disk.folder.with_name("newer"))
    machine.up()
    assert "edge1 was made from another image or with other options: made anew" in machine.said()
    assert machine.pid() != before
    assert len(machine.copied) == 1


def test_host_whose_device_is_gone_is_started_with_a_new_one(machine: Machine) -> None:
    machine.up()
    before = machine.pid()
    machine.taps.clear()
    machine.up()
    assert machine.pid() != before
    assert machine.copied == []


def test_surplus_host_is_removed_with_its_process(machine: Machine) -> None:
    machine.up("edge1", "agent1")
    pid = machine.pid("agent1")
    machine.up("edge1")
    assert machine.hosts().names() == ["edge1"]
    assert f"guest={machine.paths.id}-agent1" not in cmdline(pid)


def cmdline(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text().replace("\0", " ") if path.exists() else ""


def test_process_of_somebody_else_with_that_id_is_never_ended(machine: Machine) -> None:
    machine.up()
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as other:
        machine.hosts()._end("edge1")
        (machine.paths.state / "machines" / "edge1" / "pid").write_text(f"{other.pid}\n")
        assert machine.hosts().status()[0].state == "off"
        machine.hosts().down(machine.progress)
        assert other.poll() is None
        other.kill()


def test_damaged_id_is_no_id(machine: Machine) -> None:
    folder = machine.paths.state / "machines" / "edge1"
    folder.mkdir(parents=True)
    (folder / "pid").write_text("")
    assert machine.hosts().process("edge1") is None


def test_host_started_by_a_killed_run_is_not_started_twice(machine: Machine) -> None:
    machine.up()
    before = machine.pid()
    hosts = machine.hosts()
    hosts._start("edge1", ["/bin/false"])
    assert machine.pid() == before


def test_qemu_that_ends_at_once_is_quoted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(*_: object) -> list[str]:
        return ["/bin/sh", "-c", "echo could not open disk >&2; exit 1"]

    machine.systemd = (255, "")
    monkeypatch.setattr(FakeQemu, "command", command)
    with pytest.raises(LabError, match=r"(?s)edge1 \(10\.71\.0\.11\) did not come up: host off.*could not open disk"):
        machine.up()


def test_host_that_does_not_boot_shows_its_console(machine: Machine) -> None:
    machine.systemd = (255, "")
    folder = machine.paths.state / "machines" / "edge1"
    with pytest.raises(LabError, match=r"did not come up: host running"):
        machine.up()
    (folder / "console.log").write_text("Kernel panic - not syncing\n")
    with pytest.raises(LabError, match=r"(?s)Kernel panic.*Look at .*console\.log"):
        machine.up()


def test_power_cut_ends_the_process_and_starts_another(machine: Machine) -> None:
    machine.up()
    before = machine.pid()
    machine.hosts().reboot("edge1", power_cut=True)
    assert machine.pid() != before
    assert cmdline(before) == ""


def state(pid: int) -> str:
    """T: stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_disk_is_kept_while_the_host_stands_still_and_becomes_its_own(machine: Machine) -> None:
    machine.up()
    before, kept = machine.pid(), machine.paths.state / "kept.raw"
    disk = machine.copied[0]
    seen: list[str] = []

    def copy(command: list[str]) -> Answer:
        assert command[-2:] == [str(disk), str(kept)]
        seen.append(state(before))
        shutil.copyfile(disk, kept)
        return 0, ""

    machine.run.answers["cp"] = copy
    machine.hosts().keep_disk("edge1", kept)
    assert seen == ["T"]
    assert state(before) != "T", "it goes on"
    disk.write_text("what came later")
    machine.hosts().boot_from("edge1", kept)
    assert machine.pid() != before
    assert disk.read_text() == "disk"
    assert not kept.exists()


def test_no_disk_of_a_host_that_is_off_is_kept(machine: Machine) -> None:
    machine.up()
    os.kill(machine.pid(), signal.SIGKILL)
    while cmdline(machine.pid()):
        time.sleep(0.01)
    with pytest.raises(LabError, match="edge1 is off"):
        machine.hosts().keep_disk("edge1", machine.paths.state / "kept.raw")


def test_reboot_that_never_comes_is_an_error(machine: Machine) -> None:
    machine.up()
    with pytest.raises(LabError, match=r"edge1 .* did not come up"):
        machine.hosts().reboot("edge1")
    assert any("systemctl reboot" in line for line in machine.run.asked)


def test_down_leaves_no_process_and_no_file(machine: Machine) -> None:
    machine.up("edge1", "edge2")
    pids = [machine.pid("edge1"), machine.pid("edge2")]
    machine.hosts().down(machine.progress)
    assert [cmdline(pid) for pid in pids] == ["", ""]
    assert not (machine.paths.state / "machines").exists()
    machine.hosts().down(machine.progress)


def qdiscs(kind: str) -> dict[str, Answer]:
    return {
        "address show": (0, '[{"ifname": "enp0s2"}]'),
        "qdisc show": (0, json.dumps([{"kind": kind}])),
    }


def test_delay_is_put_on_the_device_of_the_hosts_address(machine: Machine) -> None:
    machine.up()
    machine.run.answers.update(qdiscs("fq_codel"))
    machine.hosts().netem("edge1", "200ms")
    assert machine.run.asked[-1].endswith("tc qdisc replace dev enp0s2 root netem delay 200ms limit 100000")


@pytest.mark.parametrize(("present", "changes"), [("netem", ["qdisc del dev enp0s2 root"]), ("fq_codel", [])])
def test_delay_is_ended_where_there_is_one(machine: Machine, present: str, changes: list[str]) -> None:
    machine.up()
    machine.run.answers.update(qdiscs(present))
    machine.hosts().netem("edge1", None)
    asked = [line.partition(" tc ")[2] for line in machine.run.asked if " tc " in line]
    assert [line for line in asked if "show" not in line] == changes


def test_delay_that_is_refused_names_host_and_reason(machine: Machine) -> None:
    machine.up()
    machine.run.answers.update({**qdiscs("noqueue"), "qdisc replace": lambda _: (2, "")})
    with pytest.raises(LabError, match="edge1: tc refused the delay 200ms"):
        machine.hosts().netem("edge1", "200ms")


def test_guest_of_every_host_differs_in_what_must_differ(machine: Machine) -> None:
    guests = [machine.hosts()._guest(name) for name in ("edge1", "edge2", "agent1")]
    for attribute in ("name", "disk", "console", "tap", "mac"):
        assert len({getattr(guest, attribute) for guest in guests}) == 3
