# SPDX-License-Identifier: Apache-2.0
"""What containers leave on a host: processes, mounts, control groups, files; and what containerd itself keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
# Where containerd and its shims keep a folder for each container or pod, by id.
STATE = (
    Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io"),
    Path("/run/containerd/io.containerd.grpc.v1.cri/sandboxes"),
    Path("/run/containerd/io.containerd.grpc.v1.cri/containers"),
    Path("/var/lib/containerd/io.containerd.runtime.v2.task/k8s.io"),
    Path("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes"),
    Path("/var/lib/containerd/io.containerd.grpc.v1.cri/containers"),
)


@dataclass(frozen=True)
class Places:
    """Where things are on the host; tests have them elsewhere."""

    proc: Path = PROC
    cgroups: Path = CGROUPS
    state: tuple[Path, ...] = STATE


def left(ids: Iterable[str], places: Places = Places()) -> list[str]:
    """What still names one of these containers or pods, each as a kind and where it is."""
    wanted = tuple(ids)
    if not wanted:
        return []
    found = [f"process {pid} ({name})" for pid, name in processes(wanted, places.proc)]
    mounts = (places.proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="replace")
    found += [f"mount {line.split()[4]}" for line in mounts.splitlines() if any(one in line for one in wanted)]
    for folder, names, _ in os.walk(places.cgroups):
        found += [f"control group {folder}/{name}" for name in names if any(one in name for one in wanted)]
    found += [f"file {base / one}" for base in places.state for one in wanted if (base / one).exists()]
    return found


def processes(wanted: tuple[str, ...], proc: Path = PROC) -> Iterator[tuple[int, str]]:
    """Processes with one of these words in their command line, each as its id and name."""
    if not wanted:
        return
    for folder in proc.glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        if any(one.encode() in word for word in words for one in wanted):
            yield int(folder.name), name


@dataclass(frozen=True)
class Daemon:
    """What a running containerd holds: open files, and MiB of memory of its own."""

    files: int
    mib: float


def containerd(proc: Path = PROC) -> Daemon | None:
    """None where it can't be seen."""
    for folder in proc.glob("[0-9]*"):
        try:
            if (folder / "comm").read_text(encoding="utf-8").strip() != "containerd":
                continue
            status = (folder / "status").read_text(encoding="utf-8", errors="replace")
            resident = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
            return Daemon(len(list((folder / "fd").iterdir())), int(resident.split()[1]) / 1024)
        except (OSError, StopIteration):
            continue
    return None
