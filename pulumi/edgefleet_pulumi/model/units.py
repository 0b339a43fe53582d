"""Figures with their unit: written as text, so that nobody has to guess, and refused with an example when wrong."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

_CPU = r"(?:[1-9][0-9]*m|[1-9][0-9]*(?:\.[0-9]+)?|0\.[0-9]*[1-9])"
_MEMORY = r"[1-9][0-9]*(?:Ki|Mi|Gi)"
_BYTES = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}


def _number(text: Any, pattern: str, fix: str) -> Decimal:
    found = re.fullmatch(pattern, text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{fix}, not {text!r}")
    return Decimal(found[1])


_MS = r"([0-9]+(?:\.[0-9]+)?) ?ms"
_PERCENT = r"([0-9]+(?:\.[0-9]+)?) ?%"
_CHANGE = r"([+-][0-9]+(?:\.[0-9]+)?) ?%"


def _milliseconds(text: Any) -> float:
    value = float(_number(text, _MS, "write milliseconds such as 20ms"))
    if value <= 0:
        raise ValueError(f"must be more than 0ms, not {text!r}")
    return value


def _percent(text: Any) -> float:
    value = float(_number(text, _PERCENT, "write a percentage such as 99.9%"))
    if not 0 < value <= 100:
        raise ValueError(f"must be more than 0% and at most 100%, not {text!r}")
    return value


def _change(text: Any) -> float:
    return float(_number(text, _CHANGE, "write a change with its sign, such as -50% or +60%"))


def _quantity(pattern: str, fix: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{fix}, not {text!r}")
        return text

    return AfterValidator(check)


def _text(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": [example]})


Milliseconds = Annotated[float, BeforeValidator(_milliseconds), _text(_MS, "20ms")]
Percent = Annotated[float, BeforeValidator(_percent), _text(_PERCENT, "99.9%")]
Change = Annotated[float, BeforeValidator(_change), _text(_CHANGE, "-50%")]
# Kept as written: Kubernetes reads the same text.
Cpu = Annotated[str, _quantity(_CPU, "write cores or millicores such as 200m or 1"), _text(_CPU, "200m")]
Memory = Annotated[str, _quantity(_MEMORY, "write bytes with Ki, Mi or Gi such as 256Mi"), _text(_MEMORY, "256Mi")]


def millicores(cpu: str) -> int:
    """The thousandths of a core in a CPU quantity."""
    if not re.fullmatch(_CPU, cpu):
        raise ValueError(f"write cores or millicores such as 200m or 1, not {cpu!r}")
    return int(cpu[:-1]) if cpu.endswith("m") else int(Decimal(cpu) * 1000)


def mebibytes(memory: str) -> int:
    """The MiB in a memory quantity, rounded up."""
    if not re.fullmatch(_MEMORY, memory):
        raise ValueError(f"write bytes with Ki, Mi or Gi such as 256Mi, not {memory!r}")
    return -(-int(memory[:-2]) * _BYTES[memory[-2:]] // 1024**2)
