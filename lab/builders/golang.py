"""Building Go programs from modules, with every version and hash fixed by the go.mod and go.sum beside the recipe."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import CommandFailed, LabError
from lab.process import Run, run, stream
from lab.progress import Progress

MODULES = Path(__file__).parent / "go"
OLDEST = (1, 23)
# Kubernetes and containerd with what they are made of, unpacked modules and compiled packages together.
NEEDED_BYTES = 8 * 1024**3


@dataclass
class Go:
    """The go command. Modules and compiled packages stay in Go's own caches, so a second build is quick."""

    progress: Progress
    run: Run = run
    stream: Callable[..., None] = stream
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    lock: int | None = None
    _version: str = ""

    @property
    def version(self) -> str:
        """The version of the go command, such as go1.26.8."""
        if not self._version:
            try:
                said = self.run(["go", "env", "GOVERSION"]).stdout.strip()
            except LabError as error:
                raise LabError(
                    f"No go command works here, and releases that can't be downloaded are built with it: "
                    f"install Go {OLDEST[0]}.{OLDEST[1]} or later (https://go.dev/dl) and put it on PATH. ({error})"
                ) from error
            found = re.match(r"go(\d+)\.(\d+)", said)
            if found is None or (int(found[1]), int(found[2])) < OLDEST:
                wanted = f"{OLDEST[0]}.{OLDEST[1]} or later"
                raise LabError(f"The go command's version is {said or 'unknown'}: {wanted} is needed.")
            self._version = said
        return self._version

    def build(
        self,
        title: str,
        module: Path,
        packages: Sequence[str],
        *,
        to: Path,
        log: Path,
        tags: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        cgo: bool = False,
    ) -> None:
        """Build programs of a module, or of those it requires, into the folder `to`, stripped and static."""
        self._check_room()
        flags = ["-s", "-w", *(f"-X={name}={value}" for name, value in sorted((variables or {}).items()))]
        if cgo:
            if shutil.which(self.environ.get("CC", "gcc")) is None:
                raise LabError("SQLite is built with a C compiler: apt-get install gcc libc6-dev")
            flags += ["-linkmode=external", "-extldflags=-static"]
        to.mkdir(parents=True, exist_ok=True)
        command = ["go", "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", f"-tags={','.join(tags)}"]
        # What describes the code to a debugger is stripped in the end: not making it saves a fifth of the time.
        command += ["-gcflags=all=-dwarf=false", f"-ldflags={' '.join(flags)}", "-o", f"{to}/", *packages]
        compiled = 0
        with self.progress.step(title) as step:

            def show(line: str) -> None:
                nonlocal compiled
                compiled += not line.startswith("go: ")
                step.update(f"{compiled} packages, {line}" if compiled else line)

            try:
                self.stream(command, log=log, on_line=show, cwd=module, env=self._environment(cgo), lock=self.lock)
            except CommandFailed as failed:
                raise LabError(
                    f"{title}: go could not build it. Modules come from GOPROXY={self._proxy()}; "
                    f"when that can't be reached, set GOPROXY to one that can.\n{failed}"
                ) from failed

    def prefetch(self, module: Path, packages: Sequence[str], tags: Sequence[str] = ()) -> None:
        """Have the modules in Go's cache that these packages need. What fails here is told by the build."""
        command = ["go", "list", "-deps", "-mod=readonly", f"-tags={','.join(tags)}", *packages]
        with contextlib.suppress(LabError):
            self.stream(
                command,
                log=Path(os.devnull),
                on_line=lambda _: None,
                cwd=module,
                env=self._environment(cgo=False),
                lock=self.lock,
            )

    def module_folder(self, module: Path, path: str) -> Path:
        """Where Go's cache has another module's files, in the version that this module asks for."""
        command = ["go", "-C", str(module), "list", "-m", "-mod=readonly", "-f", "{{.Dir}}", path]
        return Path(self.run(command).stdout.strip())

    def _environment(self, cgo: bool) -> dict[str, str]:
        """The machine's own settings say where modules come from; nothing else of it may decide what is built."""
        kept = {name: value for name, value in self.environ.items() if name not in ("GOOS", "GOARCH")}
        return {
            "HOME": str(Path.home()),
            **kept,
            "GOWORK": "off",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "",
            "CGO_ENABLED": "1" if cgo else "0",
        }

    def _proxy(self) -> str:
        return self.run(["go", "env", "GOPROXY"], check=False).stdout.strip()

    def _check_room(self) -> None:
        cache = Path(self.run(["go", "env", "GOCACHE"]).stdout.strip())
        there = next(folder for folder in (cache, *cache.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if free < NEEDED_BYTES and not cache.exists():
            raise LabError(
                f"{there}: {free / 1024**3:.1f} GiB free, building needs {NEEDED_BYTES / 1024**3:.0f} GiB. "
                "Make room, or set GOCACHE and GOMODCACHE to folders on a larger disk."
            )
