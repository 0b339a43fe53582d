# SPDX-License-Identifier: Apache-2.0
"""What the parts of the hardening share: the host's files and programs, what is wanted, and what was there before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically

MEMORY_FILE = "/var/lib/edgefleet/hardening.json"
MEMORY_VERSION = 1


class HardeningError(Exception):
    """A sentence for the person who runs the play."""


class RunCommand(Protocol):
    """As AnsibleModule.run_command: exit code, output, errors."""

    def __call__(self, args: list[str], *, data: str | None = None) -> tuple[int, str, str]: ...


@dataclass(frozen=True)
class Machine:
    """The host's files below ``root`` and its programs."""

    run: RunCommand
    root: Path = Path("/")

    def path(self, absolute: str) -> Path:
        """Where an absolute path of the host lies."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """A file's text; None if there is none."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def must(self, *args: str, data: str | None = None) -> str:
        """A program's output, or an error with its own words."""
        code, out, errors = self.run(list(args), data=data)
        if code != 0:
            raise HardeningError(f"`{' '.join(args)}` ended with {code}: {(errors or out).strip()}")
        return out


@dataclass(frozen=True)
class File:
    """A file as it has to be."""

    path: str
    content: str
    mode: int


@dataclass(frozen=True)
class Permission:
    """The widest mode that files of a pattern may have, and whose they are."""

    path: str
    mode: int
    group: str = "root"


@dataclass(frozen=True)
class Control:
    """One control as the role declares it. ``needs`` names what the host must have (see ``host.Facts.lacks``)."""

    id: str
    needs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    permissions: tuple[Permission, ...] = ()
    sysctl: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, list[str]] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    swap_off: bool = False
    units: dict[str, str] = field(default_factory=dict)
    sshd: dict[str, Any] = field(default_factory=dict)
    ssh_passwords: str = "unchanged"
    firewall: str = ""
    ssh_ports: tuple[int, ...] = ()
    ssh_sources: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass
class Memory:
    """What the host was like before the first change, so that every control can be taken back.

    It is on disk before a change is made: whatever a cut run did is known to the next. ``todo`` holds the commands
    that changes have called for and that have not ended well yet.
    """

    version: int = MEMORY_VERSION
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    settings: dict[str, dict[str, str | None]] = field(default_factory=dict)
    permissions: dict[str, list[int]] = field(default_factory=dict)
    sysctl: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, list[str]] = field(default_factory=dict)
    swaps: list[str] = field(default_factory=list)
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    packages: dict[str, list[str]] = field(default_factory=dict)
    audit: dict[str, str] = field(default_factory=dict)
    todo: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, machine: Machine) -> Memory:
        """What an earlier run left."""
        text = machine.read(MEMORY_FILE)
        if text is None:
            return cls()
        try:
            document = json.loads(text)
            version = document["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise HardeningError(
                f"{MEMORY_FILE} can't be read ({error}), and it says what this host was like before it was hardened; "
                "bring it back from a backup, or move it away if that need not be restored."
            ) from error
        if version != MEMORY_VERSION:
            raise HardeningError(
                f"{MEMORY_FILE} was written by another version of this collection (format {version}, this one knows "
                f"{MEMORY_VERSION}); use that version to take the hardening back first."
            )
        return cls(**document)

    def save(self, machine: Machine) -> None:
        """Write it to disk; with nothing to remember there is no file."""
        path = machine.path(MEMORY_FILE)
        if self == Memory():
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", mode=0o600)


@dataclass
class Change:
    """One thing that is not as it should be. ``forget`` runs once the host is back to what it was."""

    what: str
    before: str
    after: str
    apply: Callable[[], None]
    remember: Callable[[], None] = lambda: None
    forget: Callable[[], None] = lambda: None
    todo: tuple[str, ...] = ()
    guarded: bool = False
