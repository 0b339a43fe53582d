# SPDX-License-Identifier: Apache-2.0
"""containerd's service: restarted when it is older than one of its files, enabled, started, and answering."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_config import CTR, PROGRAM, REGISTRIES
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_images import SOCKET

UNIT = "containerd.service"
UNIT_FILE = Path("/etc/systemd/system") / UNIT
FOLDER = Path("/etc/containerd")

RunCommand = Callable[[list[str]], tuple[int, str, str]]


class ServiceError(Exception):
    """containerd does not run as it should."""


@dataclass(frozen=True)
class Places:
    """Where things are on the host; tests have them elsewhere."""

    unit: Path = UNIT_FILE
    folder: Path = FOLDER
    # Read at each pull.
    registries: Path = REGISTRIES
    program: Path = PROGRAM
    ctr: Path = CTR
    socket: Path = Path(SOCKET)


@dataclass(frozen=True)
class Outcome:
    changed: bool
    restarted: bool
    newer: list[str]


class Service:
    """The unit, through systemctl."""

    def __init__(self, run: RunCommand, places: Places | None = None) -> None:
        self._run = run
        self.places = places or Places()

    def properties(self) -> dict[str, str]:
        names = "--property=ActiveState,UnitFileState,NeedDaemonReload"
        _, out, _ = self._run(["systemctl", "show", names, UNIT])
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def do(self, *words: str) -> None:
        code, out, err = self._run(["systemctl", *words])
        if code:
            raise ServiceError(f"`systemctl {' '.join(words)}` failed: {(err or out).strip()}{self.journal()}")

    def answers(self) -> bool:
        return self._run([str(self.places.ctr), "--address", str(self.places.socket), "version"])[0] == 0

    def journal(self) -> str:
        _, out, _ = self._run(["journalctl", "--unit", UNIT, "--lines", "5", "--output", "cat", "--no-pager"])
        return f". Its last words: {out.strip()} (journalctl --unit {UNIT})"


def newer_files(places: Places) -> list[str]:
    """What has changed since containerd was started; its socket is as old as itself."""
    try:
        since = places.socket.stat().st_mtime_ns
    except FileNotFoundError:
        return []
    return sorted({str(path) for path in _files(places) if path.lstat().st_ctime_ns > since})


def _files(places: Places) -> Iterator[Path]:
    """The unit with its drop-ins, the program, and the configuration but for what is read at each pull."""
    beside = places.unit.with_name(f"{places.unit.name}.d")
    yield from (path for path in (places.unit, beside, *beside.glob("*"), places.program) if path.exists())
    for folder, subfolders, names in os.walk(places.folder):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if here / name != places.registries]
        yield here
        yield from (here / name for name in names)


def ensure(
    service: Service,
    *,
    check: bool,
    timeout: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Have containerd run with the files as they are now. A cut between a change and this is made up for."""
    if not service.places.unit.exists():
        if check:
            return Outcome(True, False, [])
        raise ServiceError(f"no {service.places.unit} on this host: play the role edgefleet.wasm.containerd first")
    now = service.properties()
    newer = newer_files(service.places)
    running = now.get("ActiveState") == "active"
    enabled = now.get("UnitFileState") == "enabled"
    outcome = Outcome(bool(newer or not running or not enabled), bool(newer) and running, newer)
    if check:
        return outcome
    if now.get("NeedDaemonReload") == "yes" or outcome.changed:
        service.do("daemon-reload")
    if not enabled:
        service.do("enable", UNIT)
    if newer or not running:
        # Running containers stay: the service ends only its own process.
        service.do("restart", UNIT)
    _await(service, timeout, clock, sleep)
    return outcome


def _await(service: Service, timeout: int, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    end = clock() + timeout
    while not service.answers():
        if clock() > end:
            raise ServiceError(f"containerd runs, but does not answer within {timeout} s{service.journal()}")
        sleep(0.5)
