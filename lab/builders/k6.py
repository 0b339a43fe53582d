"""k6, the independent load generator that the smoke test's figures are compared with: built from its Go module.

For the test only: `python -m lab.builders.k6`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lab import locks
from lab.builders import golang
from lab.builders.base import digest
from lab.builders.golang import MODULES, Go
from lab.builders.pulumi import required
from lab.paths import cache_root
from lab.progress import Progress

MODULE = MODULES / "k6"
PATH = "go.k6.io/k6"


@dataclass(frozen=True)
class K6:
    """The program in `<folder>/<key>`; `ensure` makes it."""

    folder: Path
    go: Go

    @property
    def program(self) -> Path:
        """Where it is."""
        return self.folder / digest(self.go.version, MODULE, Path(__file__), Path(golang.__file__))[:12] / "k6"

    def ensure(self) -> Path:
        """Build it if it isn't there, once, whoever asks at the same time; the program."""
        if not self.program.exists():
            with locks.held(self.folder / "lock", self.go.progress.note) as lock:
                if not self.program.exists():
                    self._make(lock)
        return self.program

    def _make(self, lock: int) -> None:
        self.go.lock = lock
        # What a killed run has left: only the lock's holder comes here.
        for left in self.folder.glob("*.part"):
            shutil.rmtree(left)
        part = self.program.parent.with_suffix(".part")
        self.go.build(
            f"k6 {required(MODULE, PATH)} from its module", MODULE, [PATH], to=part, log=self.folder / "k6.log"
        )
        part.rename(self.program.parent)


def main() -> None:
    """Build it with its progress shown."""
    progress = Progress()
    progress.note(f"k6: {K6(cache_root() / 'toolchain' / 'k6', Go(progress)).ensure()}")


if __name__ == "__main__":
    main()
