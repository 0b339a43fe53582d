"""Reading declarations from their YAML files."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from edgefleet_pulumi.model.errors import ModelError, checked
from edgefleet_pulumi.model.industry import Industry

ROOT = Path(__file__).resolve().parents[3]
INDUSTRIES = ROOT / "industries"
FILE = "industry.yml"


class _OnceLoader(yaml.SafeLoader):
    """SafeLoader, but a key that stands twice is an error: YAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} stands there twice: remove one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, where: str = "") -> Any:
    """The content of a YAML file; a ModelError says what is wrong with it and in which line."""
    where = where or str(path)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _OnceLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        raise ModelError(f"{where}: no such file: copy one from another system and fill it in") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{where}: can't be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ModelError(f"{where}{line}: {error.problem or 'not YAML'}") from error


def load_industry(path: Path) -> Industry:
    """One declaration."""
    where = f"industries/{path.parent.name}/{path.name}"
    industry = checked(Industry, read_yaml(path, where), where)
    if industry.system != path.parent.name:
        raise ModelError(
            f"{where}: system: is {industry.system}, the folder {path.parent.name}: give both the same name"
        )
    return industry


def load_industries(folder: Path = INDUSTRIES) -> dict[str, Industry]:
    """All declarations by system, and what has to hold between them."""
    industries = {path.parent.name: load_industry(path) for path in sorted(folder.glob(f"*/{FILE}"))}
    if not industries:
        raise ModelError(f"{folder}: no <system>/{FILE} in it")
    taken: dict[int, str] = {}
    for system, industry in industries.items():
        for one in industry.expose:
            other = taken.setdefault(one.node_port, system)
            if other != system:
                raise ModelError(
                    f"industries/{system}/{FILE}: expose: node_port {one.node_port} is {other}'s: choose another, "
                    "so that both can run on one node"
                )
    return industries
