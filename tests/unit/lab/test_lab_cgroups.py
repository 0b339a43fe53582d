"""Which control groups are taken for left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.cgroups import sweep

CONTAINER = "ab" * 32
POD = "poda626f4e9-8d25-4852-aca5-573b4d3cb3c1"
LATER = 10_000_000_000.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a host has left, by the cgroupfs driver."""
    for name in ("k8s.io/" + CONTAINER, f"kubepods/burstable/{POD}/{CONTAINER}", "edgefleet-smoke-0a1b", "machine"):
        made(tmp_path / "cgroup/memory" / name)
    return tmp_path / "cgroup"


def made(folder: Path, processes: str = "") -> None:
    folder.mkdir(parents=True)
    for one in (folder, *folder.parents):
        if one.name in ("memory", "cgroup"):
            break
        (one / "cgroup.procs").write_text("")
    (folder / "cgroup.procs").write_text(processes)


def swept(root: Path, now: float = LATER) -> int:
    """In the kernel's own file system a control group goes with its files, but not with others below it."""

    def remove(folder: Path) -> None:
        if any(one.is_dir() for one in folder.iterdir()):
            raise OSError
        shutil.rmtree(folder)

    return sweep(root, root / "no-kubelet", lambda: now, remove)


def there(root: Path) -> list[str]:
    return sorted(str(one.relative_to(root / "memory")) for one in (root / "memory").rglob("*") if one.is_dir())


def test_containers_and_pods_go_and_what_is_above_them_stays(root: Path) -> None:
    assert swept(root) == 4
    assert there(root) == ["k8s.io", "kubepods", "kubepods/burstable", "machine"]


def test_what_runs_and_what_is_just_being_made_stays(root: Path) -> None:
    (root / "memory/k8s.io" / CONTAINER / "cgroup.procs").write_text("4711\n")
    before = there(root)
    assert swept(root, now=(root / "memory").stat().st_mtime + 30) == 0
    assert there(root) == before
    swept(root)
    assert f"k8s.io/{CONTAINER}" in there(root)


def test_a_machine_with_a_kubelet_or_with_cgroup_v2_is_left_alone(root: Path) -> None:
    assert sweep(root, kubelet=root) == 0
    assert sweep(root / "memory", root / "no-kubelet") == 0
