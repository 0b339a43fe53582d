"""Another token for a site: one at random, then one that is declared; the site starts with it, and with no other."""

from __future__ import annotations

import secrets

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import ask, playbook, recap, shell, until

pytestmark = [pytest.mark.lab, pytest.mark.full]

TOKEN = "cut -d: -f4 /var/lib/rancher/k3s/server/token"
ROTATE = ("edgefleet.wasm.rotate", "--extra-vars", "edgefleet_rotate_token=true")


def token(lab: Lab, host: Host) -> str:
    return shell(lab.hosts, host, TOKEN).strip()


def test_a_token_is_exchanged_while_the_site_serves(lab: Lab, host: Host) -> None:
    first = token(lab, host)
    told = playbook(lab.paths, *ROTATE, "--check")
    assert told.returncode == 0, told.stdout + told.stderr
    assert token(lab, host) == first
    run = playbook(lab.paths, *ROTATE)
    assert run.returncode == 0, run.stdout + run.stderr
    second = token(lab, host)
    assert second != first

    third = secrets.token_hex(16)
    declared = ("--extra-vars", f"k3s_token={third}")
    refused = playbook(lab.paths, "edgefleet.wasm.site", *declared)
    assert refused.returncode != 0
    assert "edgefleet.wasm.rotate" in refused.stdout
    run = playbook(lab.paths, *ROTATE, *declared)
    assert run.returncode == 0, run.stdout + run.stderr
    assert token(lab, host) == third
    assert third not in run.stdout
    shell(lab.hosts, host, "systemctl restart k3s")
    until("K3s is ready again", 120, lambda: shell(lab.hosts, host, "k3s kubectl get --raw=/readyz").strip() == "ok")
    assert ask(lab.hosts, host)
    again = playbook(lab.paths, "edgefleet.wasm.site", *declared)
    assert recap(again.stdout)[host.name] == {"changed": 0, "unreachable": 0, "failed": 0}, again.stdout
    # Left out again: the file goes, the token stays.
    back = playbook(lab.paths, "edgefleet.wasm.site")
    assert back.returncode == 0, back.stdout + back.stderr
    assert token(lab, host) == third
