"""How long this collection takes: a bare lab host to a serving site, and the same plays again, which change nothing.

    python -m tests.bench.install [--lab install] [--runs 1] [--reruns 3]

Each run makes the lab's host anew; the mirror folder is full. Round trips are starts of ssh, scp or sftp.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.paths import LabPaths
from tests.bench.record import ROOT, save, summary
from tests.bench.rerun import Run, counting_clients, one_run

PLAYS = ("site", "deploy")


def lab(*words: str) -> None:
    """One of the lab's commands."""
    subprocess.run([sys.executable, "-m", "lab", *words], cwd=ROOT, check=True, stdout=sys.stderr)


def play(name: str, paths: LabPaths, folder: Path, environment: dict[str, str]) -> Run:
    """One of the collection's playbooks against the lab."""
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    found = one_run([ansible, "-i", str(paths.inventory), f"edgefleet.wasm.{name}"], ROOT, folder, environment)
    print(f"{name}: {found}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="install")
    parser.add_argument("--runs", type=int, default=1, choices=range(1, 21), metavar="1..20")
    parser.add_argument("--reruns", type=int, default=3, choices=range(1, 21), metavar="1..20")
    arguments = parser.parse_args()
    paths = LabPaths.of(arguments.lab)
    runs: dict[str, list[Run]] = {f"{play}, {when}": [] for when in ("bare host", "again") for play in PLAYS}
    lab("artifacts")
    with tempfile.TemporaryDirectory(prefix="edgefleet-install.") as name:
        environment = counting_clients(Path(name))
        for _ in range(arguments.runs):
            lab("down", "--name", arguments.lab)
            lab("up", "--name", arguments.lab)
            for when, count in (("bare host", 1), ("again", arguments.reruns)):
                for _ in range(count):
                    for play_name in PLAYS:
                        runs[f"{play_name}, {when}"].append(play(play_name, paths, Path(name), environment))
    lab("down", "--name", arguments.lab)
    figures: dict[str, Any] = {
        what: {
            "seconds": summary([run.seconds for run in found]),
            "round_trips": summary([run.round_trips for run in found]),
            "changed": [run.changed for run in found],
            "runs": [asdict(run) for run in found],
        }
        for what, found in runs.items()
    }
    path = save("install", {"host": {"lab": arguments.lab, "kind": "containers", "versions": []}, "plays": figures})
    table = Table("play", "median s", "round trips", "changed", "n")
    for what, one in figures.items():
        trips, seconds = one["round_trips"], one["seconds"]
        table.add_row(what, f"{seconds['median']:.1f}", f"{trips['median']:g}", str(one["changed"]), str(seconds["n"]))
    Console().print(table)
    print(path)


if __name__ == "__main__":
    main()
