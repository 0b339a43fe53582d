# SPDX-License-Identifier: Apache-2.0
"""K3s's leaf certificates on a site that never restarts: K3s renews them at a start alone, in their last 90 days."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError, RunCommand
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import site

# Within K3s's own 90 days, with weeks left for a host that is off at the time.
RENEW_DAYS = 60
_DAY = 86400.0
_FOLDERS = ("server/tls", "server/tls/etcd", "agent")
# Written by K3s a moment after it says that it is ready.
_WAIT_SECONDS = 60.0
_POLL_SECONDS = 3.0


@dataclass
class Certificates:
    """``now`` is the time of day as the host has it, in seconds since 1970."""

    run: RunCommand
    data: Path = site.DATA
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def days_left(self) -> dict[Path, float]:
        """Of each leaf certificate; authorities are not among them, which last ten years."""
        return {path: self._days(path) for path in self._leaves()}

    def renew(self, service: str) -> list[str]:
        """Restart K3s if a leaf ends soon; pods stay. Names of those that were renewed, K3sError if one was not."""
        ending = {path: days for path, days in self.days_left().items() if days < RENEW_DAYS}
        if not ending:
            return []
        rc, out, err = self.run(["systemctl", "restart", "--no-block", service])
        if rc != 0:
            raise K3sError(f"`systemctl restart {service}` ended with {rc}: {(err or out).strip()}")
        waited = 0.0
        while left := {path: days for path, days in ending.items() if path.exists() and self._days(path) < RENEW_DAYS}:
            if waited >= _WAIT_SECONDS:
                path, days = min(left.items(), key=lambda one: one[1])
                raise K3sError(
                    f"{path} ends in {days:.0f} days and K3s has not renewed it at its start; is the clock right? "
                    f"Look at: journalctl -u {service}"
                )
            self.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        return sorted(path.name for path in ending)

    def _leaves(self) -> Iterator[Path]:
        for folder in _FOLDERS:
            for path in sorted((self.data / folder).glob("*.crt")):
                if not path.name.endswith(("-ca.crt", "-ca.nochain.crt")):
                    yield path

    def _days(self, path: Path) -> float:
        # The first certificate of the file is the leaf.
        rc, out, err = self.run(["openssl", "x509", "-noout", "-enddate", "-in", str(path)])
        if rc != 0 or "=" not in out:
            raise K3sError(f"{path}: openssl can't read this certificate: {(err or out).strip()[:200]}")
        return (ssl.cert_time_to_seconds(out.strip().split("=", 1)[1]) - self.now()) / _DAY
