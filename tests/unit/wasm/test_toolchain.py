"""The toolchain's command lines and what survives a killed run, with fakes for all programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab.aptsources import RELEASE
from lab.builders import toolchain as module
from lab.builders.toolchain import Toolchain, cargo_settings, network_environment
from lab.debian import CONFINED
from lab.errors import CommandFailed, LabError
from lab.progress import Progress


class Programs:
    """Stands in for `run` and `stream`: remembers what was asked for."""

    def __init__(self, said: str = "", code: int = 0) -> None:
        self.said, self.code = said, code
        self.short: list[list[str]] = []
        self.long: list[tuple[list[str], dict[str, Any]]] = []
        self.act: Callable[[Sequence[str]], None] = lambda _: None

    def run(self, command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.short.append(list(command))
        return subprocess.CompletedProcess(list(command), self.code, self.said, "")

    def stream(self, command: Sequence[str], **options: Any) -> None:
        self.long.append((list(command), options))
        self.act(command)


@pytest.fixture
def programs() -> Programs:
    return Programs()


@pytest.fixture
def make(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Toolchain]:
    certificates = tmp_path / "ca.crt"
    certificates.touch()
    monkeypatch.setattr(module, "root_prefix", lambda _: [])

    def build(**environ: str) -> Toolchain:
        environment = {"HOME": str(tmp_path / "home"), "SSL_CERT_FILE": str(certificates), **environ}
        progress = Progress(Console(quiet=True))
        return Toolchain(tmp_path / "tc", progress, programs.run, programs.stream, environment)

    return build


def present(toolchain: Toolchain) -> Toolchain:
    toolchain.root.mkdir(parents=True)
    return toolchain


def script(command: Sequence[str]) -> list[str]:
    """The lines of the shell script at the end of a command line."""
    assert list(command[-3:-1]) == ["sh", "-euc"]
    return command[-1].splitlines()


def test_it_is_made_beside_its_place_and_then_moved(make: Callable[..., Toolchain], programs: Programs) -> None:
    toolchain = make()
    part = toolchain.folder / f"{toolchain.key}.part"

    def mmdebstrap(command: Sequence[str]) -> None:
        assert not toolchain.root.exists()
        part.mkdir()

    programs.act = mmdebstrap
    toolchain.ensure()
    assert toolchain.root.is_dir()
    assert not part.exists()
    command, options = programs.long[0]
    assert command[command.index("mmdebstrap") :][-3:] == [RELEASE, str(part), "-"]
    assert f"--include={','.join(module.PACKAGES)}" in command
    assert options["stdin"].decode().startswith("deb [")


def test_it_is_made_once(make: Callable[..., Toolchain], programs: Programs) -> None:
    present(make()).ensure()
    assert programs.long == []


def test_what_a_killed_run_left_is_removed_first_and_never_through_a_mount(
    make: Callable[..., Toolchain], programs: Programs
) -> None:
    toolchain = make()
    leftover = toolchain.folder / "abc.part"
    leftover.mkdir(parents=True)
    programs.act = lambda _: (toolchain.folder / f"{toolchain.key}.part").mkdir()
    toolchain.ensure()
    assert [line[-4:] for line in programs.short if "rm" in line] == [["rm", "-rf", "--one-file-system", str(leftover)]]


def test_a_failure_names_the_sources_and_leaves_no_half_folder(
    make: Callable[..., Toolchain], programs: Programs
) -> None:
    toolchain = make()

    def fail(command: Sequence[str]) -> None:
        raise CommandFailed(list(command), 100, "E: no route")

    programs.act = fail
    with pytest.raises(LabError, match=r"/etc/apt.*\ndeb \[(.|\n)*E: no route"):
        toolchain.ensure()
    assert not toolchain.root.exists()


def test_too_little_room_is_said_before_anything_is_made(
    make: Callable[..., Toolchain], programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEEDED_BYTES", 1 << 80)
    with pytest.raises(LabError, match=r"GiB free, the Wasm toolchain needs .* EDGEFLEET_CACHE"):
        make().ensure()
    assert programs.long == []


def test_the_key_follows_the_packages(make: Callable[..., Toolchain], monkeypatch: pytest.MonkeyPatch) -> None:
    before = make().key
    assert make().key == before
    monkeypatch.setattr(module, "PACKAGES", (*module.PACKAGES, "clang"))
    assert make().key != before


def test_without_root_it_says_so(make: Callable[..., Toolchain], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "root_prefix", lambda _: None)
    with pytest.raises(LabError, match="run as root, or allow sudo"):
        present(make()).attempt(["true"])


def test_a_command_sees_sources_read_only_and_results_beside_them(
    make: Callable[..., Toolchain], tmp_path: Path
) -> None:
    toolchain = present(make())
    sources, results = tmp_path / "the sources", tmp_path / "results"
    sources.mkdir()
    results.mkdir()
    toolchain.kept.mkdir()
    command = toolchain.command(["echo", "two words"], sources=sources, results=results)
    assert command[: len(CONFINED)] == list(CONFINED)
    lines = script(command)
    root = toolchain.root
    assert f"mount --bind -o ro '{sources}' {root}/src" in lines
    assert f"mount --bind {results} {root}/out" in lines
    assert f"mount --bind {toolchain.kept} {root}/build" in lines
    assert lines[-1] == f"exec chroot {root} echo 'two words'"


def test_passwords_of_a_proxy_are_in_the_environment_only(make: Callable[..., Toolchain], programs: Programs) -> None:
    toolchain = present(make(https_proxy="http://user:secret@proxy:1", UNRELATED="x"))
    toolchain.execute("build", ["true"])
    command, options = programs.long[0]
    assert "secret" not in " ".join(command)
    assert options["env"]["https_proxy"] == "http://user:secret@proxy:1"
    assert "UNRELATED" not in options["env"]


def test_a_failed_command_is_named_by_what_it_was_for(make: Callable[..., Toolchain], programs: Programs) -> None:
    toolchain = present(make())
    log = toolchain.folder / "logs" / "build-the-service.log"

    def fail(command: Sequence[str]) -> None:
        raise CommandFailed(list(command), 101, "error[E0432]: unresolved import", log)

    programs.act = fail
    with pytest.raises(LabError, match=r"build the service\.\n(.|\n)*unresolved import(.|\n)*build-the-service\.log"):
        toolchain.execute("build the service", ["cargo", "build"])
    assert programs.long[0][1]["log"] == log


def test_missing_certificates_are_named(make: Callable[..., Toolchain], tmp_path: Path) -> None:
    toolchain = present(make(SSL_CERT_FILE=str(tmp_path / "gone.crt")))
    with pytest.raises(LabError, match=r"gone\.crt: no such file\. Run: apt-get install ca-certificates"):
        toolchain.attempt(["true"])


def test_a_version_is_asked_for_once(make: Callable[..., Toolchain], programs: Programs) -> None:
    toolchain = present(make())
    programs.said = 'wasmedge version 0.14.1\n (plugin "wasi_logging") version 0.1.0.0\n'
    assert [toolchain.version("wasmedge"), toolchain.version("wasmedge")] == ["0.14.1", "0.14.1"]
    assert len(programs.short) == 1


def test_a_program_without_version_is_an_error(make: Callable[..., Toolchain], programs: Programs) -> None:
    programs.said, programs.code = "chroot: failed to run command", 127
    with pytest.raises(LabError, match=r"wasmedge in .* tells no version: 'chroot: failed"):
        present(make()).version("wasmedge")


def test_of_cargos_settings_only_the_way_to_the_crates_is_taken(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[source.crates-io]\nreplace-with = "mirror"\n'
        '[source.mirror]\nregistry = "sparse+https://crates.example/"\n'
        '[http]\nmultiplexing = false\n[net]\nretry = 5\n[build]\nrustc-wrapper = "sccache"\n[alias]\nb = ["build"]\n'
    )
    assert cargo_settings(tmp_path).splitlines() == [
        '"http"."multiplexing" = false',
        '"net"."retry" = 5',
        '"source"."crates-io"."replace-with" = "mirror"',
        '"source"."mirror"."registry" = "sparse+https://crates.example/"',
    ]


def test_no_cargo_settings_are_none(tmp_path: Path) -> None:
    assert cargo_settings(tmp_path) == ""


def test_broken_cargo_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[source")
    with pytest.raises(LabError, match=r"config\.toml: cargo's configuration can't be read"):
        cargo_settings(tmp_path)


def test_only_variables_of_the_network_are_passed_on() -> None:
    passed = network_environment(
        {"HTTPS_PROXY": "p", "no_proxy": "n", "CARGO_NET_RETRY": "3", "CARGO_BUILD_JOBS": "9", "RUSTFLAGS": "-g"}
    )
    assert passed == {"HTTPS_PROXY": "p", "no_proxy": "n", "CARGO_NET_RETRY": "3"}
