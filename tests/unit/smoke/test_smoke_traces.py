"""What containers leave on a host is seen, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import cri_section, traces, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Status
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.traces import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host with a pod that is not ours."""
    proc, cgroups, state = (tmp_path / name for name in ("proc", "cgroup", "state"))
    for folder in (proc / "self", cgroups / "kubepods" / "other", state / "other"):
        folder.mkdir(parents=True)
    (proc / "self" / "mountinfo").write_text("22 1 0:20 / /run/other rw - tmpfs tmpfs rw\n")
    process(proc, 12, "containerd-shim", "containerd-shim-runc-v2 -id other")
    return Places(proc, cgroups, (state,))


def process(proc: Path, pid: int, name: str, words: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes(words.replace(" ", "\0").encode())
    (folder / "comm").write_text(f"{name}\n")


def test_nothing_is_left(places: Places) -> None:
    assert traces.left(["ours"], places) == []
    assert traces.left([], places) == []


def test_a_leaking_shim_is_seen(places: Places) -> None:
    process(places.proc, 77, "containerd-shim", "containerd-shim-runc-v2 -namespace k8s.io -id ours")
    assert traces.left(["ours"], places) == ["process 77 (containerd-shim)"]


def test_mounts_control_groups_and_files_are_seen(places: Places) -> None:
    with (places.proc / "self" / "mountinfo").open("a") as mounts:
        mounts.write("23 1 0:21 / /run/containerd/x/ours/rootfs rw - overlay overlay rw\n")
    (places.cgroups / "kubepods" / "cri-ours.scope").mkdir()
    (places.state[0] / "ours").mkdir()
    assert traces.left(["ours"], places) == [
        "mount /run/containerd/x/ours/rootfs",
        f"control group {places.cgroups}/kubepods/cri-ours.scope",
        f"file {places.state[0]}/ours",
    ]


def test_what_containerd_holds(tmp_path: Path) -> None:
    folder = tmp_path / "5"
    (folder / "fd").mkdir(parents=True)
    for name in ("0", "1", "2"):
        (folder / "fd" / name).touch()
    (folder / "comm").write_text("containerd\n")
    (folder / "status").write_text("Name: containerd\nRssAnon:\t   20480 kB\n")
    assert traces.containerd(tmp_path) == traces.Daemon(3, 20.0)
    (folder / "comm").write_text("other\n")
    assert traces.containerd(tmp_path) is None


@pytest.mark.parametrize(
    ("left", "details", "reason"),
    [
        ([], {}, ""),
        ([], {"containerd_files": 8.0, "containerd_mib": 40.0}, ""),
        (["process 77 (containerd-shim)"], {}, "1 things are still there: process 77 (containerd-shim)"),
        ([], {"containerd_files": 9.0, "containerd_mib": 0.0}, "containerd keeps 9 more files open after 5 pods"),
        ([], {"containerd_files": 0.0, "containerd_mib": 49.0}, "containerd has grown by 49 MiB over 5 pods"),
    ],
)
def test_cycles_are_judged(left: list[str], details: dict[str, float], reason: str) -> None:
    found = verdicts.cycles(cri_section.CYCLES, 5, left, details)
    assert found.reason == reason
    assert found.status is (Status.FAIL if reason else Status.PASS)
    assert bool(found.cause) == bool(reason)
