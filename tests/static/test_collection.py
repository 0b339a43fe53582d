"""What must hold of the collection as a whole, read from its files."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGIN_KINDS = {"modules": "module", "callback": "callback", "filter": "filter", "lookup": "lookup"}
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/tasks/main.yml"))
# Everything a user installs; the lab's own files are not among them.
PRODUCT = ("roles", "playbooks", "plugins", "meta")


def plugins() -> list[tuple[str, str]]:
    """Each plugin as (kind, name). A file with several filters documents them in YAML files beside it."""
    return [
        (kind, path.stem)
        for folder, kind in PLUGIN_KINDS.items()
        for path in sorted((ROOT / "plugins" / folder).glob("*"))
        if path.suffix == ".yml" or (path.suffix == ".py" and "DOCUMENTATION" in path.read_text())
    ]


def test_every_filter_is_documented() -> None:
    names = json.loads(
        subprocess.run(
            ["ansible-doc", "--json", "--list", "-t", "filter", "edgefleet.wasm"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    documented = {f"edgefleet.wasm.{name}" for kind, name in plugins() if kind == "filter"}
    assert documented
    assert set(names) == documented


def product_files() -> list[Path]:
    """Text files of the product that git tracks or would add, without what others have written."""
    out = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PRODUCT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / line for line in out.splitlines() if (ROOT / line).is_file() and "/vendor/" not in line]


@pytest.mark.parametrize(("kind", "name"), plugins())
def test_ansible_doc_renders(kind: str, name: str) -> None:
    run = subprocess.run(
        ["ansible-doc", "--json", "-t", kind, f"edgefleet.wasm.{name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (entry,) = json.loads(run.stdout).values()
    assert entry["doc"]["short_description"]
    assert entry["examples"], f"{name} has no EXAMPLES"
    if kind == "module":
        assert entry["return"], f"{name} has no RETURN"


@pytest.mark.parametrize("role", ROLES)
def test_ansible_doc_renders_role(role: str) -> None:
    run = subprocess.run(
        ["ansible-doc", "--json", "-t", "role", f"edgefleet.wasm.{role}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (entry,) = json.loads(run.stdout).values()
    assert "main" in entry["entry_points"]


def test_collection_builds_without_test_and_lab_files(tmp_path: Path) -> None:
    run = subprocess.run(
        ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (archive,) = tmp_path.glob("edgefleet-wasm-*.tar.gz")
    names = subprocess.run(
        ["tar", "-tzf", str(archive)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    tops = {name.split("/")[0] for name in names}
    assert {"roles", "plugins", "playbooks", "README.md", "LICENSE"} <= tops
    assert not tops & {"tests", "lab", "molecule", ".venv", "wasm", "reports", "tools"}


def test_product_knows_nothing_of_the_lab() -> None:
    pattern = re.compile(r"\blab\b|lab double|molecule|podman", re.IGNORECASE)
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in product_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not hits, "\n".join(hits)


def test_changelog_names_the_version_of_galaxy_yml() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    releases = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]
    assert version in releases


def test_paths_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    tops = "roles|plugins|playbooks|lab|tests|docs|industries|inventories|molecule|policies|tools|wasm"
    paths = re.findall(rf"`((?:{tops})/[^`* <>{{}}]*)`", text)
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert paths
    assert not missing
