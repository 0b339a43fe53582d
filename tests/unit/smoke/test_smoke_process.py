"""Programs are timed, bounded, and ended."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command


def test_output_code_and_time_to_first_output() -> None:
    ended = run_command(["sh", "-c", "sleep 0.2; echo out; sleep 0.2; echo err >&2; exit 3"], timeout=10)
    assert (ended.rc, ended.out, ended.err, ended.timed_out) == (3, b"out\n", "err\n", False)
    assert ended.first_output is not None
    assert ended.first_output >= 0.2


def test_what_prints_nothing_has_no_time() -> None:
    ended = run_command(["sh", "-c", "echo err >&2"], timeout=10)
    assert ended.first_output is None


def test_a_missing_program_is_127_and_named() -> None:
    ended = run_command(["/no/such/crun", "run"], timeout=10)
    assert ended.rc == 127
    assert ended.complaint == "/no/such/crun: No such file or directory"


def test_the_deadline_ends_it_and_its_children() -> None:
    ended = run_command(["sh", "-c", "echo $$; sleep 300 & wait"], timeout=0.5)
    assert ended.timed_out
    assert ended.complaint == "no end within the time limit"
    group = int(ended.out)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError("a child is still there")


def test_a_child_that_keeps_the_pipes_open_does_not_hold_it_up() -> None:
    began = time.monotonic()
    ended = run_command(["sh", "-c", "setsid sleep 20 & echo $!"], timeout=15)
    os.kill(int(ended.out), 9)
    assert not ended.timed_out
    assert time.monotonic() - began < 10


def test_input_ends_when_the_look_is_over() -> None:
    seen = []
    ended = run_command(["sh", "-c", "echo ready; cat; echo gone"], timeout=10, while_open=lambda: seen.append(1))
    assert seen == [1]
    assert ended.out == b"ready\ngone\n"


def test_endless_output_is_bounded() -> None:
    ended = run_command(["sh", "-c", "head -c 1000000 /dev/zero"], timeout=10)
    assert ended.rc == 0
    assert len(ended.out) == 1 << 16


def test_complaint_is_the_last_line_of_the_errors() -> None:
    ended = run_command(["sh", "-c", "echo first >&2; echo last >&2; echo >&2; exit 1"], timeout=10)
    assert ended.complaint == "last"
    assert run_command(["false"], timeout=10).complaint == "exit code 1, nothing on stderr"


@pytest.mark.parametrize("script", ["exit 132", "kill -ILL $$"], ids=["a runtime passes it on", "itself"])
def test_an_illegal_instruction_is_named(script: str) -> None:
    ended = run_command(["sh", "-c", f"echo stopped >&2; {script}"], timeout=10)
    assert "compiled for a newer processor" in ended.complaint
