# SPDX-License-Identifier: Apache-2.0
"""Calls to a gRPC server behind a unix socket, such as containerd's: one request, one answer, nothing but Python.

A host has no gRPC library, and a program started for each call (crictl) would cost more than what is to be measured.
This is as much of HTTP/2 (RFC 9113), HPACK (RFC 7541) and protobuf's encoding as that takes: one call at a time, no
compression, windows so wide that no answer fills them.
"""

from __future__ import annotations

import socket
import struct
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_WIDEST = (1 << 31) - 1
_FIRST_WINDOW = (1 << 16) - 1
_LARGEST_FRAME = 1 << 14
# Table size 0: no header of an answer refers to an earlier one. No pushed streams. The window of each call.
_OUR_SETTINGS = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, _WIDEST)
# Of HPACK's Huffman code the number of bits of each byte, in base 36; the codes follow from them: it is canonical.
_BITS = (
    "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca"
    "d67777777777777777777777878djde6f56565666577666567655677777fbeds"
    "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn"
    "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq"
)


class GrpcError(SmokeError):
    """The server refused a call, or there is no talking to it; the text says what it answered."""


Fields = Sequence[tuple[int, Any]]


def encode(fields: Fields) -> bytes:
    """A protobuf message. Values are numbers, text, bytes, or the fields of a message."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value & ((1 << 64) - 1))
            continue
        content = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else encode(value)
        out += _varint(number << 3 | 2) + _varint(len(content)) + content
    return bytes(out)


def decode(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: numbers, and bytes for all else. Raises ``GrpcError`` if it is cut."""
    at = 0
    try:
        while at < len(message):
            key, at = _read_varint(message, at)
            number, kind = key >> 3, key & 7
            if kind == 0:
                value, at = _read_varint(message, at)
                yield number, value
            elif kind == 2:
                size, at = _read_varint(message, at)
                yield number, message[at : at + size]
                at += size
            else:
                size = {1: 8, 5: 4}[kind]
                yield number, int.from_bytes(message[at : at + size], "little")
                at += size
    except (IndexError, KeyError) as error:
        raise GrpcError("an answer is cut, or no protobuf message") from error


def field(message: bytes, number: int, default: Any = b"") -> Any:
    """One field of a message: its last value, as protobuf has it."""
    return next((value for key, value in reversed(list(decode(message))) if key == number), default)


class Channel:
    """One connection, for one call at a time. ``timeout`` is that of each read and write, in seconds."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._stream = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            window = struct.pack(">I", _WIDEST - _FIRST_WINDOW)
            self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, _OUR_SETTINGS) + _frame(_WINDOW, 0, 0, window))
        except OSError as error:
            self._socket.close()
            raise GrpcError(f"{path}: {error.strerror or error}") from error
        self._received = self._socket.makefile("rb")

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, _type: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._received.close()
        self._socket.close()

    def call(self, method: str, request: Fields = ()) -> bytes:
        """The answer to one request; ``method`` is ``/package.Service/Method``."""
        self._stream += 2
        message = encode(request)
        body = b"\0" + struct.pack(">I", len(message)) + message
        if len(body) > _FIRST_WINDOW:
            raise GrpcError(f"{method}: {len(body)} bytes are too many for one request")
        try:
            self._socket.sendall(
                _frame(_HEADERS, _END_HEADERS, self._stream, _request_headers(method)) + _data(self._stream, body)
            )
            answer, headers = self._answer()
        except OSError as error:
            raise GrpcError(f"{self._path}: {method}: {error.strerror or error}") from error
        status = headers.get("grpc-status", "")
        if status != "0":
            said = urllib.parse.unquote(headers.get("grpc-message", "")) or "no reason given"
            raise GrpcError(f"{method} ended with status {status or 'unknown'}: {said}")
        return answer[5:]

    def _answer(self) -> tuple[bytes, dict[str, str]]:
        body, block, ended = b"", b"", False
        headers: dict[str, str] = {}
        while not ended:
            kind, flags, stream, content = self._frame()
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._socket.sendall(_frame(kind, _ACK, 0, content if kind == _PING else b""))
            elif kind == _GOAWAY:
                raise GrpcError(f"{self._path}: the server ends the connection: {content[8:].decode(errors='replace')}")
            elif stream == self._stream and kind == _RESET:
                raise GrpcError(f"{self._path}: the server gave the call up (code {int.from_bytes(content, 'big')})")
            elif stream == self._stream and kind == _DATA:
                body += content[1 : -content[0] or None] if flags & _PADDED else content
                ended = bool(flags & _END_STREAM)
            elif stream == self._stream and kind in (_HEADERS, _CONTINUATION):
                block += content
                ended = ended or (kind == _HEADERS and bool(flags & _END_STREAM))
                if flags & _END_HEADERS:
                    headers |= _literals(block)
                    block = b""
                elif ended:
                    raise GrpcError(f"{self._path}: headers in several frames are not understood here")
        return body, headers

    def _frame(self) -> tuple[int, int, int, bytes]:
        head = self._received.read(9)
        if len(head) < 9:
            raise GrpcError(f"{self._path}: the server closed the connection")
        size, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        return kind, flags, stream & _WIDEST, self._received.read(size)


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + content


def _data(stream: int, body: bytes) -> bytes:
    pieces = [body[at : at + _LARGEST_FRAME] for at in range(0, len(body), _LARGEST_FRAME)]
    last = len(pieces) - 1
    return b"".join(_frame(_DATA, _END_STREAM * (at == last), stream, piece) for at, piece in enumerate(pieces))


def _request_headers(method: str) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())


def _text(text: str) -> bytes:
    return _prefixed(len(text), 7) + text.encode("ascii")


def _literals(block: bytes) -> dict[str, str]:
    """The headers that come with a name of their own, as gRPC's do; those of HPACK's table are passed over."""
    found, at = {}, 0
    while at < len(block):
        first = block[at]
        if first & 0x80:
            _, at = _read_prefixed(block, at, 7)
            continue
        if first & 0xE0 == 0x20:
            _, at = _read_prefixed(block, at, 5)
            continue
        index, at = _read_prefixed(block, at, 6 if first & 0x40 else 4)
        name = ""
        if index == 0:
            name, at = _read_text(block, at)
        value, at = _read_text(block, at)
        if name:
            found[name] = value
    return found


def _read_text(block: bytes, at: int) -> tuple[str, int]:
    packed = block[at] & 0x80
    size, at = _read_prefixed(block, at, 7)
    content = block[at : at + size]
    return (_unpacked(content) if packed else content).decode("utf-8", "replace"), at + size


def _unpacked(content: bytes) -> bytes:
    """Out of Huffman's code. What is left over at the end, fewer than 8 bits, is padding."""
    codes: dict[tuple[int, int], int] = {}
    code = last = 0
    for bits, symbol in sorted((int(bits, 36), symbol) for symbol, bits in enumerate(_BITS)):
        code <<= bits - last
        codes[(bits, code)] = symbol
        code, last = code + 1, bits
    out = bytearray()
    code = bits = 0
    for bit in (byte >> place & 1 for byte in content for place in range(7, -1, -1)):
        code, bits = code << 1 | bit, bits + 1
        if (bits, code) in codes:
            out.append(codes[(bits, code)])
            code = bits = 0
    return bytes(out)


def _prefixed(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    return bytes([value]) if value < most else bytes([most]) + _varint(value - most)


def _read_prefixed(data: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = data[at] & most
    if value < most:
        return value, at + 1
    rest, at = _read_varint(data, at + 1)
    return most + rest, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
