"""The one kind of error that the lab shows to a person without a traceback."""

from __future__ import annotations

from pathlib import Path


class LabError(Exception):
    """Says what is wrong and the way out, in words a person can act on."""


class CommandFailed(LabError):  # noqa: N818 - it names what happened
    """A program ended with an error. Keeps what it said."""

    def __init__(self, command: list[str], returncode: int, said: str, log: Path | None = None) -> None:
        self.command = command
        self.returncode = returncode
        self.said = said.strip()
        self.log = log
        where = f"\nThe whole output: {log}" if log else ""
        tail = "\n".join(f"    {line}" for line in self.said.splitlines()[-15:]) or "    (no output)"
        super().__init__(
            f"`{' '.join(command[:6])}{' ...' if len(command) > 6 else ''}` ended with {returncode}:\n{tail}{where}"
        )
