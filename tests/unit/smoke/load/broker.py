"""As much of an MQTT 5 broker as one client needs that publishes at QoS 1 and hears itself; it can misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14
# How often a message is passed on, by its number.
Times = Callable[[int], int]


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def _packet(connection: socket.socket) -> tuple[int, bytes]:
    kind = _read(connection, 1)[0]
    length = shift = 0
    while True:
        byte = _read(connection, 1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return kind, _read(connection, length)


class Broker:
    """Serves one connection. ``pause``: once, before it passes on this message, it does nothing for so many seconds."""

    def __init__(self, times: Times, pause: tuple[int, float], refuse: int) -> None:
        self._times = times
        self._pause = pause
        self._refuse = refuse
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._next = 0

    def serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while self._answer(connection, *_packet(connection)):
                    pass
            except (EOFError, OSError):
                pass

    def _answer(self, connection: socket.socket, kind: int, body: bytes) -> bool:
        if kind >> 4 == CONNECT:
            connection.sendall(bytes([0x20, 3, 0, self._refuse, 0]))
        elif kind >> 4 == SUBSCRIBE:
            connection.sendall(bytes([0x90, 4, *body[:2], 0, 1]))
        elif kind >> 4 == PUBLISH:
            self._pass_on(connection, body)
        return kind >> 4 != DISCONNECT

    def _pass_on(self, connection: socket.socket, body: bytes) -> None:
        topic = 2 + int.from_bytes(body[:2])
        identifier, payload = body[topic : topic + 2], body[topic + 3 :]
        number = int(json.loads(payload)["seq"])
        if number == self._pause[0]:
            time.sleep(self._pause[1])
        connection.sendall(bytes([0x40, 2]) + identifier)
        for _ in range(self._times(number)):
            self._next = self._next % 60000 + 1
            sent = body[:topic] + self._next.to_bytes(2) + b"\0" + payload
            connection.sendall(bytes([0x32, len(sent)]) + sent)

    def close(self) -> None:
        self._listener.close()


@contextmanager
def broker(times: Times = lambda _: 1, pause: tuple[int, float] = (-1, 0.0), refuse: int = 0) -> Iterator[int]:
    """Its port."""
    made = Broker(times, pause, refuse)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made.port
    finally:
        made.close()
        thread.join(timeout=5)
