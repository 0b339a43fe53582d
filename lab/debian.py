"""Debian root file systems by mmdebstrap: the host image, the virtual machines' disk, and QEMU itself."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.aptsources import Source
from lab.errors import CommandFailed, LabError
from lab.process import Run, run, stream
from lab.progress import Progress

# Processes and mounts of a build end with the one process that is killed when a run is: nothing stays mounted.
CONFINED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class Workshop:
    """A folder where one thing is made, by whoever holds its lock. What lies about in it is of a killed build."""

    what: str
    folder: Path
    needed: int
    root: Sequence[str]
    lock: int
    progress: Progress
    run: Run = run

    @property
    def scratch(self) -> Path:
        """Where the build works."""
        return self.folder / "build"

    def clear(self) -> None:
        """Remove what a build left, which may be root's."""
        self.run([*self.root, "rm", "-rf", "--one-file-system", str(self.scratch)])

    def begin(self) -> None:
        """An empty place to work in, on a disk with enough room."""
        self.clear()
        self.scratch.mkdir()
        free = shutil.disk_usage(self.folder).free
        if free < self.needed:
            raise LabError(
                f"{self.folder}: {free / 1024**3:.1f} GiB free, the {self.what} needs {self.needed / 1024**3:.0f} GiB. "
                "Make room, or set EDGEFLEET_CACHE to a folder on a larger disk."
            )

    def do(self, command: Sequence[str], log: str, stdin: bytes | None = None) -> None:
        """One command as root, as a step with a log. It ends when we do."""
        with self.progress.step(f"{self.what}: {log}") as step:
            stream(
                [*self.root, *CONFINED, "env", f"TMPDIR={self.scratch}", *command],
                log=self.folder / f"{log.partition(' ')[0]}.log",
                on_line=step.update,
                lock=self.lock,
                stdin=stdin,
                end_by=signal.SIGKILL,
            )

    def bootstrap(self, command: Sequence[str], sources: Sequence[Source]) -> None:
        """Run mmdebstrap with these sources."""
        lines = "".join(f"{source.line()}\n" for source in sources)
        try:
            self.do(command, f"mmdebstrap from {sources[0].uri}", lines.encode())
        except CommandFailed as failed:
            raise LabError(
                f"The {self.what} could not be made from these sources, "
                f"which were taken from this machine's /etc/apt:\n{lines}{failed}"
            ) from failed
