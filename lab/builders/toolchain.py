"""Debian 13's compilers in a folder of their own: Rust for Wasm and for Linux, and WasmEdge's ahead-of-time compiler.

The folder is made once by mmdebstrap and named after what decides its content. Programs run in it by chroot, inside
namespaces of their own: what is mounted for them is gone when they end, however they end.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import aptsources, locks
from lab.aptsources import RELEASE
from lab.debian import CONFINED
from lab.errors import CommandFailed, LabError
from lab.packages import root_prefix
from lab.process import Run, run, stream
from lab.progress import Progress

# Part of the folder's name: raise it when the command below changes in a way that the packages don't show.
RECIPE = 1
PACKAGES = (
    "cargo",
    "gcc",
    "libc6-dev",
    "libstd-rust-dev-wasm32",
    "lld",
    "qemu-user",
    "rustc",
    "wasmedge",
)
# The processor that hosts have at least: x86-64-v2 (SSE4.2, no AVX), ARMv8.0. An emulator by name, and its name of it.
BASELINE = {"x86_64": ("qemu-x86_64", "Nehalem"), "aarch64": ("qemu-aarch64", "cortex-a53")}
# Of no use here, and a third of all that would be unpacked.
LEFT_OUT = (
    "/usr/lib/rustlib/wasm32-unknown-unknown/*",
    "/usr/lib/rustlib/wasm32-wasip2/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
NEEDED_BYTES = 3 * 1024**3

# Mounted for each command: the sources (read-only), its results, and what cargo keeps between builds.
SOURCES, RESULTS, KEPT = "/src", "/out", "/build"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_FILES = (Path("/etc/resolv.conf"), Path(CERTIFICATES))
# Settings of the machine that decide how cargo reaches crates; what decides how it compiles is left behind.
_NETWORK_TABLES = ("http", "net", "registries", "registry", "source")
_NETWORK_VARIABLES = ("CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def _toml_lines(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        # A JSON string, number, boolean or list of them is written the same in TOML.
        dotted = f"{prefix}{json.dumps(name)}"
        if isinstance(value, dict):
            yield from _toml_lines(value, f"{dotted}.")
        else:
            yield f"{dotted} = {json.dumps(value)}\n"


def cargo_settings(home: Path) -> str:
    """What the machine's own cargo configuration says about the way to the crates."""
    path = next((home / name for name in ("config.toml", "config") if (home / name).is_file()), None)
    if path is None:
        return ""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: cargo's configuration can't be read: {error}. Correct it, or move it away.") from error
    return "".join(_toml_lines({name: settings[name] for name in _NETWORK_TABLES if name in settings}))


def network_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that decide how cargo reaches crates."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(_NETWORK_VARIABLES) or name.lower() in _PROXIES
    }


@dataclass
class Toolchain:
    """The compilers in `<folder>/<key>`; `ensure` makes them."""

    folder: Path
    progress: Progress
    run: Run = run
    stream: Callable[..., None] = stream
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _versions: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Changes when the folder has to be made again."""
        parts = repr((RECIPE, RELEASE, os.uname().machine, PACKAGES, LEFT_OUT))
        return hashlib.sha256(parts.encode()).hexdigest()[:12]

    @property
    def root(self) -> Path:
        """The root folder that programs see."""
        return self.folder / self.key

    @property
    def kept(self) -> Path:
        """What cargo keeps between builds: crates and compiled dependencies."""
        return self.folder / "build"

    def _as_root(self, command: Sequence[str]) -> list[str]:
        """As root, in namespaces of its own: neither a process nor a mount outlives the command."""
        prefix = root_prefix(self.run)
        if prefix is None:
            raise LabError("The Wasm toolchain is used by chroot: run as root, or allow sudo without a password.")
        keep = [f"--preserve-env={','.join(self._environment())}"] if prefix else []
        return [*prefix, *keep, *CONFINED, *command]

    def ensure(self) -> None:
        """Make the folder if it isn't there, once, whoever asks at the same time."""
        if self.root.is_dir():
            return
        with locks.held(self.folder / "lock", self.progress.note) as lock:
            if not self.root.is_dir():
                self._make(lock)

    def _make(self, lock: int) -> None:
        part = self.folder / f"{self.key}.part"
        self._remove_leftovers()
        free = shutil.disk_usage(self.folder).free
        if free < NEEDED_BYTES:
            raise LabError(
                f"{self.folder}: {free / 1024**3:.1f} GiB free, the Wasm toolchain needs "
                f"{NEEDED_BYTES / 1024**3:.0f} GiB. Make room, or set EDGEFLEET_CACHE to a folder on a larger disk."
            )
        sources = aptsources.for_release(aptsources.read())
        lines = "".join(f"{source.line()}\n" for source in sources)
        with self.progress.step(f"Wasm toolchain: Debian 13's compilers from {sources[0].uri}") as step:
            try:
                self.stream(
                    self._as_root(self.mmdebstrap(part)),
                    log=self.folder / "logs" / "mmdebstrap.log",
                    on_line=step.update,
                    lock=lock,
                    stdin=lines.encode(),
                    end_by=signal.SIGKILL,
                )
            except CommandFailed as failed:
                self._remove_leftovers()
                raise LabError(
                    "The Wasm toolchain could not be made from these sources (taken from this machine's /etc/apt):\n"
                    f"{lines}{failed}"
                ) from failed
            part.rename(self.root)

    def _remove_leftovers(self) -> None:
        """What a killed run left. Only the lock's holder comes here."""
        for part in self.folder.glob("*.part"):
            self.run(self._as_root(["rm", "-rf", "--one-file-system", str(part)]))

    def mmdebstrap(self, target: Path) -> list[str]:
        """The command that fills the folder; reads the sources from its standard input."""
        proxies = aptsources.proxies(self.environ, self.run)
        folders = " ".join(f'"$1"{path}' for path in (SOURCES, RESULTS, KEPT, *(str(file.parent) for file in _FILES)))
        files = " ".join(f'"$1"{file}' for file in _FILES)
        return [
            "mmdebstrap",
            "--mode=root",
            "--format=directory",
            "--variant=essential",
            f"--include={','.join(PACKAGES)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
            *(f'--aptopt=Acquire::{scheme}::Proxy "{proxy}"' for scheme, proxy in sorted(proxies.items())),
            # The places where things are mounted later.
            f"--customize-hook=mkdir -p {folders} && rm -f {files} && touch {files}",
            RELEASE,
            str(target),
            "-",
        ]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "CARGO_HOME": f"{KEPT}/cargo",
            "CARGO_TARGET_DIR": f"{KEPT}/target",
            "CARGO_TARGET_WASM32_WASIP1_LINKER": "wasm-ld",
            "CARGO_TERM_COLOR": "never",
            **network_environment(self.environ),
        }

    def command(self, inside: Sequence[str], *, sources: Path | None = None, results: Path | None = None) -> list[str]:
        """The command line that runs `inside` in the folder.

        The environment, which may hold passwords, is no part of it.
        """
        certificates = Path(self.environ.get("SSL_CERT_FILE") or CERTIFICATES)
        if not certificates.is_file():
            raise LabError(f"{certificates}: no such file. Run: apt-get install ca-certificates")
        mounts = [
            ("--rbind", Path("/dev"), "/dev"),
            ("--bind -o ro", Path("/etc/resolv.conf"), "/etc/resolv.conf"),
            ("--bind -o ro", certificates, CERTIFICATES),
            ("--bind", self.kept, KEPT),
            ("--bind -o ro", sources, SOURCES),
            ("--bind", results, RESULTS),
        ]
        root = shlex.quote(str(self.root))
        lines = [f"mount -t proc proc {root}/proc"]
        for how, path, place in mounts:
            if path and path.exists():
                lines.append(f"mount {how} {shlex.quote(str(path))} {root}{place}")
        lines.append(f"exec chroot {root} {shlex.join(inside)}")
        return self._as_root(["sh", "-euc", "\n".join(lines)])

    def execute(
        self, title: str, inside: Sequence[str], *, sources: Path | None = None, results: Path | None = None
    ) -> None:
        """Run a long command as one step of the progress. Its output is kept: a build's own folder is soon gone."""
        self.ensure()
        cargo = self.kept / "cargo"
        cargo.mkdir(parents=True, exist_ok=True)
        # One at a time: commands of a killed run may still write here, and they hold the lock until they end.
        with locks.held(self.kept / "lock", self.progress.note) as lock, self.progress.step(title) as step:
            home = Path(self.environ.get("CARGO_HOME") or Path(self.environ.get("HOME", "/root")) / ".cargo")
            (cargo / "config.toml").write_text(cargo_settings(home), encoding="utf-8")
            command = self.command(inside, sources=sources, results=results)
            log = self.folder / "logs" / f"{title.replace(' ', '-')}.log"
            try:
                self.stream(
                    command, log=log, on_line=step.update, lock=lock, env=self._environment(), end_by=signal.SIGKILL
                )
            except CommandFailed as failed:
                raise LabError(f"This failed: {title}.\n{failed}") from failed

    def attempt(self, inside: Sequence[str], *, results: Path | None = None) -> tuple[int, str]:
        """Run a short command; its exit code and all that it said."""
        self.ensure()
        self.kept.mkdir(parents=True, exist_ok=True)
        done = self.run(self.command(inside, results=results), check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    @staticmethod
    def on_baseline(command: Sequence[str]) -> list[str]:
        """The command, its program by path, on an emulated processor that has no more than every host has."""
        emulator, processor = BASELINE[os.uname().machine]
        return [emulator, "-cpu", processor, *command]

    def version(self, program: str) -> str:
        """What `program --version` says its version is."""
        if program not in self._versions:
            code, said = self.attempt([program, "--version"])
            found = re.search(r"\b\d+\.\d+\.\d+\b", said)
            if code != 0 or found is None:
                raise LabError(f"{program} in {self.root} tells no version: {said.strip()!r}. Remove that folder.")
            self._versions[program] = found[0]
        return self._versions[program]
