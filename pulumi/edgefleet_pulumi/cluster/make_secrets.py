"""Making the secrets that a program names, once, at the cluster: values pass through no state, no log and no bundle."""

from __future__ import annotations

import base64
import hashlib
import secrets as random_source
import string
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edgefleet_pulumi.cluster import certificates
from edgefleet_pulumi.cluster.certificates import Pair
from edgefleet_pulumi.components.site_secrets import SiteSecret

# It belongs to the site and to no stack: systems come and go, devices go on trusting it.
SITE_NAMESPACE, SITE_CA = "edgefleet-site", "site-ca"
ALPHABET = string.ascii_letters + string.digits
MADE_BY = {"app.kubernetes.io/managed-by": "edgefleet-site"}
MOSQUITTO_ROUNDS = 10000


class Cluster(Protocol):
    """What is needed of the Kubernetes API."""

    def get(self, path: str) -> dict[str, Any] | None: ...
    def create(self, path: str, document: Mapping[str, Any]) -> None: ...
    def replace(self, path: str, document: Mapping[str, Any]) -> None: ...


def mosquitto_line(user: str, password: str) -> str:
    """A line of Mosquitto's password file (PBKDF2 with SHA-512). The same password gives the same line."""
    salt = hashlib.sha256(f"{user}:{password}".encode()).digest()[:12]
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, MOSQUITTO_ROUNDS)
    encoded = (base64.b64encode(part).decode() for part in (salt, hashed))
    return f"{user}:$7${MOSQUITTO_ROUNDS}${'$'.join(encoded)}\n"


def values(secret: SiteSecret, present: Mapping[str, str]) -> dict[str, str]:
    """All keys of a Secret: what is random stays as it is, what follows from it follows the declaration."""
    found = {
        key: present.get(key) or "".join(random_source.choice(ALPHABET) for _ in range(length))
        for key, length in secret.random.items()
    }
    made = dict(found)
    for key, text in secret.text.items():
        made[key] = text
        for name, value in found.items():
            made[key] = made[key].replace(f"{{{name}}}", value)
    if secret.mosquitto_users:
        users = sorted(secret.mosquitto_users.items())
        made["passwords"] = "".join(mosquitto_line(user, found[key]) for user, key in users)
    return made


def _decoded(document: Mapping[str, Any] | None) -> dict[str, str]:
    data = (document or {}).get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def _path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/secrets{f'/{name}' if name else ''}"


def _have(cluster: Cluster, namespace: str, name: str, kind: str, wanted: Mapping[str, str]) -> None:
    """Have exactly this content in a Secret; nothing is sent where it is there."""
    present = cluster.get(_path(namespace, name))
    if present is not None and _decoded(present) == dict(wanted):
        return
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": MADE_BY},
        "type": kind,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in wanted.items()},
    }
    if present is None:
        cluster.create(_path(namespace), document)
    else:
        document["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
        cluster.replace(_path(namespace, name), document)


def _authority(cluster: Cluster) -> Pair:
    """The site's certificate authority, made when there is none."""
    if cluster.get(f"/api/v1/namespaces/{SITE_NAMESPACE}") is None:
        labelled = {**MADE_BY, "pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": SITE_NAMESPACE, "labels": labelled}
        cluster.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    present = _decoded(cluster.get(_path(SITE_NAMESPACE, SITE_CA)))
    if present:
        return Pair(present["tls.crt"], present["tls.key"])
    made = certificates.authority("edgefleet site CA")
    _have(
        cluster,
        SITE_NAMESPACE,
        SITE_CA,
        "kubernetes.io/tls",
        {"tls.crt": made.certificate, "tls.key": made.key},
    )
    return made


def _node_names(cluster: Cluster) -> list[str]:
    """Names and addresses by which devices reach the site's nodes."""
    nodes = (cluster.get("/api/v1/nodes") or {}).get("items") or []
    kinds = ("InternalIP", "ExternalIP", "Hostname")
    return [one["address"] for node in nodes for one in node["status"].get("addresses", []) if one["type"] in kinds]


def _certificate(cluster: Cluster, namespace: str, secret: SiteSecret) -> None:
    signer = _authority(cluster)
    names = [*secret.certificate, *_node_names(cluster)]
    present = _decoded(cluster.get(_path(namespace, secret.name)))
    if present and certificates.still_good(present["tls.crt"], names, signer.certificate):
        return
    made = certificates.server(names, signer)
    wanted = {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": signer.certificate}
    _have(cluster, namespace, secret.name, "kubernetes.io/tls", wanted)


def make(cluster: Cluster, namespace: str, secrets: Sequence[SiteSecret]) -> None:
    """Have all these Secrets. Safe to be cut anywhere and run again: what is there stays."""
    for secret in secrets:
        if secret.filled_by:
            if cluster.get(_path(namespace, secret.name)) is None:
                _have(cluster, namespace, secret.name, "Opaque", {})
            continue
        if secret.certificate:
            _certificate(cluster, namespace, secret)
            continue
        # The first namespace that has it decides the random values of all.
        namespaces = [namespace, *secret.also_in]
        found = [_decoded(cluster.get(_path(one, secret.name))) for one in namespaces]
        wanted = values(secret, next((one for one in found if one), {}))
        for one in namespaces:
            _have(cluster, one, secret.name, "Opaque", wanted)
