# SPDX-License-Identifier: Apache-2.0
"""What a section of the smoke test is, what it may use, and how often a level repeats each thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import diagnosis
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Containers
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import Engine
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Findings,
    Level,
    SmokeError,
    Status,
    line,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand


@dataclass(frozen=True)
class Effort:
    """How often a level does each thing. Starts are counted a side."""

    engine_starts: int
    crun_starts: int
    cri_starts: int
    pod_starts: int
    concurrent: int
    cycles: int


EFFORT: Mapping[Level, Effort] = {
    Level.QUICK: Effort(engine_starts=20, crun_starts=20, cri_starts=8, pod_starts=0, concurrent=4, cycles=2),
    Level.STANDARD: Effort(engine_starts=40, crun_starts=40, cri_starts=12, pod_starts=8, concurrent=10, cycles=5),
    Level.FULL: Effort(engine_starts=100, crun_starts=100, cri_starts=50, pod_starts=20, concurrent=20, cycles=20),
}


@dataclass(frozen=True)
class Bench:
    """One host, ready to be measured: a Wasm module has just run on it.

    ``compiled`` is None where there are no compiled probes for this engine; ``no_compiled`` then says why. ``options``
    are the module's own arguments.
    """

    run: RunCommand
    arch: str
    containers: Containers
    payload: Payload
    compiled: Compiled | None
    no_compiled: str
    engine: Engine
    level: Level
    effort: Effort
    containerd: Path
    options: Mapping[str, Any]


def attempted(checks: Sequence[Check], measure: Callable[[], Findings]) -> Findings:
    """What came out, or why these checks can't be judged."""
    try:
        return measure()
    except (SmokeError, OSError) as error:
        cause, step = diagnosis.of_pod(str(error))
        return Findings([line(one, Status.INVALID, str(error), cause=cause, next_step=step) for one in checks])


class Section(Protocol):
    """A module of this folder that contributes lines. Its lines are in the order of its checks, one each.

    ``LEAST`` is the lowest level that runs it; below it, in check mode and where no Wasm module runs at all, its lines
    are ``not_applicable`` without a word from it. A ``SmokeError`` out of ``measure`` makes them ``invalid``.
    """

    NAME: str
    LEAST: Level
    CHECKS: tuple[Check, ...]

    def measure(self, bench: Bench) -> Findings: ...
