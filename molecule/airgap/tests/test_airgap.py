"""A site that was installed without a way out, and has none."""

from __future__ import annotations

import json
import re

import pytest
from testinfra.host import Host

# Documentation addresses (RFC 5737, RFC 3849): nobody's, so a connection that is only slow can't pass for a closed one.
OUTSIDE = ["192.0.2.1", "198.51.100.1"]


# A router says no about once a second, to all that a host asks it (icmp_ratelimit of the kernel): a question without an
# answer is put again.
CONNECT = """
import socket, sys
for _ in range(12):
    try:
        socket.create_connection((sys.argv[1], 443), timeout=5)
    except TimeoutError:
        continue
    except OSError as error:
        sys.exit(error.strerror)
    break
"""


@pytest.mark.parametrize("address", OUTSIDE)
def test_there_is_no_way_out(host: Host, address: str) -> None:
    run = host.run("python3 -c %s %s", CONNECT, address)
    assert run.rc == 1
    # Refused by the host's own routes, or by the lab's network, which is the last hop there is.
    assert re.search("unreachable|No route to host", run.stderr), run.stderr


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
