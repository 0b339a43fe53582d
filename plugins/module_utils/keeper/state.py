# SPDX-License-Identifier: Apache-2.0
"""Which of two sets this host runs: one file, replaced in one step and on disk before anything goes by it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sync_folder, write_atomically

FOLDER = Path("/var/lib/edgefleet/keeper")
# The new set is being made: what is on the host now belongs to neither. A boot puts the set before back.
CHANGING = "changing"
# The new set is whole and must show that it does its work. A boot goes on with it, if it still is whole.
TRIAL = "trial"
# The set before is being put back. A boot goes on with that.
RETURNING = "returning"


class StateError(Exception):
    """The file can't be understood."""


@dataclass(frozen=True)
class State:
    """``set`` names the set before. ``deadline`` counts on the clock of the boot ``boot_id``, which nobody sets.

    ``after`` is the new set's entries, once it is whole.
    """

    phase: str
    set: str
    k3s: str
    boot_id: str
    deadline: float
    reason: str = ""
    after: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How the last change ended: ``kept`` or ``returned``. ``previous`` is the set to which a rollback goes."""

    outcome: str
    reason: str
    k3s_before: str
    k3s_now: str
    previous: str


class Store:
    """The state, the last outcome, and the sets."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.sets = folder / "sets"
        self._state = folder / "state.json"
        self._last = folder / "last.json"

    def state(self) -> State | None:
        try:
            return State(**json.loads(self._state.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise StateError(
                f"{self._state}: {error}; it is replaced in one step, so somebody else wrote it"
            ) from error

    def last(self) -> Outcome | None:
        try:
            return Outcome(**json.loads(self._last.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, state: State) -> State:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self._state, json.dumps(asdict(state)), 0o600)
        return state

    def enter(self, state: State, phase: str, **more: Any) -> State:
        return self.write(replace(state, phase=phase, **more))

    def settle(self, outcome: Outcome) -> None:
        """The end of a change. The outcome first: without the state a boot has nothing to decide."""
        write_atomically(self._last, json.dumps(asdict(outcome)), 0o600)
        self._state.unlink(missing_ok=True)
        sync_folder(self.folder)
        for folder in self.sets.iterdir() if self.sets.is_dir() else ():
            if folder.name != outcome.previous:
                shutil.rmtree(folder, ignore_errors=True)
