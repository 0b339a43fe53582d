"""What the integration tests do with a lab: run it, look at its hosts, take their network away."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import workload
from lab.errors import LabError
from lab.hosts import Host, HostKind
from lab.paths import CHECKOUT, LabPaths
from lab.progress import Progress
from lab.session import Lab
from tests.integration.packet_filter import dropping

# The lab that `python -m tests.stages test` brings up before these tests and takes down after them.
TEST_LAB = "test"
RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)"
)

# Everything that the roles could write to, with content, mode and link target; then the packages and the services.
LOOK = """
for folder in /etc /usr/local /opt /var/lib/rancher /var/lib/containerd /var/lib/kubelet /var/lib/edgefleet; do
    [ -d "$folder" ] || continue
    find "$folder" -printf '%p %y %m %u %l\\n'
    find "$folder" -type f -exec sha256sum {} +
done | sort
dpkg-query --show
"""


def lab_of(name: str = TEST_LAB) -> Lab:
    """A lab of this checkout, as the command line would make it."""
    return Lab(LabPaths.of(name), Progress())


def lab_command(*words: str) -> list[str]:
    """The lab's command line."""
    return [sys.executable, "-m", "lab", *words]


def without_colours() -> dict[str, str]:
    """The environment of a playbook whose output is read; with what a test has set in its own until now."""
    return {**os.environ, "ANSIBLE_NOCOLOR": "1"}


def playbook_command(paths: LabPaths, *words: str) -> list[str]:
    """ansible-playbook against a lab."""
    return [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(paths.inventory), *words]


def playbook(paths: LabPaths, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook against a lab; output without colours."""
    return subprocess.run(
        playbook_command(paths, *words),
        cwd=CHECKOUT,
        env=without_colours(),
        capture_output=True,
        text=True,
        check=False,
        # An emulated machine's first installation takes a quarter of an hour.
        timeout=2700,
    )


def prepared(lab: Lab, *words: str) -> None:
    """Its hosts have been through site and deploy, with these words on the command line."""
    for name in ("site", "deploy"):
        run = playbook(lab.paths, f"edgefleet.wasm.{name}", *words)
        assert run.returncode == 0, run.stdout + run.stderr


def recap(output: str) -> dict[str, dict[str, int]]:
    """The figures of the play recap, by host."""
    found = (RECAP.match(line) for line in output.splitlines())
    return {m["host"]: {key: int(m[key]) for key in ("changed", "unreachable", "failed")} for m in found if m}


def shell(hosts: HostKind, host: Host, script: str) -> str:
    """Run a script on a host, not through ssh; its output."""
    code, out = hosts.exec(host.name, ["sh", "-c", script])
    assert code == 0, out
    return out


def look(lab: Lab) -> str:
    """What the roles could change on the one host of a lab, to be compared with another look."""
    (host,) = [one.host for one in lab.hosts.status()]
    return shell(lab.hosts, host, LOOK)


def ask(hosts: HostKind, host: Host) -> str:
    """The workload's answer from outside the host."""
    with Progress().step("ask") as step:
        return workload.ask(hosts, host, step)


def until(what: str, seconds: float, holds: Callable[[], bool]) -> float:
    """Wait until it holds; how long that took. Fails after so many seconds."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if holds():
                return time.monotonic() - began
        except (AssertionError, LabError):
            pass
        time.sleep(1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


@contextmanager
def no_way_out(host: Host) -> Iterator[None]:
    """Drop what the host sends to anywhere but its own network, and its questions to the name server.

    The rules stand on this machine, so they hold while the host reboots.
    """
    network = ipaddress.ip_network(f"{host.address}/24", strict=False)
    with dropping(
        ["FORWARD", "-s", host.address, "!", "-d", str(network)],
        ["INPUT", "-s", host.address, "-p", "udp", "--dport", "53"],
    ):
        yield
