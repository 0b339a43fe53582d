"""The Debian packages that the machine itself needs to hold a lab."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import CommandFailed, LabError
from lab.process import SEARCH_PATH, Run, run, stream
from lab.progress import Progress

# Package -> why. Everything podman needs is named: recommended packages are not installed along.
PACKAGES = {
    "podman": "runs the hosts",
    "runc": "podman's runtime here: Debian 12's crun refuses machines with cgroup v1",
    "netavark": "the hosts' network",
    "aardvark-dns": "the hosts' name service",
    "iptables": "netavark's address translation",
    "nftables": "netavark's address translation",
    "uidmap": "needed by podman",
    "catatonit": "needed by podman",
    "conntrack": "shows and clears connections in the tests",
    "mmdebstrap": "makes the hosts' image",
    "e2fsprogs": "makes the disks of hosts that are virtual machines",
    "iproute2": "the network of hosts that are virtual machines",
    "debian-archive-keyring": "verifies the packages of that image",
    "openssh-client": "the way to the hosts",
    "procps": "raises limits that the hosts share with the machine",
    "gcc": "compiles what the lab builds itself of C: SQLite for the K3s double, the pause program",
    "libc6-dev": "needed by gcc",
    "patchelf": "makes the hosts' engine without LLVM",
}

# Not for the lab: the tests of the smoke test's page open it.
BROWSER = {"chromium": "opens the fleet page in the tests"}


def missing(packages: Sequence[str] = tuple(PACKAGES), run: Run = run) -> list[str]:
    """The packages that are not installed."""
    if shutil.which("dpkg-query", path=SEARCH_PATH) is None:
        raise LabError("This machine has no dpkg: the lab runs on Debian and its relatives (tested: Debian 12).")
    shown = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages], check=False).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in installed]


def root_prefix(run: Run = run) -> list[str] | None:
    """What to put before a command that needs root: nothing for root, sudo where it asks for no password."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and run(["sudo", "-n", "true"], check=False).returncode == 0:
        return ["sudo", "-n"]
    return None


def install_command(packages: Sequence[str]) -> list[str]:
    """The apt-get command; recommended packages would bring a second container stack along."""
    return ["apt-get", "install", "--yes", "--no-install-recommends", *packages]


def ensure(progress: Progress, log: Path, run: Run = run, why: Mapping[str, str] = PACKAGES) -> None:
    """Install what is missing, and say first what that is. Where that is not allowed: one line with the command."""
    wanted = missing(tuple(why), run=run)
    if not wanted:
        return
    prefix = root_prefix(run)
    command = install_command(wanted)
    if prefix is None:
        raise LabError(f"{len(wanted)} machine packages are missing; run: sudo {' '.join(command)}")
    progress.note("These machine packages are needed and are installed now:")
    for name in wanted:
        progress.note(f"        {name}: {why[name]}")
    # env, not the environment of this process: sudo drops that.
    quiet = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    with progress.step(f"install {len(wanted)} machine packages") as step:
        # A list of one foreign repository that can't be had is no reason to stop: the install itself decides.
        run([*quiet, "apt-get", *wait, "update"], check=False)
        try:
            stream([*quiet, *command[:1], *wait, *command[1:]], log=log, on_line=step.update)
        except CommandFailed as failed:
            raise LabError(
                f"{failed}\nWhen that is put right, run again, or install by hand: sudo {' '.join(command)}"
            ) from failed
