"""The virtual machines' network: a subnet that is nobody else's, devices that are there once, rules that go again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import firewall, lan
from lab.errors import LabError
from lab.lan import Lan, name_servers
from lab.paths import LabPaths
from tests.unit.lab.fakes import FakeRun


class Machine:
    """Routes and devices of a machine."""

    def __init__(self, tmp_path: Path) -> None:
        self.cache = tmp_path / "cache"
        self.routes: list[dict[str, str]] = [{"dst": "default"}]
        self.links: list[dict[str, object]] = []
        self.forward = "-P FORWARD ACCEPT\n"
        self.run = FakeRun(
            {
                "route show": lambda _: (0, json.dumps(self.routes)),
                "link show": lambda _: (0, json.dumps(self.links)),
                "iptables -S": lambda _: (0, self.forward),
                "iptables -C": (1, ""),
            }
        )

    def lan(self, name: str = "unit") -> Lan:
        paths = LabPaths.of(name, checkout=self.cache / "checkout", cache=self.cache)
        paths.state.mkdir(parents=True, exist_ok=True)
        return Lan(paths, self.run, list)

    def changes(self) -> list[str]:
        return [line for line in self.run.asked if " show" not in line and "iptables -S" not in line]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    forward = tmp_path / "ip_forward"
    forward.write_text("1\n")
    monkeypatch.setattr(lan, "FORWARD", forward)
    return Machine(tmp_path)


def test_subnet_is_remembered_and_no_two_labs_share_one(machine: Machine) -> None:
    first, second = machine.lan("one").network(), machine.lan("two").network()
    assert first != second
    assert machine.lan("one").network() == first


def test_subnet_that_the_machine_uses_is_left_alone(machine: Machine) -> None:
    machine.routes += [{"dst": "10.71.0.0/23"}, {"dst": "10.71.2.7"}]
    assert str(machine.lan().network()) == "10.71.3.0/24"


def test_no_subnet_left_is_said(machine: Machine) -> None:
    machine.routes.append({"dst": "10.64.0.0/10"})
    with pytest.raises(LabError, match=r"No free network in 10\.71\.0\.0/16 for lab unit"):
        machine.lan().network()


def test_device_names_fit_and_differ(machine: Machine) -> None:
    one, two = machine.lan("one"), machine.lan("two")
    names = [one.bridge, two.bridge, one.tap("edge1"), one.tap("agent120"), two.tap("edge1")]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 15


def test_bridge_that_is_there_is_not_made_again(machine: Machine) -> None:
    own = machine.lan()
    own.ensure(airgapped=False)
    assert any(f"ip link add {own.bridge}" in line for line in machine.changes())
    machine.links.append({"ifname": own.bridge, "linkinfo": {"info_kind": "bridge"}})
    machine.run.asked.clear()
    own.ensure(airgapped=False)
    assert not any("link add" in line for line in machine.changes())


def test_foreign_device_of_that_name_is_refused(machine: Machine) -> None:
    own = machine.lan()
    machine.links.append({"ifname": own.bridge, "linkinfo": {"info_kind": "dummy"}})
    with pytest.raises(LabError, match=f"a device {own.bridge} that is no bridge"):
        own.ensure(airgapped=False)


def test_device_says_whether_it_was_there(machine: Machine) -> None:
    own = machine.lan()
    assert own.plug("edge1") is True
    machine.links.append({"ifname": own.tap("edge1"), "master": own.bridge})
    assert own.plug("edge1") is False


def test_machine_that_forwards_nothing_lets_the_lab_pass(machine: Machine) -> None:
    own = machine.lan()
    own.ensure(airgapped=False)
    assert not any("iptables -I" in line for line in machine.changes())
    machine.forward = "-P FORWARD DROP\n"
    own.ensure(airgapped=False)
    assert sum("iptables -I FORWARD" in line and own.bridge in line for line in machine.changes()) == 2


def test_remove_takes_only_what_is_the_labs(machine: Machine) -> None:
    own, other = machine.lan("one"), machine.lan("two")
    machine.links = [{"ifname": name} for name in (own.bridge, own.tap("edge1"), other.bridge, "eth0")]
    machine.forward = (
        "-P FORWARD DROP\n"
        f'-A FORWARD -i {own.bridge} -m comment --comment "{own.paths.id}" -j ACCEPT\n'
        f"-A FORWARD -i {other.bridge} -m comment --comment {other.paths.id} -j ACCEPT\n"
        "-A FORWARD -j DOCKER-USER\n"
    )
    own.remove()
    assert machine.changes() == [
        f"ip link delete {own.bridge}",
        f"ip link delete {own.tap('edge1')}",
        "nft -f -",
        f"iptables -D FORWARD -i {own.bridge} -m comment --comment {own.paths.id} -j ACCEPT",
    ]


def test_closed_and_open_labs_differ_in_their_chains() -> None:
    network = lan.POOL
    assert "reject with icmpx host-unreachable" in firewall.closed("br0")
    assert "masquerade" not in firewall.closed("br0")
    assert "masquerade" in firewall.translated(network)
    assert firewall.table("ef-1-a-b") == "ef_1_a_b"


def test_name_server_on_the_loopback_is_of_no_use_to_a_host(tmp_path: Path) -> None:
    stub, real = tmp_path / "resolv.conf", tmp_path / "upstream"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    real.write_text("# comment\nnameserver 10.0.0.53\nnameserver fe80::1\n")
    assert name_servers([stub, real]) == ["10.0.0.53"]
    assert name_servers([stub, tmp_path / "none"]) == []
