"""What a kind of lab host must be able to do. Containers are one kind; virtual machines can be another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lab.progress import Progress
from lab.topology import MOST

# Addresses below stay free: the gateway, and something to be unreachable in tests.
FIRST_ADDRESS = 10


def place(name: str) -> int:
    """A host's place in the lab's subnet: servers first, then agents."""
    found = re.fullmatch(r"(edge|agent)(\d+)", name)
    if not found:
        return 0
    return FIRST_ADDRESS + int(found[2]) + (MOST if found[1] == "agent" else 0)


@dataclass(frozen=True)
class Host:
    """A host as the inventory needs it."""

    name: str
    address: str


@dataclass(frozen=True)
class HostStatus:
    """A host as a person wants to see it. `system` is systemd's own word (running, degraded, ...)."""

    host: Host
    state: str
    system: str


class Executes(Protocol):
    """Runs commands on hosts."""

    def exec(self, name: str, command: Sequence[str]) -> tuple[int, str]:
        """Run a command on a host without ssh: exit code and output."""


class HostKind(Executes, Protocol):
    """Makes, finds and removes the hosts of one lab. Everything is safe to call again after a kill."""

    def up(self, names: Sequence[str], progress: Progress) -> list[Host]:
        """These hosts, running and reachable by ssh: kept where they are sound, else made."""

    def down(self, progress: Progress) -> None:
        """Remove all that belongs to this lab and nothing else."""

    def names(self) -> list[str]:
        """The names of the hosts there are, whole or half made."""

    def find(self, name: str) -> Host:
        """The host of this name, or an error that says which there are."""

    def status(self) -> list[HostStatus]:
        """How the hosts are."""

    def reboot(self, name: str, *, power_cut: bool = False) -> None:
        """Stop and start a host; with `power_cut` without telling it first. Returns when it is reachable again."""
