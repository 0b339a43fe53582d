"""The commands. Each is a few lines over `session` and `run`."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lab import builders, ssh
from lab.errors import LabError
from lab.packages import BROWSER, PACKAGES
from lab.paths import DEFAULT_NAME, LabPaths
from lab.progress import Progress
from lab.run import everything
from lab.session import Lab
from lab.topology import MOST, VARIABLE, Asked, Kind

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Throw-away hosts for trying and testing edgefleet.wasm."
)

Name = Annotated[str, typer.Option("--name", help="Which lab. Labs of different names or checkouts never meet.")]
Hosts = Annotated[
    Kind | None,
    typer.Option("--hosts", help=f"What the hosts are; default: as they are, or ${VARIABLE}, or containers."),
]
Count = Annotated[
    int | None, typer.Option("--count", min=1, max=MOST, help="How many servers; default: those there are, or 1.")
]
Agents = Annotated[
    int | None, typer.Option("--agents", min=0, max=MOST, help="How many agents; default: those there are, or none.")
]
Airgapped = Annotated[
    bool | None,
    typer.Option("--airgapped/--connected", help="Hosts that reach nothing but each other; default: as it was."),
]


@app.command()
def packages(
    *,
    browser: Annotated[
        bool, typer.Option("--browser", help="Those that the page's tests need, and no others.")
    ] = False,
) -> None:
    """Install the Debian packages that the machine needs, after saying which."""
    Lab(LabPaths.of(DEFAULT_NAME), Progress()).packages(BROWSER if browser else PACKAGES)


@app.command()
def up(
    *,
    name: Name = DEFAULT_NAME,
    hosts: Hosts = None,
    count: Count = None,
    agents: Agents = None,
    airgapped: Airgapped = None,
    without_systemd: Annotated[
        bool, typer.Option("--without-systemd", help="Hosts whose first process is sshd: what a wrong host looks like.")
    ] = False,
) -> None:
    """Bring up bare Debian 13 hosts and write their inventory. Sound hosts are kept, half-made ones replaced."""
    asked = Asked(hosts, count, agents, airgapped)
    lab = Lab(LabPaths.of(name), Progress(), asked=asked, systemd=not without_systemd)
    lab.packages()
    with lab.locked():
        made = lab.up()
    for host in made:
        lab.progress.note(f"{host.name}  {host.address}")
    lab.progress.note(f"inventory: {lab.paths.inventory}")


@app.command()
def artifacts(
    *,
    k3s: Annotated[
        str, typer.Option("--k3s", help="One more version of K3s, for upgrades, for example v1.30.3+k3s1.")
    ] = "",
    variables: Annotated[
        Path | None, typer.Option("--variables", help="Write the variables that declare that version into this file.")
    ] = None,
) -> None:
    """Fill the mirror folder: releases where they can be reached, the same versions built from source elsewhere."""
    lab = Lab(LabPaths.of(DEFAULT_NAME), Progress())
    if variables and not k3s:
        raise LabError("--variables declares the version that --k3s names: give both.")
    builders.fill(lab.paths.mirror, lab.progress, k3s)
    if variables:
        declared = builders.k3s_variables(lab.paths.mirror, k3s)
        variables.write_text(json.dumps(declared, indent=2) + "\n", encoding="utf-8")


@app.command()
def run(
    *,
    name: Name = DEFAULT_NAME,
    hosts: Hosts = None,
    count: Count = None,
    agents: Agents = None,
    airgapped: Airgapped = None,
) -> None:
    """All of `make lab`: packages, artifacts, hosts, playbooks, smoke test, a request from outside, the report."""
    everything(Lab(LabPaths.of(name), Progress(), asked=Asked(hosts, count, agents, airgapped)))


@app.command()
def down(name: Name = DEFAULT_NAME) -> None:
    """Remove this lab's hosts, network and state, and nothing else."""
    lab = Lab(LabPaths.of(name), Progress())
    with lab.locked():
        lab.down()


@app.command()
def status(name: Name = DEFAULT_NAME) -> None:
    """Show the hosts. Exit code 1 if there are none or one is not well."""
    lab = Lab(LabPaths.of(name), Progress())
    found = lab.hosts.status()
    table = Table("host", "address", "state", "system", title=f"lab {name} ({lab.paths.id})")
    for one in found:
        table.add_row(one.host.name, one.host.address, one.state, one.system or "no ssh")
    lab.progress.console.print(table)
    if not found or any(one.state != "running" or not one.system for one in found):
        raise typer.Exit(1)


@app.command()
def inventory(name: Name = DEFAULT_NAME) -> None:
    """Print the folder of the inventory."""
    print(LabPaths.of(name).inventory)


# What follows HOST belongs to the command on the host, options too.
@app.command(context_settings={"allow_interspersed_args": False})
def shell(
    host: Annotated[str, typer.Argument(help="A host's name, as `status` shows it.")],
    command: Annotated[list[str] | None, typer.Argument(help="A command instead of a shell.")] = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Log in to a host, or run a command there: shell [--name NAME] HOST [COMMAND...]."""
    lab = Lab(LabPaths.of(name), Progress())
    line = [*ssh.command(lab.paths, lab.hosts.find(host)), *(command or [])]
    os.execvp(line[0], line)  # noqa: S606 - no shell is wanted


@app.command()
def reboot(
    host: Annotated[str, typer.Argument(help="A host's name.")],
    name: Name = DEFAULT_NAME,
    power_cut: Annotated[bool, typer.Option("--power-cut", help="Without telling the host first.")] = False,
) -> None:
    """Stop and start a host, and wait until it is back."""
    lab = Lab(LabPaths.of(name), Progress())
    with lab.locked(), lab.progress.step(f"reboot {host}"):
        lab.hosts.reboot(host, power_cut=power_cut)


@app.command()
def netem(
    host: Annotated[str, typer.Argument(help="A host's name; hosts that are virtual machines only.")],
    delay: Annotated[str, typer.Option("--delay", help="How long, for example 200ms; or off.")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Delay what a host sends, so that each round trip to it takes that much longer; until it boots."""
    if not re.fullmatch(r"off|[1-9]\d{0,4}ms", delay):
        raise LabError(f"--delay {delay}: use milliseconds, for example 200ms, or off.")
    lab = Lab(LabPaths.of(name), Progress())
    with lab.locked():
        lab.hosts.netem(host, None if delay == "off" else delay)


def main() -> None:
    """The entry point: an error meant for a person is shown without a traceback."""
    try:
        app()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(1)
