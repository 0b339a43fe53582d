"""When containerd is restarted, on a host that is a folder and a table of answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_service import (
    Outcome,
    Places,
    Service,
    ServiceError,
    ensure,
    newer_files,
)


class Host:
    def __init__(self, root: Path) -> None:
        self.places = Places(
            unit=root / "unit" / "containerd.service",
            folder=root / "etc",
            registries=root / "etc" / "certs.d",
            program=root / "containerd",
            ctr=root / "ctr",
            socket=root / "socket",
        )
        (self.places.folder / "conf.d").mkdir(parents=True)
        self.places.unit.parent.mkdir()
        for path in (self.places.unit, self.places.folder / "config.toml", self.places.program, self.places.socket):
            path.touch()
        self.started()
        self.state = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
        self.done: list[str] = []
        self.silent = 0
        self.fail = ""
        self.now = 0.0

    def started(self) -> None:
        later = max(path.lstat().st_ctime_ns for path in self.places.folder.parent.rglob("*")) + 1
        os.utime(self.places.socket, ns=(later, later))

    def run(self, command: list[str]) -> tuple[int, str, str]:
        if command[1] == "show":
            return 0, "".join(f"{key}={value}\n" for key, value in self.state.items()), ""
        if command[0] == "journalctl":
            return 0, "level=fatal msg=broken\n", ""
        if command[-1] == "version":
            self.silent -= 1
            return int(self.silent >= 0), "", ""
        self.done.append(" ".join(command[1:]))
        return (1, "", "Job failed.\n") if self.fail and self.fail in self.done[-1] else (0, "", "")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ensure(self, *, check: bool = False) -> Outcome:
        self.done.clear()
        service = Service(self.run, self.places)
        return ensure(service, check=check, timeout=30, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_nothing_newer_changes_nothing(host: Host) -> None:
    assert host.ensure() == Outcome(False, False, [])
    assert host.done == []


@pytest.mark.parametrize(
    "what", ["etc/config.toml", "etc/conf.d/50-wasmedge.toml", "unit/containerd.service", "containerd"]
)
def test_what_is_newer_is_a_restart(host: Host, what: str) -> None:
    path = host.places.folder.parent / what
    path.write_text("changed")
    assert str(path) in newer_files(host.places)
    assert host.ensure(check=True).restarted
    assert host.done == []
    outcome = host.ensure()
    assert (outcome.changed, outcome.restarted) == (True, True)
    assert host.done == ["daemon-reload", "restart containerd.service"]


def test_removed_dropin_is_a_restart(host: Host) -> None:
    dropin = host.places.folder / "conf.d" / "a.toml"
    dropin.touch()
    host.started()
    dropin.unlink()
    assert newer_files(host.places) == [str(host.places.folder / "conf.d")]


def test_dropin_of_the_unit_is_a_restart(host: Host) -> None:
    folder = host.places.unit.with_name("containerd.service.d")
    folder.mkdir()
    (folder / "x.conf").touch()
    assert newer_files(host.places) == [str(folder), str(folder / "x.conf")]


def test_registries_need_no_restart(host: Host) -> None:
    host.places.registries.mkdir()
    host.started()
    (host.places.registries / "docker.io").mkdir()
    assert host.ensure() == Outcome(False, False, [])


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ({"ActiveState": "inactive"}, ["daemon-reload", "restart containerd.service"]),
        ({"UnitFileState": "disabled"}, ["daemon-reload", "enable containerd.service"]),
    ],
)
def test_stopped_or_disabled_is_put_right(host: Host, state: dict[str, str], done: list[str]) -> None:
    host.state.update(state)
    assert host.ensure(check=True).changed
    outcome = host.ensure()
    assert (outcome.changed, outcome.restarted, host.done) == (True, False, done)


def test_reload_alone_is_no_change(host: Host) -> None:
    host.state["NeedDaemonReload"] = "yes"
    assert (host.ensure().changed, host.done) == (False, ["daemon-reload"])


def test_host_without_the_unit(host: Host) -> None:
    host.places.unit.unlink()
    assert host.ensure(check=True) == Outcome(True, False, [])
    with pytest.raises(
        ServiceError, match=r"containerd\.service on this host: play the role edgefleet\.wasm\.containerd f"
    ):
        host.ensure()


def test_it_is_waited_for(host: Host) -> None:
    host.silent = 5
    host.ensure()
    assert host.now == 2.5


def test_silence_is_an_error_with_its_last_words(host: Host) -> None:
    host.silent = 1000
    with pytest.raises(
        ServiceError, match=r"does not answer within 30 s\. Its last words: level=fatal msg=broken \(journal"
    ):
        host.ensure()


def test_failed_restart_is_an_error_with_its_last_words(host: Host) -> None:
    host.fail = "restart"
    host.places.program.write_text("new")
    with pytest.raises(
        ServiceError, match=r"^`systemctl restart containerd\.service` failed: Job failed\.\. Its last words"
    ):
        host.ensure()
