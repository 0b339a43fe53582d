"""How long a playbook takes on hosts that are as declared already, and how many round trips over ssh it makes.

    python -m tests.bench.rerun --inventory DIR [--runs 5] [--skip-tags hardening] [--playbook FILE] [--delay-ms 200]

A round trip is one start of ssh, scp or sftp: with ControlPersist each is one exchange over a connection that stands.
They are counted by a program put in ssh's place. A run that changes anything is no re-run: it is counted apart as
``changed`` and said. ``--playbook`` measures another project's play on the same footing; ``--delay-ms`` is only noted:
set it on the host first (``python -m lab netem HOST --delay 200ms``).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.record import ROOT, save, summary

CLIENTS = ("ssh", "scp", "sftp")
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
RUN_SECONDS = 1800


@dataclass(frozen=True)
class Run:
    """One run of the play. ``tasks`` are those that reported ok, over all hosts."""

    seconds: float
    round_trips: int
    changed: int
    tasks: int


def counting_clients(folder: Path) -> dict[str, str]:
    """Programs that note each start and become the real client; the environment that puts them in its place."""
    log = folder / "starts"
    environment = {}
    for client in CLIENTS:
        real = shutil.which(client)
        if real is None:
            sys.exit(f"rerun: no {client} on this machine; install openssh-client.")
        program = folder / client
        # The check that a master connection lives is local (-O), not a round trip.
        program.write_text(
            f'#!/bin/sh\ncase " $* " in *" -O "*) ;; *) echo {client} >>{log} ;; esac\nexec {real} "$@"\n'
        )
        program.chmod(0o755)
        environment[f"ANSIBLE_{client.upper()}_EXECUTABLE"] = str(program)
    return environment


def one_run(command: Sequence[str], cwd: Path, folder: Path, environment: dict[str, str]) -> Run:
    """Run the play once; ends the program when it fails."""
    log = folder / "starts"
    log.write_text("")
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=RUN_SECONDS,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
    )  # fmt: skip
    seconds = time.monotonic() - began
    recap = RECAP.findall(done.stdout)
    if done.returncode != 0 or not recap:
        sys.exit(f"rerun: {' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return Run(
        seconds=round(seconds, 2),
        round_trips=len(log.read_text().splitlines()),
        changed=sum(int(host[2]) for host in recap),
        tasks=sum(int(host[1]) for host in recap),
    )


def measure(arguments: argparse.Namespace) -> list[Run]:
    """All the runs, after one that is not counted: it opens the connection and fills caches."""
    playbook = Path(arguments.playbook).resolve()
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [ansible, "-i", str(Path(arguments.inventory).resolve()), str(playbook)]
    if arguments.skip_tags:
        command += ["--skip-tags", arguments.skip_tags]
    cwd = ROOT if playbook.is_relative_to(ROOT) else playbook.parent.parent
    with tempfile.TemporaryDirectory(prefix="edgefleet-rerun.") as name:
        folder = Path(name)
        environment = counting_clients(folder)
        one_run(command, cwd, folder, environment)
        runs = []
        for number in range(arguments.runs):
            runs.append(one_run(command, cwd, folder, environment))
            print(f"run {number + 1}/{arguments.runs}: {runs[-1]}", file=sys.stderr, flush=True)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventory", required=True)
    parser.add_argument("--playbook", default=str(ROOT / "playbooks" / "site.yml"))
    parser.add_argument("--runs", type=int, default=5, choices=range(1, 101), metavar="1..100")
    parser.add_argument("--skip-tags", default="")
    parser.add_argument("--delay-ms", type=int, default=0)
    arguments = parser.parse_args()
    runs = measure(arguments)
    figures = {
        "seconds": summary([run.seconds for run in runs]),
        "round_trips": summary([run.round_trips for run in runs]),
        "changed": max(run.changed for run in runs),
        "delay_ms": arguments.delay_ms,
        "runs": [asdict(run) for run in runs],
    }
    path = save("rerun", figures)
    table = Table("", "median", "min", "max", "n", title=f"{Path(arguments.playbook).name}, nothing to do")
    for what in ("seconds", "round_trips"):
        table.add_row(what, *(f"{figures[what][key]:g}" for key in ("median", "min", "max", "n")))
    Console().print(table)
    if figures["changed"]:
        print(f"not a re-run: it reported changed={figures['changed']} every time at worst")
    print(path)


if __name__ == "__main__":
    main()
