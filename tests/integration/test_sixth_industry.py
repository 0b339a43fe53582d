"""A sixth system, made up out of copies as industries/README.md tells, comes up without a change to shared code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.pulumi_site import Site, Stack, ready, site_of, stand_in
from tools import generate

pytestmark = [pytest.mark.lab, pytest.mark.full]
LIKE, NEW = "learning-management-system", "library-lending-service"
PACKAGE = "education.lending"
NODE_PORT = 30099
SPACE = "sixth-system-test"
FOLDERS = ("docs", "industries", "inventories", "policies", "pulumi", "roles")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with the sixth system, generated anew."""
    root = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "bundle"))
    for kind in ("industries", "pulumi", "inventories"):
        shutil.copytree(root / kind / LIKE, root / kind / NEW)
    for path in [*(root / "industries" / NEW).rglob("*"), *(root / "pulumi" / NEW).rglob("*")]:
        if path.is_file():
            path.write_text(path.read_text("utf-8").replace(LIKE, NEW), encoding="utf-8")
    declare(root / "industries" / NEW)
    assert generate.main([], root) == 0
    return root


def declare(folder: Path) -> None:
    """What is the system's own: its port, its package, who may do what."""
    content = yaml.safe_load((folder / "industry.yml").read_text("utf-8"))
    content["expose"][0]["node_port"] = NODE_PORT
    content["policy"]["package"] = PACKAGE
    (folder / "industry.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.rmtree(folder / "policy")
    (folder / "policy").mkdir()
    (folder / "policy" / "lending.rego").write_text(
        f"package {PACKAGE}\n\nimport rego.v1\n\ndefault decision := false\n\n"
        'decision if {\n\tinput.action == "lend"\n\tinput.user.role == "reader"\n}\n'
    )


@pytest.fixture(scope="module")
def site(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(lab, host, tmp_path_factory.mktemp("pulumi"), systems=[NEW])


@pytest.fixture(scope="module")
def stacks(checkout: Path, site: Site) -> Iterator[dict[str, Stack]]:
    """The platform, which has to know the new image, and the new system; out of the copy."""
    found = {name: Stack.of(site, name, projects=checkout / "pulumi") for name in ("platform", NEW)}
    try:
        for stack in found.values():
            stack.up()
        yield found
    finally:
        for stack in reversed(found.values()):
            stack.run("destroy", "--yes", "--skip-preview", check=False)


def test_shared_code_is_as_it_was(checkout: Path) -> None:
    shared = [
        *(CHECKOUT / "pulumi" / "edgefleet_pulumi").rglob("*.py"),
        *(CHECKOUT / "policies").rglob("template.yaml"),
    ]
    assert shared
    assert [path for path in shared if (checkout / path.relative_to(CHECKOUT)).read_bytes() != path.read_bytes()] == []


def test_what_follows_from_the_declaration_is_there(checkout: Path) -> None:
    variables = yaml.safe_load((checkout / f"inventories/{NEW}/group_vars/edge/generated.yml").read_text("utf-8"))
    assert variables["hardening_firewall_node_ports"] == [str(NODE_PORT)]
    assert NEW in (checkout / "policies/wasm-runtime-class/constraint.yaml").read_text("utf-8")
    assert NEW in (checkout / "docs/industries.md").read_text("utf-8")
    assert (checkout / f"industries/{NEW}/smoke_targets.json").is_file()


def test_it_is_ready_under_its_class_and_the_policies_know_it(stacks: dict[str, Stack], site: Site) -> None:
    pods = site.items("pods", NEW)
    assert {pod["metadata"]["name"] for pod in pods} == {f"{NEW}-0", "redis-0"}
    assert all(ready(pod) for pod in pods)
    (service,) = (pod["spec"] for pod in pods if pod["metadata"]["name"] == f"{NEW}-0")
    assert service["runtimeClassName"] == "wasmedge"
    assert service["containers"][0]["image"] == stand_in(NEW)
    stacks[NEW].run("preview", "--expect-no-changes")


def test_without_its_class_the_new_image_is_refused(stacks: dict[str, Stack], site: Site) -> None:
    spec = {"containers": [{"name": "app", "image": stand_in(NEW)}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": SPACE}, "spec": spec}
    site.open_namespace(SPACE)
    try:
        assert "a Wasm image needs runtimeClassName wasmedge" in site.refused(pod)
    finally:
        site.kubectl("delete", "namespace", SPACE)
