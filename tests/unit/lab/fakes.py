"""A machine that exists only in memory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

Answer = tuple[int, str]


class FakeRun:
    """Stands for `lab.process.run`: answers by the first words that match, keeps what it was asked."""

    def __init__(self, answers: dict[str, Answer | Callable[[list[str]], Answer]] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str], *, check: bool = True, **_: object) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        self.asked.append(line)
        for words, answer in self.answers.items():
            if words in line:
                code, out = answer(list(command)) if callable(answer) else answer
                assert not (check and code), f"{line} -> {code}"
                return subprocess.CompletedProcess(list(command), code, out, "")
        return subprocess.CompletedProcess(list(command), 0, "", "")
