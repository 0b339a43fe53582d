"""A host that answers commands from a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

Answer = tuple[int, str, str]


@dataclass
class FakeRun:
    """Stands in for ``AnsibleModule.run_command``: the first entry whose words are in the command answers."""

    answers: list[tuple[str, Answer | Callable[[], Answer]]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def on(self, words: str, out: str = "", rc: int = 0, err: str = "") -> FakeRun:
        self.answers.insert(0, (words, (rc, out, err)))
        return self

    def then(self, words: str, answer: Callable[[], Answer]) -> FakeRun:
        self.answers.insert(0, (words, answer))
        return self

    def __call__(self, command: list[str]) -> Answer:
        line = " ".join(command)
        self.commands.append(line)
        for words, answer in self.answers:
            if words in line:
                return answer() if callable(answer) else answer
        raise AssertionError(f"unexpected command: {line}")

    def ran(self, words: str) -> list[str]:
        return [line for line in self.commands if words in line]


@dataclass
class Clock:
    """Time that passes only by sleeping."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def run() -> FakeRun:
    return FakeRun()


@pytest.fixture
def clock() -> Clock:
    return Clock()
