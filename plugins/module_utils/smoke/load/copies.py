# SPDX-License-Identifier: Apache-2.0
"""Copies of the reference service, Wasm and native, each a container with the pod's limits in a network of its own.

Nothing outside reaches such a network, and no port of the host is taken: the generator enters it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Containers, Limits
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand

PORT = 8080
URL = f"http://127.0.0.1:{PORT}/"
ENVIRONMENT = ("SYSTEM=edgefleet-smoke", f"PORT={PORT}")
START_SECONDS = 10.0
_LISTEN = "0A"


@dataclass(frozen=True)
class Copy:
    """One that listens."""

    pid: int

    @property
    def enter(self) -> Sequence[str]:
        """What goes before a program that is to run in the copy's network."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net")


@contextlib.contextmanager
def serving(
    run: RunCommand, containers: Containers, bundle: Bundle, limits: Limits, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Copy]:
    """A copy for as long as it takes; it is gone afterwards."""
    with containers.serving(bundle, env=ENVIRONMENT, limits=limits) as pid:
        copy = Copy(pid)
        up = run([*copy.enter, "ip", "link", "set", "lo", "up"], timeout=START_SECONDS)
        if up.rc != 0:
            raise SmokeError(f"the loopback of a container's network can't be set up: {up.complaint}")
        for _ in range(round(START_SECONDS / 0.05)):
            if listens(pid, PORT):
                break
            sleep(0.05)
        else:
            raise SmokeError(f"{bundle.program} does not listen within {START_SECONDS:g} s: {containers.said(bundle)}")
        yield copy


def listens(pid: int, port: int, proc: Path = Path("/proc")) -> bool:
    """Whether anything in the network of a process takes connections on a port."""
    try:
        rows = (proc / str(pid) / "net" / "tcp").read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return False
    return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == _LISTEN for row in rows)
