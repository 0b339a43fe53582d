"""Hosts that are reached as a user who is not root, and whose sudo asks for a password."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import ssh
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import playbook, recap

pytestmark = [pytest.mark.lab, pytest.mark.full]

USER = "edgefleet"
# The password of sudo and the key of the lab come by standard input: no command line shows them.
MAKE_USER = f"""
set -eu
useradd --create-home --shell /bin/bash --groups sudo {USER}
install -d -m 0700 -o {USER} -g {USER} ~{USER}/.ssh
install -m 0600 -o {USER} -g {USER} ~/.ssh/authorized_keys ~{USER}/.ssh/authorized_keys
chpasswd
"""


@dataclass(frozen=True)
class Operator:
    """Who logs in, with the file that a vault would be."""

    lab: Lab
    password: str = field(repr=False)
    variables: Path

    def site(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run site.yml as that user."""
        return playbook(self.lab.paths, "edgefleet.wasm.site", "-e", f"@{self.variables}", *words)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    for lab in brought_up("non-root"):
        password = secrets.token_urlsafe(24)
        (host,) = [one.host for one in lab.hosts.status()]
        command = [*ssh.command(lab.paths, host), MAKE_USER]
        subprocess.run(command, input=f"{USER}:{password}\n", text=True, check=True, timeout=60)
        variables = tmp_path_factory.mktemp("vault") / "become.json"
        with os.fdopen(os.open(variables, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"ansible_user": USER, "ansible_become_password": password}, file)
        yield Operator(lab, password, variables)


def test_without_the_password_one_error_says_so(operator: Operator) -> None:
    run = playbook(operator.lab.paths, "edgefleet.wasm.site", "-e", f"ansible_user={USER}")
    assert run.returncode != 0
    assert "Missing sudo password" in run.stdout
    assert recap(run.stdout)["edge1"]["changed"] == 0


def test_bare_host_in_check_mode_then_converged_then_no_change(operator: Operator) -> None:
    bare = operator.site("--check", "--diff")
    assert bare.returncode == 0, bare.stdout[-4000:]
    first = operator.site("-vv")
    assert first.returncode == 0, first.stdout[-4000:]
    assert recap(first.stdout)["edge1"]["changed"] > 0
    again = operator.site()
    assert again.returncode == 0, again.stdout[-4000:]
    assert recap(again.stdout)["edge1"]["changed"] == 0, again.stdout
    checked = operator.site("--check")
    assert recap(checked.stdout)["edge1"] == {"changed": 0, "unreachable": 0, "failed": 0}
    for run in (bare, first, again, checked):
        assert operator.password not in run.stdout + run.stderr


def test_what_was_made_belongs_to_root(operator: Operator) -> None:
    (host,) = [one.host for one in operator.lab.hosts.status()]
    find = f"find /etc /usr/local /opt /var/lib/rancher /var/lib/edgefleet -user {USER}"
    assert operator.lab.hosts.exec(host.name, ["sh", "-c", find]) == (0, "")
