"""What every benchmark's result says besides its figures: when, where, by which command, from which source."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, Any]:
    """Facts of this machine that a figure depends on. ``load1`` is the load average of the last minute."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load1": round(os.getloadavg()[0], 2),
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile (nearest rank), least, most and n of a sample."""
    p95 = sorted(values)[math.ceil(0.95 * len(values)) - 1]
    extremes = {"min": min(values), "max": max(values)}
    return {"median": round(statistics.median(values), 3), "p95": p95, **extremes, "n": len(values)}


def save(name: str, figures: Mapping[str, Any]) -> Path:
    """Write a result to reports/bench/<name>-<time>.json; its path."""
    now = datetime.now(UTC)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    path = ROOT / "reports" / "bench" / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "bench": name,
        "date": now.isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", f"tests.bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "commit": commit.stdout.strip(),
        "machine": machine(),
        **figures,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
