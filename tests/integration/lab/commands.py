"""The lab's own command line, as these tests run it."""

from __future__ import annotations

import os
import subprocess
import sys

from lab.paths import CHECKOUT, LabPaths
from lab.topology import VARIABLE

# What a host gets when it connects to a place: 0, or the error's number.
_CONNECT = """
import socket, sys
for place in sys.argv[1:]:
    address, _, port = place.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(20)
        print(place, probe.connect_ex((address, int(port))))
"""


class Commands:
    """`python -m lab` for one lab. Its kind is what the test says, whatever the environment has for others."""

    def __init__(self, name: str, timeout: float = 300) -> None:
        self.paths = LabPaths.of(name)
        self.timeout = timeout
        self.environment = {key: value for key, value in os.environ.items() if key != VARIABLE}

    def line(self, command: str, *arguments: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "lab", command, "--name", self.paths.name, *arguments]

    def __call__(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        done = subprocess.run(
            self.line(command, *arguments),
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=self.timeout,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def shell(self, host: str, script: str) -> str:
        """Run a script on a host; its output."""
        return self("shell", host, script).stdout.strip()

    def connect(self, host: str, *places: str) -> dict[str, int]:
        """What a host gets when it connects there."""
        said = self.shell(host, f"python3 - {' '.join(places)} <<'END'{_CONNECT}END\n")
        return {place: int(code) for place, code in (line.split() for line in said.splitlines())}
