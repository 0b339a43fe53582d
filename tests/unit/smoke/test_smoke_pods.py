"""Whole pods, with an API server and a kubelet that can be told what to do wrong."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import kube_api, pods, sandboxes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import owner
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.kube_api import Ask, KubeApi
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.pods import Pods
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

from tests.unit.smoke.fake_cri import NOW
from tests.unit.smoke.test_smoke_cri import DEAD, bench

NODE = {"metadata": {"name": "edge1"}, "status": {"addresses": [{"type": "Hostname", "address": "edge1.example"}]}}
OTHER = {"metadata": {"name": "agent1"}, "status": {}}


@dataclass
class FakeCluster:
    """Takes the place of ``KubeApi.ask``."""

    folder: Path
    wasm_ms: float = 70.0
    native_ms: float = 60.0
    silent: bool = False
    says: str = ""
    refuses: str = ""
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        if path == "/api/v1/nodes":
            return {"items": [NODE, OTHER]}
        if "/events" in path:
            return {"items": [{"type": "Warning", "message": self.says}, {"type": "Normal", "message": "Pulled"}]}
        if method == "POST":
            assert body is not None
            return self._post(dict(body))
        name = path.rpartition("/")[2]
        if method == "DELETE":
            return self.pods.pop(name, None)
        if "labelSelector" in path:
            return {"items": list(self.pods.values())}
        return self.pods.get(name)

    def _post(self, pod: dict[str, Any]) -> dict[str, Any]:
        if self.refuses:
            raise SmokeError(self.refuses)
        name, uid = pod["metadata"]["name"], f"uid-{len(self.made)}"
        pod["metadata"]["uid"] = uid
        self.pods[name] = pod
        self.made.append(pod)
        if not self.silent:
            native = "runtimeClassName" not in pod["spec"]
            at = NOW + (self.native_ms if native else self.wasm_ms) / 1000
            log = self.folder / f"kube-system_{name}_{uid}" / "probe" / "0.log"
            log.parent.mkdir(parents=True)
            stamp = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
            log.write_text(f"{stamp} stdout F {pod['spec']['containers'][0]['command'][1]}\n")
        return pod


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "_LOG_SECONDS", 0.1)


def on(cluster: FakeCluster, tmp_path: Path, ask: Ask | None = None) -> Pods:
    return Pods(ask or cluster, tmp_path, "pause:3.6", owner(), tmp_path, tmp_path / "volumes", lambda: NOW, "edge1")


def test_no_pod_ends_while_another_is_measured_and_few_stand_at_once(tmp_path: Path) -> None:
    cluster = FakeCluster(tmp_path)
    stood: list[int] = []

    def seen(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        stood.append(len(cluster.pods))
        return cluster(method, path, body)

    on(cluster, tmp_path, seen).in_turn("text", 7)
    assert max(stood) == 10
    assert len(cluster.made) == 16
    assert stood == [0, *range(10), *range(10, 0, -1), *range(6), *range(6, 0, -1)]


def test_pods_of_both_kinds_in_turn_and_gone_afterwards(tmp_path: Path) -> None:
    cluster = FakeCluster(tmp_path)
    wasm_ms, native_ms = on(cluster, tmp_path).in_turn("text", 3)
    assert wasm_ms == pytest.approx([70.0] * 3)
    assert native_ms == pytest.approx([60.0] * 3)
    specs = [pod["spec"] for pod in cluster.made]
    assert [spec.get("runtimeClassName") for spec in specs] == ["wasmedge", None] * 4
    assert {spec["nodeName"] for spec in specs} == {"edge1"}
    assert cluster.pods == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"silent": True, "says": "RuntimeClass not found"}, "a pod printed nothing in 0.1 s: RuntimeClass not found"),
        ({"refuses": "the API server refused POST x: denied by policy"}, "denied by policy"),
    ],
)
def test_a_pod_that_does_not_run_is_told_with_the_kubelets_words(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    cluster = FakeCluster(tmp_path, **changes)
    with pytest.raises(SmokeError, match=reason):
        on(cluster, tmp_path).in_turn("text", 1)
    assert cluster.pods == {}, "also a pod that failed is deleted"


def test_pods_of_a_killed_test_are_swept_and_no_others(tmp_path: Path) -> None:
    cluster = FakeCluster(tmp_path)
    cluster.pods = {
        name: {"metadata": {"name": name, "labels": {sandboxes.OWNER: of}}}
        for name, of in (("a", DEAD), ("b", owner()))
    }
    pods.sweep(cluster)
    assert set(cluster.pods) == {"b"}


def test_the_node_is_found_by_name_by_hostname_or_by_being_the_only_one() -> None:
    def nodes(*items: dict[str, Any]) -> Any:
        return lambda *_: {"items": list(items)}

    assert pods.node_of(nodes(NODE, OTHER), "edge1") == "edge1"
    assert pods.node_of(nodes(NODE, OTHER), "edge1.example") == "edge1"
    assert pods.node_of(nodes(OTHER), "renamed") == "agent1"
    with pytest.raises(SmokeError, match=r"which of the nodes \['edge1', 'agent1'\] is the host renamed"):
        pods.node_of(nodes(NODE, OTHER), "renamed")


def test_an_agent_has_no_api_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "KUBECONFIG", tmp_path / "none.yaml")
    found = pods.measure(bench(tmp_path))
    assert {one.status for one in found.lines} == {"not_applicable"}
    assert "no K3s server on this host" in found.lines[0].reason


class Handler(http.server.BaseHTTPRequestHandler):
    """An API server that refuses what is named bad."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = 403 if "bad" in self.path else 404 if "none" in self.path else 200
        answer = json.dumps({"path": self.path, "message": "not allowed"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A TLS server with a certificate of its own, and the kubeconfig for it as kubectl prints it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    coded = {name: base64.b64encode(path.read_bytes()).decode() for name, path in (("c", certificate), ("k", key))}
    yield {
        "clusters": [{"cluster": {"server": f"https://127.0.0.1:{listening.server_port}",
                                  "certificate-authority-data": coded["c"]}}],
        "users": [{"user": {"client-certificate-data": coded["c"], "client-key-data": coded["k"]}}],
    }  # fmt: skip
    listening.shutdown()
    listening.server_close()


def test_the_api_server_is_asked_with_k3ss_certificate_which_does_not_stay(
    tmp_path: Path, server: dict[str, Any]
) -> None:
    api = KubeApi(lambda *_, **__: Ended(0, json.dumps(server).encode(), ""), tmp_path, Path("/k3s.yaml"))
    assert not (tmp_path / "client.pem").exists()
    assert api.ask("GET", "/api/v1/nodes") == {"path": "/api/v1/nodes", "message": "not allowed"}
    assert api.ask("GET", "/none") is None
    with pytest.raises(SmokeError, match="refused GET /bad: not allowed"):
        api.ask("GET", "/bad")


def test_a_kubeconfig_that_cant_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match=r"k3s.yaml can't be read by `k3s kubectl`: no such file"):
        KubeApi(lambda *_, **__: Ended(1, b"", "no such file"), tmp_path)
    assert kube_api.KUBECONFIG.name == "k3s.yaml"
