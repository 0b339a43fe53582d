"""Gatekeeper that is not there: a site boots without it and without a network, and what must hold still holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from edgefleet_pulumi.model import load_industries
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import ask, no_way_out, shell, until
from tests.integration.pulumi_site import Site, Stack, ready, site_of
from tests.integration.test_site_life import node_is_ready

pytestmark = [pytest.mark.lab, pytest.mark.full]
SYSTEM = "learning-management-system"
SPACE, JUDGED = "made-meanwhile", "made-before"
POLICIES = CHECKOUT / "policies"


@pytest.fixture(scope="module")
def site(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(lab, host, tmp_path_factory.mktemp("pulumi"))


@pytest.fixture(scope="module")
def stacks(site: Site) -> Iterator[list[Stack]]:
    found = [Stack.of(site, name) for name in ("platform", SYSTEM)]
    try:
        for one in found:
            one.up()
        site.open_namespace(JUDGED)
        yield found
    finally:
        site.kubectl("delete", "namespace", JUDGED, "--ignore-not-found")
        for one in reversed(found):
            one.run("destroy", "--yes", "--skip-preview", check=False)


def sample(path: str) -> dict[str, Any]:
    """A sample in the namespace that is made meanwhile."""
    content: dict[str, Any] = yaml.safe_load((POLICIES / path).read_text("utf-8"))
    content["metadata"]["namespace"] = SPACE
    return content


def gatekeeper(site: Site) -> dict[str, Any]:
    """Its pod; beside one that is being ended stands its successor."""
    (pod,) = (one for one in site.items("pods", "gatekeeper-system") if "deletionTimestamp" not in one["metadata"])
    return pod


def serves(site: Site) -> bool:
    """The system's pods are Ready, and something answers at its node port."""
    pods = site.items("pods", SYSTEM)
    port = load_industries()[SYSTEM].expose[0].node_port
    question = ["curl", "-sk", "-m", "5", "-o", "/dev/null", f"https://{site.host.address}:{port}/readyz"]
    return len(pods) == 2 and all(ready(pod) for pod in pods) and site.lab.hosts.exec(site.host.name, question)[0] == 0


def test_a_site_whose_gatekeeper_has_no_image_serves_after_a_power_cut_without_network(
    stacks: list[Stack], site: Site, lab: Lab, host: Host
) -> None:
    image = site.references["gatekeeper"]
    assert "[required-resources]" in until_judged(site), "it judges while it is there"
    shell(lab.hosts, host, f"ctr -n k8s.io images rm --sync {image}")
    with no_way_out(host):
        lab.hosts.reboot(host.name, power_cut=True)
        until("node Ready", 180, lambda: node_is_ready(lab, host))
        until("the system serves", 180, lambda: serves(site))
        until("the workload answers", 60, lambda: bool(ask(lab.hosts, host)))
        assert not ready(gatekeeper(site))
        try:
            site.open_namespace(SPACE)
            assert site.refused(sample("required-resources/samples/none_at_all.yaml")) == "", "nobody judges it"
            built_in = site.refused(sample("no-host-access/samples/host_path.yaml"))
            assert "hostPath is not allowed" in built_in, "the API server does"
        finally:
            site.kubectl("delete", "namespace", SPACE, "--ignore-not-found")


def until_judged(site: Site) -> str:
    """What Gatekeeper says to a pod without requests, once it has all its policies."""
    pod = sample("required-resources/samples/none_at_all.yaml")
    pod["metadata"]["namespace"] = JUDGED
    said: list[str] = []

    def judged() -> bool:
        said.append(site.refused(pod))
        return "[required-resources]" in said[-1]

    until("a pod refused by Gatekeeper", 60, judged)
    return said[-1]


def test_it_judges_again_when_its_image_is_back(
    stacks: list[Stack], site: Site, lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site_of(lab, host, tmp_path_factory.mktemp("again"))
    shell(lab.hosts, host, "k3s kubectl delete pod -n gatekeeper-system --all --wait=false")

    def one_is_ready() -> bool:
        # Between the two there may be none.
        return len(site.items("pods", "gatekeeper-system")) == 1 and ready(gatekeeper(site))

    until("Gatekeeper Ready", 120, one_is_ready)
    assert "[required-resources]" in until_judged(site)
    for stack in stacks:
        stack.run("preview", "--expect-no-changes")


def test_pods_start_after_a_power_cut_with_the_disk_above_the_threshold(
    stacks: list[Stack], site: Site, lab: Lab, host: Host
) -> None:
    """The kubelet's threshold is set below what the disk holds, so that it collects all that it may."""
    used = int(shell(lab.hosts, host, "df --output=pcent /var/lib/containerd | tail -1").strip(" %\n"))
    assert used > 3, f"{used} % of the disk is used: too little for a threshold below it"
    drop_in = "/etc/rancher/k3s/config.yaml.d/99-threshold.yaml"
    low, high = used - 2, used - 1
    lines = [
        "kubelet-arg+:",
        f"  - image-gc-high-threshold={high}",
        f"  - image-gc-low-threshold={low}",
        "  - minimum-image-ttl-duration=1s",
    ]
    victim = "registry.example.com/not-pinned:1"
    shell(lab.hosts, host, f"ctr -n k8s.io images tag --force {site.references['opa']} {victim}")
    before = set(shell(lab.hosts, host, "ctr -n k8s.io images ls -q").split())
    shell(lab.hosts, host, f"mkdir -p {PurePosixPath(drop_in).parent}")
    shell(lab.hosts, host, "printf '%s\\n' " + " ".join(f"'{line}'" for line in lines) + f" > {drop_in}")
    try:
        with no_way_out(host):
            lab.hosts.reboot(host.name, power_cut=True)
            until("node Ready", 180, lambda: node_is_ready(lab, host))
            until("the system serves", 180, lambda: serves(site))
            until("the workload answers", 60, lambda: bool(ask(lab.hosts, host)))
            said = shell(
                lab.hosts, host, "journalctl -u k3s -b --no-pager | grep -ic 'image garbage\\|over the high' || true"
            )
        after = set(shell(lab.hosts, host, "ctr -n k8s.io images ls -q").split())
        assert int(said) > 0, "the kubelet did not collect: this test would prove nothing"
        assert {name for name in before - after if "sha256:" not in name} <= {victim}
    finally:
        shell(lab.hosts, host, f"rm -f {drop_in}; systemctl restart k3s; ctr -n k8s.io images rm {victim} || true")
        until("node Ready", 120, lambda: node_is_ready(lab, host))
    assert json.loads(site.kubectl("get", "nodes", "-o", "json"))["items"]
