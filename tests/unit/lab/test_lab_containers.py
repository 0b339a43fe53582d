"""Hosts kept, started, replaced or refused, against a podman that is only pretended."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab import ssh
from lab.containers import ContainerHosts
from lab.errors import LabError
from lab.hosts import Host, mac, place
from lab.paths import LabPaths
from lab.podman import LABEL, Podman
from lab.progress import Progress
from lab.topology import MOST, Topology
from tests.unit.lab.fakes import Answer, FakeRun

NEVER = "0001-01-01T00:00:00Z"


class Machine:
    """One container of one lab, as podman would describe it."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = LabPaths.of("unit", checkout=tmp_path / "checkout", cache=tmp_path / "cache")
        self.container: dict[str, Any] | None = None
        self.network_label = self.paths.id
        self.systemd = (0, "running\n")
        monkeypatch.setattr(ContainerHosts, "boot_seconds", 1.0)
        monkeypatch.setattr(ssh, "ensure_key", self._key)
        self.run = FakeRun(
            {
                "container inspect": lambda _: (0, json.dumps([self.container])) if self.container else (125, "[]"),
                "ps --all": lambda _: (0, f"{self.paths.id}-edge1\n" if self.container else ""),
                "network inspect": lambda _: (0, json.dumps([self._network()])),
                "setpriv --pdeathsig KILL podman --runtime": self._podman,
                "is-system-running": lambda _: self.systemd,
                "systemctl --failed": (0, "auditd.service loaded failed failed Audit\n"),
            }
        )
        self.progress = Progress(Console(file=io.StringIO(), soft_wrap=True))

    def _network(self) -> dict[str, Any]:
        subnets = [{"subnet": "10.89.7.0/24"}]
        return {"labels": {LABEL: self.network_label}, "subnets": subnets, "network_interface": "podman7"}

    def _key(self, path: Path, comment: str, *_: object) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("private")
        path.with_name(f"{path.name}.pub").write_text(f"ssh-ed25519 AAAA {comment}\n")
        return f"ssh-ed25519 AAAA {comment}"

    def _podman(self, command: list[str]) -> Answer:
        verb = command[command.index("--runtime") + 2]
        if verb == "info":
            return 0, "v1\n"
        if verb == "create":
            labels = dict(command[i + 1].split("=", 1) for i, part in enumerate(command) if part == "--label")
            self.container = {
                "State": {"Status": "created", "StartedAt": NEVER},
                "Config": {"Labels": labels},
            }
        if verb == "start" and self.container:
            self.container["State"] = {"Status": "running", "StartedAt": "2026-01-01T00:00:00Z"}
        if verb == "rm":
            self.container = None
        return 0, "sha256:image\n" if verb == "image" else ""

    def hosts(self, **options: Any) -> ContainerHosts:
        return ContainerHosts(
            self.paths, lambda: "image:1", podman=Podman(self.run, prefix=[]), run=self.run, **options
        )

    def up(self) -> list[str]:
        """Bring edge1 up; the verbs that changed something."""
        self.run.asked.clear()
        self.hosts().up(["edge1"], self.progress)
        verbs = [line.split()[6] for line in self.run.asked if " podman " in line]
        return [verb for verb in verbs if verb in ("create", "cp", "start", "rm", "kill")]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_new_host_has_its_keys_before_it_starts(machine: Machine) -> None:
    assert machine.up() == ["create", "cp", "start"]


def test_running_host_is_kept(machine: Machine) -> None:
    machine.up()
    assert machine.up() == []


def test_stopped_host_is_started_with_all_that_is_on_it(machine: Machine) -> None:
    machine.up()
    assert machine.container is not None
    machine.container["State"]["Status"] = "exited"
    assert machine.up() == ["start"]


def test_host_that_never_started_is_made_anew(machine: Machine) -> None:
    machine.up()
    assert machine.container is not None
    machine.container["State"] = {"Status": "created", "StartedAt": NEVER}
    assert machine.up() == ["rm", "create", "cp", "start"]


def test_host_of_other_options_is_made_anew(machine: Machine) -> None:
    machine.up()
    machine.run.asked.clear()
    machine.hosts(systemd=False).up(["edge1"], machine.progress)
    assert any(" create " in line for line in machine.run.asked)


def test_container_without_our_label_is_never_touched(machine: Machine) -> None:
    machine.container = {"State": {"Status": "running", "StartedAt": "2026"}, "Config": {"Labels": {LABEL: "ef-other"}}}
    with pytest.raises(LabError, match="this lab did not make: remove or rename it"):
        machine.hosts().up(["edge1"], machine.progress)
    assert machine.container is not None
    assert not any(" rm " in line or " create " in line for line in machine.run.asked if "network" not in line)


def test_network_without_our_label_is_refused(machine: Machine) -> None:
    machine.network_label = "somebody"
    with pytest.raises(LabError, match=f"podman network rm {machine.paths.id}"):
        machine.up()


def test_degraded_host_is_up_and_names_the_failed_unit(machine: Machine) -> None:
    machine.systemd = (1, "degraded\n")
    machine.up()
    file = machine.progress.console.file
    assert isinstance(file, io.StringIO)
    assert "edge1 is up, but units failed: auditd.service" in file.getvalue()


def test_host_that_does_not_come_up_says_where_to_look(machine: Machine) -> None:
    machine.systemd = (255, "")
    with pytest.raises(
        LabError, match=r"(?s)edge1 \(10\.89\.7\.11\) did not come up.*podman logs.*lab down --name unit"
    ):
        machine.up()


def test_cgroup_v1_is_told_to_systemd_and_v2_gets_a_tree_of_its_own(machine: Machine) -> None:
    host = Host("edge1", "10.89.7.11")
    v1 = machine.hosts().create_arguments(host, "image:1", "v1")
    v2 = machine.hosts().create_arguments(host, "image:1", "v2")
    assert v1[-2:] == ["/sbin/init", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
    assert "--cgroupns=host" in v1
    assert v2[-1] == "/sbin/init"
    assert not any("/sys/fs/cgroup" in part for part in v2)


def test_mac_addresses_are_stable_local_and_distinct() -> None:
    addresses = [mac("ef-unit", number) for number in range(1, 255)]
    assert addresses == [mac("ef-unit", number) for number in range(1, 255)]
    assert len(set(addresses)) == len(addresses)
    assert all(int(address[:2], 16) & 0b11 == 0b10 for address in addresses)
    assert mac("ef-other", 1) != addresses[0]


def test_delay_is_refused_with_the_kind_that_can(machine: Machine) -> None:
    with pytest.raises(LabError, match=r"edge1 is a container: .*--hosts vm"):
        machine.hosts().netem("edge1", "200ms")


def test_closed_lab_is_closed_before_a_host_starts(machine: Machine) -> None:
    machine.hosts(airgapped=True).up(["edge1"], machine.progress)
    asked = [line for line in machine.run.asked if " start " in line or "nft -f" in line]
    assert "nft -f" in asked[0]
    assert " start " in asked[1]


def test_every_host_has_a_place_of_its_own() -> None:
    names = Topology(servers=MOST, agents=MOST).names()
    places = {place(name) for name in names}
    assert len(places) == len(names) == 2 * MOST
    assert min(places) > 1
    assert max(places) < 255


def test_unknown_host_is_named_with_those_there_are(machine: Machine) -> None:
    with pytest.raises(LabError, match=r"No host edge9 in lab unit\. There are none"):
        machine.hosts().find("edge9")
    machine.up()
    with pytest.raises(LabError, match=r"No host edge9 in lab unit\. There are: edge1"):
        machine.hosts().find("edge9")
