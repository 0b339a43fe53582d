"""As much of the Kubernetes API as is needed to make Secrets: read, create, replace, by the user's kubeconfig."""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi

from edgefleet_pulumi.model.errors import ModelError
from edgefleet_pulumi.model.load import read_yaml

TIMEOUT = 15.0


class ApiError(ModelError, pulumi.RunError):
    """The cluster can't be used: which one, why, and the way out."""


def cluster_identity(api: Api) -> str:
    """What stays the same of a cluster for as long as it lives, whatever its address is."""
    found = api.get("/api/v1/namespaces/kube-system") or {}
    return str(found["metadata"]["uid"])


def _named(document: Mapping[str, Any], kind: str, name: str, path: Path) -> dict[str, Any]:
    for entry in document.get(f"{kind}s") or []:
        if entry.get("name") == name:
            return dict(entry.get(kind) or {})
    raise ApiError(f"{path}: no {kind} named {name!r}: set kubernetes:context to a context that is complete there")


def _pem(section: Mapping[str, Any], key: str, path: Path) -> str:
    """A certificate or key, inline or in a file named relative to the kubeconfig."""
    if section.get(f"{key}-data"):
        return base64.b64decode(section[f"{key}-data"]).decode()
    return (path.parent / section[key]).read_text(encoding="utf-8") if section.get(key) else ""


def _context(authority: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority or None)
    if certificate and key:
        # The ssl module reads these from files only: this one is its user's alone, and gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(f"{certificate}\n{key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


@dataclass(frozen=True)
class Api:
    """One cluster as one user."""

    server: str
    context: ssl.SSLContext
    token: str = ""

    @classmethod
    def of(cls, context: str | None, environ: Mapping[str, str] = os.environ) -> Api:
        """The cluster that the Kubernetes provider would use: KUBECONFIG, and a context in it or its current one."""
        given = environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        path = Path(given) if given else Path.home() / ".kube" / "config"
        document = read_yaml(path)
        name = context or document.get("current-context") or ""
        chosen = _named(document, "context", name, path)
        cluster = _named(document, "cluster", chosen.get("cluster", ""), path)
        user = _named(document, "user", chosen.get("user", ""), path)
        certificate, key = _pem(user, "client-certificate", path), _pem(user, "client-key", path)
        token = str(user.get("token") or "")
        if not (certificate and key) and not token:
            raise ApiError(
                f"{path}: user {chosen.get('user')!r} has neither a client certificate nor a token: secrets are made "
                "with one of these; use such a context (K3s: /etc/rancher/k3s/k3s.yaml)"
            )
        authority = _pem(cluster, "certificate-authority", path)
        return cls(str(cluster.get("server", "")), _context(authority, certificate, key), token)

    def get(self, path: str) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        return self._ask("GET", path, None)

    def create(self, path: str, document: Mapping[str, Any]) -> None:
        """A new object; it is an error when it is there by now."""
        self._ask("POST", path, document)

    def replace(self, path: str, document: Mapping[str, Any]) -> None:
        """The whole object; refused by the cluster when somebody changed it meanwhile."""
        self._ask("PUT", path, document)

    def _ask(self, method: str, path: str, document: Mapping[str, Any] | None) -> dict[str, Any] | None:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        body = json.dumps(document).encode() if document is not None else None
        request = urllib.request.Request(f"{self.server}{path}", body, headers, method=method)  # noqa: S310 - the kubeconfig's
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT, context=self.context) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as refused:
            if refused.code == 404 and method == "GET":
                return None
            # The body is not shown: an answer to a Secret may repeat it.
            raise ApiError(
                f"{self.server}: {method} {path}: {refused.code} {refused.reason}: the user of this kubeconfig must be "
                "allowed to read and make Secrets there"
            ) from None
        except (OSError, ValueError) as error:
            raise ApiError(
                f"{self.server} can't be reached: {error}: is the site on, and KUBECONFIG the right one?"
            ) from None
