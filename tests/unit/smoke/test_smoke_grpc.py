"""Our few pages of gRPC against the field's own server, and against servers that misbehave."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc as field_grpc
import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import cri, grpc
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.grpc import Channel, GrpcError

ECHO = "/edgefleet.Test/Echo"
REFUSED = 'no such container "caf\u00e9": 100 % {not} ~found~'


class Handler(field_grpc.GenericRpcHandler):  # type: ignore[misc]  # no types
    def service(self, call: field_grpc.HandlerCallDetails) -> field_grpc.RpcMethodHandler | None:
        if call.method == ECHO:
            return field_grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        if call.method == "/edgefleet.Test/Refuse":
            return field_grpc.unary_unary_rpc_method_handler(self.refuse)
        return None

    @staticmethod
    def refuse(_: bytes, context: field_grpc.ServicerContext) -> bytes:
        context.abort(field_grpc.StatusCode.NOT_FOUND, REFUSED)
        return b""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "server.sock"
    with futures.ThreadPoolExecutor(2) as threads:
        running = field_grpc.server(threads)
        running.add_generic_rpc_handlers((Handler(),))
        running.add_insecure_port(f"unix:{path}")
        running.start()
        yield path
        running.stop(None).wait()


@pytest.mark.parametrize("size", [0, 1, 126, 127, 20_000])
def test_a_message_goes_there_and_back(server: Path, size: int) -> None:
    request = [(1, "x" * size), (3, 2**63), (200, [(1, b"\0\xff"), (2, True)])]
    with Channel(server, 10) as channel:
        answers = [list(grpc.decode(channel.call(ECHO, request))) for _ in range(3)]
    assert answers == [[(1, b"x" * size), (3, 2**63), (200, b"\x0a\x02\x00\xff\x10\x01")]] * 3


def test_one_connection_serves_thousands_of_calls(server: Path) -> None:
    """More than the windows of HTTP/2 hold, in either direction."""
    with Channel(server, 10) as channel:
        assert all(len(channel.call(ECHO, [(1, bytes(1000))])) == 1003 for _ in range(2000))


def test_what_the_server_refuses_is_told(server: Path) -> None:
    with Channel(server, 10) as channel:
        for method, said in (("Refuse", f"status 5: {REFUSED}"), ("Other", "status 12: ")):
            with pytest.raises(GrpcError) as raised:
                channel.call(f"/edgefleet.Test/{method}")
            assert said in str(raised.value)
        assert channel.call(ECHO, [(1, "still there")])


def test_a_request_that_is_too_large_is_told(server: Path) -> None:
    with (
        Channel(server, 10) as channel,
        pytest.raises(GrpcError, match="Echo: 70009 bytes are too many for one request"),
    ):
        channel.call(ECHO, [(1, bytes(70_000))])


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(GrpcError, match=r"none\.sock: No such file or directory"):
        Channel(tmp_path / "none.sock", 1)


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + content


OK_HEADERS = frame(1, 4, 1, b"\x88")
OK_TRAILERS = frame(1, 5, 1, b"\x00\x0bgrpc-status\x010")


@pytest.fixture
def canned(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """A server that answers whatever it gets with the same bytes."""
    path, threads = tmp_path / "canned.sock", []
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1)

    def answer(content: bytes) -> None:
        connection, _ = listening.accept()
        with connection:
            received = b""
            while ECHO.encode() not in received:
                received += connection.recv(1 << 16)
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass

    def start(content: bytes) -> Path:
        threads.append(threading.Thread(target=answer, args=(content,)))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(10)
    listening.close()


def test_padding_pings_and_split_headers_are_understood(canned: Callable[[bytes], Path]) -> None:
    message = b"\0\0\0\0\2\x08\x07"
    content = frame(4, 0, 0, b"") + frame(6, 0, 0, bytes(8)) + OK_HEADERS + frame(8, 0, 0, b"\0\0\1\0")
    content += (
        frame(0, 8, 1, b"\3" + message + bytes(3)) + frame(1, 0, 1, b"\x00\x0bgrpc-") + frame(9, 4, 1, b"status\x010")
    )
    content += frame(0, 1, 1, b"")
    with Channel(canned(content), 5) as channel:
        assert grpc.field(channel.call(ECHO), 1) == 7


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the server closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n"[:5], "the server closed the connection"),
        (frame(7, 0, 0, bytes(8) + b"too many"), "the server ends the connection: too many"),
        (frame(3, 0, 1, b"\0\0\0\x08"), "the server gave the call up (code 8)"),
        (frame(1, 1, 1, b"\x88"), "headers in several frames"),
        (OK_HEADERS + frame(0, 1, 1, b""), "ended with status unknown: no reason given"),
        (OK_HEADERS + frame(1, 5, 1, b"\x00\x0bgrpc-status\x0213"), "ended with status 13: no reason given"),
    ],
)
def test_a_server_that_misbehaves_is_told(canned: Callable[[bytes], Path], content: bytes, why: str) -> None:
    with Channel(canned(content), 5) as channel, pytest.raises(GrpcError) as raised:
        channel.call(ECHO)
    assert why in str(raised.value)


@pytest.mark.parametrize("message", [b"\x08", b"\x0a\x80", b"\x0b"])
def test_what_is_no_message_is_told(message: bytes) -> None:
    with pytest.raises(GrpcError, match="cut, or no protobuf"):
        list(grpc.decode(message))


def test_the_last_value_of_a_field_counts() -> None:
    assert grpc.field(grpc.encode([(1, 5), (2, "a"), (1, -1)]), 1) == 2**64 - 1
    assert grpc.field(b"", 1, 0) == 0
    assert list(grpc.decode(b"\x0d\1\0\0\0\x11\2\0\0\0\0\0\0\0")) == [(1, 1), (2, 2)]


def test_a_log_line_has_its_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"2026-11-28T11:00:00.123456789Z stdout F hello there\nmore")
    assert cri.first_line(log, 1) == (1795863600123456789, b"hello there")
    log.write_bytes(b"2026-11-28T12:00:00.000000001+01:00 stderr P x\n")
    assert cri.first_line(log, 1) == (1795863600000000001, b"x")
    log.write_bytes(b"2026-11-28T11:00:00.12Z stdout F no zeros\n")
    assert cri.first_line(log, 1) == (1795863600120000000, b"no zeros")
    log.write_bytes(b"2026-11-28T11:00:00Z stdout F on the second\n")
    assert cri.first_line(log, 1) == (1795863600000000000, b"on the second")
    log.write_bytes(b"2026-11-28T12:00:00.000000001+01:00 stdout F cut")
    with pytest.raises(GrpcError, match="nothing in it after 0 s"):
        cri.first_line(log, 0)
