"""What both kinds of hosts do alike, because both are reached by ssh: finding, waiting, saying how they are."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from lab import ssh
from lab.errors import CommandFailed, LabError
from lab.hosts import Host, HostStatus
from lab.paths import LabPaths
from lab.process import Run
from lab.progress import Progress


class ReachedBySsh(ABC):
    """The common half of a HostKind."""

    # How long a host may take until it is up, and ssh until it is connected.
    boot_seconds: ClassVar[float]
    connect_seconds: ClassVar[int]

    def __init__(self, paths: LabPaths, run: Run, *, systemd: bool = True) -> None:
        self.paths = paths
        self._run = run
        self._systemd = systemd

    @abstractmethod
    def names(self) -> list[str]:
        """The hosts there are, whole or half made, in their order."""

    @abstractmethod
    def _hosts(self, names: Sequence[str]) -> list[Host]:
        """Hosts with their addresses."""

    @abstractmethod
    def _state(self, name: str) -> str:
        """ "running", or another word for what a host is."""

    @abstractmethod
    def _words(self, host: Host, state: str) -> list[str]:
        """What tells why a host did not come up, and where to look."""

    def find(self, name: str) -> Host:
        """The host of this name, or an error that says which there are."""
        names = self.names()
        if name not in names:
            there = f"There are: {', '.join(names)}." if names else "There are none: `python -m lab up` makes them."
            raise LabError(f"No host {name} in lab {self.paths.name}. {there}")
        return self._hosts([name])[0]

    def status(self) -> list[HostStatus]:
        """How the hosts are."""
        names = self.names()
        shown = []
        for host in self._hosts(names) if names else []:
            state = self._state(host.name)
            shown.append(HostStatus(host, state, self._system(host) if state == "running" else ""))
        return shown

    def _ssh(self, host: Host, *command: str) -> tuple[int, str, str]:
        line = ssh.command(self.paths, host, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={self.connect_seconds}")
        done = self._run([*line, *command], check=False, timeout=5 * self.connect_seconds)
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def _system(self, host: Host) -> str:
        """systemd's state as seen through ssh; empty if ssh does not answer."""
        code, out, _ = self._ssh(host, "systemctl", "is-system-running")
        return "" if code in (124, 255) else out or "no systemd"

    def _answers(self, host: Host) -> str:
        return "no systemd" if self._ssh(host, "true")[0] == 0 else ""

    def _wait(self, host: Host, progress: Progress) -> None:
        """Until ssh answers and systemd has finished booting, or an error that says what is in the way."""
        deadline = time.monotonic() + self.boot_seconds
        system = ""
        while time.monotonic() < deadline:
            system = self._system(host) if self._systemd else self._answers(host)
            if system in ("running", "no systemd"):
                return
            if system == "degraded":
                listed = self._ssh(host, "systemctl", "--failed", "--no-legend", "--plain")[1]
                failed = ", ".join(line.split()[0] for line in listed.splitlines() if line.strip())
                progress.note(f"        {host.name} is up, but units failed: {failed}")
                return
            if self._state(host.name) != "running":
                break
            time.sleep(0.3)
        raise LabError(self._diagnosis(host, system))

    def _diagnosis(self, host: Host, system: str) -> str:
        """Why a host did not come up, from its own words."""
        state = self._state(host.name)
        words = [
            f"{host.name} ({host.address}) did not come up: host {state}, systemd {system or 'not reached by ssh'}.",
        ]
        try:
            if state == "running":
                words.append(f"ssh says: {self._ssh(host, 'true')[2]}")
            words += self._words(host, state)
        except CommandFailed as failed:
            words.append(str(failed))
        words.append(f"`python -m lab down --name {self.paths.name}` starts over.")
        return "\n".join(word.rstrip() for word in words if word.strip())
