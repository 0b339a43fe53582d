"""Data that stays local, layer by layer: each is tried alone by a probe that gets out where no layer is left."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import playbook, until
from tests.integration.pulumi_site import Site, Stack, site_of

pytestmark = [pytest.mark.lab, pytest.mark.full]
SYSTEM = "iot-data-processor"
# An address that belongs to no site: for documentation (RFC 5737), here on this machine.
OUTSIDE, PORT = "203.0.113.77", 8099
HARDENING = str(CHECKOUT / "tests/integration/playbooks/hardening.yml")
GENERATED = CHECKOUT / f"inventories/{SYSTEM}/group_vars/edge/generated.yml"
POLICIES = CHECKOUT / "policies/local-data-egress/samples"


class Answer(BaseHTTPRequestHandler):
    """Takes what comes."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """Somebody outside of the site, who listens on all of this machine's addresses."""
    subprocess.run(["ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo"], check=True)
    server = ThreadingHTTPServer(("", PORT), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{OUTSIDE}:{PORT}/"
    finally:
        server.shutdown()
        subprocess.run(["ip", "address", "del", f"{OUTSIDE}/32", "dev", "lo"], check=True)


@pytest.fixture(scope="module")
def site(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(lab, host, tmp_path_factory.mktemp("pulumi"))


@pytest.fixture(scope="module")
def stack(site: Site) -> Iterator[Stack]:
    """The platform, and the system on it."""
    stacks = [Stack.of(site, "platform"), Stack.of(site, SYSTEM)]
    try:
        for one in stacks:
            one.up()
        yield stacks[1]
    finally:
        for one in reversed(stacks):
            one.run("destroy", "--yes", "--skip-preview", check=False)


def gets_out(site: Site, url: str) -> bool:
    """Whether the service's pod reaches an address."""
    code, _ = site.in_pod(SYSTEM, SYSTEM, f"curl --silent --max-time 3 --output /dev/null {url}")
    return code == 0


def gateway(site: Site) -> str:
    """An address of the site's network that listens: this machine's, as the host's router."""
    code, out = site.lab.hosts.exec(site.host.name, ["ip", "-json", "route", "show", "default"])
    assert code == 0, out
    return f"http://{json.loads(out)[0]['gateway']}:{PORT}/"


@pytest.fixture
def without_policies(stack: Stack, site: Site) -> Iterator[None]:
    """The namespace as somebody leaves it who deletes its NetworkPolicies by hand; put right by Pulumi."""
    site.kubectl("delete", "networkpolicy", "--all", "-n", SYSTEM)
    yield
    stack.run("up", "--yes", "--skip-preview", "--refresh")


def test_network_policies_keep_it_in(stack: Stack, site: Site, outside: str) -> None:
    assert not gets_out(site, outside)
    assert gets_out(site, gateway(site)), "the site's own network is reached"
    broker = (
        "timeout 3 bash -c '</dev/tcp/'$(k3s kubectl get svc mosquitto -n {0} -o jsonpath={{.spec.clusterIP}})/1883"
    )
    assert site.in_pod(SYSTEM, SYSTEM, broker.format(SYSTEM))[0] == 0, "its broker is reached"


@pytest.mark.usefixtures("without_policies")
def test_the_hosts_firewall_keeps_it_in_without_them(lab: Lab, site: Site, outside: str) -> None:
    """With the variables that are generated of the one line in the declaration."""
    until("the probe gets out where no layer is left", 20, lambda: gets_out(site, outside))
    networks = yaml.safe_load(GENERATED.read_text("utf-8"))["hardening_firewall_pods_only_to"]
    try:
        play(lab, hardening_firewall_pods_only_to=networks)
        assert not gets_out(site, outside)
        assert gets_out(site, gateway(site))
        assert site.lab.hosts.exec(site.host.name, ["curl", "-s", "-m", "3", outside])[0] == 0, "the host itself may"
    finally:
        play(lab)
    assert gets_out(site, outside), "it was the firewall"


def play(lab: Lab, **variables: Any) -> None:
    done = playbook(lab.paths, HARDENING, "-e", json.dumps(variables))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.usefixtures("without_policies")
def test_admission_lets_no_pod_in_where_they_are_missing(site: Site) -> None:
    pod = next(pod for pod in site.items("pods", SYSTEM) if pod["metadata"]["name"] == f"{SYSTEM}-0")
    wanted = ("runtimeClassName", "nodeSelector", "securityContext", "volumes")
    spec = {key: pod["spec"][key] for key in wanted} | {"containers": pod["spec"]["containers"][:1]}
    spec["automountServiceAccountToken"] = False
    new = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new", "namespace": SYSTEM}, "spec": spec}
    until("refused", 20, lambda: "no NetworkPolicy there denies all egress" in site.refused(new))


def test_admission_lets_no_policy_open_the_way(stack: Stack, site: Site) -> None:
    policy = yaml.safe_load((POLICIES / "policy_to_anywhere.yaml").read_text("utf-8"))
    policy["metadata"]["namespace"] = SYSTEM
    assert "keeps its data local, and egress[0]" in site.refused(policy)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({"action": "process_data", "data_stays_local": True}, True),
        ({"action": "process_data", "data_stays_local": False}, False),
        ({"action": "export", "destination": "cloud", "data_stays_local": True}, False),
    ],
)
def test_the_decision_point_says_no(stack: Stack, site: Site, asked: dict[str, Any], allowed: bool) -> None:
    """As the service asks it: on the loopback of its own pod."""
    url = "http://127.0.0.1:8181/v1/data/manufacturing/smart/decision"
    code, said = site.in_pod(
        SYSTEM, SYSTEM, f"curl --silent --max-time 3 --data '{json.dumps({'input': asked})}' {url}"
    )
    assert code == 0, said
    assert json.loads(said)["result"] is allowed


def test_nobody_else_reaches_the_decision_point(stack: Stack, site: Site) -> None:
    address = next(pod for pod in site.items("pods", SYSTEM) if pod["metadata"]["name"] == f"{SYSTEM}-0")
    url = f"http://{address['status']['podIP']}:8181/health"
    assert site.in_pod(SYSTEM, "mosquitto", f"curl --silent --max-time 3 {url}")[0] != 0


def test_all_layers_are_back(stack: Stack, site: Site, outside: str) -> None:
    stack.run("preview", "--expect-no-changes")
    until("no way out", 20, lambda: not gets_out(site, outside))
