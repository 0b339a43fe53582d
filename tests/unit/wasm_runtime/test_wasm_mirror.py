"""Packages and engines in a mirror: collected and made once, made again when what they come from is new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.action.wasm_engine import ActionModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import deb_collect, engine_bundle
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.deb_collect import CollectError, collect
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.engine_bundle import Made, Source
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.wasm_mirror import Wanted, WasmMirrorError, fill

SOURCES = ["deb [signed-by=/k.gpg] https://user:secret@mirror.example.com/debian trixie main"]


class Machine:
    """What was asked of apt and of the compiler."""

    def __init__(self, root: Path) -> None:
        self.mirror = Mirror(root / "mirror")
        self.collected = 0
        self.made: list[str] = []
        self.key = "a-b"

    def collect(self, names: Sequence[str], sources: Sequence[str], arch: str, folder: Path) -> dict[str, Path]:
        assert (names, sources, arch) == (("crun", "libwasmedge0", "libstdc++6"), SOURCES, "amd64")
        self.collected += 1
        (folder / "packages.json").write_text(f"{self.collected}")
        return {"packages.json": folder / "packages.json"}

    def make(self, engine: str, folder: Path) -> Made:
        self.made.append(engine)
        (folder / "crun").write_text(engine)
        return Made(self.key, {"crun": folder / "crun"})

    def fill(self, *, check: bool = False, version: str = "1", archive: Release | None = None) -> list[str]:
        wanted = Wanted("amd64", version, SOURCES, lean=archive is None, archive=archive)
        return fill(self.mirror, wanted, check=check, report=lambda _: None).made


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine(tmp_path)
    monkeypatch.setattr(deb_collect, "collect", one.collect)
    monkeypatch.setattr(engine_bundle, "unpack", lambda _, arch, folder: Source(folder, {}, arch))
    monkeypatch.setattr(engine_bundle, "make_lean", lambda _, folder: one.make("lean", folder))
    monkeypatch.setattr(engine_bundle, "make_archive", lambda *given: one.make("archive", given[2]))
    return one


def test_made_once(made: Machine) -> None:
    assert made.fill(check=True) == ["wasm-runtime-packages 1 amd64 (wasm-runtime-packages-amd64.tar)"]
    assert (made.collected, made.mirror.entries()) == (0, [])
    assert len(made.fill()) == 2
    assert made.fill() == []
    assert made.fill(check=True) == []
    assert (made.collected, made.made) == (1, ["lean"])
    lean, packages = made.mirror.entries()
    assert (lean.name, lean.version, lean.file) == ("wasm-engine-lean", "a-b", "wasm-engine-lean-amd64.tar")
    assert packages.source == "Debian packages by apt: deb https://mirror.example.com/debian trixie main"
    assert packages.sha256[:12] in lean.source


def test_new_packages_mean_a_new_engine_and_the_old_one_stays_for_hosts_that_have_the_old(made: Machine) -> None:
    made.fill()
    made.key = "c-d"
    assert made.fill(check=True, version="2") == ["wasm-runtime-packages 2 amd64 (wasm-runtime-packages-amd64.tar)"]
    made.fill(version="2")
    assert (made.collected, made.made) == (2, ["lean", "lean"])
    assert [one.version for one in made.mirror.entries() if one.name == "wasm-engine-lean"] == ["a-b", "c-d"]


def test_lost_engine_is_made_again_from_the_same_packages(made: Machine) -> None:
    made.fill()
    (made.mirror.root / "wasm-engine-lean" / "a-b" / "amd64" / "wasm-engine-lean-amd64.tar").unlink()
    assert made.fill(check=True) == ["wasm-engine-lean amd64 of wasm-runtime-packages 1"]
    made.fill()
    assert (made.collected, made.made) == (1, ["lean", "lean"])


def test_operators_engine_is_made_from_a_verified_archive(made: Machine, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("own")
    own = Release("wasm-runtime-archive", "0.14.1", "amd64", "own.tar")
    made.mirror.add(own, tmp_path / "own", "copied")
    made.fill(archive=own)
    assert made.made == ["archive"]
    assert "wasm-runtime-archive 0.14.1 (" in next(
        one.source for one in made.mirror.entries() if one.name == "wasm-engine-archive"
    )


def test_no_sources_is_an_error_that_names_the_variable(made: Machine) -> None:
    with pytest.raises(
        WasmMirrorError, match=r"no sources of Debian packages are named \(wasm_runtime_packages_sources\)"
    ):
        fill(made.mirror, Wanted("amd64", "1", []), check=False, report=lambda _: None)


class Apt:
    """apt-get and dpkg-deb as far as they are used."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def run(self, command: Sequence[str], folder: Path) -> str:
        line = " ".join(command)
        self.lines.append(line)
        if "--simulate" in command:
            base = ["libc6", "systemd"]
            names = base if "systemd" in command else ["crun", "libwasmedge0", "libyajl2", *base]
            return "".join(f"Inst {name} (1.0 Debian:13 [amd64])\nConf {name} (1.0)\n" for name in names)
        if "download" in command:
            for name in command[command.index("download") + 1 :]:
                (folder / f"{name}_1%3a1.0_amd64.deb").write_text(name)
        if command[0] == "dpkg-deb":
            return f"Package: {Path(command[2]).name.split('_')[0]}\nVersion: 1:1.0\n"
        return ""


def test_what_a_minimal_host_has_is_not_collected(tmp_path: Path) -> None:
    apt = Apt()
    files = collect(("crun", "libwasmedge0"), SOURCES, "arm64", tmp_path, run=apt.run)
    assert sorted(files) == ["crun.deb", "libwasmedge0.deb", "libyajl2.deb", "packages.json"]
    assert all("APT::Architecture=arm64" in line for line in apt.lines if line.startswith("apt-get"))
    assert (tmp_path / "apt" / "sources.list").read_text() == f"{SOURCES[0]}\n"


def test_what_is_named_is_collected_though_every_host_has_it(tmp_path: Path) -> None:
    files = collect(("crun", "libc6"), SOURCES, "amd64", tmp_path, run=Apt().run)
    assert "libc6.deb" in files
    assert "systemd.deb" not in files


def test_package_that_the_sources_lack(tmp_path: Path) -> None:
    with pytest.raises(CollectError, match=r"^these sources have no wasmtime: deb "):
        collect(("crun", "wasmtime"), SOURCES, "amd64", tmp_path, run=Apt().run)


def test_failure_of_apt_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(CollectError, match=r"^`sh` failed: E: no such release$"):
        deb_collect.run_command(["sh", "-c", "echo W: x >&2; echo E: no such release >&2; exit 100"], tmp_path)
    with pytest.raises(CollectError, match=r"^apt-not-there is not on this machine: packages are collected by"):
        deb_collect.run_command(["apt-not-there"], tmp_path)


def test_archive_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    files = collect(("crun", "libwasmedge0"), SOURCES, "amd64", tmp_path, run=Apt().run)
    engine_bundle.write_tar(tmp_path / "a.tar", files)
    packages, content = deb_collect.read_archive(tmp_path / "a.tar")
    assert [(one.name, one.version) for one in packages] == [
        ("crun", "1:1.0"), ("libwasmedge0", "1:1.0"), ("libyajl2", "1:1.0"),
    ]  # fmt: skip
    assert content["crun.deb"] == b"crun"
    files["crun.deb"].write_text("other")
    engine_bundle.write_tar(tmp_path / "a.tar", files)
    with pytest.raises(CollectError, match=r"a\.tar: crun\.deb is not what packages\.json says; collect it anew"):
        deb_collect.read_archive(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_text("x")
    with pytest.raises(CollectError, match=r"a\.tar is no archive of packages"):
        deb_collect.read_archive(tmp_path / "a.tar")


IDENTITY = {"crun_sha256": "1" * 64, "library_sha256": "2" * 64, "crun": "1.21", "engine": "0.14.1-1"}


def test_engine_is_looked_up_by_the_hosts_own_hashes(made: Machine) -> None:
    action = ActionModule.__new__(ActionModule)
    params = {"engine": "lean", "mirror": str(made.mirror.root), "arch": "amd64", "identity": IDENTITY}
    lacking = action.passed(params)["lacking"]
    assert lacking.startswith("the mirror has no wasm-engine-lean for this host's crun 1.21 and libwasmedge0 0.14.1-1;")
    assert action.release(params) is None
    made.key = "1" * 16 + "-" + "2" * 16
    made.fill()
    release = action.release(params)
    assert release is not None
    assert release.version == made.key
    assert action.passed(params) == {}


def test_distributions_engine_needs_no_mirror() -> None:
    action = ActionModule.__new__(ActionModule)
    params: dict[str, Any] = {"engine": "distro", "mirror": None, "arch": None, "identity": {}}
    assert (action.release(params), action.passed(params)) == (None, {})


def test_operators_engine_is_looked_up_by_crun_and_archive(made: Machine) -> None:
    action = ActionModule.__new__(ActionModule)
    wanted = action._made_for({"engine": "archive", "arch": "amd64", "identity": IDENTITY, "archive_sha256": "3" * 64})
    assert wanted is not None
    assert wanted.version == "1" * 16 + "-" + "3" * 16
