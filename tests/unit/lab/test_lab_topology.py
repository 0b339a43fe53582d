"""What a lab is: asked for, remembered, chosen by the environment; and never changed behind anybody's back."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import topology
from lab.errors import LabError
from lab.topology import Asked, Kind, Topology, settle


def test_new_lab_is_one_container() -> None:
    assert settle(Asked(), None, "unit", {}) == Topology(Kind.CONTAINERS, 1, 0, False)


def test_flag_goes_before_the_environment() -> None:
    environ = {"EDGEFLEET_LAB_HOSTS": "vm"}
    assert settle(Asked(), None, "unit", environ).kind is Kind.VM
    assert settle(Asked(Kind.CONTAINERS), None, "unit", environ).kind is Kind.CONTAINERS


def test_what_is_not_asked_for_stays_as_it_was() -> None:
    before = Topology(Kind.VM, 2, 3, True)
    assert settle(Asked(), before, "unit", {}) == before
    assert settle(Asked(agents=0, airgapped=False), before, "unit", {}) == Topology(Kind.VM, 2, 0, False)


@pytest.mark.parametrize(("asked", "environ"), [(Asked(Kind.VM), {}), (Asked(), {"EDGEFLEET_LAB_HOSTS": "vm"})])
def test_other_kind_is_refused_with_the_way_out(asked: Asked, environ: dict[str, str]) -> None:
    with pytest.raises(LabError, match=r"Lab unit has containers hosts, and vm .*python -m lab down --name unit"):
        settle(asked, Topology(), "unit", environ)


def test_wrong_value_in_the_environment_is_named() -> None:
    with pytest.raises(LabError, match="EDGEFLEET_LAB_HOSTS=qemu: use containers or vm"):
        settle(Asked(), None, "unit", {"EDGEFLEET_LAB_HOSTS": "qemu"})


def test_remembered_as_it_was_put_down(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert topology.remembered(state) is None
    for wanted in (Topology(Kind.VM, 2, 1, True), Topology()):
        topology.remember(state, wanted)
        assert topology.remembered(state) == wanted


@pytest.mark.parametrize("damaged", ["", "{}", '{"kind": "qemu"}', '{"kind": "vm", "color": 1}', "[]"])
def test_damaged_memory_names_its_file(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "topology.json").write_text(damaged)
    with pytest.raises(LabError, match=r"topology\.json can't be read"):
        topology.remembered(tmp_path)


def test_names_are_servers_then_agents() -> None:
    assert Topology(servers=2, agents=1).names() == ["edge1", "edge2", "agent1"]
