"""What policies are tested with: OPA, the oldest OPA they must run on, gator, and the API server's own admission code.

Built once from Go modules into one folder of the cache, named after all that decides its content.
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

OPA, GATOR, ADMISSION = MODULES / "opa", MODULES / "gator", MODULES / "admission"
OPA_PATH = "github.com/open-policy-agent/opa"
GATEKEEPER_PATH = "github.com/open-policy-agent/gatekeeper/v3"
KUBERNETES_PATH = "k8s.io/apiserver"
# What OPA can also do is of no use here, and needs more modules than all the rest.
TAGS = ("opa_no_oci",)


@dataclass(frozen=True)
class PolicyTools:
    """The programs in `<folder>/<key>`; `ensure` makes them."""

    folder: Path
    go: Go

    @property
    def key(self) -> str:
        """Changes when the programs have to be built again."""
        return digest(self.go.version, OPA, GATOR, ADMISSION, Path(__file__), Path(golang.__file__))[:12]

    @property
    def opa(self) -> Path:
        """OPA of the pinned version."""
        return self.folder / self.key / "opa"

    @property
    def oldest_opa(self) -> Path:
        """The oldest OPA that has to run the decisions: the one that Gatekeeper embeds."""
        return self.folder / self.key / "oldest" / "opa"

    @property
    def gator(self) -> Path:
        """Gatekeeper's own test program."""
        return self.folder / self.key / "gator"

    @property
    def admission(self) -> Path:
        """Evaluates ValidatingAdmissionPolicies: `go/admission/main.go` says how it is spoken to."""
        return self.folder / self.key / "admission"

    def ensure(self) -> PolicyTools:
        """Build the programs if they aren't there, once, whoever asks at the same time."""
        if not self.opa.parent.is_dir():
            with locks.held(self.folder / "lock", self.go.progress.note) as lock:
                if not self.opa.parent.is_dir():
                    self._make(lock)
        return self

    def _make(self, lock: int) -> None:
        self.go.lock = lock
        # What a killed run has left: only the lock's holder comes here.
        for left in self.folder.glob("*.part"):
            shutil.rmtree(left)
        part = self.folder / f"{self.key}.part"
        self._build(f"OPA {required(OPA, OPA_PATH)}", OPA, OPA_PATH, part)
        self._build(f"gator {required(GATOR, GATEKEEPER_PATH)}", GATOR, f"{GATEKEEPER_PATH}/cmd/gator", part)
        self._build(f"OPA {required(GATOR, OPA_PATH)}, as Gatekeeper has it", GATOR, OPA_PATH, part / "oldest")
        self._build(f"admission of {KUBERNETES_PATH} {required(ADMISSION, KUBERNETES_PATH)}", ADMISSION, ".", part)
        part.rename(self.folder / self.key)

    def _build(self, title: str, module: Path, package: str, to: Path) -> None:
        self.go.build(title, module, [package], to=to, log=self.folder / f"{module.name}.log", tags=TAGS)


def tools(cache: Path, progress: Progress) -> PolicyTools:
    """The programs in a cache."""
    return PolicyTools(cache / "toolchain" / "policy", Go(progress))


def main() -> None:
    """Build them with their progress shown: `python -m lab.builders.opa`, before tests that would do so silently."""
    progress = Progress()
    made = tools(cache_root(), progress).ensure()
    progress.note(f"policy tools: {made.opa.parent}")


if __name__ == "__main__":
    main()
