"""The platform and all five systems on a cluster, by the real CLI and provider: up, ready, nothing to be done, gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from edgefleet_pulumi.model import load_industries
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration import back_ends
from tests.integration.hosts import until
from tests.integration.pulumi_site import Site, Stack, ready, site_of

pytestmark = pytest.mark.lab
POLICIES = CHECKOUT / "policies"
NAMES = sorted(path.parent.name for path in POLICIES.glob("*/suite.yaml"))
PLATFORM = ("edgefleet-monitoring", "gatekeeper-system")
# What fits on a host of two cores beside the platform.
GROUPS = {
    "local data": ("iot-data-processor", "telemedicine-service"),
    "the others": ("digital-government-service", "examination-system", "learning-management-system"),
}


@pytest.fixture(scope="module")
def site(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(lab, host, tmp_path_factory.mktemp("pulumi"))


@pytest.fixture(scope="module")
def platform(site: Site) -> Iterator[Stack]:
    """The platform, up for as long as these tests last: what it refuses, and what it admits."""
    stack = Stack.of(site, "platform")
    try:
        stack.up()
        yield stack
    finally:
        stack.run("destroy", "--yes", "--skip-preview", check=False)


@pytest.fixture(scope="class")
def open_namespaces(platform: Stack, site: Site) -> Iterator[None]:
    """The namespaces of the samples, without a Pod Security Standard: what it refuses never comes to Gatekeeper."""
    objects = [one for name, case, sample in bad_samples() for one in (sample, *inventory(name, case))]
    names = {one["metadata"]["namespace"] for one in objects}
    for name in names:
        site.open_namespace(name, {"edgefleet.io/data": "local"} if name == "telemedicine-service" else None)
    try:
        yield
    finally:
        site.kubectl("delete", "namespace", *names, "--wait")


def bad_samples() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Policy, case and object of every sample that is to be refused as a new object.

    Updates, and debuggers' containers, which come to a running pod only, are `gator verify`'s.
    """
    found = []
    for name in NAMES:
        suite = yaml.safe_load((POLICIES / name / "suite.yaml").read_text(encoding="utf-8"))
        for case in suite["tests"][0]["cases"]:
            content = yaml.safe_load((POLICIES / name / case["object"]).read_text(encoding="utf-8"))
            new = "request" not in content and "ephemeralContainers" not in content.get("spec", {})
            if new and case["assertions"][0]["violations"]:
                found.append((name, case, content))
    return found


def inventory(name: str, case: dict[str, Any]) -> list[dict[str, Any]]:
    """What a case wants to find at the cluster besides; the namespaces are there."""
    documents = (yaml.safe_load((POLICIES / name / path).read_text("utf-8")) for path in case.get("inventory", []))
    return [one for one in documents if one["kind"] != "Namespace"]


def test_the_platform_is_ready_and_every_constraint_enforced(platform: Stack, site: Site) -> None:
    for namespace in PLATFORM:
        pods = site.items("pods", namespace)
        assert pods
        assert all(ready(pod) for pod in pods)

    def enforced() -> bool:
        found = json.loads(site.kubectl("get", "constraints", "-o", "json"))["items"]
        reports = [pod for one in found for pod in one.get("status", {}).get("byPod", [])]
        return len(found) == len(NAMES) == len(reports) and all(pod.get("enforced") for pod in reports)

    until("every constraint enforced", 60, enforced)
    platform.run("preview", "--expect-no-changes")


@pytest.mark.full
@pytest.mark.usefixtures("open_namespaces")
class TestSamples:
    @pytest.mark.parametrize("name", NAMES)
    def test_gatekeeper_refuses_every_bad_one(self, site: Site, name: str) -> None:
        """By itself: what is built into the API server refuses first, so it is taken out meanwhile."""
        cases = [(case, content) for policy, case, content in bad_samples() if policy == name]
        assert cases
        built_in = (POLICIES / "admission" / f"{name}.yaml").is_file()
        if built_in:
            until("its own policy in force", 30, lambda: its_own_refuses(site, cases[0][1]))
        with without_built_in(site):
            for case, content in cases:
                refused_by_gatekeeper(site, name, case, content)
        if built_in:
            until("its own policy back", 30, lambda: its_own_refuses(site, cases[0][1]))


def its_own_refuses(site: Site, content: dict[str, Any]) -> bool:
    """What is built into the API server; it takes a moment to see a binding that is new, or back from another case."""
    return "ValidatingAdmissionPolicy" in site.refused(content)


@contextmanager
def without_built_in(site: Site) -> Iterator[None]:
    """The bindings of all ValidatingAdmissionPolicies are gone for a while."""
    kind = "validatingadmissionpolicybinding"
    kept = json.loads(site.kubectl("get", kind, "-o", "json"))["items"]
    names = [one["metadata"]["name"] for one in kept]
    assert names
    site.kubectl("delete", kind, *names)
    try:
        yield
    finally:
        for one in kept:
            one["metadata"] = {key: one["metadata"][key] for key in ("name", "labels")}
        site.apply(*kept)


def refused_by_gatekeeper(site: Site, name: str, case: dict[str, Any], content: dict[str, Any]) -> None:
    (message,) = (one["message"] for one in case["assertions"][1:2])
    besides = inventory(name, case)
    if besides:
        site.apply(*besides)

    def refused() -> bool:
        # Each finding is a line of its own after the name of the constraint.
        said = site.refused(content)
        return any(re.search(message, line.partition(f"[{name}] ")[2]) for line in said.splitlines())

    try:
        until(f"{case['name']}: {message}", 20, refused)
    finally:
        for one in besides:
            metadata = one["metadata"]
            site.kubectl("delete", one["kind"], metadata["name"], "-n", metadata["namespace"])


@pytest.mark.parametrize("group", GROUPS)
def test_systems_come_up_and_go_without_a_trace(platform: Stack, site: Site, group: str) -> None:
    """Together: most of the time is waiting for pods."""
    stacks = [Stack.of(site, system) for system in GROUPS[group]]
    before = site.namespaces()
    with ThreadPoolExecutor(len(stacks)) as pool:
        try:
            list(pool.map(Stack.up, stacks))
            for system in GROUPS[group]:
                is_ready(site, system)
                its_servers_answer(site, system)
            list(pool.map(lambda stack: stack.run("preview", "--expect-no-changes"), stacks))
        finally:
            list(pool.map(Stack.destroy, stacks))
    assert site.namespaces() <= before | {"edgefleet-site"}


def is_ready(site: Site, system: str) -> None:
    """Every pod of a system is Ready, and its service is WebAssembly."""
    pods = [pod for name in site.namespaces() if name.startswith(system) for pod in site.items("pods", name)]
    assert pods
    assert [pod["metadata"]["name"] for pod in pods if not ready(pod)] == []
    services = [pod for pod in pods if pod["metadata"]["labels"]["app.kubernetes.io/name"] == system]
    assert services
    assert {pod["spec"]["runtimeClassName"] for pod in services} == {"wasmedge"}


def its_servers_answer(site: Site, system: str) -> None:
    """What a system declares beside its service is the real thing."""
    industry = load_industries()[system]
    wanted = industry.back_ends
    if wanted.redis:
        back_ends.redis(site, system)
    if wanted.rabbitmq:
        back_ends.rabbitmq(site, system)
    if wanted.mosquitto:
        back_ends.mosquitto(site, system, industry.expose[0].node_port)
    if wanted.turn:
        assert back_ends.stun(site.host.address, wanted.turn.port)


def test_the_platform_goes_without_a_trace(platform: Stack, site: Site) -> None:
    platform.destroy()
    assert not set(PLATFORM) & site.namespaces()
    kinds = "crd,clusterrole,clusterrolebinding,validatingwebhookconfiguration"
    # Kinds that Gatekeeper made of templates go after them.
    until("nothing left of Gatekeeper", 60, lambda: "gatekeeper" not in site.kubectl("get", kinds, "-o", "name"))
    assert "edgefleet" not in site.kubectl("get", "validatingadmissionpolicy", "-o", "name")

    def disks() -> set[str]:
        volumes = json.loads(site.kubectl("get", "pv", "-o", "json"))["items"]
        return {one["spec"]["claimRef"]["namespace"] for one in volumes}

    until("no disk left", 60, lambda: not disks() & set(PLATFORM))
