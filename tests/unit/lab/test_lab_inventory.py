"""The inventory is all that the collection hears of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab import inventory
from lab.hosts import Host
from lab.paths import CHECKOUT, LabPaths
from lab.topology import Kind

HOSTS = [Host("edge1", "10.0.0.11"), Host("edge2", "10.0.0.12")]


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    return LabPaths.of("unit", checkout=tmp_path / "checkout", cache=tmp_path / "cache")


def test_every_host_is_a_site_of_its_own(paths: LabPaths) -> None:
    edge = inventory.content(paths, HOSTS, Kind.CONTAINERS)["edge"]
    assert edge["children"]["k3s_servers"]["hosts"] == {
        "edge1": {"ansible_host": "10.0.0.11"},
        "edge2": {"ansible_host": "10.0.0.12"},
    }
    assert edge["children"]["k3s_agents"]["hosts"] == {}


def test_host_is_in_the_group_of_its_kind_and_in_no_other(paths: LabPaths) -> None:
    containers = inventory.content(paths, HOSTS, Kind.CONTAINERS)["edge"]["children"]
    machines = inventory.content(paths, HOSTS, Kind.VM)["edge"]["children"]
    assert list(containers["lab_containers"]["hosts"]) == list(machines["lab_vms"]["hosts"]) == ["edge1", "edge2"]
    assert containers["lab_vms"]["hosts"] == machines["lab_containers"]["hosts"] == {}


def test_agents_of_one_server_need_no_word_and_those_of_several_take_turns(paths: LabPaths) -> None:
    agents = [Host(f"agent{number}", f"10.0.0.{130 + number}") for number in (1, 2, 3)]
    one = inventory.content(paths, [HOSTS[0], *agents], Kind.CONTAINERS)["edge"]["children"]["k3s_agents"]["hosts"]
    two = inventory.content(paths, [*HOSTS, *agents], Kind.CONTAINERS)["edge"]["children"]["k3s_agents"]["hosts"]
    assert one["agent2"] == {"ansible_host": "10.0.0.132"}
    assert {name: variables["k3s_server"] for name, variables in two.items()} == {
        "agent1": "edge1",
        "agent2": "edge2",
        "agent3": "edge1",
    }


def test_connections_check_the_host_key_of_this_lab(paths: LabPaths) -> None:
    variables = inventory.content(paths, HOSTS, Kind.CONTAINERS)["edge"]["vars"]
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert f"UserKnownHostsFile={paths.known_hosts}" in variables["ansible_ssh_common_args"]
    assert variables["ansible_ssh_private_key_file"] == str(paths.key)
    assert variables["edgefleet_mirror_dir"] == str(paths.mirror)


def test_sockets_stay_with_ansible_where_the_path_is_too_long(tmp_path: Path) -> None:
    long = LabPaths.of("unit", checkout=tmp_path, cache=tmp_path / ("x" * 90))
    assert "ansible_control_path_dir" not in inventory.content(long, HOSTS, Kind.CONTAINERS)["edge"]["vars"]
    short = LabPaths.of("unit", checkout=tmp_path, cache=Path("/c"))
    assert inventory.content(short, HOSTS, Kind.CONTAINERS)["edge"]["vars"]["ansible_control_path_dir"].startswith(
        "/c/"
    )


def test_written_whole_with_the_committed_variables_beside_it(paths: LabPaths) -> None:
    paths.group_vars.mkdir(parents=True)
    for _ in range(2):
        inventory.write(paths, HOSTS, Kind.VM)
    written = paths.inventory / "hosts.yml"
    assert yaml.safe_load(written.read_text()) == inventory.content(paths, HOSTS, Kind.VM)
    assert (paths.inventory / "group_vars").resolve() == paths.group_vars
    assert sorted(path.name for path in paths.inventory.iterdir()) == ["group_vars", "hosts.yml"]
    inventory.remove(paths)
    assert not written.exists()
    assert paths.group_vars.is_dir()


def test_lab_settings_are_ordinary_options() -> None:
    folder = CHECKOUT / "inventories" / "lab" / "group_vars"
    variables = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}
    assert variables["edge"]["edgefleet_mirror_allow_rebuilt"] is True
    assert not any("lab" in name for group in variables.values() for name in group)


def test_virtual_machine_has_none_of_the_containers_settings() -> None:
    folder = CHECKOUT / "inventories" / "lab" / "group_vars"
    for_containers = set(yaml.safe_load((folder / "lab_containers.yml").read_text()))
    assert "edgefleet_cgroup_driver" in for_containers
    for other in ("edge.yml", "lab_vms.yml", "k3s_servers.yml", "k3s_agents.yml"):
        if (folder / other).exists():
            assert not for_containers & set(yaml.safe_load((folder / other).read_text()))
