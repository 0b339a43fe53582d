"""Programs and what is kept of them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import process
from lab.errors import CommandFailed, LabError

PARENT = """
import sys
from pathlib import Path
from lab import locks, process
with locks.held(Path(sys.argv[1]) / "lock") as lock:
    process.stream(["sh", "-c", "echo $$; exec sleep 60"], log=Path(sys.argv[1]) / "log", on_line=print, lock=lock)
"""


def test_error_carries_what_the_program_said() -> None:
    with pytest.raises(CommandFailed, match=r"(?s)`sh -c .*ended with 3:.*no such thing"):
        process.run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_missing_program_names_the_way_out() -> None:
    with pytest.raises(LabError, match=r"no-such-program: no such program\. `python -m lab packages`"):
        process.run(["no-such-program"])


def test_timeout_is_an_exit_code() -> None:
    assert process.run(["sleep", "60"], check=False, timeout=0.1).returncode == 124


def test_stream_gives_each_line_and_keeps_the_log(tmp_path: Path) -> None:
    lines: list[str] = []
    process.stream(["sh", "-c", "cat; echo two >&2"], log=tmp_path / "log", on_line=lines.append, stdin=b"one\n")
    assert lines == ["one", "two"]
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_stream_names_the_log_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=rf"(?s)ended with 1:.*broken.*{tmp_path}/log"):
        process.stream(["sh", "-c", "echo broken; exit 1"], log=tmp_path / "log", on_line=lambda _: None)


def test_program_dies_with_its_killed_parent(tmp_path: Path) -> None:
    root = Path(process.__file__).parent.parent
    parent = subprocess.Popen([sys.executable, "-uc", PARENT, str(tmp_path)], stdout=subprocess.PIPE, cwd=root)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(OSError, match="No such"):
        Path(f"/proc/{child}/exe").readlink()
