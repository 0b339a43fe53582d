"""The disk is full, the network goes, a file is not what it should be: a clear end, and the site serves as before."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror

from lab.builders import catalogue
from lab.builders.base import host_arch
from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import ask, playbook, prepared, recap, shell, until
from tests.integration.packet_filter import dropping
from tests.integration.upgrades import CURRENT, ENDED, OTHER, at_task, build, declared, pods, status, versions

pytestmark = [pytest.mark.lab, pytest.mark.full]

# File systems of their own, to be filled: where Ansible puts files first, where images go, where K3s unpacks itself.
DISKS = {"/root/.ansible": 300, "/var/lib/containerd": 1500, "/var/lib/rancher": 1500}
BIG = "filler"
# A kubelet that minds a full disk evicts pods, whoever has filled it: what is asked here is what a play does.
UNMINDED = {"memory.available": "256Mi", "nodefs.available": "4Ki", "imagefs.available": "4Ki"}
# The preflight would refuse: here the disk fills only after it.
LATE = ["-e", json.dumps({"k3s_min_disk_mb": 1, "k3s_eviction_hard": UNMINDED})]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    build(OTHER)
    yield from brought_up("faults")


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Host:
    """A host whose folders that grow are disks of their own."""
    (found,) = (one.host for one in lab.hosts.status())
    for folder, megabytes in DISKS.items():
        shell(lab.hosts, found, f"mkdir -p {folder} && mount -t tmpfs -o size={megabytes}m,mode=711 tmpfs {folder}")
    return found


@pytest.fixture(scope="module")
def host(lab: Lab, bare: Host) -> Host:
    """It serves."""
    prepared(lab, *LATE)
    return bare


@contextmanager
def full(lab: Lab, host: Host, folder: str, left_kb: int) -> Iterator[None]:
    """So many kilobytes are left on a disk."""
    file = f"{folder}/{BIG}"
    fill = f"head -c $(( $(df --output=avail -k {folder} | tail -1) - {left_kb} ))K /dev/zero > {file}"
    shell(lab.hosts, host, fill)
    try:
        yield
    finally:
        shell(lab.hosts, host, f"rm -f {file}")


def told(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode != 0, run.stdout
    return " ".join((run.stdout + run.stderr).split())


def test_too_little_disk_is_refused_before_anything_changes(lab: Lab, bare: Host) -> None:
    assert "MB of free disk, k3s_min_disk_mb asks for" in told(playbook(lab.paths, "edgefleet.wasm.site"))
    assert lab.hosts.exec(bare.name, ["ls", "/usr/local/bin/k3s"])[0] != 0


def test_a_disk_that_is_full_while_files_are_copied_is_named_and_the_next_run_installs(lab: Lab, bare: Host) -> None:
    with full(lab, bare, "/root/.ansible", 5000):
        said = told(playbook(lab.paths, "edgefleet.wasm.site", *LATE))
    assert re.search(r"no room for it under /root/.ansible: \d+ MiB needed, 5 MiB free", said), said[-2000:]
    assert lab.hosts.exec(bare.name, ["ls", "/usr/local/bin/k3s"])[0] != 0
    run = playbook(lab.paths, "edgefleet.wasm.site", *LATE)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_disk_that_is_full_while_images_are_imported_costs_no_service(lab: Lab, host: Host) -> None:
    names = shell(lab.hosts, host, "ctr -n k8s.io images ls -q | grep coredns").split()
    running = pods(lab, host)
    shell(lab.hosts, host, f"ctr -n k8s.io images rm --sync {' '.join(names)}")
    with full(lab, host, "/var/lib/containerd", 1500):
        said = told(playbook(lab.paths, "edgefleet.wasm.site", *LATE))
        assert ask(lab.hosts, host)
    assert re.search(r"no room for it under /var/lib/containerd: \d+ MiB needed, 1 MiB free", said), said[-2000:]
    run = playbook(lab.paths, "edgefleet.wasm.site", *LATE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert set(names) <= set(shell(lab.hosts, host, "ctr -n k8s.io images ls -q").split())
    assert pods(lab, host) == running


def test_a_disk_that_is_full_at_an_upgrade_takes_the_host_back(lab: Lab, host: Host) -> None:
    """The new K3s can't unpack itself, and so does not start; the old one is unpacked already."""
    running = pods(lab, host)
    values = [*declared(Mirror(lab.paths.mirror), OTHER), *LATE, "-e", "k3s_ready_timeout=120"]
    with full(lab, host, "/var/lib/rancher", 20000):
        said = told(playbook(lab.paths, "edgefleet.wasm.upgrade", *values))
        assert f"edge1 was not upgraded, it is back to K3s {CURRENT}" in said, said[-2000:]
        assert versions(lab, host) == {CURRENT}
        assert ask(lab.hosts, host)
    assert pods(lab, host) == running
    assert ENDED in status(lab, host)


def test_a_wrong_checksum_is_refused_before_an_upgrade_touches_the_host(lab: Lab, host: Host, tmp_path: Path) -> None:
    values = declared(Mirror(lab.paths.mirror), OTHER)
    folder = tmp_path / "mirror"
    shutil.copytree(lab.paths.mirror, folder)
    (k3s,) = (one for one in catalogue.k3s_of(OTHER, host_arch()) if one.name == "k3s")
    with Mirror(folder).path(k3s).open("r+b") as file:
        file.seek(4096)
        file.write(b"not what it was")
    said = told(playbook(lab.paths, "edgefleet.wasm.upgrade", *values, *LATE, "-e", f"edgefleet_mirror_dir={folder}"))
    assert re.search(rf"k3s {re.escape(OTHER)} .* has SHA-256 .* damaged or replaced", said), said[-2000:]
    assert versions(lab, host) == {CURRENT}
    assert ENDED in status(lab, host)
    assert ask(lab.hosts, host)


def test_without_network_in_the_middle_of_an_upgrade_the_host_ends_it_by_itself(lab: Lab, host: Host) -> None:
    # How long a host waits for the change to be finished before it goes back; an hour if not set.
    values = [*declared(Mirror(lab.paths.mirror), OTHER), *LATE, "-e", "keeper_change_seconds=240"]
    lost = upgrade_and_lose(lab, host, values, r"edgefleet\.wasm\.k3s : Wait until the node")
    assert "UNREACHABLE" in lost or "unreachable=1" in lost, lost[-2000:]
    until("the change has ended", 400, lambda: ENDED in status(lab, host))
    until("one version alone", 60, lambda: versions(lab, host) in ({CURRENT}, {OTHER}))
    print(status(lab, host))
    assert ask(lab.hosts, host)
    back = playbook(lab.paths, "edgefleet.wasm.upgrade", *declared(Mirror(lab.paths.mirror), CURRENT), *LATE)
    assert back.returncode == 0, back.stdout + back.stderr
    assert versions(lab, host) == {CURRENT}


def upgrade_and_lose(lab: Lab, host: Host, values: list[str], task: str) -> str:
    """An upgrade during which the network goes at a task, for a minute and a half; what it said from then on."""
    ssh = ["OUTPUT", "-d", host.address, "-p", "tcp", "--dport", "22"]
    with at_task(lab, ["edgefleet.wasm.upgrade", *values], task) as run:
        assert run.stdout is not None
        with dropping(ssh):
            time.sleep(90)
        return run.stdout.read()


def test_a_corrupted_configuration_is_healed(lab: Lab, host: Host) -> None:
    running = pods(lab, host)
    shell(lab.hosts, host, "printf ':::\\n\\t- ' > /etc/rancher/k3s/config.yaml; systemctl restart --no-block k3s")
    time.sleep(5)
    run = playbook(lab.paths, "edgefleet.wasm.site", *LATE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert recap(run.stdout)["edge1"]["changed"] > 0
    assert versions(lab, host) == {CURRENT}
    assert pods(lab, host) == running
    assert ask(lab.hosts, host)
