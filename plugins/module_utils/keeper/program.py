# SPDX-License-Identifier: Apache-2.0
"""The program ``edgefleet-keeper`` on the host: what its units call, and what a person with a console can."""

from __future__ import annotations

import argparse
import subprocess
import sys

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import UNITS, K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import backup, settings
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import ArchiveError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.backup import BackupError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.certificates import Certificates
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.databases import DatabaseError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.sandboxes import Sandboxes
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.sets import SetError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.settings import SettingsError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.state import Outcome, StateError, Store
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.trial import Trial, TrialError

ERRORS = (
    ArchiveError,
    BackupError,
    DatabaseError,
    K3sError,
    SetError,
    SettingsError,
    StateError,
    TrialError,
    OSError,
)
# For a rollback by hand: as long as it may take until all is well.
_ROLLBACK_SECONDS = 300.0


def run_command(command: list[str]) -> tuple[int, str, str]:
    """As Ansible's own: exit code, output, errors."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return 127, "", f"{command[0]}: {error}"
    return run.returncode, run.stdout, run.stderr


def back_up() -> None:
    declared = settings.load()
    wanted = backup.Wanted(declared.node_name, declared.volumes, declared.backups_keep)
    made = backup.make(run_command, wanted)
    print(f"{made.path}: {made.size} bytes in {made.seconds:.1f} s; removed: {', '.join(made.removed) or 'none'}")


def renew() -> None:
    declared = settings.load()
    if Store().state() is not None:
        # A restart now would be taken for the change's doing.
        print("a change is under way: nothing is restarted")
        return
    names = Certificates(run_command).renew(UNITS[declared.role])
    print(f"renewed: {', '.join(names)}" if names else "no certificate ends soon")


def prune() -> None:
    names = Sandboxes(run_command).prune()
    print(f"removed: {', '.join(names)}" if names else "nothing dead is from the future")


def status() -> None:
    store = Store()
    state, last = store.state(), store.last()
    print(f"under way: {state.phase}, the set before is K3s {state.k3s}" if state else "no change is under way")
    print(f"last change: {told(last)}" if last else "no change has ended yet")


def boot() -> None:
    print(_trial().boot())


def watch() -> None:
    outcome = _trial().watch()
    print(told(outcome) if outcome else "the change has ended")


def roll_back() -> None:
    print(told(_trial().roll_back(_ROLLBACK_SECONDS)))


def told(outcome: Outcome) -> str:
    if outcome.outcome == "kept":
        return f"K3s {outcome.k3s_now} is kept, before it was {outcome.k3s_before}"
    return f"back to K3s {outcome.k3s_now}: {outcome.reason}"


def _trial() -> Trial:
    return Trial(run_command, settings.load())


_COMMANDS = {
    "status": (status, "whether a change is under way, and how the last one ended"),
    "backup": (back_up, "make a backup now, as the timer does"),
    "renew": (renew, "have K3s renew its certificates, if one ends soon, as the timer does"),
    "prune": (prune, "remove dead pods that a clock that was ahead has left, as the timer does"),
    "rollback": (roll_back, "go back to the set before the last change that was kept"),
    "boot": (boot, "for edgefleet-keeper-boot.service: decide which set is run"),
    "watch": (watch, "for edgefleet-keeper.service: keep the change that is under way, or go back"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="edgefleet-keeper", description="Keeps this K3s host. See the role keeper.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in _COMMANDS.items():
        commands.add_parser(name, help=text)
    chosen, _ = _COMMANDS[parser.parse_args().command]
    try:
        chosen()
    except ERRORS as error:
        print(f"edgefleet-keeper: {error}", file=sys.stderr)
        return 1
    return 0
