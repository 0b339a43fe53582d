# SPDX-License-Identifier: Apache-2.0
"""What a smoke test yields: verdict lines, and the document around them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 2
ENGINE = "wasmedge"

Samples = dict[str, dict[str, list[float]]]
"""Of each timed check by its id: the samples by side, a side being named ``<side>_<unit>``."""


class SmokeError(Exception):
    """The smoke test itself can't be done; the text names the cause and the way out."""


class Status(StrEnum):
    """``invalid`` is not ``fail``: the run can't be trusted, and the reason says why."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INVALID = "invalid"
    NOT_APPLICABLE = "not_applicable"


class Level(StrEnum):
    """How thorough a run is: 10 s a host, 60 s, or as long as it takes."""

    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"

    def holds(self, least: Level) -> bool:
        order = list(Level)
        return order.index(self) >= order.index(least)


class Layer(StrEnum):
    """What a line is about. From ``engine`` to ``pod`` a start goes through ever more of the host.

    ``controller`` is measured there, to compare with.
    """

    FUNCTION = "function"
    CONTROLLER = "controller"
    ENGINE = "engine"
    CRUN = "crun"
    CRI = "cri"
    POD = "pod"
    LOAD = "load"
    SITE = "site"


@dataclass(frozen=True)
class Check:
    """What a line is, before anything is measured."""

    id: str
    layer: Layer
    what: str
    limit: float | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Line:
    """One verdict: the measured value beside its limit, from ``n`` samples.

    ``reason`` is what was seen, ``cause`` what it most likely comes from, ``next`` the command that shows or mends it.
    """

    id: str
    layer: Layer
    what: str
    status: Status
    measured: float | None
    limit: float | None
    unit: str | None
    n: int
    reason: str
    cause: str
    next: str
    details: dict[str, float] = field(default_factory=dict)


def line(
    check: Check,
    status: Status,
    reason: str = "",
    *,
    measured: float | None = None,
    n: int = 0,
    cause: str = "",
    next_step: str = "",
    details: dict[str, float] | None = None,
) -> Line:
    return Line(
        id=check.id,
        layer=check.layer,
        what=check.what,
        status=status,
        measured=None if measured is None else round(measured, 3),
        limit=check.limit,
        unit=check.unit,
        n=n,
        reason=reason,
        cause=cause,
        next=next_step,
        details={name: round(value, 3) for name, value in (details or {}).items()},
    )


# The checks that stand at the head of each report. Those of a section stand with the section.
HANDLER = Check("handler", Layer.FUNCTION, f"the OCI runtime has the Wasm handler {ENGINE}")
NONCE = Check("nonce", Layer.FUNCTION, "a Wasm module runs, and prints the nonce that was built into it")
ARGS = Check("args", Layer.FUNCTION, "arguments reach the module")
ENV = Check("env", Layer.FUNCTION, "environment variables reach the module")
TRAP = Check("trap", Layer.FUNCTION, "a trap ends the module, and is seen")
CORRUPT = Check("corrupt", Layer.FUNCTION, "a corrupt module fails cleanly")
MISSING = Check("missing", Layer.FUNCTION, "a missing module fails cleanly")
AOT = Check("aot", Layer.FUNCTION, "compiled code runs as compiled, not interpreted", limit=10.0, unit="times")
CHECKS = (HANDLER, NONCE, ARGS, ENV, TRAP, CORRUPT, MISSING, AOT)


@dataclass(frozen=True)
class Findings:
    """What one section of a run yields: its lines, the samples behind them, and figures beyond both."""

    lines: list[Line]
    samples: Samples = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """All that one run on one host yields. ``schema.json`` describes it."""

    host: str
    level: Level
    started: str
    seconds: float
    check_mode: bool
    identity: dict[str, Any]
    lines: list[Line]
    samples: Samples
    sections: dict[str, dict[str, Any]]
    warnings: list[str]

    def summary(self) -> dict[str, int]:
        return {status.value: sum(one.status is status for one in self.lines) for status in Status}

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, as JSON has them."""
        lines = [{**asdict(one), "layer": one.layer.value, "status": one.status.value} for one in self.lines]
        return {"schema": SCHEMA, **vars(self), "level": self.level.value, "lines": lines, "summary": self.summary()}
