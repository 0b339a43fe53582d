"""Which control groups are taken for left behind. A plain folder with a file in it stands for one with a process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab import cgroups

CONTAINER = "ab" * 32
POD = "poda626f4e9-8d25-4852-aca5-573b4d3cb3c1"


def test_containers_in_which_nothing_runs_go_and_nothing_else(tmp_path: Path) -> None:
    running = f"k8s.io/{'cd' * 32}"
    for name in (
        running,
        f"k8s.io/{CONTAINER}",
        f"kubepods/burstable/{POD}/{CONTAINER}",
        "edgefleet-smoke-0a1b",
        "own",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / running / "cgroup.procs").write_text("4711\n")
    subprocess.run(cgroups.sweep(tmp_path), check=True, capture_output=True)
    left = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_dir()}
    assert left == {"k8s.io", running, "kubepods", "kubepods/burstable", f"kubepods/burstable/{POD}", "own"}
