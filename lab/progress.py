"""What a person sees while the lab works: a live line on a terminal, plain timed lines everywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

# Without a terminal, a long step says every so many seconds that it is alive.
HEARTBEAT = 15.0


class Step:
    """One piece of work under way."""

    def __init__(self, title: str, show: Callable[[str], None]) -> None:
        self.title = title
        self.detail = ""
        self._show = show

    def update(self, detail: str) -> None:
        """Say what is being done just now: the last line of a program's output, a count, a file name."""
        self.detail = " ".join(detail.split())[:100]
        self._show(self.detail)


class Progress:
    """Steps and notes on one console. Steps may be inside each other."""

    def __init__(self, console: Console | None = None, heartbeat: float = HEARTBEAT) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self.timings: list[tuple[str, float]] = []
        self._heartbeat = heartbeat
        self._live: RichProgress | None = None
        self._depth = 0
        self._last_line = 0.0

    def note(self, text: str) -> None:
        """One line that stays on the screen."""
        self.console.print(text, markup=False, highlight=False)

    def passthrough(self, line: str) -> None:
        """A line of a program's own output, with its own colours."""
        self._last_line = time.monotonic()
        self.console.print(Text.from_ansi(line))

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A piece of work: shown while it runs, its time afterwards."""
        begin = time.monotonic()
        shown = self._on_terminal if self.console.is_terminal else self._in_lines
        with shown(title) as step:
            try:
                yield step
            except BaseException:
                self.timings.append((f"FAILED {title}", time.monotonic() - begin))
                self.note(f"FAILED  {title} after {time.monotonic() - begin:.1f} s")
                raise
        seconds = time.monotonic() - begin
        self.timings.append((title, seconds))
        self.note(f"done    {title} ({seconds:.1f} s)")

    @contextmanager
    def _on_terminal(self, title: str) -> Iterator[Step]:
        if self._live is None:
            self._live = RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}", style="dim", markup=False),
                console=self.console,
                transient=True,
            )
            self._live.start()
        live, self._depth = self._live, self._depth + 1
        task: TaskID = live.add_task(title, total=None, detail="")
        try:
            yield Step(title, lambda detail: live.update(task, detail=detail[: max(10, self.console.width - 50)]))
        finally:
            live.remove_task(task)
            self._depth -= 1
            if self._depth == 0:
                live.stop()
                self._live = None

    @contextmanager
    def _in_lines(self, title: str) -> Iterator[Step]:
        self.note(f"start   {title}")
        step, begin, ended = Step(title, lambda _detail: None), time.monotonic(), threading.Event()

        def beat() -> None:
            while not ended.wait(self._heartbeat):
                if time.monotonic() - self._last_line < self._heartbeat:
                    continue
                detail = f": {step.detail}" if step.detail else ""
                self.note(f"        {title}, {time.monotonic() - begin:.0f} s{detail}")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield step
        finally:
            ended.set()
            thread.join()
