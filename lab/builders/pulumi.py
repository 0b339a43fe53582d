"""Pulumi without its download server: the CLI, its Python host and its Kubernetes provider, built from Go modules.

They stay in one folder of the cache, named after all that decides its content. Programs then need no service and no
network: state lies in a folder, and plugins are found on PATH.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import locks, process
from lab.builders.base import digest
from lab.builders.golang import MODULES, Go
from lab.errors import LabError
from lab.paths import cache_root
from lab.progress import Progress

CLI, PYTHON, KUBERNETES = MODULES / "pulumi", MODULES / "pulumi-python", MODULES / "pulumi-kubernetes"
PKG, SDK = "github.com/pulumi/pulumi/pkg/v3", "github.com/pulumi/pulumi/sdk/v3"
# What starts the program inside Python; the host looks for it on PATH.
EXEC = "pulumi-language-python-exec"
# The release that the provider's module belongs to. It must be the version of the Python package pulumi-kubernetes.
PROVIDER_VERSION = "4.25.0"
# Part of the folder's name: raise it when the commands below change in a way that the modules don't show.
RECIPE = 1
TAGS = ("osusergo", "grpcnotrace")
# go.mod of the CLI and of the provider say so.
OLDEST_GO = (1, 25)


def required(module: Path, path: str) -> str:
    """The version of another module that this one's go.mod asks for."""
    found = re.search(rf"^(?:require|)\s*{re.escape(path)} (v\S+)$", (module / "go.mod").read_text("utf-8"), re.M)
    if found is None:
        raise LabError(f"{module}/go.mod does not require {path}.")
    return found[1]


@dataclass(frozen=True)
class PulumiTools:
    """The programs in `<folder>/<key>`; `ensure` makes them."""

    folder: Path
    go: Go

    @property
    def version(self) -> str:
        """The CLI's version, such as v3.259.0."""
        return required(CLI, PKG)

    @property
    def key(self) -> str:
        """Changes when the programs have to be built again."""
        parts = repr((RECIPE, self.go.version, TAGS, PROVIDER_VERSION))
        return f"{self.version}-{digest(parts, CLI, PYTHON, KUBERNETES)[:12]}"

    @property
    def programs(self) -> Path:
        """The folder to put on PATH."""
        return self.folder / self.key

    def ensure(self) -> Path:
        """Build the programs if they aren't there, once, whoever asks at the same time; their folder."""
        if not self.programs.is_dir():
            with locks.held(self.folder / "lock", self.go.progress.note) as lock:
                if not self.programs.is_dir():
                    self._make(lock)
        return self.programs

    def _make(self, lock: int) -> None:
        self._check_go()
        self.go.lock = lock
        # What a killed run has left: only the lock's holder comes here.
        for left in self.folder.glob("*.part"):
            shutil.rmtree(left)
        part = self.folder / f"{self.key}.part"
        self.go.build(
            f"Pulumi CLI {self.version} from {PKG}",
            CLI,
            [f"{PKG}/cmd/pulumi"],
            to=part,
            log=self.folder / "cli.log",
            tags=TAGS,
            variables={f"{SDK}/go/common/version.Version": self.version},
        )
        self._make_python_host(part)
        self.go.build(
            f"Pulumi's Kubernetes provider {PROVIDER_VERSION} from its module",
            KUBERNETES,
            ["./pulumi-resource-kubernetes"],
            to=part,
            log=self.folder / "kubernetes.log",
            tags=TAGS,
            variables={"main.version": PROVIDER_VERSION},
        )
        part.rename(self.programs)

    def _check_go(self) -> None:
        found = re.match(r"go(\d+)\.(\d+)", self.go.version)
        if found is None or (int(found[1]), int(found[2])) < OLDEST_GO:
            raise LabError(
                f"Pulumi {self.version} is built with Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or later, "
                f"this is {self.go.version}: install a later one (https://go.dev/dl) and put it on PATH."
            )

    def _make_python_host(self, part: Path) -> None:
        """The host as the last version of the SDK's module has it: later ones moved it to a place without a module."""
        version = required(PYTHON, SDK)
        self.go.build(
            f"Pulumi's Python host {version} from {SDK}",
            PYTHON,
            [f"{SDK}/python/cmd/pulumi-language-python"],
            to=part,
            log=self.folder / "python.log",
            tags=TAGS,
            variables={f"{SDK}/go/common/version.Version": version},
        )
        source = self.go.module_folder(PYTHON, SDK) / "python" / "cmd" / EXEC
        shutil.copyfile(source, part / EXEC)
        (part / EXEC).chmod(0o755)


def tools(cache: Path, progress: Progress) -> PulumiTools:
    """The programs in a cache."""
    return PulumiTools(cache / "toolchain" / "pulumi", Go(progress))


def environment(programs: Path, home: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For `pulumi`: no service, no download, state and passphrase in the folder `home`, this Python with its packages.

    The passphrase is random and stays in a file: neither a command line nor an environment shows it.
    """
    state, passphrase = home / "state", home / "passphrase"
    state.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    if not passphrase.exists():
        with os.fdopen(os.open(passphrase, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    kept = {name: value for name, value in environ.items() if not name.startswith(("PULUMI_", "KUBE"))}
    return {
        **kept,
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), process.SEARCH_PATH]),
        "PULUMI_HOME": str(home / "home"),
        # No file of attributes beside each state: where a killed run left it half written, the state is unreadable.
        "PULUMI_BACKEND_URL": f"file://{state}?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
    }


def main() -> None:
    """Build them with their progress shown: `python -m lab.builders.pulumi`, before tests that would do so silently."""
    progress = Progress()
    progress.note(f"Pulumi: {tools(cache_root(), progress).ensure()}")


if __name__ == "__main__":
    main()
