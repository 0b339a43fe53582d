# SPDX-License-Identifier: Apache-2.0
"""Another token for a cluster, by the supervisor of the running server: what ``k3s token rotate`` asks for.

The command takes a new token on its command line alone, where every user of the host can read it.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import TOKEN_FILE, password

# pkg/server/router.go of K3s 1.30: for callers of the group k3s:server.
PATH = "/v1-k3s/token"
_SECONDS = 60


@dataclass(frozen=True)
class Supervisor:
    """K3s's own server on this host. ``port``: https-listen-port."""

    port: int = 6443
    root: Path = Path("/")

    @property
    def token_file(self) -> Path:
        return self.root / TOKEN_FILE

    def rotate(self, new: str, check: bool = False) -> bool:
        """Make ``new`` the cluster's token; without one K3s makes one at random. Whether that was to be done.

        Raises ``K3sError`` where there is no server, it does not answer, or it refuses.
        """
        file = self.token_file
        if not file.exists():
            raise K3sError(f"there is no {file}: K3s has not been a server here; run edgefleet.wasm.site first")
        old = password(file.read_text(encoding="utf-8"))
        wanted = password(new)
        if wanted == old:
            return False
        if not check:
            self._put(old, wanted)
        return True

    def _put(self, old: str, new: str) -> None:
        context = ssl.create_default_context(cafile=str(self.token_file.with_name("tls") / "server-ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=_SECONDS, context=context)
        credentials = base64.b64encode(f"server:{old}".encode()).decode()
        try:
            connection.request(
                "PUT", PATH, json.dumps({"newToken": new}), headers={"Authorization": f"Basic {credentials}"}
            )
            answer = connection.getresponse()
            said = answer.read(1000).decode("utf-8", "replace").strip()
        except OSError as error:
            raise K3sError(
                f"K3s does not answer on port {self.port}: {error}; journalctl -u k3s -n 50 tells why"
            ) from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise K3sError(f"K3s did not change its token: {answer.status} {said}; journalctl -u k3s -n 50 tells why")
