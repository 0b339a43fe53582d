# SPDX-License-Identifier: Apache-2.0
"""OCI bundles and `crun run`, in a folder of its own that goes away with whoever made it, however that ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended, RunCommand

PREFIX = "edgefleet-smoke"
# /run is gone after a reboot, but Debian's initramfs may mount it noexec: then nothing in it can be started.
BASES = (Path("/run"), Path("/var/lib"))
NOBODY = 65534
_CPU_PERIOD = 100_000


@contextlib.contextmanager
def workspace(run: RunCommand, runtime: str, bases: Sequence[Path] = BASES) -> Iterator[Path]:
    """A folder of this process. What a killed run left is removed first; what another live run has is not touched."""
    for folder in leftovers(bases):
        _remove(run, runtime, folder)
    folder = _executable(bases) / f"{PREFIX}.{owner()}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700)
        (folder / "state").mkdir()
        yield folder
    except OSError as error:
        raise SmokeError(f"the working folder {folder} can't be used: {error}") from error
    finally:
        _remove(run, runtime, folder)


def leftovers(bases: Sequence[Path] = BASES) -> list[Path]:
    """The folders of runs that were killed."""
    folders = (folder for base in bases for folder in sorted(base.glob(f"{PREFIX}.*")))
    return [folder for folder in folders if not lives(folder.name.partition(".")[2])]


def _executable(bases: Sequence[Path]) -> Path:
    for base in bases:
        if base.is_dir() and not os.statvfs(base).f_flag & os.ST_NOEXEC:
            return base
    raise SmokeError(f"no folder to run probes in: each of {', '.join(map(str, bases))} is missing or mounted noexec")


def _start_time(pid: int) -> str | None:
    """When a process was started, in ticks since the boot: with its pid, an identity that is not given twice."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the name in parentheses, and may hold blanks and parentheses of its own.
    return stat.rpartition(")")[2].split()[19]


def owner() -> str:
    """This process, as what it makes is marked with."""
    return f"{os.getpid()}-{_start_time(os.getpid())}"


def lives(marked: str) -> bool:
    """Whether the process that something is marked with is still running."""
    pid, _, rest = marked.partition("-")
    return pid.isdigit() and _start_time(int(pid)) == rest.partition("-")[0]


def _remove(run: RunCommand, runtime: str, folder: Path) -> None:
    for container in sorted((folder / "state").glob("*")):
        run([runtime, "--root", str(folder / "state"), "delete", "--force", container.name], timeout=10)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Bundle:
    """A root file system with one program in it, or none."""

    folder: Path
    program: str


@dataclass(frozen=True)
class Limits:
    """Bytes of memory, number of processes and threads, CPUs (None: as many as there are)."""

    memory: int = 256 << 20
    pids: int = 64
    cpus: float | None = None

    def resources(self) -> dict[str, Any]:
        """As the OCI runtime specification has them."""
        cpu = {"cpu": {"period": _CPU_PERIOD, "quota": int(self.cpus * _CPU_PERIOD)}} if self.cpus else {}
        return {"memory": {"limit": self.memory}, "pids": {"limit": self.pids}, **cpu}


@dataclass(frozen=True)
class Mount:
    """A folder of the host in a container."""

    source: Path
    destination: str
    writable: bool = False


class Running:
    """A container that has given its first output."""

    def __init__(self, run: RunCommand, command: Sequence[str], container: str) -> None:
        self._run = run
        self._command = command
        self._container = container

    def pid(self) -> int:
        ended = self._run([*self._command, "state", self._container], timeout=10)
        try:
            return int(json.loads(ended.out)["pid"])
        except (ValueError, KeyError, TypeError) as error:
            raise SmokeError(f"the state of container {self._container} can't be read: {ended.complaint}") from error

    def kill(self) -> None:
        """What ends a pod that has passed its deadline."""
        self._run([*self._command, "kill", self._container, "KILL"], timeout=10)


@dataclass(frozen=True)
class Outcome:
    """How a container ended; ``clean`` if the runtime took it away by itself."""

    ended: Ended
    clean: bool


_POD_LIKE = Limits()


class Containers:
    """Runs containers through the OCI runtime as pods are run: without rights, with limits, on a read-only root."""

    def __init__(self, run: RunCommand, runtime: str, cgroup_manager: str, folder: Path, timeout: float) -> None:
        self._run = run
        self.folder = folder
        self._state = folder / "state"
        self._command = [runtime, "--root", str(self._state), f"--cgroup-manager={cgroup_manager}"]
        self.manager = cgroup_manager
        self.limited = cgroup_manager != "disabled"
        self._timeout = timeout
        self.owner = owner()

    def bundle(self, name: str, content: bytes | None, program: str = "probe.wasm") -> Bundle:
        folder = self.folder / name
        root = folder / "rootfs"
        for mount_point in ("proc", "dev"):
            (root / mount_point).mkdir(parents=True)
        if content is not None:
            (root / program).write_bytes(content)
            (root / program).chmod(0o755)
        return Bundle(folder, program)

    def start(
        self,
        bundle: Bundle,
        args: Sequence[str] = (),
        env: Sequence[str] = (),
        *,
        limits: Limits = _POD_LIKE,
        mounts: Sequence[Mount] = (),
        timeout: float | None = None,
        while_open: Callable[[Running], None] | None = None,
    ) -> Outcome:
        """Run to the end. ``while_open`` gets the container at its first output, whose input ends when it returns."""
        container = f"{PREFIX}-{secrets.token_hex(6)}"
        config = self._config([f"/{bundle.program}", *args], ["PATH=/", *env], limits, mounts)
        (bundle.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        running = Running(self._run, self._command, container)
        ended = self._run(
            [*self._command, "run", "--bundle", str(bundle.folder), container],
            timeout=timeout or self._timeout,
            while_open=(lambda: while_open(running)) if while_open else None,
        )
        clean = not (self._state / container).exists()
        if not clean:
            self._run([*self._command, "delete", "--force", container], timeout=10)
        return Outcome(ended, clean)

    @contextlib.contextmanager
    def serving(self, bundle: Bundle, env: Sequence[str], limits: Limits) -> Iterator[int]:
        """A container in the background, in a network of its own whose loopback is down; its pid. Gone afterwards."""
        container = f"{PREFIX}-{secrets.token_hex(6)}"
        config = self._config([f"/{bundle.program}"], ["PATH=/", *env], limits, ())
        config["linux"]["namespaces"].append({"type": "network"})
        (bundle.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        # What it says goes to a file: a pipe would end with the command that starts it.
        start = [*self._command, "run", "--detach", "--bundle", str(bundle.folder), container]
        log = shlex.quote(str(bundle.folder / "log"))
        try:
            ended = self._run(["sh", "-c", f"exec {shlex.join(start)} >{log} 2>&1"], timeout=self._timeout)
            if ended.rc != 0:
                raise SmokeError(f"{bundle.program} does not start: {self.said(bundle) or ended.complaint}")
            yield Running(self._run, self._command, container).pid()
        finally:
            self._run([*self._command, "delete", "--force", container], timeout=10)

    def said(self, bundle: Bundle) -> str:
        """The last line that a container in the background has written."""
        try:
            lines = (bundle.folder / "log").read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return next((text.strip()[:300] for text in reversed(lines) if text.strip()), "")

    def _config(self, args: list[str], env: list[str], limits: Limits, mounts: Sequence[Mount]) -> dict[str, Any]:
        return {
            "ociVersion": "1.0.0",
            "process": {
                "terminal": False,
                "user": {"uid": NOBODY, "gid": NOBODY},
                "args": args,
                "env": env,
                "cwd": "/",
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
                },
                *map(_mounted, mounts),
            ],
            # As in the base runtime spec of pods: a name that ends in .wasm goes to the engine, others run natively.
            "annotations": {"module.wasm.image/variant": "compat-smart"},
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "resources": limits.resources() if self.limited else {},
            },
        }


def _mounted(mount: Mount) -> dict[str, Any]:
    options = ["bind", "nosuid", "nodev", "rw" if mount.writable else "ro"]
    return {"destination": mount.destination, "type": "bind", "source": str(mount.source), "options": options}
