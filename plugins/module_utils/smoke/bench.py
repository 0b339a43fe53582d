# SPDX-License-Identifier: Apache-2.0
"""What a section of the smoke test is, what it may use, and how often a level repeats each thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Containers
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import Engine
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Check, Findings, Level
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand


@dataclass(frozen=True)
class Effort:
    """How often a level does each thing. Starts are counted a side."""

    crun_starts: int


EFFORT: Mapping[Level, Effort] = {
    Level.QUICK: Effort(crun_starts=20),
    Level.STANDARD: Effort(crun_starts=40),
    Level.FULL: Effort(crun_starts=100),
}


@dataclass(frozen=True)
class Bench:
    """One host, ready to be measured: a Wasm module has just run on it.

    ``compiled`` is None where there are no compiled probes for this engine; ``no_compiled`` then says why. ``options``
    are the module's own arguments.
    """

    run: RunCommand
    containers: Containers
    payload: Payload
    compiled: Compiled | None
    no_compiled: str
    engine: Engine
    level: Level
    effort: Effort
    options: Mapping[str, Any]


class Section(Protocol):
    """A module of this folder that contributes lines. Its lines are in the order of its checks, one each.

    ``LEAST`` is the lowest level that runs it; below it, in check mode and where no Wasm module runs at all, its lines
    are ``not_applicable`` without a word from it. A ``SmokeError`` out of ``measure`` makes them ``invalid``.
    """

    NAME: str
    LEAST: Level
    CHECKS: tuple[Check, ...]

    def measure(self, bench: Bench) -> Findings: ...
