# SPDX-License-Identifier: Apache-2.0
"""Asks a service at a fixed rate from outside its host, whatever became of earlier requests, and counts bad seconds.

Standard library only. Each request has a connection of its own, as a device that comes back would.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
# What gets no answer in this time has failed; as many can be under way at once as are sent in it.
ANSWER_SECONDS = 5.0
_FIRST_ERROR = 400
# MQTT 3.1.1: connect with a clean session and no name. Any answer comes from a broker, "not authorised" too.
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
_CONNACK = 0x20


class ProbeError(Exception):
    """The probe can't be made; the text names what is wrong with what was given."""


@dataclass(frozen=True)
class Answer:
    """One request: when it was due and how long its answer took, in seconds; what went wrong, if anything."""

    due: float
    seconds: float
    error: str = ""


@dataclass
class Watch:
    """What was seen so far. A second is out if any request that was due in it failed, or took longer than the limit."""

    limit: float
    answers: list[Answer] = field(default_factory=list)

    def bad(self, one: Answer) -> bool:
        """Whether an answer is out of the SLO."""
        return bool(one.error) or one.seconds > self.limit

    def seconds_out(self) -> list[int]:
        """The seconds that were out, each by its number."""
        return sorted({int(one.due) for one in self.answers if self.bad(one)})

    def good_since(self) -> float:
        """Since when all requests were within the SLO: the time of the first good one after the last bad one."""
        last = max((one.due for one in self.answers if self.bad(one)), default=-1.0)
        return min((one.due for one in self.answers if one.due > last), default=float("inf"))

    def errors(self) -> dict[str, int]:
        """How often what went wrong."""
        found: dict[str, int] = {}
        for one in self.answers:
            what = one.error or (f"later than {self.limit * 1000:g} ms" if self.bad(one) else "")
            if what:
                found[what] = found.get(what, 0) + 1
        return found


Ask = Callable[[], str]
"""Asks once; what went wrong, empty if nothing did."""


def asker(url: str) -> Ask:
    """How to ask this URL. Certificates are the site's own, and are not checked: this is about time."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ProbeError(f"url is {url!r}: write <scheme>://<host>:<port>/..., with one of {', '.join(PORTS)}")
    host, port = parts.hostname, parts.port or PORTS[parts.scheme]
    if parts.scheme.startswith("mqtt"):
        return lambda: _mqtt(host, port, parts.scheme == "mqtts")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return lambda: _http(host, port, target, parts.scheme == "https")


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _http(host: str, port: int, target: str, tls: bool) -> str:
    connection = (
        http.client.HTTPSConnection(host, port, timeout=ANSWER_SECONDS, context=_context())
        if tls
        else http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    )
    try:
        connection.request("GET", target, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return _named(error)
    finally:
        connection.close()
    return f"status {answer.status}" if answer.status >= _FIRST_ERROR else ""


def _mqtt(host: str, port: int, tls: bool) -> str:
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as plain:
            connection = _context().wrap_socket(plain, server_hostname=host) if tls else plain
            connection.sendall(_CONNECT)
            answer = connection.recv(4)
    except OSError as error:
        return _named(error)
    return "" if answer[:1] == bytes([_CONNACK]) else "no CONNACK"


def _named(error: Exception) -> str:
    """The kind of an error, without what differs each time."""
    reason = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


@dataclass(frozen=True)
class Until:
    """When to stop: ``settle`` good seconds after ``file`` is there (at once if None), in any case after ``most``."""

    most: float
    settle: float
    file: Path | None = None


def watch(ask: Ask, rate: float, limit: float, until: Until, clock: Callable[[], float] = time.monotonic) -> Watch:
    """Ask until it is time to stop. Requests are due at fixed times; the answer is counted from then."""
    seen = Watch(limit)
    waiting: list[Future[Answer]] = []
    begin = clock()
    told: float | None = None if until.file else 0.0

    def once(due: float) -> Answer:
        error = ask()
        return Answer(due, clock() - begin - due, error)

    with ThreadPoolExecutor(max_workers=max(4, round(rate * ANSWER_SECONDS))) as pool:
        index = 0
        while (now := clock() - begin) < until.most:
            waiting = _collect(seen, waiting)
            if told is None and until.file is not None and until.file.exists():
                told = now
            if told is not None and now - max(told, seen.good_since()) >= until.settle:
                break
            if now < index / rate:
                time.sleep(min(index / rate - now, 0.2))
                continue
            waiting.append(pool.submit(once, index / rate))
            index += 1
    _collect(seen, waiting)
    return seen


def _collect(seen: Watch, waiting: Iterable[Future[Answer]]) -> list[Future[Answer]]:
    """Move what is answered into what was seen; the rest."""
    rest = []
    for future in waiting:
        if future.done():
            seen.answers.append(future.result())
        else:
            rest.append(future)
    return rest
