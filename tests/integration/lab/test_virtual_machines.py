"""Virtual machines of a lab of their own: what containers can't show, and that nothing of them stays."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import firewall
from lab.lan import Lan
from lab.paths import CHECKOUT
from lab.process import SEARCH_PATH, run
from tests.integration.lab.commands import Commands

# Emulated on a busy machine, a boot takes minutes.
lab = Commands("labvm", timeout=2400)
PATHS = lab.paths
MACHINES = PATHS.state / "machines"

pytestmark = [pytest.mark.lab, pytest.mark.full]


def address(host: str) -> str:
    """A host's address, as Ansible has it."""
    groups = yaml.safe_load((PATHS.inventory / "hosts.yml").read_text())["edge"]["children"]
    hosts = {**groups["k3s_servers"]["hosts"], **groups["k3s_agents"]["hosts"]}
    return str(hosts[host]["ansible_host"])


def pid(host: str) -> int:
    return int((MACHINES / host / "pid").read_text())


def is_qemu(number: int) -> bool:
    """Whether a process is a QEMU of this lab."""
    path = Path(f"/proc/{number}/cmdline")
    return path.exists() and f"guest={PATHS.id}-".encode() in path.read_bytes()


def boot_id(host: str) -> str:
    return lab.shell(host, "cat /proc/sys/kernel/random/boot_id")


def round_trip(host: str) -> float:
    """Milliseconds, the median of five."""
    said = run(["ping", "-c", "5", "-i", "0.3", address(host)]).stdout
    return statistics.median(float(time) for time in re.findall(r"time=([0-9.]+)", said))


def left_behind() -> dict[str, list[str]]:
    """What there is of this lab outside its own folder."""
    lan = Lan(PATHS, run, list)
    devices = [path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(lan.bridge[:-2])]
    tables = [line for line in run(["nft", "list", "tables"]).stdout.splitlines() if firewall.table(PATHS.id) in line]
    rules = [line for line in run(["iptables", "-S", "FORWARD"]).stdout.splitlines() if PATHS.id in line]
    processes = [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and is_qemu(int(path.name))]
    return {"devices": devices, "tables": tables, "rules": rules, "processes": processes}


@pytest.fixture(scope="module", autouse=True)
def _nothing_stays() -> Iterator[None]:
    lab("down")
    yield
    lab("down")


@pytest.fixture(scope="module")
def two_hosts() -> None:
    lab("up", "--hosts", "vm", "--count", "1", "--agents", "1")


@pytest.mark.usefixtures("two_hosts")
class TestHost:
    def test_ansible_reaches_both(self) -> None:
        done = subprocess.run(
            [
                shutil.which("ansible") or "ansible",
                "-i",
                str(PATHS.inventory),
                "edge",
                "-m",
                "ansible.builtin.ping",
                "-o",
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stdout.count("SUCCESS") == 2, done.stdout + done.stderr

    def test_it_is_debian_13_with_a_kernel_cgroups_and_modules_of_its_own(self) -> None:
        said = lab.shell(
            "edge1",
            "systemctl is-system-running; stat -fc %T /sys/fs/cgroup; . /etc/os-release; echo $VERSION_CODENAME; "
            "uname -r; hostname; modprobe br_netfilter && grep -c ^br_netfilter /proc/modules; ls /dev/watchdog",
        ).splitlines()
        assert said[:3] == ["running", "cgroup2fs", "trixie"]
        assert said[3] != platform.release()
        assert said[4:] == ["edge1", "1", "/dev/watchdog"]

    def test_hosts_have_ids_and_keys_of_their_own(self) -> None:
        ids = {lab.shell(host, "cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub") for host in ("edge1", "agent1")}
        assert len(ids) == 2

    def test_it_can_install_packages_and_reach_the_other(self) -> None:
        assert lab("shell", "edge1", "apt-get --error-on=any update", check=False).returncode == 0
        place = f"{address('agent1')}:22"
        assert lab.connect("edge1", place) == {place: 0}

    def test_closed_lab_has_no_route_out_and_opens_again(self) -> None:
        before = pid("edge1")
        outside, other = "1.1.1.1:443", f"{address('agent1')}:22"
        gateway = address("edge1").rpartition(".")[0] + ".1:22"
        lab("up", "--airgapped")
        assert lab.connect("edge1", outside, gateway, other) == {
            outside: errno.EHOSTUNREACH,
            gateway: errno.EHOSTUNREACH,
            other: 0,
        }
        lab("up", "--connected")
        assert lab("shell", "edge1", "apt-get --error-on=any update", check=False).returncode == 0
        assert pid("edge1") == before

    def test_delay_is_measured_from_outside_and_ends(self) -> None:
        near = round_trip("edge1")
        lab("netem", "edge1", "--delay", "200ms")
        far = round_trip("edge1")
        lab("netem", "edge1", "--delay", "off")
        lab("netem", "edge1", "--delay", "off")
        again = round_trip("edge1")
        assert 190 < far - near < 300
        assert again < 100

    def test_reboot_is_one_of_the_host_and_keeps_files(self) -> None:
        before, process = boot_id("edge1"), pid("edge1")
        # Not synced: an orderly shutdown does that.
        lab.shell("edge1", "echo kept > /root/file")
        lab("reboot", "edge1")
        assert boot_id("edge1") != before
        assert pid("edge1") == process
        assert lab.shell("edge1", "cat /root/file") == "kept"

    def test_power_cut_keeps_what_was_synced_and_takes_what_was_not(self) -> None:
        before, process = boot_id("edge1"), pid("edge1")
        # As if the power went in the moment after: until then the kernel writes nothing by itself.
        lab.shell(
            "edge1",
            "sysctl -qw vm.dirty_writeback_centisecs=0; mount -o remount,commit=3600 /; "
            "echo kept > /root/synced; sync; head -c 100000 /dev/zero | tr '\\0' x > /root/lost",
        )
        lab("reboot", "edge1", "--power-cut")
        assert boot_id("edge1") != before
        assert pid("edge1") != process
        assert lab.shell("edge1", "cat /root/synced") == "kept"
        assert "x" not in lab.shell("edge1", "cat /root/lost || true")

    def test_host_whose_process_was_ended_comes_back(self) -> None:
        lab.shell("edge1", "echo kept > /root/before; sync")
        assert is_qemu(pid("edge1"))
        os.kill(pid("edge1"), signal.SIGKILL)
        assert lab("status", check=False).returncode == 1
        lab("up")
        assert lab("status").returncode == 0
        assert lab.shell("edge1", "cat /root/before") == "kept"

    def test_fewer_hosts_removes_the_surplus(self) -> None:
        surplus, kept = pid("agent1"), pid("edge1")
        lab("up", "--agents", "0")
        assert not is_qemu(surplus)
        assert is_qemu(kept)
        assert [path.name for path in MACHINES.iterdir()] == ["edge1"]


def killed_up(environment: dict[str, str], marker: Path) -> None:
    """`up`, killed as soon as the marker is there."""
    process = subprocess.Popen(
        lab.line("up", "--hosts", "vm"),
        cwd=CHECKOUT,
        env={**lab.environment, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not marker.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    assert marker.exists()
    process.kill()
    process.wait()


def test_killed_while_a_disk_was_made_then_while_a_host_booted(tmp_path: Path) -> None:
    lab("down")
    marker = tmp_path / "marker"
    # A debugfs that says when it is asked for, and works a little later: the kill falls in between.
    shim = tmp_path / "debugfs"
    shim.write_text(f'#!/bin/sh\ntouch {marker}\nsleep 1\nexec {shutil.which("debugfs", path=SEARCH_PATH)} "$@"\n')
    shim.chmod(0o755)
    killed_up({"PATH": f"{tmp_path}:{os.environ['PATH']}"}, marker)
    assert not (MACHINES / "edge1" / "spec").exists()
    killed_up({}, MACHINES / "edge1" / "pid")
    started = pid("edge1")
    lab("up")
    assert lab("status").returncode == 0
    # What the killed run had started goes on.
    assert pid("edge1") == started


def test_down_leaves_nothing() -> None:
    there = left_behind()
    assert there["devices"]
    assert there["tables"]
    assert there["processes"]
    lab("down")
    assert left_behind() == {"devices": [], "tables": [], "rules": [], "processes": []}
    assert not PATHS.state.exists()


def test_delay_of_a_container_is_refused() -> None:
    lab("up", "--hosts", "containers")
    done = lab("netem", "edge1", "--delay", "200ms", check=False)
    assert done.returncode == 1
    assert "edge1 is a container" in done.stderr
    other = lab("up", "--hosts", "vm", check=False)
    assert other.returncode == 1
    assert "python -m lab down --name labvm" in other.stderr
