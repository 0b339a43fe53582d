"""The example inventories: they list, and each variable in them is one that a role or playbook knows, with its type."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = sorted(path.parent for path in ROOT.glob("inventories/*/hosts.yml") if path.parent.name != "lab")
SYSTEMS = {path.parent.name for path in ROOT.glob("industries/*/industry.yml")}
# What Ansible itself reads. Passwords are never among them here.
CONNECTION = {"ansible_user", "ansible_host", "ansible_port"}
every_inventory = pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)


@cache
def listed(inventory: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["ansible-inventory", "-i", str(inventory), "--list"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@cache
def options() -> dict[str, Any]:
    """Each public variable of each role, as its argument specification has it."""
    found: dict[str, Any] = {}
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for point in yaml.safe_load(path.read_text())["argument_specs"].values():
            found |= point.get("options", {})
    return found


@cache
def of_playbooks() -> set[str]:
    """Variables that a playbook's heading explains."""
    return {
        name
        for path in (ROOT / "playbooks").glob("*.yml")
        for line in path.read_text().splitlines()
        if line.startswith("#")
        for name in re.findall(r"\b(?:edgefleet|wasm_smoke)_[a-z_]+\b", line)
    }


def problems(inventory: Path) -> list[str]:
    """What is wrong with the variables of an inventory's hosts."""
    found = set()
    for host, variables in listed(inventory)["_meta"]["hostvars"].items():
        known = {name: value for name, value in variables.items() if name in options()}
        unknown = set(variables) - set(known) - of_playbooks() - CONNECTION
        found |= {f"{host}: {name}: no role and no playbook has this variable" for name in unknown}
        specification = {name: {**options()[name], "required": False} for name in known}
        found |= {f"{host}: {error}" for error in ArgumentSpecValidator(specification).validate(known).error_messages}
    return sorted(found)


def test_there_is_one_for_each_system_and_a_hub() -> None:
    assert {path.name for path in INVENTORIES} == {*SYSTEMS, "hub"}


@every_inventory
def test_groups(inventory: Path) -> None:
    content = listed(inventory)
    assert set(content["edge"]["children"]) == {"k3s_servers", "k3s_agents"}
    servers = content["k3s_servers"]["hosts"]
    agents = content.get("k3s_agents", {}).get("hosts", [])
    if inventory.name == "hub":
        assert len(servers) == 1
        assert len(agents) > 1
    else:
        assert len(servers) > 1, "several sites, each with a server of its own"
        assert not agents


@every_inventory
def test_variables(inventory: Path) -> None:
    assert problems(inventory) == []


@every_inventory
def test_settings_are_explained_and_hold_no_secret(inventory: Path) -> None:
    for path in inventory.glob("group_vars/*/settings.yml"):
        lines = path.read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            if re.match(r"[a-z]", line):
                assert before.startswith("#"), f"{path}: {line}: say what it is for"
        assert not re.search(r"^\s*[^#].*(password|token|secret)\w*:", "\n".join(lines), re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("k3s_node_lables: {}", "k3s_node_lables: no role and no playbook has this variable"),
        (
            "k3s_ready_timeout: soon",
            "argument 'k3s_ready_timeout' is of type .*str.* and we were unable to convert to int",
        ),
        ("edgefleet_cgroup_driver: openrc", "edgefleet_cgroup_driver must be one of: systemd, cgroupfs, got: openrc"),
    ],
)
def test_a_wrong_variable_is_seen(tmp_path: Path, line: str, problem: str) -> None:
    inventory = shutil.copytree(ROOT / "inventories/hub", tmp_path / "hub")
    settings = inventory / "group_vars/edge/settings.yml"
    settings.write_text(f"{settings.read_text()}{line}\n")
    found = problems(inventory)
    assert len(found) == 4, "one for each host"
    assert all(re.search(problem, one) for one in found), found
