# SPDX-License-Identifier: Apache-2.0
"""Documents of ``wasm_smoke`` as the fleet page reads them: of any version, and of hosts that may not be trusted.

What a document lacks is empty, what has the wrong type is left out. Nothing here raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PASS, FAIL, INVALID, NOT_APPLICABLE = "pass", "fail", "invalid", "not_applicable"
# Of a host, beside those of its lines.
NOT_TESTED, UNREACHABLE = "not_tested", "unreachable"
STATUSES = (FAIL, INVALID, PASS, NOT_APPLICABLE)
# From the worst to the best.
VERDICTS = (UNREACHABLE, NOT_TESTED, *STATUSES)

FUNCTION, CONTROLLER = "function", "controller"
# Sides of a timed check that are measured for comparison only.
CONTROLS = ("native", "interpreted")


@dataclass(frozen=True)
class Line:
    """One verdict of a document."""

    id: str
    layer: str
    what: str
    status: str
    measured: float | None
    limit: float | None
    unit: str
    n: int
    reason: str
    cause: str
    next: str
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """The samples of one side of a timed check, sorted. Times are named ``<side>_<unit>`` in a document."""

    check: str
    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def control(self) -> bool:
        return self.name in CONTROLS


def number(value: Any) -> float | None:
    """A finite number, or None. True is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()


def lines(document: Mapping[str, Any]) -> list[Line]:
    """The verdict lines; one without a name or with an unknown status is none."""
    found = []
    for one in sequence(document.get("lines")):
        entry = mapping(one)
        if text(entry.get("id")) and entry.get("status") in STATUSES:
            found.append(_line(entry))
    return found


def _line(entry: Mapping[str, Any]) -> Line:
    details = {str(name): number(value) for name, value in mapping(entry.get("details")).items()}
    return Line(
        id=entry["id"],
        layer=text(entry.get("layer")) or FUNCTION,
        what=text(entry.get("what")) or entry["id"],
        status=entry["status"],
        measured=number(entry.get("measured")),
        limit=number(entry.get("limit")),
        unit=text(entry.get("unit")),
        n=int(number(entry.get("n")) or 0),
        reason=text(entry.get("reason")),
        cause=text(entry.get("cause")),
        next=text(entry.get("next")),
        details={name: value for name, value in details.items() if value is not None},
    )


def sides(document: Mapping[str, Any]) -> list[Side]:
    """The samples by check and side."""
    found = []
    for check, by_side in mapping(document.get("samples")).items():
        for full_name, values in mapping(by_side).items():
            numbers = sorted(value for one in sequence(values) if (value := number(one)) is not None)
            name, _, unit = str(full_name).rpartition("_")
            if numbers:
                found.append(Side(str(check), name or unit, unit if name else "", tuple(numbers)))
    return found


def verdict(of: Sequence[Line]) -> str:
    """The worst of the lines; what does not apply says nothing about a host unless nothing else does."""
    seen = {line.status for line in of}
    return next((status for status in STATUSES if status in seen), NOT_TESTED)


def versions(document: Mapping[str, Any]) -> dict[str, str]:
    """What was tested, as the programs print it: a build that says of itself to be no release says so here too."""
    identity = mapping(document.get("identity"))
    printed = mapping(identity.get("versions"))
    engine = mapping(identity.get("engine"))
    cpu = mapping(identity.get("cpu"))
    shown = {name: text(value) or "not there" for name, value in printed.items()}
    if engine:
        llvm = {"shared": ", loads LLVM", "inside": ", LLVM inside", "none": ", without LLVM"}
        name = f"{text(engine.get('name'))} {text(engine.get('version')) or 'of unknown version'}"
        # Where the engine that pods get is not the one the role was told to use, its reason says so.
        reason = text(engine.get("reason"))
        shown["engine"] = name.strip() + llvm.get(text(engine.get("llvm")), "") + (f"; {reason}" if reason else "")
    if text(document.get("level")):
        shown["level of the test"] = text(document.get("level"))
    for name, value in (
        ("os", text(identity.get("os"))),
        ("kernel", text(identity.get("kernel"))),
        ("arch", text(identity.get("arch"))),
        ("cgroup", text(identity.get("cgroup"))),
        ("cpu", f"{number(cpu.get('count')) or '?'} x {text(cpu.get('model')) or '?'}" if cpu else ""),
    ):
        if value:
            shown[name] = value
    return shown


def warnings(document: Mapping[str, Any]) -> list[str]:
    return [one for one in sequence(document.get("warnings")) if text(one)]
