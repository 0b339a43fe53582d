"""Faults in the middle of an upgrade: the host goes back by itself, whole, and serves as before."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror

from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import ask, playbook, prepared, shell, until
from tests.integration.upgrades import (
    BROKEN,
    CURRENT,
    CUTS,
    ENDED,
    OTHER,
    at_each_task,
    boots_whole,
    build,
    declared,
    killed_at,
    pods,
    status,
    versions,
    with_broken,
)

pytestmark = [pytest.mark.lab, pytest.mark.full]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    build(OTHER)
    yield from brought_up("upgrade")


@pytest.fixture(scope="module")
def mirror(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    return with_broken(lab, tmp_path_factory.mktemp("mirror") / "mirror")


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    """A site with its workload."""
    (found,) = (one.host for one in lab.hosts.status())
    prepared(lab)
    return found


def test_a_program_that_does_not_start_is_taken_back_by_the_host(lab: Lab, host: Host, mirror: Mirror) -> None:
    """Ansible is killed as soon as the program is started: nobody but the host is left to notice."""
    running = pods(lab, host)
    killed_at(lab, ["edgefleet.wasm.upgrade", *declared(mirror, BROKEN)], r"edgefleet\.wasm\.k3s : Wait until the node")
    assert BROKEN in shell(lab.hosts, host, "k3s --version"), "the broken program was not in place"
    began = time.monotonic()
    until("the host is back by itself", 180, lambda: versions(lab, host) == {CURRENT})
    print(f"back by itself after {time.monotonic() - began:.0f} s")
    until("the change has ended", 60, lambda: ENDED in status(lab, host))
    assert "does not stay up" in status(lab, host)
    assert ask(lab.hosts, host)
    assert pods(lab, host) == running


def test_a_failed_upgrade_is_told_with_its_reason(lab: Lab, host: Host, mirror: Mirror) -> None:
    run = playbook(lab.paths, "edgefleet.wasm.upgrade", *declared(mirror, BROKEN), "-e", "k3s_ready_timeout=90")
    assert run.returncode != 0
    told = " ".join(run.stdout.split())
    assert "edge1 was not upgraded, it is back to K3s v1.30.4+k3s1: k3s.service does not stay up" in told
    assert versions(lab, host) == {CURRENT}
    assert ask(lab.hosts, host)


# The smoke test's own server can't be reached while this stands, and nothing else.
RULE = "INPUT -i lo -p tcp --syn --dport 32768:60999 -j REJECT"
BREAK, MEND = f"iptables -I {RULE}", f"iptables -D {RULE}"
STARTED, TESTED_AGAIN = r"edgefleet\.wasm\.k3s : Wait until the node", r"Test it again where it did better before"


def test_a_wasm_path_that_is_lost_takes_the_upgrade_back(lab: Lab, host: Host, mirror: Mirror) -> None:
    words = ["edgefleet.wasm.upgrade", *declared(mirror, OTHER)]
    try:
        run = at_each_task(lab, words, [STARTED], lambda _: shell(lab.hosts, host, BREAK))
    finally:
        shell(lab.hosts, host, MEND)
    assert run.returncode != 0
    told = " ".join(run.stdout.split())
    assert re.search(
        rf"edge1 was not upgraded, it is back to K3s {re.escape(CURRENT)}: .* did better before: \w+", told
    )
    assert versions(lab, host) == {CURRENT}
    assert ask(lab.hosts, host)


def test_a_wasm_path_that_was_lost_for_a_moment_does_not(lab: Lab, host: Host, mirror: Mirror) -> None:
    at = {STARTED: BREAK, TESTED_AGAIN: MEND}
    words = ["edgefleet.wasm.upgrade", *declared(mirror, OTHER)]
    run = at_each_task(lab, words, list(at), lambda task: shell(lab.hosts, host, at[task]))
    assert run.returncode == 0, run.stdout
    assert re.search(rf"TASK \[{TESTED_AGAIN}\] \*+\nok: \[edge1\]", run.stdout), "nothing had been lost"
    assert versions(lab, host) == {OTHER}
    back = playbook(lab.paths, "edgefleet.wasm.rollback")
    assert back.returncode == 0, back.stdout + back.stderr


@pytest.mark.parametrize("task", CUTS)
def test_a_power_cut_boots_one_of_the_two_whole(lab: Lab, host: Host, mirror: Mirror, task: str) -> None:
    """The processes go, not the kernel's page cache: a container. Virtual machines lose that too."""
    killed_at(lab, ["edgefleet.wasm.upgrade", *declared(mirror, OTHER)], task)
    lab.hosts.reboot(host.name, power_cut=True)
    boots_whole(lab, host, mirror, task)


@pytest.mark.parametrize("task", CUTS)
def test_an_upgrade_that_was_killed_is_finished_by_the_next(lab: Lab, host: Host, mirror: Mirror, task: str) -> None:
    killed_at(lab, ["edgefleet.wasm.upgrade", *declared(mirror, OTHER)], task)
    run = playbook(lab.paths, "edgefleet.wasm.upgrade", *declared(mirror, OTHER))
    assert run.returncode == 0, run.stdout + run.stderr
    assert versions(lab, host) == {OTHER}
    assert ask(lab.hosts, host)
    back = playbook(lab.paths, "edgefleet.wasm.rollback", "-e", "edgefleet_mirror_dir=/nowhere")
    assert back.returncode == 0, back.stdout + back.stderr
    assert versions(lab, host) == {CURRENT}
