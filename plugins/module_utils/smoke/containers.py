# SPDX-License-Identifier: Apache-2.0
"""OCI bundles and `crun run`, in a folder of its own that goes away with whoever made it, however that ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
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
_MEMORY_LIMIT = 256 << 20
_PIDS_LIMIT = 64
_NOBODY = 65534


@contextlib.contextmanager
def workspace(run: RunCommand, runtime: str, bases: Sequence[Path] = BASES) -> Iterator[Path]:
    """A folder of this process. What a killed run left is removed first; what another live run has is not touched."""
    for base in bases:
        for folder in sorted(base.glob(f"{PREFIX}.*")):
            if not _owner_lives(folder.name):
                _remove(run, runtime, folder)
    me = f"{PREFIX}.{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(4)}"
    folder = _executable(bases) / me
    try:
        folder.mkdir(mode=0o700)
        (folder / "state").mkdir()
        yield folder
    except OSError as error:
        raise SmokeError(f"the working folder {folder} can't be used: {error}") from error
    finally:
        _remove(run, runtime, folder)


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


def _owner_lives(folder: str) -> bool:
    pid, _, rest = folder.partition(".")[2].partition("-")
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
class Outcome:
    """How a container ended; ``clean`` if the runtime took it away by itself."""

    ended: Ended
    clean: bool


class Containers:
    """Runs containers through the OCI runtime as pods are run: without rights, with limits, on a read-only root."""

    def __init__(self, run: RunCommand, runtime: str, cgroup_manager: str, folder: Path, timeout: float) -> None:
        self._run = run
        self._folder = folder
        self._state = folder / "state"
        self._command = [runtime, "--root", str(self._state), f"--cgroup-manager={cgroup_manager}"]
        self._limited = cgroup_manager != "disabled"
        self._timeout = timeout

    def bundle(self, name: str, content: bytes | None, program: str = "probe.wasm") -> Bundle:
        folder = self._folder / name
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
        while_open: Callable[[int], None] | None = None,
    ) -> Outcome:
        """Run to the end. ``while_open`` gets the pid of the container at its first output, and ends its input."""
        container = f"{PREFIX}-{secrets.token_hex(6)}"
        config = self._config([f"/{bundle.program}", *args], ["PATH=/", *env])
        (bundle.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        ended = self._run(
            [*self._command, "run", "--bundle", str(bundle.folder), container],
            timeout=self._timeout,
            while_open=(lambda: while_open(self._pid(container))) if while_open else None,
        )
        clean = not (self._state / container).exists()
        if not clean:
            self._run([*self._command, "delete", "--force", container], timeout=10)
        return Outcome(ended, clean)

    def _pid(self, container: str) -> int:
        ended = self._run([*self._command, "state", container], timeout=10)
        try:
            return int(json.loads(ended.out)["pid"])
        except (ValueError, KeyError, TypeError) as error:
            raise SmokeError(f"the state of container {container} can't be read: {ended.complaint}") from error

    def _config(self, args: list[str], env: list[str]) -> dict[str, Any]:
        limits = {"memory": {"limit": _MEMORY_LIMIT}, "pids": {"limit": _PIDS_LIMIT}} if self._limited else {}
        return {
            "ociVersion": "1.0.0",
            "process": {
                "terminal": False,
                "user": {"uid": _NOBODY, "gid": _NOBODY},
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
            ],
            # As in the base runtime spec of pods: a name that ends in .wasm goes to the engine, others run natively.
            "annotations": {"module.wasm.image/variant": "compat-smart"},
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "resources": limits,
            },
        }
