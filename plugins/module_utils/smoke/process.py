# SPDX-License-Identifier: Apache-2.0
"""Runs a program: times its first output, bounds what it may print, ends it at its deadline."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import ILLEGAL_INSTRUCTION, NEWER_PROCESSOR

_KEEP = 1 << 16


@dataclass(frozen=True)
class Ended:
    """How a program ended. ``first_output``: seconds from just before its start; None if it printed nothing.

    ``seconds`` is how long it took, ``cpu_seconds`` what it and all that it has waited for have computed; both are zero
    for one that was ended at its deadline.
    """

    rc: int
    out: bytes
    err: str
    first_output: float | None = None
    timed_out: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def complaint(self) -> str:
        """Its last words, for a verdict's reason."""
        if self.timed_out:
            return "no end within the time limit"
        if self.rc in (ILLEGAL_INSTRUCTION, -signal.SIGILL):
            return NEWER_PROCESSOR
        lines = [text.strip() for text in self.err.splitlines() if text.strip()]
        return lines[-1][:300] if lines else f"exit code {self.rc}, nothing on stderr"


class RunCommand(Protocol):
    """``while_open`` is called at the first output; standard input ends when it has returned."""

    def __call__(
        self, argv: Sequence[str], *, timeout: float, while_open: Callable[[], None] | None = None
    ) -> Ended: ...


def run_command(argv: Sequence[str], *, timeout: float, while_open: Callable[[], None] | None = None) -> Ended:
    """As ``RunCommand``. A program that can't be started ends with 127, as in a shell."""
    began = time.perf_counter()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if while_open else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
    except OSError as error:
        return Ended(127, b"", f"{argv[0]}: {error.strerror}")
    with process:
        try:
            return _Followed(process, began, while_open).until(time.monotonic() + timeout)
        finally:
            # No program outlives the call, whatever ended it: the context manager waits without a limit.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class _Followed:
    """A running program's output, as it comes."""

    def __init__(self, process: subprocess.Popen[bytes], began: float, while_open: Callable[[], None] | None) -> None:
        self._process = process
        self._began = began
        self._while_open = while_open
        self._out, err = (stream.fileno() for stream in (process.stdout, process.stderr) if stream)
        self._kept = {self._out: bytearray(), err: bytearray()}
        self._first: float | None = None

    def until(self, deadline: float) -> Ended:
        # The end is that of the program, not of the pipes: a container that was left over would hold them open.
        ending = os.pidfd_open(self._process.pid)
        try:
            ended = self._read(ending, deadline)
        finally:
            os.close(ending)
        out, err = self._kept.values()
        said = bytes(out), err.decode("utf-8", "replace")
        if not ended:
            return Ended(-signal.SIGKILL, *said, self._first, timed_out=True)
        _, status, usage = os.wait4(self._process.pid, 0)
        seconds = time.perf_counter() - self._began
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(
            self._process.returncode, *said, self._first, seconds=seconds, cpu_seconds=usage.ru_utime + usage.ru_stime
        )

    def _read(self, ending: int, deadline: float) -> bool:
        poll = select.poll()
        for descriptor in (*self._kept, ending):
            poll.register(descriptor, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = [descriptor for descriptor, _ in poll.poll(max(0.0, left * 1000))] if left > 0 else []
            if not ready:
                return False
            if ready == [ending]:
                return True
            for descriptor in ready:
                if descriptor != ending and not self._take(descriptor):
                    poll.unregister(descriptor)

    def _take(self, descriptor: int) -> bool:
        chunk = os.read(descriptor, _KEEP)
        if chunk and descriptor == self._out and self._first is None:
            self._first = time.perf_counter() - self._began
            if self._while_open and self._process.stdin:
                self._while_open()
                self._process.stdin.close()
        kept = self._kept[descriptor]
        kept += chunk[: _KEEP - len(kept)]
        return bool(chunk)
