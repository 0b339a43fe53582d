"""Real hosts of a lab of their own: up, again, killed in the middle, down; and nothing of others is touched."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from lab import aptsources
from lab.paths import CHECKOUT
from lab.podman import LABEL, Podman
from tests.integration.lab.commands import Commands

lab = Commands("labtest")
PATHS = lab.paths
PODMAN = Podman()

pytestmark = pytest.mark.lab


def container_ids() -> dict[str, str]:
    rows = PODMAN.json("ps", "--all", "--filter", f"label={LABEL}={PATHS.id}", "--format", "json")
    return {row["Names"][0]: row["Id"] for row in rows}


def everything() -> dict[str, set[str]]:
    """All that podman has on this machine, of whatever lab."""
    return {
        "containers": set(PODMAN("ps", "--all", "--format", "{{.Names}}")[1].split()),
        "volumes": set(PODMAN("volume", "ls", "--format", "{{.Name}}")[1].split()),
        "networks": set(PODMAN("network", "ls", "--format", "{{.Name}}")[1].split()),
    }


# An image of a key of its own, so that it is neither there nor used by anybody.
OWN_IMAGE = """
from dataclasses import replace
from lab import image
from lab.paths import LabPaths
from lab.podman import Podman
from lab.progress import Progress
recipe = image.Recipe.here()
recipe = replace(recipe, packages=(*recipe.packages, "less"))
print(image.ensure(LabPaths.of("labtest").image, recipe, Podman(), Progress()))
"""


def build_own_image() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWN_IMAGE], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


@pytest.mark.full
def test_killed_image_build_leaves_nothing_and_is_finished_by_the_next() -> None:
    killed = build_own_image()
    scratch = PATHS.image / "build"
    deadline = time.monotonic() + 120
    while not list(scratch.glob("mmdebstrap.*/usr/bin/dpkg")):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    assert str(scratch) not in Path("/proc/mounts").read_text()
    again = build_own_image()
    tag = again.communicate(timeout=300)[0].strip()
    assert again.returncode == 0
    try:
        assert not scratch.exists()
        assert PODMAN.image_exists(tag)
    finally:
        PODMAN("rmi", tag)
        (PATHS.image / f"{tag.rpartition(':')[2]}.tar").unlink()


@pytest.fixture(scope="module", autouse=True)
def _nothing_stays() -> Iterator[None]:
    lab("down")
    yield
    lab("down")


@pytest.fixture(scope="module")
def two_hosts() -> None:
    lab("up", "--count", "2")


def ansible(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("ansible")), "-i", str(PATHS.inventory), "edge", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.usefixtures("two_hosts")
class TestUp:
    def test_ansible_reaches_both_and_checks_their_keys(self) -> None:
        done = ansible("-m", "ansible.builtin.ping", "-o")
        assert done.stdout.count("SUCCESS") == 2, done.stdout + done.stderr

    def test_another_host_key_is_refused(self, tmp_path: Path) -> None:
        hosts = yaml.safe_load((PATHS.inventory / "hosts.yml").read_text())["edge"]["children"]["k3s_servers"]["hosts"]
        wrong = tmp_path / "known_hosts"
        first, second = PATHS.known_hosts.read_text().splitlines()
        # Each address with the other one's key.
        wrong.write_text(f"{first.split()[0]} {second.partition(' ')[2]}\n")
        done = subprocess.run(
            [
                *("ssh", "-o", f"UserKnownHostsFile={wrong}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
                *("-i", str(PATHS.key), f"root@{hosts['edge1']['ansible_host']}", "true"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 255
        assert "Host key verification failed" in done.stderr

    def test_host_is_a_bare_debian_13_that_can_install_packages(self) -> None:
        done = lab(
            "shell", "edge1", ". /etc/os-release; echo $VERSION_CODENAME; apt-get update && apt-get -s install crun"
        )
        assert done.stdout.startswith("trixie\n")
        assert re.search(r"^Inst crun ", done.stdout, re.M)
        assert "command not found" in lab("shell", "edge1", "containerd --version", check=False).stderr

    def test_hosts_have_ids_and_keys_of_their_own(self) -> None:
        ids = {
            lab("shell", host, "cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub").stdout for host in ("edge1", "edge2")
        }
        assert len(ids) == 2

    def test_keys_are_for_their_owner_only(self) -> None:
        private = [PATHS.key, *(PATHS.state / "hosts").rglob("*_key")]
        assert len(private) == 3
        assert {path.stat().st_mode & 0o777 for path in private} == {0o600}

    def test_second_up_keeps_them(self) -> None:
        before = container_ids()
        begin = time.monotonic()
        lab("up")
        assert container_ids() == before
        assert time.monotonic() - begin < 30

    def test_status_shows_them_and_is_0_only_while_all_are_well(self) -> None:
        assert re.search(r"edge2\W+10\.\S+\W+running\W+running", lab("status").stderr)
        PODMAN("kill", f"{PATHS.id}-edge2")
        assert lab("status", check=False).returncode == 1
        lab("up")
        assert lab("status").returncode == 0

    def test_reboot_keeps_files_and_address(self) -> None:
        lab("shell", "edge1", "echo kept > /var/lib/containerd/file; echo kept > /etc/file; sync")
        boot = lab("shell", "edge1", "systemctl show -P UserspaceTimestampMonotonic").stdout
        lab("reboot", "edge1", "--power-cut")
        assert lab("shell", "edge1", "cat /var/lib/containerd/file /etc/file").stdout == "kept\nkept\n"
        assert lab("shell", "edge1", "systemctl show -P UserspaceTimestampMonotonic").stdout != boot

    def test_fewer_hosts_removes_the_surplus_with_its_volumes(self) -> None:
        lab("up", "--count", "1")
        found = PODMAN.labelled(PATHS.id)
        assert found["container"] == [f"{PATHS.id}-edge1"]
        assert not [name for name in found["volume"] if "edge2" in name]


@pytest.mark.full
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("network create", marks=pytest.mark.full),
        pytest.param("volume create", marks=pytest.mark.full),
        "create",
        pytest.param("cp", marks=pytest.mark.full),
        "start",
    ],
)
def test_killed_up_is_finished_by_the_next(moment: str, tmp_path: Path) -> None:
    """kill -9 right after podman was asked for one thing, then `up` again."""
    lab("down")
    marker = tmp_path / "marker"
    # A podman that says when it is asked for that, and does it a little later: the kill falls in between.
    shim = tmp_path / "podman"
    shim.write_text(
        f'#!/bin/sh\ncase "$3 $4" in "{moment}"*) touch {marker}; sleep 1;; esac\nexec /usr/bin/podman "$@"\n'
    )
    shim.chmod(0o755)
    killed = subprocess.Popen(
        lab.line("up"),
        cwd=CHECKOUT,
        env={**lab.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        assert killed.poll() is None
        time.sleep(0.02)
    assert marker.exists()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    lab("up")
    assert lab("status").returncode == 0
    assert set(PODMAN.labelled(PATHS.id)["container"]) == {f"{PATHS.id}-edge1"}
    assert len(PODMAN.labelled(PATHS.id)["volume"]) == 3


@pytest.fixture(scope="module")
def closed_lab() -> None:
    lab("up", "--count", "1", "--agents", "1", "--airgapped")


@pytest.mark.full
@pytest.mark.usefixtures("closed_lab")
class TestAirgapped:
    def test_nothing_outside_has_a_route_from_there_and_the_other_host_has(self) -> None:
        hosts = yaml.safe_load((PATHS.inventory / "hosts.yml").read_text())["edge"]["children"]
        agent = hosts["k3s_agents"]["hosts"]["agent1"]["ansible_host"]
        gateway = agent.rpartition(".")[0] + ".1"
        mirror = urlsplit(aptsources.for_release(aptsources.read())[0].uri)
        mirror_address = socket.gethostbyname(mirror.hostname or "")
        outside = [f"{mirror_address}:{mirror.port or 80}", "1.1.1.1:443", f"{gateway}:22"]
        answers = lab.connect("edge1", f"{agent}:22", *outside)
        assert answers == {f"{agent}:22": 0, **dict.fromkeys(outside, errno.EHOSTUNREACH)}

    def test_names_are_not_resolved_and_apt_gets_nothing(self) -> None:
        assert lab("shell", "edge1", "timeout 60 getent hosts deb.debian.org", check=False).returncode != 0
        assert lab("shell", "edge1", "apt-get -o Acquire::Retries=0 --error-on=any update", check=False).returncode != 0

    def test_controller_reaches_it_as_any_other(self) -> None:
        assert ansible("-m", "ansible.builtin.ping", "-o").stdout.count("SUCCESS") == 2

    def test_stays_closed_until_it_is_opened(self) -> None:
        lab("up")
        assert lab.connect("edge1", "1.1.1.1:443") == {"1.1.1.1:443": errno.EHOSTUNREACH}
        lab("up", "--connected", "--agents", "0")
        assert lab("shell", "edge1", "apt-get --error-on=any update", check=False).returncode == 0


def test_host_without_systemd() -> None:
    lab("up", "--without-systemd")
    assert lab("shell", "edge1", "cat /proc/1/comm").stdout.strip() == "sshd"


def test_down_removes_its_own_things_and_nothing_else() -> None:
    other = "ef-00000000-labtest-other"
    PODMAN("volume", "create", "--label", f"{LABEL}={other}", other)
    try:
        lab("up")
        before = everything()
        lab("down")
        after = everything()
        gone = {kind: before[kind] - after[kind] for kind in before}
        assert all(name.startswith(PATHS.id) for names in gone.values() for name in names)
        assert {kind: len(names) for kind, names in gone.items()} == {"containers": 1, "volumes": 3, "networks": 1}
        assert other in after["volumes"]
        assert not PATHS.state.exists()
        # And once more, with nothing there.
        lab("down")
    finally:
        PODMAN("volume", "rm", other)


def test_network_of_another_lab_is_not_ours() -> None:
    lab("up")
    networks = [json.loads(PODMAN("network", "inspect", name)[1])[0] for name in everything()["networks"]]
    subnets = [subnet["subnet"] for network in networks for subnet in network["subnets"]]
    assert len(subnets) == len(set(subnets))
