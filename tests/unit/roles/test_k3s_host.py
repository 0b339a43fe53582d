"""What the preflight sees on a host, and what it says about it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import (
    Host,
    Limits,
    inspect,
    notes,
    password,
    problems,
)

from tests.unit.roles.conftest import FakeRun

LIMITS = Limits(min_memory_mb=1800, min_disk_mb=4096, port=6443)
GOOD = Host(
    systemd=True,
    os_id="debian",
    os_version="13",
    os_name="Debian GNU/Linux 13 (trixie)",
    cpus=4,
    memory_mb=7900,
    swap_mb=0,
    disks={"/var/lib/rancher": 20000},
    cgroup_version=2,
    missing_controllers=[],
    port_owner="",
    clock_year=2026,
    absent_links=[],
    unit_present=False,
    unit_up=False,
    stale=False,
    other_role="",
    existing=False,
    encrypts=False,
    token_sha256="",
    environment={},
    config={},
)
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def test_a_sound_host_has_no_problems() -> None:
    assert problems(GOOD, LIMITS) == []
    assert notes(GOOD) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"systemd": False, "memory_mb": 1}, ["does not run systemd", "boot it"]),
        ({"os_version": "12", "os_name": "Debian 12"}, ["this host runs Debian 12", "Debian 13", "reinstall it"]),
        ({"os_id": "ubuntu", "os_version": "24.04", "os_name": "Ubuntu"}, ["this host runs Ubuntu"]),
        ({"memory_mb": 900}, ["900 MB of memory", "k3s_min_memory_mb asks for 1800", "add memory"]),
        ({"disks": {"/var/lib/containerd": 5}}, ["/var/lib/containerd has 5 MB", "k3s_min_disk_mb asks for 4096"]),
        ({"missing_controllers": ["pids"]}, ["no cgroup controller pids", "command line"]),
        ({"port_owner": "nginx (process 7)"}, ["port 6443", "taken by nginx (process 7)", "https-listen-port"]),
        ({"clock_year": 1970}, ["clock says 1970", "set the time"]),
        (
            {"other_role": "agent"},
            ["is a K3s agent (k3s-agent.service)", "makes it a K3s server", "k3s_agents", "wasm.reset"],
        ),
    ],
)
def test_each_bad_thing_is_one_sentence(found: dict[str, object], words: list[str]) -> None:
    (sentence,) = problems(dataclasses.replace(GOOD, **found), LIMITS)  # type: ignore[arg-type]
    for part in words:
        assert part in sentence


def test_everything_bad_is_told_at_once() -> None:
    host = dataclasses.replace(GOOD, memory_mb=1, disks={"/a": 1, "/b": 2}, port_owner="x")
    assert len(problems(host, LIMITS)) == 4


def test_swap_is_noted_and_allowed() -> None:
    host = dataclasses.replace(GOOD, swap_mb=512)
    assert problems(host, LIMITS) == []
    assert "512 MB of swap" in notes(host)[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The parts of a host's file system that are read."""
    for name, text in {
        "etc/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
        "proc/meminfo": "MemTotal:        2048000 kB\nSwapTotal:             0 kB\n",
        "proc/net/tcp": HEADER,
        "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids\n",
        "usr/bin/kubectl": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def no_unit(run: FakeRun) -> FakeRun:
    return run.on("systemctl show", "LoadState=not-found\nActiveState=inactive\nExecMainStartTimestampMonotonic=0\n")


def listen(root: Path, cgroup: str) -> None:
    """Process 42 listens on 6443 (0x192B)."""
    (root / "proc/net/tcp").write_text(HEADER + "0: 00000000:192B 00000000:0000 0A 0 0 0 0 0 777 1\n")
    process = root / "proc/42"
    (process / "fd").mkdir(parents=True)
    (process / "fd/3").symlink_to("socket:[777]")
    (process / "cgroup").write_text(cgroup)
    (process / "comm").write_text("haproxy\n")


def test_a_bare_host(root: Path, no_unit: FakeRun) -> None:
    host = inspect(no_unit, 6443, root)
    assert (host.systemd, host.os_id, host.os_version, host.memory_mb) == (True, "debian", "13", 2000)
    assert host.missing_controllers == []
    assert host.absent_links == ["crictl"]
    assert not host.unit_present
    assert not host.stale
    assert len(host.disks) == 1


def test_without_systemd_nothing_is_asked_of_it(root: Path, run: FakeRun) -> None:
    (root / "run/systemd/system").rmdir()
    assert not inspect(run, 6443, root).systemd
    assert run.commands == []


def test_controllers_of_both_cgroup_versions(root: Path, no_unit: FakeRun) -> None:
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
    assert inspect(no_unit, 6443, root).missing_controllers == ["cpuset", "pids"]
    (root / "sys/fs/cgroup/cgroup.controllers").unlink()
    (root / "proc/cgroups").write_text(
        "#subsys_name hierarchy num_cgroups enabled\ncpuset 1 1 1\ncpu 2 1 1\nmemory 3 1 0\npids 4 1 1\n"
    )
    host = inspect(no_unit, 6443, root)
    assert (host.cgroup_version, host.missing_controllers) == (1, ["memory"])


def test_who_has_the_port(root: Path, no_unit: FakeRun) -> None:
    listen(root, "0::/system.slice/haproxy.service\n")
    assert inspect(no_unit, 6443, root).port_owner == "haproxy (process 42)"
    assert inspect(no_unit, 7443, root).port_owner == ""


def test_k3s_itself_may_have_the_port(root: Path, no_unit: FakeRun) -> None:
    listen(root, "0::/system.slice/k3s.service\n")
    assert inspect(no_unit, 6443, root).port_owner == ""


@pytest.mark.parametrize(
    ("active", "file_state", "up"),
    [
        ("active", "enabled", True),
        ("activating", "enabled", True),
        ("active", "disabled", False),
        ("inactive", "enabled", False),
        ("failed", "enabled", False),
    ],
)
def test_a_service_is_up_that_runs_now_and_at_boot(
    root: Path, run: FakeRun, active: str, file_state: str, up: bool
) -> None:
    run.on("systemctl show", f"LoadState=loaded\nActiveState={active}\nUnitFileState={file_state}\n")
    assert inspect(run, 6443, root).unit_up is up


@pytest.mark.parametrize(("age", "stale"), [(3600, True), (-3600, False)])
def test_a_process_older_than_its_configuration_is_stale(root: Path, run: FakeRun, age: int, stale: bool) -> None:
    config = root / "etc/rancher/k3s/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("debug: true\n")
    os.utime(config, (0, 0))  # moved into place: its mtime says nothing
    started = int((time.clock_gettime(time.CLOCK_MONOTONIC) - age) * 1e6)
    run.on("systemctl show", f"LoadState=loaded\nActiveState=active\nExecMainStartTimestampMonotonic={started}\n")
    host = inspect(run, 6443, root)
    assert host.unit_present
    assert host.stale is stale


def test_a_host_that_has_the_other_role(root: Path, no_unit: FakeRun) -> None:
    unit = root / "etc/systemd/system/k3s-agent.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("")
    assert inspect(no_unit, 6443, root).other_role == "agent"
    assert inspect(no_unit, 6444, root, role="agent").other_role == ""
    assert no_unit.ran("systemctl show k3s-agent.service")


def test_an_agent_is_told_about_its_own_port() -> None:
    limits = dataclasses.replace(LIMITS, port=6444, role="agent")
    (sentence,) = problems(dataclasses.replace(GOOD, port_owner="haproxy"), limits)
    assert "port 6444" in sentence
    assert "lb-server-port" in sentence


def test_what_a_server_leaves_behind(root: Path, no_unit: FakeRun) -> None:
    server = root / "var/lib/rancher/k3s/server"
    (server / "cred").mkdir(parents=True)
    (server / "cred/passwd").write_text("")
    (server / "token").write_text("K10" + "a" * 64 + "::server:hunter2\n")
    host = inspect(no_unit, 6443, root)
    assert host.existing
    assert host.token_sha256 == hashlib.sha256(b"hunter2").hexdigest()
    assert not inspect(no_unit, 6444, root, role="agent").existing


@pytest.mark.parametrize(
    ("token", "bound"),
    [
        ("K10" + "a" * 64 + "::server:pass:word", "pass:word"),
        ("K10" + "a" * 64 + "::abcdef.0123456789abcdef", "abcdef.0123456789abcdef"),
        ("bare", "bare"),
        ("K10 is how mine begins", "K10 is how mine begins"),
    ],
)
def test_the_part_of_a_token_that_counts(token: str, bound: str) -> None:
    assert password(f"{token}\n") == bound


def test_configuration_and_environment_are_read_as_k3s_does(root: Path, no_unit: FakeRun) -> None:
    for name, text in {
        "etc/rancher/k3s/config.yaml": "debug: true\n",
        "etc/rancher/k3s/config.yaml.d/20.YML": "b: 1\n",
        "etc/rancher/k3s/config.yaml.d/10.yaml": "a: 1\n",
        "etc/rancher/k3s/config.yaml.d/30.json": "{}",
        "etc/systemd/system/k3s.service.env": "# x\nK3S_TOKEN=hunter2\n HTTP_PROXY=http://a:b@c\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    host = inspect(no_unit, 6443, root)
    folder = "/etc/rancher/k3s/config.yaml"
    assert list(host.config) == [folder, f"{folder}.d/10.yaml", f"{folder}.d/20.YML"]
    assert host.environment == {"/etc/systemd/system/k3s.service.env": ["K3S_TOKEN", "HTTP_PROXY"]}


@pytest.mark.parametrize(("text", "encrypts"), [(None, False), ("", False), ("{}", True)])
def test_a_datastore_whose_secrets_are_encrypted_is_known_by_its_keys(
    root: Path, no_unit: FakeRun, text: str | None, encrypts: bool
) -> None:
    keys = root / "var/lib/rancher/k3s/server/cred/encryption-config.json"
    keys.parent.mkdir(parents=True)
    if text is not None:
        keys.write_text(text)
    assert inspect(no_unit, 6443, root).encrypts is encrypts
