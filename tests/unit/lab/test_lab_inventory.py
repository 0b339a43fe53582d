"""The inventory is all that the collection hears of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab import inventory
from lab.hosts import Host
from lab.paths import CHECKOUT, LabPaths

HOSTS = [Host("edge1", "10.0.0.11"), Host("edge2", "10.0.0.12")]


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    return LabPaths.of("unit", checkout=tmp_path / "checkout", cache=tmp_path / "cache")


def test_every_host_is_a_site_of_its_own(paths: LabPaths) -> None:
    edge = inventory.content(paths, HOSTS)["edge"]
    assert edge["children"]["k3s_servers"]["hosts"] == {
        "edge1": {"ansible_host": "10.0.0.11"},
        "edge2": {"ansible_host": "10.0.0.12"},
    }
    assert edge["children"]["k3s_agents"]["hosts"] == {}


def test_connections_check_the_host_key_of_this_lab(paths: LabPaths) -> None:
    variables = inventory.content(paths, HOSTS)["edge"]["vars"]
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert f"UserKnownHostsFile={paths.known_hosts}" in variables["ansible_ssh_common_args"]
    assert variables["ansible_ssh_private_key_file"] == str(paths.key)
    assert variables["edgefleet_mirror_dir"] == str(paths.mirror)


def test_sockets_stay_with_ansible_where_the_path_is_too_long(tmp_path: Path) -> None:
    long = LabPaths.of("unit", checkout=tmp_path, cache=tmp_path / ("x" * 90))
    assert "ansible_control_path_dir" not in inventory.content(long, HOSTS)["edge"]["vars"]
    short = LabPaths.of("unit", checkout=tmp_path, cache=Path("/c"))
    assert inventory.content(short, HOSTS)["edge"]["vars"]["ansible_control_path_dir"].startswith("/c/")


def test_written_whole_with_the_committed_variables_beside_it(paths: LabPaths) -> None:
    paths.group_vars.mkdir(parents=True)
    for _ in range(2):
        inventory.write(paths, HOSTS)
    written = paths.inventory / "hosts.yml"
    assert yaml.safe_load(written.read_text()) == inventory.content(paths, HOSTS)
    assert (paths.inventory / "group_vars").resolve() == paths.group_vars
    assert sorted(path.name for path in paths.inventory.iterdir()) == ["group_vars", "hosts.yml"]
    inventory.remove(paths)
    assert not written.exists()
    assert paths.group_vars.is_dir()


def test_lab_settings_are_ordinary_options() -> None:
    variables = yaml.safe_load((CHECKOUT / "inventories" / "lab" / "group_vars" / "edge.yml").read_text())
    assert variables["edgefleet_mirror_allow_rebuilt"] is True
    assert not any("lab" in name for name in variables)
