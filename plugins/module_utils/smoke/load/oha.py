# SPDX-License-Identifier: Apache-2.0
"""Open-loop load over HTTP by oha, whose record tells of each request when it was due, and when it was sent."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import Loop, Request, intended_times
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand

REQUEST_SECONDS = 10.0
# Enough that a request never waits for a connection while answers come within the limit, and below what one pod takes.
CONNECTIONS = (16, 200)
_FIRST_ERROR = 400


@dataclass(frozen=True)
class Ask:
    """What to send: ``qps`` requests a second for ``seconds``. ``prefix`` goes before the program, as nsenter does."""

    url: str
    qps: float
    seconds: float
    slowest: float
    """Seconds that an answer may take within the SLO."""
    prefix: Sequence[str] = ()


def connections(qps: float, slowest: float) -> int:
    """As many requests as are under way at once when each takes as long as the SLO lets the slowest take."""
    low, high = CONNECTIONS
    return min(high, max(low, math.ceil(qps * slowest)))


def run(run_command: RunCommand, program: Path, folder: Path, ask: Ask) -> Loop:
    """Send it all, and read the record. ``folder`` gets two files, replaced by the next run."""
    record, summary = folder / "oha.db", folder / "oha.json"
    for left in (record, summary):
        left.unlink(missing_ok=True)
    ended = run_command(
        [*ask.prefix, str(program), *_arguments(ask, record, summary)],
        timeout=ask.seconds + REQUEST_SECONDS + 20,
    )
    if ended.rc != 0 or not summary.exists():
        raise SmokeError(f"the load generator oha ended with {ended.rc}: {ended.complaint}")
    try:
        told = json.loads(summary.read_text(encoding="utf-8"))
        return loop(ask, _rows(record), told["errorDistribution"])
    except (ValueError, KeyError, sqlite3.Error) as error:
        raise SmokeError(f"the record of oha can't be read: {error!r}") from error


def _arguments(ask: Ask, record: Path, summary: Path) -> list[str]:
    # The site's own certificate: what is tested is the load, from the host itself.
    insecure = ["--insecure"] if ask.url.startswith("https:") else []
    return [
        "--no-tui",
        "--output-format=json",
        f"--output={summary}",
        f"--db-url={record}",
        "-q", f"{ask.qps:g}",
        "-z", f"{ask.seconds:g}s",
        "--latency-correction",
        # Else what is slow is cut off at the end, and missing from the record.
        "--wait-ongoing-requests-after-deadline",
        "-t", f"{REQUEST_SECONDS:g}s",
        "-c", str(connections(ask.qps, ask.slowest)),
        "--disable-compression",
        *insecure,
        ask.url,
    ]  # fmt: skip


def _rows(record: Path) -> list[tuple[float, float, int]]:
    """When each was handed to a connection, when its answer was there, and the answer's status."""
    if not record.exists():
        return []
    with sqlite3.connect(f"file:{record}?mode=ro", uri=True) as database:
        found = database.execute("SELECT start_latency_correction, end, status FROM oha ORDER BY 1")
        return [(float(sent), float(done), int(status)) for sent, done, status in found]


def loop(ask: Ask, rows: Sequence[tuple[float, float, int]], told: Mapping[str, int]) -> Loop:
    """From oha's record. An answer of 400 or above is an error, and comes in time all the same for the schedule."""
    errors = dict(told)
    for _, _, status in rows:
        if status >= _FIRST_ERROR:
            errors[f"status {status}"] = errors.get(f"status {status}", 0) + 1
    intended = intended_times([sent for sent, _, _ in rows], ask.qps, sum(told.values()))
    requests = [
        Request(due, sent, done if status < _FIRST_ERROR else None)
        for due, (sent, done, status) in zip(intended, rows, strict=True)
    ]
    return Loop(ask.qps, ask.seconds, requests, errors)
