"""The load generator oha as one static program, from crates whose hashes are fixed by the Cargo.lock beside its recipe.

It is an artifact of the mirror like the service's images, but not one that a site needs to run: who wants to load hosts
puts it there with `python -m lab.builders.oha [MIRROR]`, which takes some minutes the first time.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import kit

from lab import locks
from lab.builders import Filler
from lab.builders.base import digest, host_arch
from lab.builders.toolchain import network_environment
from lab.errors import CommandFailed, LabError
from lab.paths import cache_root
from lab.process import Run, run, stream
from lab.progress import Progress

CRATE = Path(__file__).parent / "rust" / "oha"
# Cargo.toml says so; Debian 13's compiler is older.
OLDEST = (1, 88)


@dataclass(frozen=True)
class Oha:
    """oha in the pinned version, built by the machine's own cargo."""

    folder: Path
    """Where compiled crates are kept between builds."""
    progress: Progress
    run: Run = run
    stream: Callable[..., None] = stream
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    name: str = kit.OHA
    version: str = kit.OHA_VERSION

    @property
    def arch(self) -> str:
        return host_arch()

    @property
    def file(self) -> str:
        return f"oha-linux-{self.arch}"

    @property
    def compiler(self) -> str:
        """The version of the machine's rustc, such as 1.95.0; an error if it is missing or too old."""
        wanted = f"{OLDEST[0]}.{OLDEST[1]} or later"
        try:
            said = self.run(["rustc", "--version"]).stdout
        except LabError as error:
            raise LabError(
                f"oha is built with Rust {wanted}, and no rustc works here: https://rustup.rs ({error})"
            ) from error
        found = re.match(r"rustc ((\d+)\.(\d+)\.\d+)", said)
        if found is None or (int(found[2]), int(found[3])) < OLDEST:
            raise LabError(f"oha is built with Rust {wanted}, this is {said.strip() or 'unknown'}: rustup update")
        return found[1]

    def key(self) -> str:
        return digest(self.compiler, self.arch, CRATE, Path(__file__))

    def source(self) -> str:
        return f"built from crate oha {self.version} with rustc {self.compiler}"

    def build(self, workdir: Path) -> Path:
        target = f"{os.uname().machine}-unknown-linux-gnu"
        crate = workdir / "crate"
        # The sources are read-only to a build, whoever has them checked out.
        shutil.copytree(CRATE, crate, ignore=shutil.ignore_patterns("target"))
        command = ["cargo", "build", "--release", "--locked", "--target", target]
        title = f"oha {self.version} from its crate"
        with self.progress.step(title) as step:
            try:
                self.stream(
                    command, log=self.folder / "oha.log", on_line=step.update, cwd=crate, env=self._environment()
                )
            except CommandFailed as failed:
                raise LabError(f"{title}: cargo could not build it.\n{failed}") from failed
        built = workdir / self.file
        shutil.copyfile(self.folder / "target" / target / "release" / "oha", built)
        built.chmod(0o755)
        self._check(built)
        return built

    def _environment(self) -> dict[str, str]:
        """The machine's own way to crates; what is compiled follows from the recipe alone."""
        kept = {
            name: self.environ[name]
            for name in ("CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN")
            if name in self.environ
        }
        return {
            "HOME": str(Path.home()),
            "PATH": os.environ["PATH"],
            "CARGO_TARGET_DIR": str(self.folder / "target"),
            "CARGO_TERM_COLOR": "never",
            # Static, so that it runs on any host.
            "RUSTFLAGS": "-C target-feature=+crt-static",
            **kept,
            **network_environment(self.environ),
        }

    def _check(self, program: Path) -> None:
        """It runs, it is the version that is pinned, and it needs no library."""
        said = self.run([str(program), "--help"], check=False).stdout
        linked = self.run(["ldd", str(program)], check=False)
        if "--latency-correction" not in said:
            raise LabError(f"{program} does not run as it should; it said: {said.strip()[:300]!r}")
        if "=>" in linked.stdout:
            raise LabError(f"{program} is not static: {linked.stdout.strip()[:300]}")


def ensure(mirror: Path, cache: Path, progress: Progress) -> None:
    """Have it in a mirror."""
    with locks.held(cache / "oha.lock", progress.note):
        builder = Oha(cache / "toolchain" / "oha", progress)
        filler = Filler(Mirror(mirror), progress, cache / "build-oha")
        filler.have([(Release(builder.name, builder.version, builder.arch, builder.file), builder)])
        filler.tell()


def main() -> None:
    """`python -m lab.builders.oha [MIRROR]`: into the lab's mirror if none is named."""
    cache = cache_root()
    ensure(Path(sys.argv[1]) if len(sys.argv) > 1 else cache / "mirror", cache, Progress())


if __name__ == "__main__":
    main()
