"""Whose rules the tests' packet filter takes away."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration.packet_filter import orphans


def dead() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_only_rules_of_test_runs_that_no_longer_live() -> None:
    rule = "-A OUTPUT -d 192.0.2.1/32 -p tcp -m tcp --dport 22"
    ended = dead()
    listed = "\n".join(
        [
            "-P OUTPUT ACCEPT",
            f"{rule} -j DROP",
            f"{rule} -m comment --comment edgefleet-tests-{os.getpid()} -j DROP",
            f'{rule} -m comment --comment "of edgefleet-tests-{ended}" -j DROP',
            f"{rule} -m comment --comment edgefleet-tests-{ended} -j DROP",
        ]
    )
    found = orphans(listed)
    assert found == [[*rule.split()[1:], "-m", "comment", "--comment", f"edgefleet-tests-{ended}", "-j", "DROP"]]
