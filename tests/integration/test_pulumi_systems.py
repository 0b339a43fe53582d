"""Every other system and the platform on a cluster: up, ready, nothing to be done, gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.pulumi_site import Site, Stack, give_disks, site_of, take_disks
from tests.integration.test_pulumi import ready

NAMESPACES = {
    "digital-government-service": ["digital-government-service"],
    "examination-system": ["examination-system"],
    "iot-data-processor": ["iot-data-processor"],
    "platform": ["edgefleet-monitoring"],
    "telemedicine-service": ["telemedicine-service", "telemedicine-service-turn"],
}


@pytest.fixture(scope="module")
def site(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(lab, host, tmp_path_factory.mktemp("pulumi"))


@pytest.fixture
def disks(site: Site) -> Iterator[None]:
    give_disks(site)
    yield
    take_disks(site)


@pytest.mark.lab
@pytest.mark.full
@pytest.mark.parametrize("project", NAMESPACES)
@pytest.mark.usefixtures("disks")
def test_it_comes_up_and_goes_without_a_trace(site: Site, project: str) -> None:
    stack = Stack.of(site, project)
    try:
        stack.up()
        for namespace in NAMESPACES[project]:
            pods = site.items("pods", namespace)
            assert pods
            assert all(ready(pod) for pod in pods)
        stack.run("preview", "--expect-no-changes")
    finally:
        stack.run("destroy", "--yes", "--skip-preview")
    left = site.kubectl("get", "namespaces", "-o", "name").split()
    assert not {f"namespace/{namespace}" for namespace in NAMESPACES[project]} & set(left)
    assert json.loads(stack.run("stack", "export").stdout)["deployment"].get("resources") in ([], None)
