"""The keeper on a host with systemd: a program stands in for K3s, so that only what decides is tried, in a minute.

With K3s itself: test_upgrade.py and test_upgrade_faults.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import playbook, shell, until

pytestmark = [pytest.mark.lab, pytest.mark.full]

OLD, NEW, BROKEN = "v1.30.3+k3s1", "v1.30.4+k3s1", "v1.30.5+k3s1"
PLAYBOOK = str(Path(__file__).parent / "playbooks" / "keeper.yml")
# Answers what the keeper asks K3s, as a healthy one of its version.
STAND_IN = """#!/usr/bin/python3
import json, sys, time
version, words = "VERSION", " ".join(sys.argv[1:])
if words == "--version":
    print(f"k3s version {version} (00000000)")
elif words == "server":
    time.sleep(1e6)
elif "--raw=/version" in words:
    print(json.dumps({"gitVersion": version}))
elif "--raw=/readyz" in words:
    print("ok")
else:
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": version}}
    things = [("Node", "edge1"), ("ServiceAccount", "default"), ("RuntimeClass", "wasmedge")]
    found = [{"kind": kind, "metadata": {"name": name}, "status": ready} for kind, name in things]
    wanted = found if "serviceaccounts" in words else found[:1] if "node" in words else []
    print(json.dumps({"kind": "List", "items": wanted}))
"""
BROKEN_PROGRAM = f"""#!/bin/sh
[ "$1" != --version ] || {{ echo "k3s version {BROKEN} (00000000)"; exit 0; }}
exit 1
"""
CONTAINERD = """[Service]
ExecStart=/bin/sleep inf
[Install]
WantedBy=multi-user.target
"""
K3S = """[Unit]
After=containerd.service
[Service]
Type=exec
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s server
[Install]
WantedBy=multi-user.target
"""
DATASTORE = """
import sqlite3
datastore = sqlite3.connect("/var/lib/rancher/k3s/server/db/state.db")
datastore.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, deleted INTEGER)")
datastore.commit()
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from brought_up("keeper")


def write(lab: Lab, host: Host, path: str, text: str) -> None:
    shell(lab.hosts, host, f"cat > {path} <<'END'\n{text}END\nchmod 755 {path}")


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    (found,) = (one.host for one in lab.hosts.status())
    programs = {OLD: STAND_IN.replace("VERSION", OLD), NEW: STAND_IN.replace("VERSION", NEW), BROKEN: BROKEN_PROGRAM}
    for version, text in programs.items():
        write(lab, found, f"/root/k3s-{version}", text)
    write(lab, found, "/usr/local/bin/k3s", programs[OLD])
    write(lab, found, "/etc/systemd/system/containerd.service", CONTAINERD)
    write(lab, found, "/etc/systemd/system/k3s.service", K3S)
    shell(lab.hosts, found, f"mkdir -p /var/lib/rancher/k3s/server/db; python3 - <<'END'\n{DATASTORE}END")
    shell(lab.hosts, found, "systemctl daemon-reload; systemctl enable --quiet --now containerd k3s")
    return found


def change(lab: Lab, to: str, *steps: str) -> str:
    """Play these steps of a change; the output."""
    values = json.dumps({"to": to, "steps": steps})
    run = playbook(lab.paths, PLAYBOOK, "--extra-vars", values)
    assert run.returncode == 0, run.stdout + run.stderr
    return " ".join(run.stdout.split())


def status(lab: Lab, host: Host) -> str:
    return shell(lab.hosts, host, "edgefleet-keeper status; k3s --version; systemctl is-active k3s || true")


def settled(lab: Lab, host: Host, version: str) -> str:
    """Wait until the change has ended with this version; what the keeper says."""
    wanted = ("no change is under way", f"k3s version {version} ", "\nactive")
    until(f"{version} and no change under way", 180, lambda: all(part in status(lab, host) for part in wanted))
    return status(lab, host)


def test_a_change_is_kept_and_a_rollback_goes_back(lab: Lab, host: Host) -> None:
    assert f"K3s {NEW} is kept, before it was {OLD}" in change(lab, NEW, "keeper", "begin", "swap", "keep")
    settled(lab, host, NEW)
    run = playbook(lab.paths, "edgefleet.wasm.rollback")
    assert run.returncode == 0, run.stdout + run.stderr
    settled(lab, host, OLD)


def test_a_program_that_does_not_start_is_taken_back_by_the_host(lab: Lab, host: Host) -> None:
    change(lab, BROKEN, "begin", "swap")
    assert f"back to K3s {OLD}: k3s.service does not stay up" in settled(lab, host, OLD)


def test_a_power_cut_in_the_middle_boots_the_set_before(lab: Lab, host: Host) -> None:
    change(lab, NEW, "begin", "swap")
    assert "under way: changing" in status(lab, host)
    lab.hosts.reboot(host.name, power_cut=True)
    assert f"back to K3s {OLD}: the host went down while the change was made" in settled(lab, host, OLD)
    times = "systemctl show --property=ExecMainStartTimestampMonotonic --value"
    first = shell(lab.hosts, host, f"{times} edgefleet-keeper-boot")
    assert int(first) < int(shell(lab.hosts, host, f"{times} k3s")), "K3s was started before it was decided"


def test_a_change_that_was_cut_goes_on(lab: Lab, host: Host) -> None:
    change(lab, NEW, "begin", "swap")
    assert f"K3s {NEW} is kept, before it was {OLD}" in change(lab, NEW, "begin", "keep")
    settled(lab, host, NEW)
