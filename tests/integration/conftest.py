"""Labs of their own for tests that must start from a bare host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import lab_command, lab_of


def brought_up(name: str, *options: str) -> Iterator[Lab]:
    subprocess.run(lab_command("up", "--name", name, "--hosts", "1", *options), cwd=CHECKOUT, check=True, timeout=900)
    try:
        yield lab_of(name)
    finally:
        subprocess.run(lab_command("down", "--name", name), cwd=CHECKOUT, check=True, timeout=300)


@pytest.fixture(scope="session")
def bare_lab() -> Iterator[Lab]:
    """One host on which nothing has been installed, and nothing must be."""
    yield from brought_up("bad-input")


@pytest.fixture(scope="session")
def lab_without_systemd() -> Iterator[Lab]:
    """One host whose first process is sshd."""
    yield from brought_up("bad-init", "--without-systemd")
