# SPDX-License-Identifier: Apache-2.0
"""The API server of this host's K3s, asked directly: a `kubectl` a request would be most of what is to be measured."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand

KUBECONFIG = Path("/etc/rancher/k3s/k3s.yaml")
_SECONDS = 20.0


class Ask(Protocol):
    """One request; its answer, or None for what is not there."""

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None: ...


class KubeApi:
    """As K3s's administrator, with the certificate that K3s has made for that."""

    def __init__(self, run: RunCommand, folder: Path, kubeconfig: Path = KUBECONFIG) -> None:
        """``folder`` is for root only: the key is in it for the moment in which it is read."""
        command = ["k3s", "kubectl", f"--kubeconfig={kubeconfig}", "config", "view", "--raw", "--output=json"]
        ended = run(command, timeout=30)
        try:
            whole = json.loads(ended.out)
            cluster, user = whole["clusters"][0]["cluster"], whole["users"][0]["user"]
            server = urlsplit(cluster["server"])
            self._context = ssl.create_default_context(cadata=_text(cluster["certificate-authority-data"]))
            pair = folder / "client.pem"
            pair.touch(mode=0o600)
            try:
                both = _text(user["client-certificate-data"]) + "\n" + _text(user["client-key-data"])
                pair.write_text(both, encoding="ascii")
                self._context.load_cert_chain(pair)
            finally:
                pair.unlink()
        except (ValueError, LookupError, TypeError, ssl.SSLError) as error:
            said = ended.complaint if ended.rc else repr(error)
            raise SmokeError(f"{kubeconfig} can't be read by `k3s kubectl`: {said}") from error
        self._place = (server.hostname or "127.0.0.1", server.port or 443)
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """As ``Ask``. The connection is kept: what is timed holds no handshake."""
        content = json.dumps(body) if body is not None else None
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(*self._place, timeout=_SECONDS, context=self._context)
        try:
            self._connection.request(method, path, content, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._connection = None
            raise SmokeError(f"the API server does not answer: {error}") from error
        found = _json(answer)
        if response.status == http.client.NOT_FOUND:
            return None
        if response.status >= http.client.BAD_REQUEST:
            raise SmokeError(f"the API server refused {method} {path}: {found.get('message', response.reason)}")
        return found


def _json(answer: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answer)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("ascii")
