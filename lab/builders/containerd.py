"""containerd as its static release has it: one archive with a folder bin/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.builders import archive
from lab.builders.base import digest
from lab.builders.golang import MODULES, Go
from lab.errors import LabError

MODULE = "github.com/containerd/containerd/v2"
SOURCES = MODULES / "containerd"
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
# As the release's, and without what needs C or a kernel feature that edge hosts lack.
TAGS = ("no_btrfs", "no_devmapper", "no_zfs", "netgo", "osusergo", "static_build", "urfave_cli_no_docs")


def built_version() -> str:
    """The version that the go.mod names: others need another go.sum."""
    lines = (SOURCES / "go.mod").read_text(encoding="utf-8").splitlines()
    return next(line.split()[-1] for line in lines if f" {MODULE} v" in line or line.startswith(f"\t{MODULE} v"))


def _packages(programs: tuple[str, ...]) -> list[str]:
    return [f"{MODULE}/cmd/{program}" for program in programs]


def build_programs(go: Go, programs: tuple[str, ...], to: Path, log: Path) -> None:
    """Build some of containerd's programs."""
    version = built_version()
    go.build(
        f"containerd {version}: {', '.join(programs)} from {MODULE}",
        SOURCES,
        _packages(programs),
        to=to,
        log=log,
        tags=TAGS,
        variables={f"{MODULE}/version.Version": version, f"{MODULE}/version.Package": MODULE},
    )


@dataclass(frozen=True)
class Containerd:
    """The archive with containerd, its shim and ctr."""

    go: Go
    version: str
    arch: str
    file: str
    name: str = "containerd"

    def key(self) -> str:
        return digest(self.go.version, self.version, self.arch, SOURCES, Path(__file__), Path(archive.__file__))

    def source(self) -> str:
        return f"built from {MODULE}@v{self.version} with {self.go.version}"

    def prefetch(self) -> None:
        self.go.prefetch(SOURCES, _packages(PROGRAMS), TAGS)

    def build(self, workdir: Path) -> Path:
        if built_version() != f"v{self.version}":
            raise LabError(
                f"containerd {self.version} can't be downloaded, and {SOURCES}/go.mod has {built_version()}: "
                f"run `go get {MODULE}@v{self.version} && go mod tidy` there, or choose that version."
            )
        build_programs(self.go, PROGRAMS, workdir / "bin", workdir / "go.log")
        archive.write_tar_gz(workdir / self.file, {f"bin/{name}": workdir / "bin" / name for name in PROGRAMS})
        return workdir / self.file
