"""A site that was installed without a way out, and has none."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

from testinfra.host import Host

from lab import aptsources

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
except OSError:
    sys.exit(3)
"""


def test_there_is_no_way_out(host: Host) -> None:
    """Debian's mirror answers this machine, and not the host: a documentation address would answer nobody."""
    uri = urlsplit(aptsources.for_release(aptsources.read())[0].uri)
    port = uri.port or {"http": 80, "https": 443}[uri.scheme]
    outside = socket.gethostbyname(uri.hostname or "")
    socket.create_connection((outside, port), timeout=30).close()
    assert host.run("python3 -c %s %s %s", CONNECT, outside, str(port)).rc == 3


def test_nothing_was_fetched_from_a_package_source(host: Host) -> None:
    """The packages came as files: apt has no lists of any source."""
    lists = host.run("find /var/lib/apt/lists -type f -name '*Packages*'")
    assert lists.stdout == ""


def test_wasm_runtime_is_there(host: Host) -> None:
    assert "+WASM:wasmedge" in host.check_output("crun --version")


def test_every_pod_runs(host: Host) -> None:
    pods = json.loads(host.check_output("k3s kubectl get pods -A -o json"))["items"]
    assert pods
    not_running = [p["metadata"]["name"] for p in pods if p["status"]["phase"] not in {"Running", "Succeeded"}]
    assert not not_running
    reasons = [
        status["state"]["waiting"].get("reason")
        for pod in pods
        for status in pod["status"].get("containerStatuses", [])
        if "waiting" in status["state"]
    ]
    assert not reasons
