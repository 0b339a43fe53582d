# SPDX-License-Identifier: Apache-2.0
"""From a play's events to a fleet's run, and how far the run is. Knows no Ansible class, so a test needs no play."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import reading
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetRun, HostResult

NOT_STARTED = "the test was not started on this host"
HIDDEN = "the result is hidden by no_log"
NO_DOCUMENT = "the test returned neither a document nor a reason"
UNREADABLE = "the document that came back has no verdict that can be read"


class Collector:
    """Holds one result a host: the last test of it, or why there was none."""

    def __init__(self) -> None:
        self._results: dict[str, HostResult | None] = {}
        self._failed: dict[str, str] = {}

    def expect(self, hosts: Iterable[str]) -> None:
        """These are to be tested; the order is theirs, also where one was lost before."""
        self._results = {**dict.fromkeys(hosts), **self._results}

    def tested(self, host: str, result: Mapping[str, Any]) -> HostResult:
        """The test's task has ended on a host, well or not."""
        self._results[host] = found = _result(host, result)
        return found

    def failed(self, host: str, result: Mapping[str, Any]) -> None:
        """Another task has failed on a host. If it is never tested, that is why."""
        self._failed.setdefault(host, _reason(result))

    def unreachable(self, host: str, result: Mapping[str, Any]) -> HostResult:
        """A host was lost; what an earlier test of it said is not true any more."""
        self._results[host] = found = HostResult(host, reason=_reason(result), unreachable=True)
        return found

    def __bool__(self) -> bool:
        return bool(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def run(self, started: datetime, finished: datetime, playbook: str) -> FleetRun:
        hosts = (
            result or HostResult(host, reason=self._failed.get(host, NOT_STARTED))
            for host, result in self._results.items()
        )
        return FleetRun(started, finished, playbook, tuple(hosts))


def _result(host: str, result: Mapping[str, Any]) -> HostResult:
    # A task with a loop has several: the last that could be done is the host's.
    looped = [one for one in reading.sequence(result.get("results")) if reading.mapping(one).get("document")]
    source = reading.mapping(looped[-1]) if looped else result
    document = reading.mapping(source.get("document"))
    if not document:
        return HostResult(host, reason=HIDDEN if "censored" in source else _reason(source))
    try:
        # What JSON has no word for, such as NaN, would make the whole fleet's file unreadable.
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError):
        return HostResult(host, reason=UNREADABLE)
    if not reading.lines(document):
        return HostResult(host, reason=UNREADABLE)
    passed = source.get("passed")
    return HostResult(host, document, passed=passed if isinstance(passed, bool) else None)


def _reason(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("msg") or "").split()) or NO_DOCUMENT


class Progress:
    """Now and then a whole line about a fleet's test: what else is printed stays as it is."""

    EVERY = 5.0
    FROM_HOSTS = 10

    def __init__(self, total: int, now: Callable[[], float], show: Callable[[str], None]) -> None:
        self._total = total
        self._now = now
        self._show = show
        self._began = self._last = now()
        self._counts: dict[str, int] = {}

    def add(self, verdict: str) -> None:
        self._counts[verdict] = self._counts.get(verdict, 0) + 1
        now = self._now()
        done = sum(self._counts.values())
        if self._total < self.FROM_HOSTS or now - self._last < self.EVERY or done >= self._total:
            return
        self._last = now
        left = (now - self._began) / done * (self._total - done)
        self._show(f"smoke test: {done}/{self._total} hosts{self._bad()}, about {_time(left)} left")

    def _bad(self) -> str:
        words = {"fail": "fail", "invalid": "invalid", "not_tested": "not tested", "unreachable": "unreachable"}
        return "".join(f", {self._counts[key]} {word}" for key, word in words.items() if key in self._counts)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
