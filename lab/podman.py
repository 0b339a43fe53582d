"""The few podman commands that the lab uses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.packages import root_prefix
from lab.process import SEARCH_PATH, Run, run, stream

# On everything that belongs to a lab, with the lab's id as its value: what lacks it is never touched.
LABEL = "edgefleet.lab"


class Podman:
    """podman as root: hosts need mounts and control groups that a user does not have."""

    def __init__(self, run: Run = run, prefix: Sequence[str] | None = None) -> None:
        self.run = run
        self._prefix = prefix

    def root(self) -> list[str]:
        """What goes before a command that needs root."""
        if self._prefix is None:
            self._prefix = root_prefix(self.run)
            if self._prefix is None:
                raise LabError(
                    "The lab's hosts are privileged containers: run as root, or allow sudo without a password."
                )
        return [*self._prefix]

    def as_root(self, *command: str) -> None:
        """Run another program as podman runs."""
        self.run([*self.root(), *command])

    def command(self, *arguments: str) -> list[str]:
        """The whole command line."""
        # It ends with us: one that outlived a killed run would still make what the next run has just made anew.
        with_us = ["setpriv", "--pdeathsig", "KILL"]
        # By name: podman's default may be a crun that refuses this machine's control groups.
        runc = shutil.which("runc", path=SEARCH_PATH) or "runc"
        return [*self.root(), *with_us, "podman", "--runtime", runc, *arguments]

    def __call__(
        self, *arguments: str, stdin: bytes | None = None, check: bool = True, timeout: float | None = None
    ) -> tuple[int, str]:
        """Run it; exit code and standard output."""
        done = self.run(self.command(*arguments), stdin=stdin, check=check, timeout=timeout)
        return done.returncode, done.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command that prints JSON."""
        return json.loads(self(*arguments)[1] or "[]")

    def image_exists(self, tag: str) -> bool:
        """Whether podman has this image."""
        return self("image", "exists", tag, check=False)[0] == 0

    def image_id(self, tag: str) -> str:
        """The id behind a name."""
        return self("image", "inspect", "--format", "{{.Id}}", tag)[1].strip()

    def import_image(self, tar: Path, tag: str, *, lock: int, log: Path, on_line: Callable[[str], None]) -> None:
        """Make an image from a root file system."""
        command = self.command("import", "--change", 'CMD ["/sbin/init"]', str(tar), tag)
        stream(command, log=log, on_line=on_line, lock=lock)

    def labelled(self, lab: str) -> dict[str, list[str]]:
        """Names of all that carries this lab's label, by kind."""
        selector = f"label={LABEL}={lab}"
        return {
            "container": self("ps", "--all", "--filter", selector, "--format", "{{.Names}}")[1].split(),
            "volume": self("volume", "ls", "--filter", selector, "--format", "{{.Name}}")[1].split(),
            "network": self("network", "ls", "--filter", selector, "--format", "{{.Name}}")[1].split(),
        }
