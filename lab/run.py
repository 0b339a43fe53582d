"""`make lab`: from no host to a report, stage by stage. Each stage is safe to run again; what is done stays done."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table

from lab import builders, process, workload
from lab.errors import CommandFailed, LabError
from lab.session import Lab

PLAYBOOKS = ("site", "deploy", "smoke")


def ansible_environment(lab: Lab, environ: Mapping[str, str]) -> dict[str, str]:
    """For ansible-playbook: this checkout's configuration, this Python's programs, colours where we have them."""
    return {
        **environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), process.SEARCH_PATH]),
        "ANSIBLE_CONFIG": str(lab.paths.checkout / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "1" if lab.progress.console.is_terminal else "0",
        "PYTHONUNBUFFERED": "1",
    }


def play(lab: Lab, playbook: str, lock: int) -> None:
    """Run one playbook of the collection, its output live on the screen and in a log."""
    log = lab.paths.logs / f"{playbook}.log"
    with lab.progress.step(f"ansible-playbook edgefleet.wasm.{playbook}"):
        try:
            process.stream(
                ["ansible-playbook", "-i", str(lab.paths.inventory), f"edgefleet.wasm.{playbook}"],
                log=log,
                on_line=lab.progress.passthrough,
                lock=lock,
                env=ansible_environment(lab, os.environ),
                cwd=lab.paths.checkout,
            )
        except CommandFailed as failed:
            raise LabError(
                f"edgefleet.wasm.{playbook} failed (exit code {failed.returncode}); its output: {log}\n"
                f"Look inside a host: .venv/bin/python -m lab shell --name {lab.paths.name} edge1\n"
                f"Then run the same command again: it goes on from the host's present state."
            ) from failed


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Name the stage in whatever error comes out of it."""
    try:
        yield
    except LabError as error:
        raise LabError(f"stage {name}: {error}") from error


def reports_since(folder: Path, begin: float) -> list[Path]:
    """What the run has written into the folder itself; folders in it belong to other labs and to the tests."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.stat().st_mtime >= begin)


def everything(lab: Lab) -> None:
    """The whole of `make lab`."""
    begin = time.time()
    answers: list[str] = []
    try:
        with stage("packages"):
            lab.packages()
        with stage("artifacts"):
            builders.fill(lab.paths.mirror, lab.progress)
        with lab.locked() as lock:
            with stage("hosts"):
                hosts = lab.up()
            for playbook in PLAYBOOKS:
                with stage(playbook):
                    play(lab, playbook, lock)
            with stage("request"), lab.progress.step("ask the workload from outside its hosts") as step:
                servers = hosts[: lab.topology.servers]
                answers = [workload.ask(lab.hosts, host, step) for host in servers]
    finally:
        lab.progress.console.print(times(lab, time.time() - begin))
    for answer in answers:
        lab.progress.note(answer)
    for report in reports_since(lab.paths.reports, begin):
        lab.progress.note(f"report: {report}")
    lab.progress.note(
        f"Hosts stay up: `.venv/bin/python -m lab status --name {lab.paths.name}`, `... down` removes them."
    )


def times(lab: Lab, total: float) -> Table:
    """Where the time went."""
    table = Table("step", "seconds")
    table.columns[1].justify = "right"
    for title, seconds in lab.progress.timings:
        table.add_row(title, f"{seconds:.1f}")
    table.add_row("all", f"{total:.1f}", style="bold")
    return table
