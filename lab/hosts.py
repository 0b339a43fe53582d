"""What a kind of lab host must be able to do: containers are one kind, virtual machines the other."""

from __future__ import annotations

import hashlib
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


def mac(lab_id: str, number: int) -> str:
    """A fixed address per host, and for the bridge as number 1: random ones change at every start, and whoever
    remembers the old one then talks to nobody for half a minute."""
    digest = hashlib.sha256(f"{lab_id} {number}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x0E, *digest[:5]))


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
        """Run a command on a host: exit code and output. Not by way of Ansible or its connections."""


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

    def netem(self, name: str, delay: str | None) -> None:
        """Delay all that a host sends, or stop that."""
