"""A system put on a cluster by the real Pulumi CLI and its Kubernetes provider, and taken off again."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from edgefleet_pulumi.model import load_industries
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import until
from tests.integration.pulumi_site import Site, Stack, kill_session, ready, site_of

pytestmark = [pytest.mark.lab, pytest.mark.full]
SYSTEM = "learning-management-system"
INDUSTRY = load_industries()[SYSTEM]


@pytest.fixture(scope="module")
def site(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(lab, host, tmp_path_factory.mktemp("pulumi"))


@pytest.fixture(scope="module")
def said() -> list[str]:
    """All that Pulumi has printed."""
    return []


@pytest.fixture(scope="module")
def stack(site: Site, said: list[str]) -> Iterator[Stack]:
    made = Stack.of(site, SYSTEM)
    try:
        said.append(made.up())
        yield made
    finally:
        made.run("destroy", "--yes", "--skip-preview", check=False)


def ask(site: Site, path: str) -> dict[str, Any]:
    """As a device of the site's network would: by the node port, trusting the site's CA alone."""
    authority = site.secrets(SYSTEM)[f"{SYSTEM}-tls", "ca.crt"]
    context = ssl.create_default_context(cadata=authority)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    url = f"https://{site.host.address}:{INDUSTRY.expose[0].node_port}{path}"
    with opener.open(url, timeout=10) as answer:
        document: dict[str, Any] = json.load(answer)
        return document


def test_its_pods_are_ready_and_the_service_runs_as_wasm(stack: Stack, site: Site) -> None:
    pods = site.items("pods", SYSTEM)
    assert {pod["metadata"]["name"] for pod in pods} == {"redis-0", f"{SYSTEM}-0"}
    assert all(ready(pod) for pod in pods)
    service = next(pod for pod in pods if pod["metadata"]["name"] == f"{SYSTEM}-0")
    assert service["spec"]["runtimeClassName"] == "wasmedge"
    assert {container["name"] for container in service["spec"]["containers"]} == {"service", "opa", "tls-http"}


def test_it_answers_the_sites_network_encrypted_and_says_whom_it_stands_in_for(stack: Stack, site: Site) -> None:
    nonce = secrets.token_hex(8)
    answer = ask(site, f"/?nonce={nonce}")
    assert answer["nonce"] == nonce
    assert answer["system"] == SYSTEM
    assert answer["skeleton"] is True
    assert answer["platform"].startswith("wasm")


def test_nothing_is_to_be_done_a_second_time(stack: Stack, said: list[str]) -> None:
    said.append(stack.run("preview", "--expect-no-changes").stdout)


def test_secrets_are_at_the_site_alone_and_stay_as_they_are(stack: Stack, site: Site, said: list[str]) -> None:
    before = site.secrets(SYSTEM)
    assert len(before["redis", "password"]) == 40
    said.append(stack.up())
    assert site.secrets(SYSTEM) == before
    everything = stack.state() + "".join(said)
    assert "site-secrets" in everything, "the state was looked at"
    assert [key for key, value in before.items() if value in everything] == []


def test_a_secret_that_is_gone_is_made_again(stack: Stack, site: Site) -> None:
    before = site.secrets(SYSTEM)["redis", "password"]
    site.kubectl("delete", "secret", "redis", "-n", SYSTEM)
    stack.up()
    after = site.secrets(SYSTEM)
    assert after["redis", "password"] != before
    assert after["redis", "auth.conf"] == f"requirepass {after['redis', 'password']}\n"


def test_a_second_writer_is_refused(stack: Stack, site: Site) -> None:
    """A pod with everything right, but for whose disk it wants."""
    pod = next(pod for pod in site.items("pods", SYSTEM) if pod["metadata"]["name"] == f"{SYSTEM}-0")
    spec = {key: pod["spec"][key] for key in ("runtimeClassName", "nodeSelector", "securityContext", "volumes")}
    spec |= {"containers": [{**pod["spec"]["containers"][0]}], "automountServiceAccountToken": False}
    name = "second-writer"
    site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": SYSTEM}, "spec": spec})

    def refused() -> bool:
        found = next(pod for pod in site.items("pods", SYSTEM) if pod["metadata"]["name"] == name)
        reasons = [entry.get("message", "") for entry in found["status"].get("conditions", [])]
        return any("ReadWriteOncePod" in reason for reason in reasons)

    try:
        until("the second writer refused", 30, refused)
    finally:
        site.kubectl("delete", "pod", name, "-n", SYSTEM, "--now")


def test_a_wrong_passphrase_loses_nothing(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    wrong = tmp_path_factory.mktemp("wrong") / "passphrase"
    wrong.write_text("wrong", encoding="utf-8")
    before = stack.run("stack", "export").stdout
    refused = stack.run("preview", check=False, environment={"PULUMI_CONFIG_PASSPHRASE_FILE": str(wrong)})
    assert refused.returncode != 0
    assert "incorrect passphrase" in refused.stdout
    assert stack.run("stack", "export").stdout == before


# Where, which key, the wrong value, and what is said.
WRONG = {
    "unknown key": ("stack", "replcas", 3, r"Pulumi\.dev\.yaml: learning-management-system:site: replcas: no such key"),
    "impossible budget": (
        "industry",
        "service.resources",
        {"requests": {"cpu": "200m", "memory": "7Gi"}, "limits": {"cpu": "1000m", "memory": "7Gi"}},
        r"the node is too small by \d+Mi memory: deploy fewer systems or pods, lower their requests",
    ),
    "wrong unit": (
        "industry",
        "slo.latency.p50",
        "0.03 minutes",
        r"industries/learning-management-system/industry\.yml: slo\.latency\.p50: .*'0\.03 minutes'",
    ),
    "missing image": (
        "stack",
        "environment",
        "staging",
        r"site\.images: staging runs images by digest, and some are missing",
    ),
}


def put(document: dict[str, Any], key: str, value: object) -> None:
    *way, last = key.split(".")
    for part in way:
        document = document[part]
    document[last] = value


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_once_and_costs_nothing(
    stack: Stack, site: Site, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The declaration and the package come out of a copy, the stack's file is put right afterwards."""
    where, key, value, sentence = WRONG[name]
    copy = tmp_path_factory.mktemp("wrong")
    for part in ("industries", "pulumi", "roles/k3s"):
        shutil.copytree(CHECKOUT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "bundle"))
    declaration, file = copy / "industries" / SYSTEM / "industry.yml", stack.folder / "Pulumi.dev.yaml"
    kept = file.read_text("utf-8")
    settings, industry = yaml.safe_load(kept), yaml.safe_load(declaration.read_text("utf-8"))
    put(industry if where == "industry" else settings["config"][f"{SYSTEM}:site"], key, value)
    before = stack.run("stack", "export").stdout
    try:
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        declaration.write_text(yaml.safe_dump(industry), encoding="utf-8")
        refused = stack.run("up", "--yes", check=False, environment={"PYTHONPATH": str(copy / "pulumi")})
    finally:
        file.write_text(kept, encoding="utf-8")
    assert refused.returncode != 0
    # The CLI shows it as it happens, and again in its summary.
    summary = refused.stdout.partition("Diagnostics:")[2]
    assert len(re.findall(sentence, summary)) == 1, refused.stdout
    assert "Traceback" not in refused.stdout
    assert stack.run("stack", "export").stdout == before
    stack.run("preview", "--expect-no-changes")


def rotate(site: Site, stack: Stack, step: str) -> str:
    """One step of the rotation of the site's authority, brought to the system; what a device is to trust after it."""
    command = [sys.executable, "-m", "edgefleet_pulumi.cluster.authority", step]
    environment = {**os.environ, "KUBECONFIG": str(site.kubeconfig)}
    subprocess.run(command, env=environment, check=True, timeout=60)
    stack.up()
    return site.secrets(SYSTEM)[f"{SYSTEM}-tls", "ca.crt"]


def test_another_authority_is_served_without_a_restart_and_cuts_no_device_off(stack: Stack, site: Site) -> None:
    before, pods = site.secrets(SYSTEM)[f"{SYSTEM}-tls", "ca.crt"], [pod["metadata"]["uid"] for pod in service(site)]
    served = certificate(site, before)
    both = rotate(site, stack, "announce")
    assert before in both
    assert certificate(site, before) == served, "nothing is signed with the new one yet"
    rotate(site, stack, "switch")
    # The kubelet carries it into the pod, and the server reads it again every five minutes.
    until("a certificate of the new authority", 480, lambda: certificate(site, both) != served)
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate(site, before)
    after = rotate(site, stack, "finish")
    assert before not in after
    certificate(site, after)
    assert [pod["metadata"]["uid"] for pod in service(site)] == pods


def service(site: Site) -> list[dict[str, Any]]:
    return [pod for pod in site.items("pods", SYSTEM) if pod["metadata"]["name"] == f"{SYSTEM}-0"]


def certificate(site: Site, trusted: str) -> str:
    """The certificate that a device is shown, once it has found it good."""
    context = ssl.create_default_context(cadata=trusted)
    address = (site.host.address, INDUSTRY.expose[0].node_port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=site.host.address) as secured,
    ):
        return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")


def test_a_cluster_out_of_reach_is_named(stack: Stack, site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    away = tmp_path_factory.mktemp("away") / "kubeconfig"
    content = site.kubeconfig.read_text(encoding="utf-8")
    away.write_text(content.replace(f"{site.host.address}:6443", "127.0.0.1:1"), encoding="utf-8")
    refused = stack.run("up", "--yes", "--skip-preview", check=False, environment={"KUBECONFIG": str(away)})
    assert refused.returncode != 0
    assert "https://127.0.0.1:1 can't be reached" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert stack.run("preview", "--expect-no-changes").returncode == 0


def test_destroy_leaves_nothing(stack: Stack, site: Site) -> None:
    stack.destroy()
    assert SYSTEM not in site.namespaces()
    until("its disks gone", 60, lambda: not json.loads(site.kubectl("get", "pv", "-o", "json"))["items"])


def test_a_killed_run_is_finished_by_the_next(stack: Stack, site: Site, said: list[str]) -> None:
    """Killed while it makes things: it leaves a lock behind, and a state that knows less than there is."""
    with stack.begin("up", "--yes", "--skip-preview") as running:
        until("its namespace made", 60, lambda: SYSTEM in site.namespaces())
        kill_session(running.pid)
    locked = stack.run("up", "--yes", "--skip-preview", check=False)
    assert locked.returncode != 0
    assert "pulumi cancel" in locked.stdout
    stack.run("cancel", "--yes")
    said.append(stack.up())
    assert all(ready(pod) for pod in site.items("pods", SYSTEM))
    stack.run("preview", "--expect-no-changes")
