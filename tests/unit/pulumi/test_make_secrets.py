"""Secrets made at the cluster: once, safe to be cut, and never more than is declared."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from edgefleet_pulumi.cluster import authority, certificates
from edgefleet_pulumi.cluster.api import Api, ApiError
from edgefleet_pulumi.cluster.authority import SITE_CA, SITE_NAMESPACE
from edgefleet_pulumi.cluster.make_secrets import make, mosquitto_line
from edgefleet_pulumi.components import mosquitto, redis
from edgefleet_pulumi.components.site_secrets import SiteSecret

NODES = {"items": [{"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}]}


class FakeCluster:
    """Objects by path; ends like a killed run after so many changes."""

    def __init__(self, changes: int = 99) -> None:
        self.objects: dict[str, dict[str, Any]] = {"/api/v1/nodes": NODES}
        self.changes = changes
        self.changed: list[str] = []

    def get(self, path: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get(path))

    def _change(self, path: str, document: Mapping[str, Any]) -> None:
        if len(self.changed) >= self.changes:
            raise KeyboardInterrupt
        self.changed.append(path)
        version = {"resourceVersion": str(len(self.changed))}
        self.objects[path] = {**document, "metadata": {**document["metadata"], **version}}

    def create(self, path: str, document: Mapping[str, Any]) -> None:
        path = f"{path}/{document['metadata']['name']}"
        assert path not in self.objects
        self._change(path, document)

    def replace(self, path: str, document: Mapping[str, Any]) -> None:
        assert document["metadata"]["resourceVersion"] == self.objects[path]["metadata"]["resourceVersion"]
        self._change(path, document)

    def values(self, namespace: str, name: str) -> dict[str, str]:
        data = self.objects[f"/api/v1/namespaces/{namespace}/secrets/{name}"]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_they_are_made_once() -> None:
    cluster = FakeCluster()
    make(cluster, "n", [redis.SECRET])
    first = cluster.values("n", "redis")
    assert len(first["password"]) == 40
    assert first["auth.conf"] == f"requirepass {first['password']}\n"
    make(cluster, "n", [redis.SECRET])
    assert cluster.values("n", "redis") == first
    assert len(cluster.changed) == 1


def test_no_two_are_the_same() -> None:
    one, other = FakeCluster(), FakeCluster()
    for cluster in (one, other):
        make(cluster, "n", [redis.SECRET])
    assert one.values("n", "redis") != other.values("n", "redis")


def test_texts_follow_the_declaration_and_the_random_part_stays() -> None:
    cluster = FakeCluster()
    make(cluster, "n", [SiteSecret(name="turn", random={"secret": 48}, text={"conf": "a={secret}\n"})])
    before = cluster.values("n", "turn")
    make(cluster, "n", [SiteSecret(name="turn", random={"secret": 48}, text={"conf": "port=1\na={secret}\n"})])
    after = cluster.values("n", "turn")
    assert after == {"secret": before["secret"], "conf": f"port=1\na={before['secret']}\n"}


def test_braces_that_are_no_place_stay() -> None:
    cluster = FakeCluster()
    make(cluster, "n", [SiteSecret(name="x", random={"key": 20}, text={"json": '{"a": {}, "k": "{key}"}'})])
    found = cluster.values("n", "x")
    assert found["json"] == f'{{"a": {{}}, "k": "{found["key"]}"}}'


def test_a_run_cut_at_any_point_is_finished_by_the_next() -> None:
    wanted = [
        SiteSecret(name="turn", random={"secret": 48}, also_in=["second"]),
        mosquitto.SECRET,
        SiteSecret(name="s-tls", certificate=["s"]),
    ]
    whole = FakeCluster()
    make(whole, "n", wanted)
    for changes in range(len(whole.changed)):
        cluster = FakeCluster(changes)
        with pytest.raises(KeyboardInterrupt):
            make(cluster, "n", wanted)
        cluster.changes = 99
        make(cluster, "n", wanted)
        assert set(cluster.objects) == set(whole.objects)
        assert cluster.values("n", "turn") == cluster.values("second", "turn")
        assert cluster.values("n", "s-tls")["ca.crt"] == cluster.values(SITE_NAMESPACE, SITE_CA)["tls.crt"]


def test_mosquittos_password_file() -> None:
    cluster = FakeCluster()
    make(cluster, "n", [mosquitto.SECRET])
    found = cluster.values("n", "mosquitto")
    lines = dict(line.split(":", 1) for line in found["passwords"].splitlines())
    assert set(lines) == {"service", "device"}
    _, kind, rounds, salt, hashed = lines["device"].split("$")
    assert kind == "7"
    again = hashlib.pbkdf2_hmac("sha512", found["device_password"].encode(), base64.b64decode(salt), int(rounds))
    assert base64.b64decode(hashed) == again
    assert mosquitto_line("a", "secret") == mosquitto_line("a", "secret") != mosquitto_line("b", "secret")


def test_a_server_certificate_is_for_the_nodes_and_by_the_sites_authority() -> None:
    cluster = FakeCluster()
    make(cluster, "n", [SiteSecret(name="s-tls", certificate=["s", "s.n.svc"])])
    found = cluster.values("n", "s-tls")
    certificate = x509.load_pem_x509_certificate(found["tls.crt"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(found["ca.crt"].encode()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["s", "s.n.svc"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("192.0.2.7")]
    count = len(cluster.changed)
    make(cluster, "n", [SiteSecret(name="s-tls", certificate=["s", "s.n.svc"])])
    assert len(cluster.changed) == count


def checked_by(certificate: str, trusted: str) -> bool:
    """Whether a device with these authorities takes the certificate."""
    shown = x509.load_pem_x509_certificate(certificate.encode())
    for one in x509.load_pem_x509_certificates(trusted.encode()):
        with contextlib.suppress(InvalidSignature, ValueError):
            shown.verify_directly_issued_by(one)
            return True
    return False


def test_at_no_step_of_a_rotation_a_device_is_shown_what_it_cant_check() -> None:
    cluster, secret = FakeCluster(), SiteSecret(name="s-tls", certificate=["s"])
    make(cluster, "n", [secret])
    known = first = cluster.values("n", "s-tls")["ca.crt"]
    for step in authority.STEPS.values():
        # Each step twice, as after a run whose answer was lost.
        assert step(cluster) == step(cluster)
        make(cluster, "n", [secret])
        found = cluster.values("n", "s-tls")
        assert checked_by(found["tls.crt"], known), step
        assert checked_by(found["tls.crt"], found["ca.crt"])
        known = found["ca.crt"]
    assert not checked_by(found["tls.crt"], first), "the old one signs no more"
    assert set(cluster.values(SITE_NAMESPACE, SITE_CA)) == {"tls.crt", "tls.key"}
    count = len(cluster.changed)
    make(cluster, "n", [secret])
    assert len(cluster.changed) == count


def test_steps_of_a_rotation_that_would_cut_devices_off_are_refused() -> None:
    cluster = FakeCluster()
    with pytest.raises(authority.StepError, match="no site CA to rotate yet"):
        authority.announce(cluster)
    make(cluster, "n", [SiteSecret(name="s-tls", certificate=["s"])])
    with pytest.raises(authority.StepError, match="`announce` it first"):
        authority.switch(cluster)
    authority.announce(cluster)
    with pytest.raises(authority.StepError, match="`switch` first"):
        authority.finish(cluster)
    authority.switch(cluster)
    with pytest.raises(authority.StepError, match="`finish` it first"):
        authority.announce(cluster)


def test_a_certificate_is_renewed_before_it_ends_and_when_the_node_has_another_address() -> None:
    secret = SiteSecret(name="s-tls", certificate=["s"])
    cluster = FakeCluster()
    make(cluster, "n", [secret])
    first = cluster.values("n", "s-tls")
    cluster.objects["/api/v1/nodes"] = {"items": []}
    make(cluster, "n", [secret])
    second = cluster.values("n", "s-tls")
    assert second["tls.crt"] != first["tls.crt"]
    assert second["ca.crt"] == first["ca.crt"]


def test_a_certificate_about_to_end_is_not_good(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = certificates.authority()
    made = certificates.server(["s"], signer)
    assert certificates.still_good(made.certificate, ["s"], signer.certificate)
    assert not certificates.still_good(made.certificate, ["s"], certificates.authority().certificate)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return datetime.now(UTC) + timedelta(days=certificates.SERVER_DAYS - certificates.RENEW_DAYS + 1)

    monkeypatch.setattr("edgefleet_pulumi.cluster.certificates.datetime", Later)
    assert not certificates.still_good(made.certificate, ["s"], signer.certificate)


def kubeconfig(folder: Path, user: Mapping[str, str], context: str = "c") -> dict[str, str]:
    document = {
        "current-context": "c",
        "contexts": [{"name": context, "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": dict(user)}],
    }
    (folder / "config").write_text(yaml.safe_dump(document), encoding="utf-8")
    return {"KUBECONFIG": str(folder / "config")}


def test_a_cluster_that_is_away_is_named(tmp_path: Path) -> None:
    api = Api.of(None, kubeconfig(tmp_path, {"token": "t"}))
    with pytest.raises(ApiError, match=r"https://127\.0\.0\.1:1 can't be reached: .*: is the site on"):
        api.get("/api/v1/nodes")


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match=r"config: no context named 'hub': set kubernetes:context to a context"):
        Api.of("hub", kubeconfig(tmp_path, {"token": "t"}))


def test_a_user_with_a_program_to_log_in(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="user 'u' has neither a client certificate nor a token"):
        Api.of(None, kubeconfig(tmp_path, {"exec": "aws"}))


def test_what_somebody_else_fills_is_made_empty_and_then_left_alone() -> None:
    cluster, wanted = FakeCluster(), [SiteSecret(name="cert", filled_by="gatekeeper")]
    make(cluster, "n", wanted)
    assert cluster.values("n", "cert") == {}
    path = "/api/v1/namespaces/n/secrets/cert"
    cluster.objects[path]["data"] = {"tls.key": base64.b64encode(b"theirs").decode()}
    make(cluster, "n", wanted)
    assert cluster.values("n", "cert") == {"tls.key": "theirs"}
    assert cluster.changed == [path]
