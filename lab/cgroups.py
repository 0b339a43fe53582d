"""Control groups that hosts leave when they go, on a machine with cgroup v1.

There container hosts share the machine's hierarchies. A container that ends with its host leaves its folders behind,
and the kubelet of any other host takes 3 s for each when it starts: its statistics ask containerd, which has no such
container, five times (cAdvisor's containerd handler). With eight of them a node is not ready for 25 s after every
restart of K3s, and its Services lose their endpoints. Under v2 a host has a hierarchy of its own, which goes with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# A machine with a kubelet of its own looks after its control groups by itself.
KUBELET = Path("/var/lib/kubelet")
# Containers, pods and the smoke test's; never the folders above them, which kubelets of other hosts use as well.
_OURS = re.compile(r"[0-9a-f]{64}|pod[0-9a-f]{8}-[0-9a-f-]{27}|edgefleet-smoke-[0-9a-f]+")
# A container of another host that is just being made has no process yet.
_YOUNG_SECONDS = 60.0


def sweep(
    root: Path = ROOT,
    kubelet: Path = KUBELET,
    now: Callable[[], float] = time.time,
    remove: Callable[[Path], None] = Path.rmdir,
) -> int:
    """Remove folders in which nothing runs any more; how many that were."""
    if kubelet.exists() or not (root / "memory").is_dir():
        return 0
    removed = 0
    for name, _, _ in os.walk(root, topdown=False):
        folder = Path(name)
        if _OURS.fullmatch(folder.name) and _is_left(folder, now()):
            # Somebody may have been quicker, or have put something there.
            with contextlib.suppress(OSError):
                remove(folder)
                removed += 1
    return removed


def _is_left(folder: Path, now: float) -> bool:
    try:
        return not (folder / "cgroup.procs").read_text() and now - folder.stat().st_mtime > _YOUNG_SECONDS
    except OSError:
        return False
