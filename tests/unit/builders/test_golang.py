"""How Go is called, and what is said when it can't be."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab.builders import golang
from lab.builders.golang import Go
from lab.errors import CommandFailed, LabError
from lab.progress import Progress, Step

ANSWERS = {"GOVERSION": "go1.26.8\n", "GOPROXY": "https://proxy.example\n", "GOCACHE": "/\n"}


class FakeGo:
    """Answers `go env`, and takes down each `go build`."""

    def __init__(self, answers: Mapping[str, str] = ANSWERS, lines: Sequence[str] = (), fails: bool = False) -> None:
        self.answers = answers
        self.lines = lines
        self.fails = fails
        self.built: list[tuple[list[str], dict[str, str], dict[str, Any]]] = []

    def run(self, command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(list(command), 0, self.answers[command[-1]], "")

    def stream(
        self, command: list[str], *, log: Path, on_line: Callable[[str], None], env: dict[str, str], **rest: Any
    ) -> None:
        self.built.append((command, env, rest))
        for line in self.lines:
            on_line(line)
        if self.fails:
            raise CommandFailed(command, 1, "undefined: x", log)


def go(fake: FakeGo, **environ: str) -> Go:
    progress = Progress(Console(file=io.StringIO(), soft_wrap=True))
    return Go(progress, run=fake.run, stream=fake.stream, environ=environ, lock=7)


def build(tool: Go, tmp_path: Path, **options: Any) -> None:
    tool.build("things", tmp_path / "module", ["./cmd/x"], to=tmp_path / "out", log=tmp_path / "log", **options)


def test_the_command_line(tmp_path: Path) -> None:
    fake = FakeGo()
    build(go(fake), tmp_path, tags=["a", "b"], variables={"main.b": "2", "main.a": "1"})
    command, env, rest = fake.built[0]
    assert command[:6] == ["go", "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false"]
    assert command[6:] == [
        "-tags=a,b",
        "-gcflags=all=-dwarf=false",
        "-ldflags=-s -w -X=main.a=1 -X=main.b=2",
        "-o",
        f"{tmp_path}/out/",
        "./cmd/x",
    ]
    assert env["CGO_ENABLED"] == "0"
    assert rest == {"cwd": tmp_path / "module", "lock": 7}


def test_with_c_it_is_static_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.builders.golang.shutil.which", lambda program: f"/usr/bin/{program}")
    fake = FakeGo()
    build(go(fake), tmp_path, cgo=True)
    command, env, _ = fake.built[0]
    assert "-ldflags=-s -w -linkmode=external -extldflags=-static" in command
    assert env["CGO_ENABLED"] == "1"


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.builders.golang.shutil.which", lambda _: None)
    with pytest.raises(LabError, match="apt-get install gcc libc6-dev"):
        build(go(FakeGo()), tmp_path, cgo=True)


def test_the_machine_says_where_from_but_not_what(tmp_path: Path) -> None:
    fake = FakeGo()
    tool = go(fake, GOPROXY="https://mine", GOFLAGS="-mod=mod -tags=evil", GOOS="plan9", GOARCH="mips", GOWORK="/w")
    build(tool, tmp_path)
    env = fake.built[0][1]
    assert env["GOPROXY"] == "https://mine"
    assert (env["GOFLAGS"], env["GOWORK"], env["GOTOOLCHAIN"]) == ("", "off", "local")
    assert "GOOS" not in env
    assert "GOARCH" not in env
    assert env["HOME"]


def test_progress_says_what_is_compiled(tmp_path: Path) -> None:
    seen: list[str] = []

    class Spy(Progress):
        @contextmanager
        def step(self, title: str) -> Iterator[Step]:
            yield Step(title, seen.append)

    tool = go(FakeGo(lines=["go: downloading x v1", "unicode", "k8s.io/api/core/v1"]))
    tool.progress = Spy(Console(file=io.StringIO()))
    build(tool, tmp_path)
    assert seen == ["go: downloading x v1", "1 packages, unicode", "2 packages, k8s.io/api/core/v1"]


@pytest.mark.parametrize("said", ["go1.22.5", "devel", ""])
def test_an_old_go_is_refused(said: str) -> None:
    with pytest.raises(LabError, match=r"1\.23 or later is needed"):
        _ = go(FakeGo({**ANSWERS, "GOVERSION": f"{said}\n"})).version


def test_no_go_at_all() -> None:
    def missing(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        raise LabError(f"{command[0]}: no such program.")

    tool = Go(Progress(Console(file=io.StringIO())), run=missing, environ={})
    with pytest.raises(LabError, match=r"install Go 1\.23 or later"):
        _ = tool.version


def test_a_failed_build_names_the_proxy_and_the_log(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"GOPROXY=https://proxy.example[\s\S]*undefined: x[\s\S]*/log"):
        build(go(FakeGo(fails=True)), tmp_path)


def test_loading_ahead_never_fails(tmp_path: Path) -> None:
    fake = FakeGo(fails=True)
    go(fake).prefetch(tmp_path, ["./cmd/x"], ["a"])
    assert fake.built[0][0] == ["go", "list", "-deps", "-mod=readonly", "-tags=a", "./cmd/x"]


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golang, "NEEDED_BYTES", 1 << 62)
    fake = FakeGo({**ANSWERS, "GOCACHE": f"{tmp_path}/not-yet/cache\n"})
    with pytest.raises(LabError, match=r"GiB free, building needs .* set GOCACHE"):
        build(go(fake), tmp_path)
    assert fake.built == []
