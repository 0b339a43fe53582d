"""What is seen without a terminal: every step's start and time, and signs of life in between."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from lab.progress import Progress


def plain(heartbeat: float = 60) -> tuple[Progress, io.StringIO]:
    file = io.StringIO()
    return Progress(Console(file=file, soft_wrap=True), heartbeat), file


def test_step_shows_start_and_time() -> None:
    progress, file = plain()
    with progress.step("outer"), progress.step("inner [b]"):
        pass
    assert re.fullmatch(
        r"start   outer\nstart   inner \[b\]\ndone    inner \[b\] \(0\.\d s\)\ndone    outer \(0\.\d s\)\n",
        file.getvalue(),
    )
    assert [title for title, _ in progress.timings] == ["inner [b]", "outer"]


def test_failed_step_says_so() -> None:
    progress, file = plain()
    with pytest.raises(ValueError, match="broken"), progress.step("build"):
        raise ValueError("broken")
    assert "FAILED  build after 0." in file.getvalue()
    assert [title for title, _ in progress.timings] == ["FAILED build"]


def test_long_step_says_what_it_is_doing() -> None:
    progress, file = plain(heartbeat=0.05)
    with progress.step("build") as step:
        step.update("compiling   a.go")
        time.sleep(0.2)
    assert "build, 0 s: compiling a.go" in file.getvalue()


def test_terminal_shows_nested_steps_and_leaves_their_times() -> None:
    file = io.StringIO()
    progress = Progress(Console(file=file, force_terminal=True, width=100))
    with progress.step("outer"), progress.step("inner") as inner:
        inner.update("detail")
        progress.note("a note")
    assert "a note" in file.getvalue()
    assert re.search(r"done    inner \(0\.\d s\)", file.getvalue())
