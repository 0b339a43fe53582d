"""Seconds out of the SLO, seen on servers that really go away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils import service_probe
from ansible_collections.edgefleet.wasm.plugins.module_utils.service_probe import Answer, Until, Watch, asker, watch
from ansible_collections.edgefleet.wasm.plugins.modules import service_probe as module


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def server(port: int = 0, status: int = 200) -> Iterator[int]:
    made = ThreadingHTTPServer(("127.0.0.1", port), type("Own", (Handler,), {"status": status}))
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made.server_port
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def test_a_second_is_out_if_any_request_due_in_it_failed_or_was_late() -> None:
    seen = Watch(0.03)
    seen.answers = [
        Answer(0.0, 0.001), Answer(0.5, 0.02), Answer(1.0, 0.001), Answer(1.5, 0.04), Answer(2.0, 0.001, "refused"),
        Answer(2.5, 0.001), Answer(3.0, 0.001),
    ]  # fmt: skip
    assert seen.seconds_out() == [1, 2]
    assert seen.good_since() == 2.5
    assert seen.errors() == {"later than 30 ms": 1, "refused": 1}
    assert Watch(0.03).good_since() == float("inf")


def test_an_outage_is_counted_and_the_watch_ends_when_all_is_well(tmp_path: Path) -> None:
    done = tmp_path / "done"
    found: list[Watch] = []

    def watching(port: int) -> None:
        until = Until(most=30, settle=1.5, file=done)
        found.append(watch(asker(f"http://127.0.0.1:{port}/"), 20, 0.5, until))

    with server() as port:
        thread = threading.Thread(target=watching, args=(port,))
        thread.start()
        time.sleep(1)
    time.sleep(1.5)
    with server(port):
        done.touch()
        thread.join(timeout=20)
    (seen,) = found
    assert 1 <= len(seen.seconds_out()) <= 3
    assert any(what.startswith("ConnectionRefusedError") for what in seen.errors())
    assert 1.3 <= seen.answers[-1].due - seen.good_since() < 4


def test_a_service_that_never_comes_back_ends_the_watch_at_its_limit() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        seen = watch(asker(f"http://127.0.0.1:{taken.getsockname()[1]}/"), 10, 0.5, Until(most=1.2, settle=1))
    assert seen.seconds_out() == [0, 1]
    assert seen.good_since() == float("inf")


def test_an_error_status_is_an_error() -> None:
    with server(status=503) as port:
        assert asker(f"http://127.0.0.1:{port}/readyz?a=b")() == "status 503"


def test_a_broker_answers_by_any_connack_and_silence_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def broker() -> None:
            for answer in (b"\x20\x02\x00\x05", b""):
                connection, _ = listener.accept()
                with connection:
                    assert connection.recv(64).startswith(b"\x10\x0c\x00\x04MQTT")
                    connection.sendall(answer)

        thread = threading.Thread(target=broker)
        thread.start()
        ask = asker(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        assert [ask(), ask()] == ["", "no CONNACK"]
        thread.join()


def test_a_url_that_is_none_is_named() -> None:
    with pytest.raises(service_probe.ProbeError, match="url is 'hall-1:8080'"):
        asker("hall-1:8080")


def test_options_are_documented_as_they_are() -> None:
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    for one in documented.values():
        one.pop("description")
    assert documented == module.ARGUMENTS
