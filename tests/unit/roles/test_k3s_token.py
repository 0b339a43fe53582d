"""Another token, against a server with TLS that answers as K3s's supervisor does."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_token import PATH, Supervisor

HASH = "0" * 64
TLS = "var/lib/rancher/k3s/server/tls"


class Handler(http.server.BaseHTTPRequestHandler):
    asked: list[tuple[str, str, object]]
    code = 200

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        user = base64.b64decode(self.headers["Authorization"].split()[1]).decode()
        type(self).asked.append((self.path, user, json.loads(self.rfile.read(length))))
        self.send_response(self.code)
        self.end_headers()
        if self.code != 200:
            self.wfile.write(b"token error ID 00042")

    def log_message(self, *_: object) -> None:
        """Silent."""


def authority(name: str, key: Path, certificate: Path) -> None:
    make = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name}"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    server = tmp_path / "var/lib/rancher/k3s/server"
    tls = tmp_path / TLS
    tls.mkdir(parents=True)
    authority("k3s", tls / "key", tls / "server-ca.crt")
    (server / "token").write_text(f"K10{HASH}::server:old\n")
    return tmp_path


@pytest.fixture
def port(root: Path) -> Iterator[int]:
    Handler.asked, Handler.code = [], 200
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / TLS / "server-ca.crt", root / TLS / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.parametrize(
    ("new", "sent"), [("new", "new"), (f"K10{HASH}::server:new", "new"), ("", "")], ids=["bare", "whole", "random"]
)
def test_the_server_is_asked_as_itself(root: Path, port: int, new: str, sent: str) -> None:
    assert Supervisor(port, root).rotate(new)
    assert Handler.asked == [(PATH, "server:old", {"newToken": sent})]


@pytest.mark.parametrize("check", [True, False])
def test_one_that_is_in_use_is_left(root: Path, port: int, check: bool) -> None:
    assert not Supervisor(port, root).rotate("old", check)
    assert Handler.asked == []


def test_check_mode_asks_for_nothing(root: Path, port: int) -> None:
    assert Supervisor(port, root).rotate("new", check=True)
    assert Handler.asked == []


def test_what_goes_wrong_is_said_without_a_token(tmp_path: Path, root: Path, port: int) -> None:
    Handler.code = 500
    with pytest.raises(K3sError, match=r"did not change its token: 500 token error ID 00042") as refused:
        Supervisor(port, root).rotate("secret")
    assert "secret" not in str(refused.value)
    assert "old" not in str(refused.value)
    with pytest.raises(K3sError, match="does not answer on port 1:"):
        Supervisor(1, root).rotate("new")
    with pytest.raises(K3sError, match=r"run edgefleet\.wasm\.site first"):
        Supervisor(port, tmp_path / "empty").rotate("new")


def test_a_server_of_another_authority_gets_no_token(root: Path, port: int) -> None:
    authority("other", root / "other.key", root / TLS / "server-ca.crt")
    with pytest.raises(K3sError, match="does not answer"):
        Supervisor(port, root).rotate("new")
    assert Handler.asked == []
