"""The lab that `make test` has brought up, and labs of their own for tests that must start from a bare host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import TEST_LAB, lab_command, lab_of
from tests.integration.packet_filter import remove_orphans


@pytest.fixture(scope="session", autouse=True)
def _nothing_dropped_by_the_dead() -> None:
    """No rule of an earlier run that was killed stands in the way of this one."""
    remove_orphans()


def brought_up(name: str, *options: str) -> Iterator[Lab]:
    up = lab_command("up", "--name", name, "--count", "1", *options)
    try:
        subprocess.run(up, cwd=CHECKOUT, check=True, timeout=900)
        yield lab_of(name)
    finally:
        subprocess.run(lab_command("down", "--name", name), cwd=CHECKOUT, check=True, timeout=300)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab whose hosts have been through all of `make lab`: the one that is up, or one for these tests."""
    if lab_of().hosts.status():
        yield lab_of()
        return
    subprocess.run(lab_command("run", "--name", TEST_LAB), cwd=CHECKOUT, check=True, timeout=1800)
    yield lab_of()
    subprocess.run(lab_command("down", "--name", TEST_LAB), cwd=CHECKOUT, check=True, timeout=300)


@pytest.fixture(scope="session")
def host(lab: Lab) -> Host:
    """Its first host."""
    found = lab.hosts.status()
    assert found, "no lab host: python -m lab run --name test"
    return found[0].host


@pytest.fixture(scope="session")
def bare_lab() -> Iterator[Lab]:
    """One host on which nothing has been installed, and nothing must be."""
    yield from brought_up("bad-input")


@pytest.fixture(scope="session")
def lab_without_systemd() -> Iterator[Lab]:
    """One host whose first process is sshd."""
    yield from brought_up("bad-init", "--without-systemd")
