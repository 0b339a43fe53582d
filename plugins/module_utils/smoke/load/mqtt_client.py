#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An open loop of MQTT messages, each published at its own time: mqtt_client.py SETTINGS RESULT

A program of its own, so that what it costs is not the smoke test's. SETTINGS is a JSON file with host, port, tls,
username, password, topic, reply, qps, seconds, grace. RESULT becomes one, too: for each message when
it should have been sent, when it was, and when it came back on the topic ``reply`` (null: never), in seconds from the
begin. A message that comes back twice counts as an error, since records are to be processed once.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

CONNECT_SECONDS = 10.0
# Behind what it publishes: paho's own limit of 20 messages under way would close the loop.
UNLIMITED = 0
KEEPALIVE_SECONDS = 60


class Loop:
    """One client that publishes, and hears what comes back."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._ready = threading.Event()
        self._refused = ""
        self._lost = ""
        self._done: dict[int, float] = {}
        self._twice = 0
        self._begin = 0.0
        self._client = self._made()

    def _made(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.max_inflight_messages_set(UNLIMITED)
        if self._settings["username"] is not None:
            client.username_pw_set(self._settings["username"], self._settings["password"])
        if self._settings["tls"]:
            # The site's own certificate: what is tested is the load, from the host itself.
            client.tls_set(cert_reqs=ssl.CERT_NONE)
            client.tls_insecure_set(True)
        client.on_socket_open = _send_at_once
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = self._heard
        return client

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._refused = str(code)
            self._ready.set()
        else:
            client.subscribe(self._settings["reply"], qos=1)

    def _disconnected(self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self._lost = self._lost or str(code)

    def _heard(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        now = time.monotonic() - self._begin
        try:
            index = int(json.loads(message.payload)["seq"])
        except (ValueError, KeyError, TypeError):
            return
        self._twice += index in self._done
        self._done.setdefault(index, now)

    def run(self) -> dict[str, Any]:
        """Connect, publish all, wait for the last to come back."""
        self._client.connect(self._settings["host"], self._settings["port"], keepalive=KEEPALIVE_SECONDS)
        self._client.loop_start()
        try:
            if not self._ready.wait(CONNECT_SECONDS):
                raise OSError(f"no subscription within {CONNECT_SECONDS:g} s")
            if self._refused:
                raise OSError(f"the broker refuses: {self._refused}")
            sent = self._publish()
            self._wait_for(len(sent))
        finally:
            lost, self._client.on_disconnect = self._lost, None
            self._client.disconnect()
            self._client.loop_stop()
        return self._result(sent, lost)

    def _publish(self) -> list[float]:
        """When each was sent. A message that is late is sent at once: the schedule never moves."""
        qps, topic = self._settings["qps"], self._settings["topic"]
        sent = []
        self._begin = time.monotonic()
        for index in range(round(qps * self._settings["seconds"])):
            wait = self._begin + index / qps - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            sent.append(time.monotonic() - self._begin)
            self._client.publish(topic, json.dumps({"seq": index}), qos=1)
            if sent[-1] > self._settings["seconds"] + self._settings["grace"]:
                break
        return sent

    def _wait_for(self, count: int) -> None:
        deadline = time.monotonic() + self._settings["grace"]
        while len(self._done) < count and time.monotonic() < deadline and not self._lost:
            time.sleep(0.02)

    def _result(self, sent: list[float], lost: str) -> dict[str, Any]:
        done = dict(self._done)
        requests = [[index / self._settings["qps"], at, done.get(index)] for index, at in enumerate(sent)]
        errors = {
            "no message came back": sum(index not in done for index in range(len(sent))),
            "came back more than once": self._twice,
            f"connection lost: {lost}": int(bool(lost)),
        }
        return {"requests": requests, "errors": {what: count for what, count in errors.items() if count}}


def _send_at_once(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    """Else the kernel holds small messages back until earlier ones are acknowledged, 25 ms and more on a quiet line."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        result = Loop(settings).run()
    except OSError as error:
        sys.exit(f"{settings['host']}:{settings['port']}: {error}")
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
