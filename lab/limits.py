"""Limits of the machine's kernel that all hosts share, because they are containers on it."""

from __future__ import annotations

from pathlib import Path

from lab.errors import LabError
from lab.packages import root_prefix
from lab.process import Run, run
from lab.progress import Progress

SYSTEM = Path("/proc/sys")
# The kernel gives root 128 by default. systemd, kubelet and containerd of every host take some: with eight hosts
# up, a kubelet ended with "inotify_init: too many open files".
NEEDED = {"fs.inotify.max_user_instances": 1024}


def too_low(system: Path = SYSTEM) -> dict[str, int]:
    """The limits that are lower than the lab needs, with their present values."""
    present = {name: int((system / name.replace(".", "/")).read_text()) for name in NEEDED}
    return {name: value for name, value in present.items() if value < NEEDED[name]}


def ensure(progress: Progress, run: Run = run, system: Path = SYSTEM) -> None:
    """Raise them until the next boot, and say so. Where that is not allowed: one line with the command."""
    for name, value in too_low(system).items():
        setting = f"{name}={NEEDED[name]}"
        prefix = root_prefix(run)
        if prefix is None:
            raise LabError(f"{name} is {value}, too low for K3s in containers; run: sudo sysctl -w {setting}")
        progress.note(f"raises {name} from {value} to {NEEDED[name]} on this machine, until it is booted again")
        run([*prefix, "sysctl", "-q", "-w", setting])
