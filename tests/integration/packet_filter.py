"""What the tests have this machine drop, and the end of it: also after a run that was killed.

``python -m tests.integration.packet_filter`` takes away the rules of test runs that no longer live.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# Each rule names the process that set it, so that another run can tell whether somebody still waits to remove it.
_OURS = re.compile(r"^-A (?P<rule>.* --comment \"?edgefleet-tests-(?P<pid>\d+)\"? .*)$", re.MULTILINE)


@contextmanager
def dropping(*rules: list[str]) -> Iterator[None]:
    """This machine drops what the rules match: each a chain and its conditions, as iptables takes them."""
    placed = [[*rule, "-m", "comment", "--comment", f"edgefleet-tests-{os.getpid()}", "-j", "DROP"] for rule in rules]
    for rule in placed:
        subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        for rule in placed:
            subprocess.run(["iptables", "-D", *rule], check=True)


def orphans(listed: str) -> list[list[str]]:
    """The rules of dead test runs in what ``iptables -S`` says."""
    return [shlex.split(match["rule"]) for match in _OURS.finditer(listed) if not _lives(int(match["pid"]))]


def remove_orphans() -> None:
    """Take away what runs that were killed have left. On a machine without iptables no test has set a rule yet."""
    if shutil.which("iptables") is None:
        return
    listed = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True)
    for rule in orphans(listed.stdout):
        subprocess.run(["iptables", "-D", *rule], check=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    remove_orphans()
