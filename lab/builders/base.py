"""What a builder is, and what all of them share."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from lab.errors import LabError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Builder(Protocol):
    """One artifact that can be built here."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def file(self) -> str: ...

    def key(self) -> str:
        """Changes when the artifact has to be built again; known before anything is built."""

    def build(self, workdir: Path) -> Path:
        """Build it in an empty folder; the finished file."""

    def source(self) -> str:
        """Where it comes from, for the manifest and the reports; asked for once it is built."""


@runtime_checkable
class Prefetching(Protocol):
    """A builder that can load what it needs while another one builds."""

    def prefetch(self) -> None:
        """Load it. What fails here is told by the build."""


def host_arch() -> str:
    """The machine's architecture by its Go name: artifacts are built for hosts like the machine itself."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise LabError(f"This machine is {machine}: artifacts are built on x86_64 and aarch64 only.")
    return ARCHITECTURES[machine]


def digest(*parts: str | Path) -> str:
    """One hash over texts, files and whole folders. A folder counts with the names of its files."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path) and part.is_dir():
            for file in source_files(part):
                total.update(digest(str(file.relative_to(part)), file).encode())
        else:
            content = part.read_bytes() if isinstance(part, Path) else part.encode()
            total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def source_files(folder: Path) -> list[Path]:
    """What a Go program is made of: no tests, no documentation."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.name.endswith("_test.go") and file.suffix != ".md" and file.name != ".gitkeep"
    )
