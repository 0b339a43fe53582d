"""Debian's Prometheus and promtool, for this machine: the version that the lab's hosts run.

They are run by their own loader with their own C library: this machine may have another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import aptsources, locks
from lab.aptsources import RELEASE
from lab.builders.base import digest, host_arch
from lab.debian import Workshop
from lab.errors import LabError
from lab.packages import root_prefix
from lab.process import run
from lab.progress import Progress

PACKAGES = ("libc6", "prometheus", "promtool")
LEFT_OUT = ("/usr/share/*",)
NEEDED_BYTES = 1024**3


@dataclass(frozen=True)
class Promtool:
    """Both programs in a folder."""

    root: Path

    def command(self, program: str, *words: str) -> Sequence[str]:
        """A command line that runs one of the programs on this machine."""
        libraries = self.root / "usr" / "lib" / "x86_64-linux-gnu"
        loader = [str(self.root / "usr" / "lib64" / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
        return [*loader, str(self.root / "usr" / "bin" / program), *words]


def _mmdebstrap(target: Path) -> list[str]:
    """Unpacked, not installed: nothing is run in it."""
    return [
        "mmdebstrap",
        *("--mode=root", "--format=directory", "--variant=extract", f"--include={','.join(PACKAGES)}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        *(RELEASE, str(target), "-"),
    ]


def ensure(cache: Path, progress: Progress) -> Promtool:
    """The programs; made if they aren't there, once, whoever asks at the same time."""
    folder = cache / "promtool"
    whole = folder / digest(RELEASE, host_arch(), *PACKAGES, *LEFT_OUT)[:12]
    with locks.held(folder / "lock", progress.note) as lock:
        if not whole.is_dir():
            root = root_prefix(run)
            if root is None:
                raise LabError("Prometheus is unpacked by mmdebstrap: run as root, or allow sudo without a password.")
            workshop = Workshop("Prometheus", folder, NEEDED_BYTES, root, lock, progress)
            workshop.begin()
            workshop.bootstrap(_mmdebstrap(workshop.scratch / "root"), aptsources.for_release(aptsources.read()))
            run([*root, "mv", str(workshop.scratch / "root"), str(whole)])
            workshop.clear()
    return Promtool(whole)
