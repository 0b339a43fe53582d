"""The monitoring of a site on a cluster: everything is asked, every dashboard has something to show, somebody is told.

The hub is on this machine: a receiver of alerts, and Debian's Prometheus as receiver of metrics.
"""

from __future__ import annotations

import ipaddress
import json
import runpy
import secrets
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgefleet_pulumi.model import load_industries
from edgefleet_pulumi.monitoring import dashboards
from edgefleet_pulumi.site_platform import Platform
from lab.builders import promtool
from lab.hosts import Host
from lab.progress import Progress
from lab.session import Lab
from tests.integration.hosts import no_way_out, until
from tests.integration.packet_filter import dropping
from tests.integration.pulumi_site import PROJECTS, Site, ready, site_of
from tests.integration.put import put

pytestmark = pytest.mark.lab
SYSTEM = "examination-system"
INDUSTRY = load_industries()[SYSTEM]
NAMESPACE = "edgefleet-monitoring"
JOBS = {SYSTEM, f"{SYSTEM}-opa", f"{SYSTEM}-tls-http"}
JOBS |= {"kubelet", "cadvisor", "node", "prometheus", "alertmanager"}
ALERTS_PORT, METRICS_PORT = 19094, 19095
OFFLINE_SECONDS = 600
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Hub:
    """What a site sends to, as the site sees it."""

    address: str
    token: str
    alerts: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def settings(self) -> dict[str, str]:
        return {
            "alerts": f"http://{self.address}:{ALERTS_PORT}/alerts",
            "remote_write": f"http://{self.address}:{METRICS_PORT}/api/v1/write",
        }

    def got(self, name: str) -> list[dict[str, Any]]:
        return [alert for alert in self.alerts if alert["labels"]["alertname"] == name]

    def ask(self, path: str, **asked: str) -> list[dict[str, Any]]:
        """The hub's Prometheus."""
        url = f"http://{self.address}:{METRICS_PORT}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with OPENER.open(url, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found


@contextmanager
def receiving(hub: Hub) -> Iterator[None]:
    """Takes what Alertmanager sends, from those who know the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.headers["Authorization"] == f"Bearer {hub.token}"
            if known:
                hub.alerts.extend(json.loads(body)["alerts"])
            else:
                hub.refused.append(self.path)
            self.send_response(200 if known else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((hub.address, ALERTS_PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def storing(hub: Hub, lab: Lab, folder: Path) -> Iterator[None]:
    """Prometheus at the hub."""
    (folder / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
    tool = promtool.ensure(lab.paths.cache, Progress())
    words = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={hub.address}:{METRICS_PORT}",
        "--web.enable-remote-write-receiver",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        running = subprocess.Popen(tool.command("prometheus", *words), stdout=log, stderr=log)
    try:
        yield
    finally:
        running.terminate()
        running.wait(timeout=30)


@pytest.fixture(scope="module")
def site(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(lab, host, tmp_path_factory.mktemp("pulumi"))


@pytest.fixture(scope="module")
def hub(lab: Lab, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    network = ipaddress.ip_network(f"{host.address}/24", strict=False)
    made = Hub(str(network[1]), secrets.token_hex(20))
    with receiving(made), storing(made, lab, tmp_path_factory.mktemp("hub")):
        yield made


@pytest.fixture(scope="module")
def watched(site: Site, hub: Hub) -> Iterator[Site]:
    """A site with one system and its monitoring, which somebody uses all the time."""
    stop = threading.Event()
    main = PROJECTS / SYSTEM / "__main__.py"
    with (
        put(site, "platform", lambda: Platform().monitoring(), systems=[SYSTEM], hub=hub.settings()),
        put(site, SYSTEM, lambda: runpy.run_path(str(main), run_name="__main__")),
    ):
        site.kubectl("create", "secret", "generic", "hub", "-n", NAMESPACE, f"--from-literal=token={hub.token}")
        until(
            "all pods ready", 400, lambda: all(ready(pod) for space in (NAMESPACE, SYSTEM) for pod in some(site, space))
        )
        threading.Thread(target=use, args=(site, stop), daemon=True).start()
        try:
            yield site
        finally:
            stop.set()


def some(site: Site, namespace: str) -> list[dict[str, Any]]:
    """Its pods, of which there are some."""
    found = site.items("pods", namespace)
    assert found, f"no pod in {namespace}"
    return found


def use(site: Site, stop: threading.Event) -> None:
    """Ten requests a second, by the node port and the site's authority."""
    authority = site.secrets(SYSTEM)[f"{SYSTEM}-tls", "ca.crt"]
    context = ssl.create_default_context(cadata=authority)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    url = f"https://{site.host.address}:{INDUSTRY.expose[0].node_port}/work?n=15"
    while not stop.wait(0.1):
        try:
            opener.open(url, timeout=5).close()
        except OSError:
            continue  # it is gone for a while: that is what some tests are about


def ask(site: Site, query: str) -> list[dict[str, Any]]:
    """The site's Prometheus, through the cluster's API."""
    path = f"/api/v1/namespaces/{NAMESPACE}/services/prometheus:9090/proxy/api/v1/query"
    said = json.loads(site.kubectl("get", "--raw", f"{path}?{urllib.parse.urlencode({'query': query})}"))
    assert said["status"] == "success", said
    found: list[dict[str, Any]] = said["data"]["result"]
    return found


def test_everything_is_asked_and_answers(watched: Site) -> None:
    def answers() -> bool:
        found = ask(watched, "up")
        return {one["metric"]["job"] for one in found} == JOBS and all(one["value"][1] == "1" for one in found)

    try:
        until("every target up", 120, answers)
    except AssertionError:
        states = [(one["metric"]["job"], one["value"][1]) for one in ask(watched, "up")]
        raise AssertionError(f"targets: {states}") from None


def test_every_query_of_every_dashboard_has_series(watched: Site) -> None:
    texts = dashboards.files([INDUSTRY], sends=True).values()
    asked = {query.replace("$__rate_interval", "1m") for text in texts for _, query in dashboards.queries(text, SYSTEM)}
    assert len(asked) > 30
    empty = set(asked)

    def all_have() -> bool:
        empty.intersection_update({query for query in empty if not ask(watched, query)})
        return not empty

    try:
        until("every query answered", 180, all_have)
    except AssertionError:
        raise AssertionError(f"no series for {sorted(empty)}") from None
    # A query that has no series is seen: the metric is dropped when it is read.
    assert not ask(watched, "go_goroutines")


def test_users_are_counted_and_the_budget_is_whole(watched: Site) -> None:
    def served() -> bool:
        (rate,) = ask(watched, f'sum(rate(edgefleet_requests_total{{system="{SYSTEM}",code="200"}}[1m]))')
        return 2 < float(rate["value"][1]) < 12

    until("the requests counted", 90, served)
    (errors,) = ask(watched, f'slo:errors:ratio_rate5m{{system="{SYSTEM}",slo="latency-p999"}}')
    assert 0 <= float(errors["value"][1]) < 1


def test_an_alert_and_metrics_reach_the_hub(watched: Site, hub: Hub) -> None:
    until("the watchdog at the receiver", 120, lambda: bool(hub.got("Watchdog")))
    (node,) = {alert["labels"]["site"] for alert in hub.got("Watchdog")}
    until("metrics at the hub", 60, lambda: bool(hub.ask("query", query=f'node:cpu_used:ratio{{site="{node}"}}')))
    assert not hub.ask("query", query="container_memory_working_set_bytes"), "raw series stay at the site"


@contextmanager
def offline(site: Site) -> Iterator[None]:
    """Nothing gets from the host to the hub, nor anywhere else."""
    ports = (ALERTS_PORT, METRICS_PORT)
    rules = (["INPUT", "-s", site.host.address, "-p", "tcp", "--dport", str(port)] for port in ports)
    with dropping(*rules), no_way_out(site.host):
        yield


@pytest.mark.full
def test_after_ten_minutes_offline_what_happened_arrives_late(watched: Site, hub: Hub) -> None:
    until("the hub reached", 120, lambda: bool(hub.got("Watchdog")) and bool(hub.ask("query", query="up")))
    with offline(watched):
        began = time.time()
        watched.kubectl("scale", "statefulset", SYSTEM, "-n", SYSTEM, "--replicas=0")
        firing = f'ALERTS{{alertname="ServiceGone",alertstate="firing",system="{SYSTEM}"}}'
        until("the alert fires at the site", 240, lambda: bool(ask(watched, firing)))
        time.sleep(max(0.0, began + OFFLINE_SECONDS - time.time()))
        assert not hub.got("ServiceGone")
        assert not hub.ask("query_range", query=firing, start=str(began + 30), end=str(time.time()), step="15")
    took = until("the alert at the receiver", 240, lambda: bool(hub.got("ServiceGone")))
    alert = hub.got("ServiceGone")[0]
    late = time.time() - datetime.fromisoformat(alert["startsAt"]).timestamp()
    print(f"the alert came {took:.0f} s after the network, {late:.0f} s after it began")
    assert alert["status"] == "firing"
    assert late > OFFLINE_SECONDS - 240

    def caught_up() -> bool:
        found = hub.ask("query_range", query=firing, start=str(began), end=str(began + OFFLINE_SECONDS), step="15")
        return bool(found) and len(found[0]["values"]) > 15

    until("the metrics of that time at the hub", 240, caught_up)
    watched.kubectl("scale", "statefulset", SYSTEM, "-n", SYSTEM, "--replicas=1")
    until("its end at the receiver", 300, lambda: any(a["status"] == "resolved" for a in hub.got("ServiceGone")))
