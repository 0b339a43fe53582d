"""Asking the Wasm workload from outside its host, as a device on the site's network would."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from lab.errors import LabError
from lab.hosts import Executes, Host
from lab.progress import Step

NAMESPACE = "edgefleet-skeleton"
SECONDS = 30.0


def port(hosts: Executes, host: Host) -> int:
    """The node port of the workload's Service, as the cluster itself tells it."""
    code, out = hosts.exec(host.name, ["k3s", "kubectl", "get", "services", "-n", NAMESPACE, "-o", "json"])
    services = json.loads(out)["items"] if code == 0 else []
    ports = [port["nodePort"] for service in services for port in service["spec"]["ports"] if "nodePort" in port]
    if not ports:
        raise LabError(
            f"{host.name}: no Service with a node port in namespace {NAMESPACE}. Did `edgefleet.wasm.deploy` end well?"
        )
    return int(ports[0])


def node(hosts: Executes, host: Host) -> str:
    """The address that answers: of a node with a pod, since none passes requests on to another (Service's manifest)."""
    code, out = hosts.exec(host.name, ["k3s", "kubectl", "get", "pods", "-n", NAMESPACE, "-o", "json"])
    pods = json.loads(out)["items"] if code == 0 else []
    running = [pod["status"]["hostIP"] for pod in pods if pod["status"]["phase"] == "Running"]
    return running[0] if running else host.address


def address(hosts: Executes, host: Host) -> str:
    """The URL that answers from outside, with a nonce to be put behind it. The cluster's API must be up to tell it."""
    number = port(hosts, host)
    return f"http://{node(hosts, host)}:{number}/?nonce="


def fetch(url: str) -> str:
    """One request, past any proxy: the address is on this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        return str(answer.read().decode(errors="replace"))


def ask(hosts: Executes, host: Host, step: Step, fetch: Callable[[str], str] = fetch) -> str:
    """The workload's answer, checked: it carries our nonce and says that it runs as WebAssembly."""
    nonce = f"{time.time_ns():x}"
    url, said = address(hosts, host) + nonce, ""
    step.update(url)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            said = fetch(url)
            document: dict[str, Any] = json.loads(said)
        except (OSError, ValueError) as error:
            said = f"{said or error}"
            time.sleep(0.5)
            continue
        if document.get("nonce") != nonce or not str(document.get("platform", "")).startswith("wasm"):
            raise LabError(f"{url} answers, but not as our WebAssembly workload does: {said[:300]}")
        return f"{url.partition('?')[0]} -> {said.strip()[:200]}"
    raise LabError(f"{url} gave no answer within {SECONDS:.0f} s from outside the host; last: {said[:300]}")
