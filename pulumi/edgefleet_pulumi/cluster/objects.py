"""Secrets as objects of a cluster: read, and had with exactly the content that is wanted."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

MADE_BY = {"app.kubernetes.io/managed-by": "edgefleet-site"}


class Cluster(Protocol):
    """What is needed of the Kubernetes API."""

    def get(self, path: str) -> dict[str, Any] | None: ...
    def create(self, path: str, document: Mapping[str, Any]) -> None: ...
    def replace(self, path: str, document: Mapping[str, Any]) -> None: ...


def _path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/secrets{f'/{name}' if name else ''}"


def exists(cluster: Cluster, namespace: str, name: str) -> bool:
    """Whether there is such a Secret."""
    return cluster.get(_path(namespace, name)) is not None


def content(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """The content of a Secret; empty where there is none."""
    return _decoded(cluster.get(_path(namespace, name)))


def _decoded(document: Mapping[str, Any] | None) -> dict[str, str]:
    data = (document or {}).get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def have(cluster: Cluster, namespace: str, name: str, kind: str, wanted: Mapping[str, str]) -> None:
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
