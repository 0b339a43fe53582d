"""`make lab` killed with kill -9 in each of its phases, then run again: the same end state."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import lab_command, lab_of, shell

pytestmark = [pytest.mark.lab, pytest.mark.full]

NAME = "killed"
# What the run prints when it is in the middle of each phase.
PHASES = {
    "host start": r"start   hosts: edge1",
    "role hardening": r"TASK \[edgefleet\.wasm\.hardening : Apply the controls\]",
    "role wasm_runtime": r"TASK \[edgefleet\.wasm\.wasm_runtime : Install",
    "role containerd": r"TASK \[edgefleet\.wasm\.containerd : Unpack containerd\]",
    "role k3s": r"TASK \[edgefleet\.wasm\.k3s : (Install|Write|Start)",
    "node": r"TASK \[edgefleet\.wasm\.k3s : Wait until the node",
}
# A killed image build: tests/integration/lab/test_lab_hosts.py.
COLD_PHASES = {"build": r"start   containerd .* from", "toolchain": r"start   Wasm toolchain"}


def kill_when(pattern: str, environment: dict[str, str]) -> str:
    """Start the whole run, kill it and all its children when its output shows the pattern; the output until then."""
    seen = ""
    with subprocess.Popen(
        lab_command("run", "--name", NAME),
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            seen += line
            if re.search(pattern, line, re.IGNORECASE):
                time.sleep(1)
                os.killpg(run.pid, signal.SIGKILL)
                break
    assert run.returncode == -signal.SIGKILL, f"ended before {pattern!r} was seen:\n{seen[-3000:]}"
    return seen


def end_state(lab: Lab) -> str:
    """What must not depend on how often a run was killed."""
    (status,) = lab.hosts.status()
    return shell(
        lab.hosts,
        status.host,
        "python3 -m json.tool /var/lib/edgefleet/artifacts.json; dpkg-query -W crun libwasmedge0; "
        "systemctl is-enabled containerd k3s; systemctl is-active containerd k3s; "
        "sha256sum /etc/containerd/config.toml /etc/containerd/conf.d/* /etc/rancher/k3s/config.yaml "
        "/etc/systemd/system/k3s.service /etc/systemd/system/containerd.service /usr/local/bin/k3s "
        "/usr/local/bin/containerd | sort",
    )


@pytest.fixture
def fresh_lab() -> Iterator[Lab]:
    lab = lab_of(NAME)
    yield lab
    with lab.locked():
        lab.down()


def run_again(environment: dict[str, str]) -> None:
    run = subprocess.run(
        lab_command("run", "--name", NAME),
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr


@pytest.mark.parametrize("phase", PHASES)
def test_killed_and_run_again(lab: Lab, fresh_lab: Lab, phase: str) -> None:
    """``lab``: one whose run was not killed."""
    environment = dict(os.environ)
    kill_when(PHASES[phase], environment)
    run_again(environment)
    assert end_state(fresh_lab) == end_state(lab)


@pytest.mark.parametrize("phase", COLD_PHASES)
def test_killed_with_a_cold_cache_and_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    monkeypatch.setenv("EDGEFLEET_CACHE", str(tmp_path))
    kill_when(COLD_PHASES[phase], dict(os.environ))
    run_again(dict(os.environ))
    lab = lab_of(NAME)
    try:
        assert "active" in end_state(lab)
    finally:
        with lab.locked():
            lab.down()
