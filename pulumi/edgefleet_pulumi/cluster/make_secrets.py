"""Making the secrets that a program names, once, at the cluster: values pass through no state, no log and no bundle."""

from __future__ import annotations

import base64
import hashlib
import secrets as random_source
import string
from collections.abc import Mapping, Sequence

from edgefleet_pulumi.cluster import authority, certificates
from edgefleet_pulumi.cluster.objects import Cluster, content, exists, have
from edgefleet_pulumi.components.site_secrets import SiteSecret

ALPHABET = string.ascii_letters + string.digits
MOSQUITTO_ROUNDS = 10000


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


def _node_names(cluster: Cluster) -> list[str]:
    """Names and addresses by which devices reach the site's nodes."""
    nodes = (cluster.get("/api/v1/nodes") or {}).get("items") or []
    kinds = ("InternalIP", "ExternalIP", "Hostname")
    return [one["address"] for node in nodes for one in node["status"].get("addresses", []) if one["type"] in kinds]


def _certificate(cluster: Cluster, namespace: str, secret: SiteSecret) -> None:
    signer = authority.signer(cluster)
    names = [*secret.certificate, *_node_names(cluster)]
    present = content(cluster, namespace, secret.name)
    if present and certificates.still_good(present["tls.crt"], names, signer.certificate):
        served = {key: present[key] for key in ("tls.crt", "tls.key")}
    else:
        made = certificates.server(names, signer)
        served = {"tls.crt": made.certificate, "tls.key": made.key}
    have(cluster, namespace, secret.name, "kubernetes.io/tls", {**served, "ca.crt": authority.trusted(cluster)})


def make(cluster: Cluster, namespace: str, secrets: Sequence[SiteSecret]) -> None:
    """Have all these Secrets. Safe to be cut anywhere and run again: what is there stays."""
    for secret in secrets:
        if secret.filled_by:
            if not exists(cluster, namespace, secret.name):
                have(cluster, namespace, secret.name, "Opaque", {})
            continue
        if secret.certificate:
            _certificate(cluster, namespace, secret)
            continue
        # The first namespace that has it decides the random values of all.
        namespaces = [namespace, *secret.also_in]
        found = [content(cluster, one, secret.name) for one in namespaces]
        wanted = values(secret, next((one for one in found if one), {}))
        for one in namespaces:
            have(cluster, one, secret.name, "Opaque", wanted)
