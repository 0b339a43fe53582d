"""What the project itself puts on a cluster is admitted, by Gatekeeper's policies and by the API server's own."""

from __future__ import annotations

import json
import runpy
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgefleet_pulumi.model import load_industries
from lab.builders.opa import PolicyTools
from lab.paths import CHECKOUT
from tests.unit.policies.test_gatekeeper import POLICIES, admission_policies, decide
from tests.unit.pulumi.recording import declared

SYSTEMS = sorted(load_industries())
every_system = pytest.mark.parametrize("system", SYSTEMS)


@cache
def objects(system: str) -> list[dict[str, Any]]:
    """What the dev stack of a system declares, and each pod that comes of it."""
    folder = CHECKOUT / "pulumi" / system
    config = yaml.safe_load((folder / "Pulumi.dev.yaml").read_text())["config"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgefleet_pulumi.program.make", lambda *_: None)
        patch.setattr("edgefleet_pulumi.program.Api.of", lambda *_: None)
        patch.setattr("edgefleet_pulumi.program.cluster_identity", lambda *_: "cluster")
        found = declared(
            lambda: runpy.run_path(str(folder / "__main__.py"), run_name="__main__"), project=system, config=config
        )
    made = [json.loads(json.dumps(one.inputs)) for one in found if one.token.startswith("kubernetes:")]
    return [*(one for one in made if one.get("kind") != "RuntimeClass"), *pods(made)]


def pods(made: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in made:
        spec = one.get("spec") or {}
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            metadata = {"name": one["metadata"]["name"], "namespace": one["metadata"]["namespace"]}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec["template"]["spec"]}


def violations(tools: PolicyTools, folder: Path, content: list[dict[str, Any]]) -> list[str]:
    """What Gatekeeper's constraints say about objects, all of them at once."""
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(content))
    files = [*POLICIES.glob("*/template.yaml"), *POLICIES.glob("*/constraint.yaml"), folder / "objects.yaml"]
    done = subprocess.run(
        [tools.gator, "test", "--output=json", *(f"--filename={file}" for file in files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout, done.stderr
    return [one["msg"] for one in json.loads(done.stdout) or []]


@every_system
def test_gatekeeper_admits_the_system(tools: PolicyTools, tmp_path: Path, system: str) -> None:
    content = objects(system)
    assert [one for one in content if one["kind"] == "Pod"]
    assert violations(tools, tmp_path, content) == []


@every_system
def test_the_api_server_admits_the_system(tools: PolicyTools, system: str) -> None:
    cases = [
        {
            "policy": policy["metadata"]["name"],
            "operation": "CREATE",
            "namespace": pod["metadata"]["namespace"],
            "object": pod,
        }
        for pod in objects(system)
        if pod["kind"] == "Pod"
        for policy in admission_policies()
    ]
    assert cases
    assert decide(tools, admission_policies(), cases) == [[]] * len(cases)


def test_data_that_stays_local_needs_its_network_policies(tools: PolicyTools, tmp_path: Path) -> None:
    """Without them the same objects are refused: the test above looks at what it should."""
    content = [one for one in objects("telemedicine-service") if one["kind"] != "NetworkPolicy"]
    found = violations(tools, tmp_path, content)
    assert found
    assert all("no NetworkPolicy there denies all egress" in message for message in found)
