"""Running programs: short ones whole, long ones line by line into a log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lab.errors import CommandFailed, LabError

# Debian keeps runc and others in sbin, which a user's PATH may lack.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class Run(Protocol):
    """Runs one program to its end and gives back what it printed. Tests put a fake in its place."""

    def __call__(
        self, command: Sequence[str], *, stdin: bytes | None = None, check: bool = True, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """With `check`, an exit code other than 0 is a CommandFailed."""


def run(
    command: Sequence[str], *, stdin: bytes | None = None, check: bool = True, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """The real `Run`. A timeout is an exit code of 124, as timeout(1) has it."""
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "PATH": SEARCH_PATH},
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except FileNotFoundError as missing:
        raise LabError(
            f"{command[0]}: no such program. `python -m lab packages` installs what the lab needs."
        ) from missing
    except subprocess.TimeoutExpired as late:
        code, out, err = 124, late.stdout or b"", (late.stderr or b"") + f"\nno end after {timeout} s".encode()
    result = subprocess.CompletedProcess(
        list(command), code, out.decode(errors="replace"), err.decode(errors="replace")
    )
    if check and result.returncode != 0:
        raise CommandFailed(list(command), result.returncode, result.stderr or result.stdout)
    return result


def stream(
    command: Sequence[str],
    *,
    log: Path,
    on_line: Callable[[str], None],
    lock: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    end_by: signal.Signals = signal.SIGTERM,
) -> None:
    """Run a long program, each line of its output into `log` and to `on_line`.

    When this process is killed, the program must not go on beside the next run: the kernel ends it with its parent
    (setpriv --pdeathsig, by the signal `end_by`), and it inherits `lock`, so that the next run waits until it is gone.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    wrapped = [shutil.which("setpriv", path=SEARCH_PATH) or "setpriv", "--pdeathsig", end_by.name[3:], *command]
    tail: deque[str] = deque(maxlen=30)
    with (
        log.open("w", encoding="utf-8") as sink,
        subprocess.Popen(
            wrapped,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": SEARCH_PATH, **(env if env is not None else os.environ)},
            cwd=cwd,
            pass_fds=[] if lock is None else [lock],
        ) as process,
    ):
        try:
            if process.stdin is not None:
                process.stdin.write(stdin or b"")
                process.stdin.close()
            assert process.stdout is not None  # noqa: S101 - Popen with PIPE always has it; this is for mypy
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                sink.write(line + "\n")
                sink.flush()
                tail.append(line)
                on_line(line)
        except BaseException:
            process.send_signal(end_by)
            raise
    if process.returncode != 0:
        raise CommandFailed(list(command), process.returncode, "\n".join(tail), log)
