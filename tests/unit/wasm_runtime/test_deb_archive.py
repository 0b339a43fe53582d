"""Packages from an archive, on a host whose dpkg and apt are a set of names."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils import deb_archive as library
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance
from ansible_collections.edgefleet.wasm.plugins.module_utils.deb_archive import Outcome, PackagesError, ensure

WANTED = ["crun", "libwasmedge0"]


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.work.mkdir()
        self.brought = root / "lib" / "brought"
        self.there = {"libxml2"}
        self.commands: list[list[str]] = []
        self.fail = ""
        self.names = ["crun", "libllvm19", "libwasmedge0", "libxml2"]
        self.damage = ""

    def run(self, command: list[str]) -> tuple[int, str, str]:
        if command[0] == "dpkg-query":
            return 0, "config-files crun\n" + "".join(f"installed {name}\n" for name in sorted(self.there)), ""
        assert command[:2] == ["env", "DEBIAN_FRONTEND=noninteractive"]
        self.commands.append(command[2:])
        if self.fail and self.fail in command:
            return 100, " crun : Depends: libyajl2 but it is not installable\n", "E: Unable to correct problems\n"
        if "install" in command:
            files = [word for word in command if word.endswith(".deb")]
            assert all(Path(file).is_file() for file in files)
            self.there |= {Path(file).stem for file in files}
        return 0, "", ""

    def archive(self) -> tuple[Provenance, Path]:
        contents = {f"{name}.deb": name.encode() for name in self.names}
        listed = [
            {"name": name, "version": "1", "file": f"{name}.deb", "sha256": hashlib.sha256(name.encode()).hexdigest()}
            for name in self.names
        ]
        contents["packages.json"] = json.dumps(listed).encode()
        if self.damage:
            contents[self.damage] = b"damaged"
        path = self.root / "sent.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Provenance("packages", "1", "amd64", digest, None, "made", False, path.stat().st_size), path

    def ensure(self, *, sent: bool = True, check: bool = False) -> Outcome:
        provenance, path = self.archive()
        source = path if sent else None
        return ensure(self.run, WANTED, provenance, source, self.work, brought=self.brought, check=check)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_archive_is_needed_then_installed_then_not_asked_for(host: Host) -> None:
    assert host.ensure(sent=False) == Outcome(True, True, [])
    assert host.commands == []
    assert host.ensure() == Outcome(True, False, ["crun", "libllvm19", "libwasmedge0"])
    assert host.ensure(sent=False) == Outcome(False, False, [])


def test_apt_looks_at_no_other_source_and_takes_what_is_missing_only(host: Host) -> None:
    host.ensure()
    configure, install, auto = host.commands
    assert configure == ["dpkg", "--configure", "--pending"]
    assert "Dir::Etc::sourcelist=/dev/null" in install
    assert "Dir::Etc::sourceparts=/dev/null" in install
    assert [Path(word).name for word in install if word.endswith(".deb")] == [
        "crun.deb",
        "libllvm19.deb",
        "libwasmedge0.deb",
    ]
    assert auto == ["apt-mark", "auto", "libllvm19"]


def test_what_it_brings_is_noted_before_it_is_installed(host: Host) -> None:
    host.brought.parent.mkdir()
    host.brought.write_text("earlier\n")
    host.fail = "install"
    with pytest.raises(PackagesError):
        host.ensure()
    assert host.brought.read_text() == "crun\nearlier\nlibllvm19\nlibwasmedge0\n"


def test_check_mode_sends_and_installs_nothing(host: Host) -> None:
    assert host.ensure(check=True) == Outcome(True, True, [])
    assert (host.commands, host.brought.exists()) == ([], False)


def test_failure_says_what_apt_said(host: Host) -> None:
    host.fail = "install"
    with pytest.raises(
        PackagesError,
        match=r"^packages 1 amd64: `apt-get` failed: crun : Depends: libyajl2 but it is not installable; E: Unable to",
    ):
        host.ensure()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("crun.deb", r"packages 1 amd64: crun\.deb is not what packages\.json in it says; collect it anew"),
        ("packages.json", r"packages 1 amd64 is no archive of packages: .*; collect it anew"),
    ],
)
def test_damaged_archive_installs_nothing(host: Host, damage: str, message: str) -> None:
    host.damage = damage
    with pytest.raises(PackagesError, match=message):
        host.ensure()
    assert host.commands == []


def test_archive_without_a_wanted_package(host: Host) -> None:
    host.names.remove("crun")
    with pytest.raises(PackagesError, match=r"^packages 1 amd64 has no crun; collect it anew$"):
        host.ensure()
    assert host.commands == []


def test_cut_transfer(host: Host) -> None:
    provenance, path = host.archive()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackagesError, match=r"the transfer was cut off; run again$"):
        ensure(host.run, WANTED, provenance, path, host.work, brought=host.brought, check=False)


def test_no_room_is_said_before_anything_is_sent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "free_bytes", lambda _: 1)
    with pytest.raises(PackagesError, match=r"no room for it under .* MiB needed, 0 MiB free; free some and run again"):
        host.ensure(sent=False)
