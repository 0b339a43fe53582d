"""Which control groups are taken for left behind. A plain folder with a file in it stands for one with a process."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from lab import cgroups

CONTAINER = "ab" * 32
POD = "poda626f4e9-8d25-4852-aca5-573b4d3cb3c1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a host has left, by the cgroupfs driver, and what is the machine's."""
    for name in (f"k8s.io/{CONTAINER}", f"kubepods/burstable/{POD}/{CONTAINER}", "edgefleet-smoke-0a1b", "machine"):
        (tmp_path / "memory" / name).mkdir(parents=True)
    age(tmp_path)
    return tmp_path


def age(root: Path) -> None:
    for folder in root.rglob("*"):
        os.utime(folder, (time.time() - 300,) * 2)


def swept(root: Path) -> list[str]:
    subprocess.run(cgroups.sweep(root), check=True, capture_output=True)
    return sorted(str(one.relative_to(root / "memory")) for one in (root / "memory").rglob("*") if one.is_dir())


def test_containers_go_and_what_is_above_pods_stays(root: Path) -> None:
    left = swept(root)
    assert CONTAINER not in "".join(left)
    age(root)  # A pod's folder has just lost what was in it.
    assert swept(root) == ["k8s.io", "kubepods", "kubepods/burstable", "machine"]


def test_what_runs_and_what_is_just_being_made_stays(root: Path) -> None:
    running, new = root / "memory/k8s.io" / CONTAINER, root / "memory/edgefleet-smoke-ffff"
    (running / "cgroup.procs").write_text("4711\n")
    age(root)
    new.mkdir()
    assert {f"k8s.io/{CONTAINER}", new.name} <= set(swept(root))
