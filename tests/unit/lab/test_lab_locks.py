"""A lock that nobody can leave behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from lab import locks

HOLDER = """
import sys, time
from pathlib import Path
from lab import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[bytes]:
    root = Path(locks.__file__).parent.parent
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_killed_holder_frees_the_lock_and_was_named_to_the_waiting(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    holder = hold(lock)
    said: list[str] = []

    def waiting(text: str) -> None:
        said.append(text)
        holder.kill()
        holder.wait()

    begin = time.monotonic()
    with locks.held(lock, waiting):
        assert time.monotonic() - begin < 20
    assert said == [f"waiting for process {holder.pid}, which holds {lock}"]
    assert holder.stdout is not None
    holder.stdout.close()


def test_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        with locks.held(tmp_path / "lock", said.append):
            pass
    assert said == []
