"""Defaults, argument_specs and README of every role say the same: Ansible itself never compares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TYPES = {"bool", "dict", "float", "int", "list", "path", "str"}
# Shared by several roles, so that one inventory variable serves them all.
SHARED = "edgefleet_"


@dataclass(frozen=True)
class Role:
    """One role as its files declare it."""

    name: str
    defaults: dict[str, Any]
    entry_points: dict[str, dict[str, Any]]
    readme: str

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """What the role can be given. Its other entry points offer the same options, or some of their own."""
        options: dict[str, dict[str, Any]] = self.entry_points["main"].get("options", {})
        return options

    def __str__(self) -> str:
        return self.name


def load(folder: Path) -> Role:
    def document(name: str) -> dict[str, Any]:
        path = folder / name
        return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}

    readme = folder / "README.md"
    return Role(
        name=folder.name,
        defaults=document("defaults/main.yml"),
        entry_points=document("meta/argument_specs.yml").get("argument_specs", {}),
        readme=readme.read_text() if readme.exists() else "",
    )


ROLES = [load(path.parent.parent) for path in sorted(ROOT.glob("roles/*/tasks/main.yml"))]
every_role = pytest.mark.parametrize("role", ROLES, ids=str)


def every_option(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The options and those inside them."""
    for name, option in options.items():
        yield f"{prefix}{name}", option
        yield from every_option(option.get("options", {}), f"{prefix}{name}.")


def test_there_are_roles() -> None:
    assert {"containerd", "k3s", "site_bundle", "wasm_runtime"} <= {role.name for role in ROLES}


@every_role
def test_defaults_and_specification_have_the_same_names(role: Role) -> None:
    optional = {name for name, option in role.options.items() if not option.get("required")}
    assert optional == set(role.defaults)


@every_role
def test_defaults_and_specification_have_the_same_values(role: Role) -> None:
    specified = {name: option.get("default") for name, option in role.options.items() if not option.get("required")}
    assert specified == role.defaults


@every_role
def test_required_options_have_no_default(role: Role) -> None:
    required = {name for name, option in role.options.items() if option.get("required")}
    assert not required & set(role.defaults)
    assert not [name for name in required if "default" in role.options[name]]


@every_role
def test_every_option_has_type_and_description(role: Role) -> None:
    options = [one for point in role.entry_points.values() for one in every_option(point.get("options", {}))]
    assert not [name for name, option in options if option.get("type") not in TYPES]
    assert not [name for name, option in options if not option.get("description")]
    assert not [name for name, option in options if option.get("type") == "list" and "elements" not in option]


@every_role
def test_every_entry_point_is_there_and_described(role: Role) -> None:
    for name, point in role.entry_points.items():
        assert point.get("short_description"), name
        assert (ROOT / "roles" / role.name / "tasks" / f"{name}.yml").is_file(), name


@every_role
def test_entry_points_that_playbooks_play_are_validated(role: Role) -> None:
    there = {path.stem for path in (ROOT / "roles" / role.name / "tasks").glob("*.yml")}
    assert there & {"main", "preflight", "mirror", "reset"} <= set(role.entry_points)


@every_role
def test_public_variables_carry_the_role_in_their_name(role: Role) -> None:
    names = [name for point in role.entry_points.values() for name in point.get("options", {})]
    assert not [name for name in names if not name.startswith((f"{role.name}_", SHARED))]


@every_role
def test_readme_names_every_public_variable(role: Role) -> None:
    names = {name for point in role.entry_points.values() for name in point.get("options", {})}
    assert not [name for name in sorted(names) if f"`{name}`" not in role.readme]


@every_role
def test_readme_says_what_the_role_will_not_do(role: Role) -> None:
    text = role.readme.lower()
    assert "will not" in text
    assert "known limits" in text


def test_shared_variables_are_the_same_in_every_role() -> None:
    seen: dict[str, tuple[str, dict[str, Any]]] = {}
    for role in ROLES:
        for name, option in role.options.items():
            if name.startswith(SHARED):
                other, first = seen.setdefault(name, (role.name, option))
                for key in ("type", "choices", "default", "required", "elements"):
                    assert option.get(key) == first.get(key), f"{name}: {key} differs in {role.name} and {other}"
