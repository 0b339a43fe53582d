"""The servers beside the services, spoken to in their own protocols: as much of each as shows who answers."""

from __future__ import annotations

import secrets
import socket
import ssl
import struct

from tests.integration.pulumi_site import Site

TIMEOUT = 10.0
STUN_COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_SUCCESS = 0x0001, 0x0101
MQTT_CONNECT, MQTT_CONNACK = 0x10, 0x20
ACCEPTED, NOT_AUTHORIZED = 0x00, 0x87


def stun(address: str, port: int) -> bool:
    """Whether a STUN server answers a binding request of ours, over UDP."""
    request = struct.pack(">HHI", BINDING_REQUEST, 0, STUN_COOKIE) + secrets.token_bytes(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(TIMEOUT)
        udp.sendto(request, (address, port))
        answer = udp.recv(2048)
    return struct.unpack(">H", answer[:2])[0] == BINDING_SUCCESS and answer[8:20] == request[8:20]


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def mqtt(address: str, port: int, authority: str, user: str, password: str) -> int:
    """The reason code of an MQTT 5.0 broker to a connection by TLS that trusts one authority."""
    # Version 5, a new session with user and password, no keep-alive, no properties.
    body = _text("MQTT") + bytes([5, 0b1100_0010]) + struct.pack(">H", 0) + b"\0"
    body += _text("test") + _text(user) + _text(password)
    context = ssl.create_default_context(cadata=authority)
    with (
        socket.create_connection((address, port), TIMEOUT) as tcp,
        context.wrap_socket(tcp, server_hostname=address) as tls,
    ):
        assert len(body) < 128
        tls.sendall(bytes([MQTT_CONNECT, len(body)]) + body)
        answer = tls.recv(1024)
    assert answer[0] == MQTT_CONNACK, answer
    return answer[3]


def redis(site: Site, namespace: str) -> None:
    """It takes its password and no other."""
    ask = "k3s kubectl exec -n {0} redis-0 -- env REDISCLI_AUTH{1} redis-cli -e ping 2>&1"
    hosts, host = site.lab.hosts, site.host.name
    password = site.secrets(namespace)["redis", "password"]
    assert "PONG" in hosts.exec(host, ["sh", "-c", ask.format(namespace, f"={password}")])[1]
    assert "PONG" not in hosts.exec(host, ["sh", "-c", ask.format(namespace, "=wrong")])[1]


def rabbitmq(site: Site, namespace: str) -> None:
    """It speaks AMQP 0-9-1 to the service's pod."""
    address = site.kubectl("get", "service", "rabbitmq", "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
    talk = f"exec 3<>/dev/tcp/{address}/5672; printf 'AMQP\\0\\0\\11\\1' >&3; timeout 5 head -c 400 <&3"
    _, said = site.in_pod(namespace, namespace, f'bash -c "{talk}"')
    # The name of its cluster, among the properties that it introduces itself with.
    assert "@rabbitmq-0." in said, said


def mosquitto(site: Site, namespace: str, port: int) -> None:
    """Devices come in by TLS, with their password and no other."""
    made = site.secrets(namespace)
    authority, password = made["mosquitto-tls", "ca.crt"], made["mosquitto", "device_password"]
    assert mqtt(site.host.address, port, authority, "device", password) == ACCEPTED
    assert mqtt(site.host.address, port, authority, "device", "wrong") == NOT_AUTHORIZED
