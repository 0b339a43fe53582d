"""Upgrades, power cuts and wrong clocks on a virtual machine: a kernel, a page cache and a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror

from lab import workload
from lab.hosts import Host
from lab.machines import VirtualMachineHosts
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import ask, playbook, prepared, shell, until
from tests.integration.upgrades import (
    CURRENT,
    CUTS,
    OTHER,
    at_each_task,
    boots_whole,
    build,
    declared,
    up_and_back,
    versions,
)

pytestmark = [pytest.mark.lab, pytest.mark.full]

# Emulated where the machine has no KVM: everything takes several times as long.
PATIENCE = 4
TWO_YEARS = timedelta(days=730)
# Where systemd-timesyncd keeps the time across boots, for hosts whose clock has no battery.
KEPT_TIME = "/var/lib/systemd/timesync/clock"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    build(OTHER)
    yield from brought_up("upgrade-vm", "--hosts", "vm")


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    """A site with its workload."""
    (found,) = (one.host for one in lab.hosts.status())
    prepared(lab)
    return found


def set_clock(lab: Lab, host: Host, shift: timedelta) -> None:
    """Set the host's clock, and the one that runs while it is off, so far from the right time. Nothing corrects it."""
    wanted = f"{datetime.now(UTC) + shift:%Y-%m-%d %H:%M:%S} UTC"
    # The clock is refused to others until timesyncd has let go of it.
    script = f"timedatectl set-ntp false; until timedatectl set-time '{wanted}'; do sleep 1; done"
    shell(lab.hosts, host, f'timeout 60 sh -c "{script}"')


def keep_time(lab: Lab, host: Host) -> None:
    """What the host takes for the time is what it goes on from at the next boot."""
    shell(lab.hosts, host, f"touch {KEPT_TIME}; timedatectl set-ntp true")


def years_off(lab: Lab, host: Host) -> float:
    now = int(shell(lab.hosts, host, "date +%s"))
    return round((now - datetime.now(UTC).timestamp()) / timedelta(days=365).total_seconds(), 1)


def well(lab: Lab, host: Host) -> bool:
    """The API answers, its node is ready, and the workload answers from outside."""
    ready = shell(lab.hosts, host, "k3s kubectl wait --for=condition=Ready node --all --timeout=1s")
    return "condition met" in ready and versions(lab, host) == {CURRENT} and bool(ask(lab.hosts, host))


def test_up_and_back_while_the_workload_answers(lab: Lab, host: Host, tmp_path: Path) -> None:
    up_and_back(lab, host, tmp_path)


def test_a_clock_two_years_ahead(lab: Lab, host: Host) -> None:
    """All leaf certificates have expired: the nightly timer has K3s renew them, and they hold in the right time too."""
    url = workload.address(lab.hosts, host) + "ahead"
    set_clock(lab, host, TWO_YEARS)
    assert years_off(lab, host) == 2.0
    assert "ahead" in workload.fetch(url), "pods do not need the API to serve"
    with pytest.raises(AssertionError):
        versions(lab, host)
    shell(lab.hosts, host, "systemctl start edgefleet-renew.service")
    until("the site is well, two years ahead", 300 * PATIENCE, lambda: well(lab, host))
    lab.hosts.reboot(host.name)
    assert years_off(lab, host) == 2.0
    until("the site is well after a reboot", 300 * PATIENCE, lambda: well(lab, host))
    set_clock(lab, host, timedelta())
    keep_time(lab, host)
    assert years_off(lab, host) == 0.0
    until("the site is well, the time right again", 300 * PATIENCE, lambda: well(lab, host))
    run = playbook(lab.paths, "edgefleet.wasm.site")
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_clock_that_lost_its_battery(lab: Lab, host: Host) -> None:
    """The host boots two years back, where no certificate is valid yet: it goes on from the time that it kept."""
    assert "kept" in shell(lab.hosts, host, f"test -e {KEPT_TIME} && echo kept")
    set_clock(lab, host, -TWO_YEARS)
    shell(lab.hosts, host, "systemctl enable --quiet systemd-timesyncd")
    lab.hosts.reboot(host.name)
    assert years_off(lab, host) == 0.0
    until("the site is well", 300 * PATIENCE, lambda: well(lab, host))


@pytest.fixture(scope="module")
def cuts(lab: Lab, host: Host) -> dict[str, Path]:
    """One upgrade, and for each moment of it the disk that a power cut would have left then."""
    assert isinstance(lab.hosts, VirtualMachineHosts)
    keep = partial(lab.hosts.keep_disk, host.name)
    disks = {task: lab.paths.state / f"cut-{number}.raw" for number, task in enumerate(CUTS)}
    words = ["edgefleet.wasm.upgrade", *declared(Mirror(lab.paths.mirror), OTHER)]
    run = at_each_task(lab, words, CUTS, lambda task: keep(disks[task]))
    assert run.returncode == 0, run.stdout
    return disks


@pytest.mark.parametrize("task", CUTS)
def test_a_power_cut_boots_one_of_the_two_whole(lab: Lab, host: Host, cuts: dict[str, Path], task: str) -> None:
    """What the host's kernel had not written yet is lost with it. Last here: the host goes back and forth in time."""
    assert isinstance(lab.hosts, VirtualMachineHosts)
    lab.hosts.boot_from(host.name, cuts[task])
    boots_whole(lab, host, Mirror(lab.paths.mirror), task, PATIENCE)
