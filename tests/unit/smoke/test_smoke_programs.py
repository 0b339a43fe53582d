"""Wasm programs that run on a host, looked at through a /proc of ours."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import identity, programs
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Line, Status

PLAIN = b"\0asm\x01\0\0\0"


def compiled(format_: int = 1, arch: int = 1) -> bytes:
    content = b"\x08wasmedge" + bytes([format_, 1, arch]) + b"code"
    return PLAIN + bytes([0, len(content)]) + content


class Host:
    """A /proc with Wasm and other processes."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self._next = 10

    def process(self, title: bytes, files: dict[str, bytes] | None = None) -> None:
        folder = self.proc / str(self._next)
        self._next += 1
        folder.mkdir(parents=True)
        (folder / "cmdline").write_bytes(title)
        for name, content in (files or {}).items():
            path = folder / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def wasm(self, module: bytes) -> None:
        self.process(b"[libcrun:wasmedge] /app/till.wasm" + b" " * 400 + b"\0", {"app/till.wasm": module})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(identity, "arch", lambda: "amd64")
    found = programs.running
    monkeypatch.setattr(programs, "running", lambda: found(tmp_path))
    made = Host(tmp_path)
    made.process(b"/pause\0")
    made.process(b"")
    return made


def measured(version: str | None = "0.14.1") -> Line:
    bench: Any = SimpleNamespace(engine=SimpleNamespace(version=version))
    (found,) = programs.measure(bench).lines
    return found


def test_no_program(host: Host) -> None:
    assert measured().status is Status.NOT_APPLICABLE


def test_all_compiled_for_the_engine(host: Host) -> None:
    host.wasm(compiled())
    host.wasm(compiled())
    assert (measured().status, measured().n) == (Status.PASS, 2)


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (PLAIN, "/app/till.wasm is not compiled ahead of time: it is interpreted"),
        (compiled(2), "/app/till.wasm was compiled in format 2 for linux amd64, and the engine reads format 1"),
        (compiled(arch=2), "/app/till.wasm was compiled in format 1 for linux arm64, and the engine reads format 1"),
        (compiled()[:-2], "/app/till.wasm is damaged: "),
    ],
)
def test_what_is_interpreted_is_seen_among_others(host: Host, module: bytes, why: str) -> None:
    host.wasm(compiled())
    host.wasm(module)
    found = measured()
    assert (found.status, found.n) == (Status.FAIL, 2)
    assert found.reason.startswith(why)
    assert "wasmedge compile --generic-binary" in found.next


def test_an_engine_that_reads_another_format_makes_all_of_them_wrong(host: Host) -> None:
    host.wasm(compiled())
    assert (measured("0.15.1").status, measured(None).status) == (Status.FAIL, Status.INVALID)


def test_a_process_that_has_ended_is_left_out(host: Host) -> None:
    host.process(b"[libcrun:wasmedge]\0/gone.wasm\0\0\0")
    assert measured().status is Status.PASS
