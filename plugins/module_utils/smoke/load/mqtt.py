# SPDX-License-Identifier: Apache-2.0
"""Open-loop load over MQTT, by a paho client in a process of its own that records its own lag."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import Loop, Request
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand

GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Ask:
    """What to publish where. A message counts as answered when it is heard on ``reply``."""

    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None
    topic: str
    reply: str
    qps: float
    seconds: float


def run(run_command: RunCommand, program: Path, library: Path, folder: Path, ask: Ask) -> Loop:
    """Publish it all. ``library`` is what Python finds paho in. The password goes by a file that is gone afterwards."""
    settings, result = folder / "mqtt.json", folder / "mqtt-result.json"
    settings.touch(mode=0o600)
    try:
        settings.write_text(json.dumps({**asdict(ask), "grace": GRACE_SECONDS}), encoding="utf-8")
        ended = run_command(
            ["env", f"PYTHONPATH={library}", sys.executable, str(program), str(settings), str(result)],
            timeout=ask.seconds + GRACE_SECONDS + 20,
        )
    finally:
        settings.unlink(missing_ok=True)
    if ended.rc != 0:
        raise SmokeError(f"the MQTT client ended with {ended.rc}: {ended.complaint}")
    try:
        told = json.loads(result.read_text(encoding="utf-8"))
        return Loop(ask.qps, ask.seconds, [Request(*one) for one in told["requests"]], told["errors"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SmokeError(f"the record of the MQTT client can't be read: {error!r}") from error
