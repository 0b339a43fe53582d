"""Bundles, rendered by the real CLI: without a cluster, the same each time, valid, and without a secret's value."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from lab.builders.pulumi import environment, tools
from lab.paths import cache_root
from lab.progress import Progress
from tests.integration.pulumi_site import PROJECTS

pytestmark = pytest.mark.full
STACK = "dev-bundle"
NAMES = sorted(path.parent.name for path in PROJECTS.glob("*/Pulumi.yaml"))


def rendered(project: str, folder: Path) -> dict[str, str]:
    """Every file of the bundle, made in a new place with a new state."""
    work = folder / project
    shutil.copytree(PROJECTS / project, work, ignore=shutil.ignore_patterns("bundle", "__pycache__"))
    settings = environment(tools(cache_root(), Progress()).ensure(), folder / "home")
    # A kubeconfig that happens to be set neither matters nor hurts.
    settings["KUBECONFIG"] = str(folder / "nowhere")
    for words in (["stack", "init", STACK], ["up", "--yes", "--skip-preview"]):
        done = subprocess.run(
            ["pulumi", "--non-interactive", "--color", "never", *words],
            cwd=work,
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
    bundle = work / "bundle" / STACK
    return {str(path.relative_to(bundle)): path.read_text("utf-8") for path in sorted(bundle.rglob("*.yaml"))}


@pytest.mark.parametrize("project", NAMES)
def test_a_bundle_is_valid_and_the_same_each_time(project: str, tmp_path: Path) -> None:
    first, second = (rendered(project, tmp_path / name) for name in ("first", "second"))
    assert first
    assert first == second
    kinds = set()
    for text in first.values():
        document = yaml.safe_load(text)
        kinds.add(document["kind"])
        # Gatekeeper's own kinds are held to their content by `gator verify`.
        if not document["apiVersion"].partition("/")[0].endswith(".gatekeeper.sh"):
            kubernetes_validate.validate(document, "1.30", strict=True)
    assert "Secret" not in kinds
    lists = [text for name, text in first.items() if name.endswith("-site-secrets.yaml")]
    assert lists
    assert all(json.loads(yaml.safe_load(listed)["data"]["secrets.json"]) for listed in lists)
