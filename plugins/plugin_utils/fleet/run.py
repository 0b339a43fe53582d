# SPDX-License-Identifier: Apache-2.0
"""One smoke test of a fleet: what came from each host, what follows from it, and the JSON of both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import reading
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.numbers import Spread, outliers
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.reading import Line, Side

SCHEMA = 1
KIND = "edgefleet.wasm.fleet"
# In the report folder. A host's document there is <host>.json, and no host's name has a slash.
FOLDER = "fleet"


class FleetError(Exception):
    """A fleet's file can't be read or written; the text names it and the cause."""


@dataclass(frozen=True)
class HostResult:
    """What came from one host. ``document`` is empty where the test could not be done, and ``reason`` says why."""

    host: str
    document: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    unreachable: bool = False
    # What the task said, by its fail_on; None where it said nothing.
    passed: bool | None = None

    @cached_property
    def lines(self) -> list[Line]:
        return reading.lines(self.document)

    @cached_property
    def sides(self) -> list[Side]:
        return reading.sides(self.document)

    @property
    def verdict(self) -> str:
        if self.document:
            return reading.verdict(self.lines)
        return reading.UNREACHABLE if self.unreachable else reading.NOT_TESTED

    def as_dict(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "verdict": self.verdict,
            "passed": self.passed,
            "reason": self.reason,
            "document": self.document or None,
        }

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> HostResult:
        passed = entry.get("passed")
        return cls(
            host=reading.text(entry.get("host")),
            document=reading.mapping(entry.get("document")),
            reason=reading.text(entry.get("reason")),
            unreachable=entry.get("verdict") == reading.UNREACHABLE,
            passed=passed if isinstance(passed, bool) else None,
        )


@dataclass(frozen=True)
class Check:
    """A check over the fleet."""

    id: str
    layer: str
    what: str
    unit: str
    counts: Mapping[str, int]
    measured: Mapping[str, float]

    @cached_property
    def spread(self) -> Spread | None:
        return Spread.of(list(self.measured.values())) if self.measured else None

    @cached_property
    def outliers(self) -> dict[str, float]:
        return outliers(self.measured, self.spread) if self.spread else {}

    def as_dict(self) -> dict[str, Any]:
        spread = vars(self.spread) if self.spread else None
        counts = {status: self.counts.get(status, 0) for status in reading.STATUSES}
        return {"id": self.id, "layer": self.layer, "unit": self.unit, "lines": counts, "spread": spread}


@dataclass(frozen=True)
class FleetRun:
    """All hosts of one run, in the order of the inventory."""

    started: datetime
    finished: datetime
    playbook: str
    hosts: tuple[HostResult, ...]

    @property
    def name(self) -> str:
        """Names sort as the runs followed each other."""
        return f"{self.started:%Y%m%dT%H%M%SZ}"

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(host.verdict for host in self.hosts)

    @cached_property
    def checks(self) -> list[Check]:
        """In the order in which the documents have them."""
        return list(_checks(self.hosts))

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, as ``schema.json`` describes them."""
        found = [(check, host, far) for check in self.checks for host, far in check.outliers.items()]
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "run": self.name,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": self.finished.isoformat(timespec="seconds"),
            "playbook": self.playbook,
            "summary": {"hosts": len(self.hosts), **{one: self.counts.get(one, 0) for one in reading.VERDICTS}},
            "checks": [check.as_dict() for check in self.checks],
            "outliers": [
                {
                    "host": host,
                    "check": check.id,
                    "measured": check.measured[host],
                    "deviations": round(far, 1) if abs(far) != float("inf") else None,
                }
                for check, host, far in found
            ],
            "hosts": [host.as_dict() for host in self.hosts],
        }


def _checks(hosts: Iterable[HostResult]) -> Iterable[Check]:
    seen: dict[str, tuple[Line, Counter[str], dict[str, float]]] = {}
    for host in hosts:
        for line in host.lines:
            first, counts, measured = seen.setdefault(line.id, (line, Counter(), {}))
            counts[line.status] += 1
            # Figures of another unit, from a document of another version, are not the same figure.
            if line.measured is not None and line.unit == first.unit:
                measured[host.host] = line.measured
    for first, counts, measured in seen.values():
        yield Check(first.id, first.layer, first.what, first.unit, counts, measured)


def write(run: FleetRun, report_dir: Path) -> Path:
    """The run's JSON into the report folder; its path. A run of the same second gets another name."""
    folder = report_dir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        document = run.as_dict()
        path, number = folder / f"{run.name}.json", 1
        while path.exists():
            number += 1
            path = folder / f"{run.name}-{number}.json"
        document["run"] = path.stem
        write_atomically(path, json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n")
    except OSError as error:
        raise FleetError(f"the report folder {report_dir} (edgefleet_report_dir) can't be written: {error}") from error
    return path


def read(path: Path) -> FleetRun:
    """A run that was written earlier, by this version or an older one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetError(f"{path} can't be read: {error}") from error
    except ValueError as error:
        raise FleetError(f"{path} is not JSON: {error}") from error
    entry = reading.mapping(content)
    if entry.get("kind") != KIND:
        raise FleetError(f"{path} is not a fleet's run: its kind is not {KIND}")
    schema = reading.number(entry.get("schema")) or 0
    if schema > SCHEMA:
        raise FleetError(
            f"{path} has schema {schema:g}, written by a newer version of this collection (here: {SCHEMA})"
        )
    try:
        times = [datetime.fromisoformat(reading.text(entry.get(name))) for name in ("started", "finished")]
    except ValueError as error:
        raise FleetError(f"{path} does not say when it was run: {error}") from error
    hosts = (HostResult.of(reading.mapping(one)) for one in reading.sequence(entry.get("hosts")))
    return FleetRun(times[0], times[1], reading.text(entry.get("playbook")), tuple(one for one in hosts if one.host))


def earlier(report_dir: Path, before: str, most: int) -> list[Path]:
    """The runs in a report folder that came before the one of that name, the oldest first."""
    return [path for path in runs(report_dir) if path.stem < before][-most:]


def runs(report_dir: Path) -> list[Path]:
    """All runs in a report folder, the oldest first."""
    return sorted((report_dir / FOLDER).glob("[0-9]*T[0-9]*Z*.json"), key=lambda path: path.stem)
