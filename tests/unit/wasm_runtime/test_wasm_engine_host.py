"""An engine on a host that is a folder: the real `select`, a systemd and a crun that are tables of answers."""

from __future__ import annotations

import grp
import hashlib
import io
import json
import os
import pwd
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import Places, read_state
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine_host import EngineError, Outcome
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine_host import Host as EngineHost

KEY = "1" * 16 + "-" + "2" * 16


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = {"crun": root / "usr" / "crun", "libwasmedge.so.0.1.0": root / "usr" / "libwasmedge.so.0.1.0"}
        (root / "usr").mkdir()
        for name, path in self.packages.items():
            path.write_text(f"Debian's {name}")
        (root / "units").mkdir()
        self.places = Places(
            root=root / "engines",
            crun=str(self.packages["crun"]),
            state=root / "run" / "state",
            units=root / "units",
            owner=pwd.getpwuid(os.geteuid()).pw_name,
            group=grp.getgrgid(os.getegid()).gr_name,
        )
        self.records = Records(root / "artifacts.json", root / "lock")
        self.says, self.ends, self.enabled = "0.14.1", 0, False
        self.commands: list[str] = []

    def run(self, command: list[str]) -> tuple[int, str, str]:
        self.commands.append(" ".join(command))
        if command[0].endswith("/select"):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        if command[0] == "systemctl":
            if command[1] == "enable":
                self.enabled = True
            return int(command[1].startswith("is-") and not self.enabled), "", ""
        if command[1] == "-c":
            return 0, f"{self.says}\n", ""
        if command[1] == "spec":
            spec = {"process": {"args": ["sh"]}, "linux": {"resources": {}}}
            (Path(command[-1]) / "config.json").write_text(json.dumps(spec))
        return self.ends, "", "could not load libwasmedge.so.0\n" if self.ends else ""

    def archive(self, key: str = KEY, engine: str = "lean") -> tuple[Provenance, Path]:
        files = {name: f"{engine} {name} {key}".encode() for name in ("crun", "libwasmedge.so.0", "libLLVM.so.19.1")}
        made_of = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in self.packages.values()}
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        files["engine.json"] = json.dumps({"made_of": made_of, "files": digests}).encode()
        path = self.root / "sent.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o755
                tar.addfile(member, io.BytesIO(content))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Provenance(f"wasm-engine-{engine}", key, "amd64", digest, None, "made", False, path.stat().st_size), path

    def engine(self, *, check: bool = False) -> EngineHost:
        self.commands.clear()
        return EngineHost(self.run, self.records, check=check, places=self.places)

    def lean(self, *, key: str = KEY, check: bool = False, sent: bool = True, version: str = "") -> Outcome:
        provenance, path = self.archive(key)
        passed = {"temporary": str(self.root), **({"source": str(path)} if sent else {})}
        return self.engine(check=check).bundle("lean", key, version, provenance, passed)

    def select(self) -> str:
        """As systemd runs it; the reason that it gives."""
        subprocess.run([str(self.places.root / "select")], check=True, capture_output=True)
        return read_state(self.places.state)["reason"]

    @property
    def bundle(self) -> Path:
        return self.places.root / f"lean-{KEY}"

    @property
    def live(self) -> str:
        return str(self.places.live.readlink())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_bundle_is_sent_tried_and_used(host: Host) -> None:
    assert host.lean(sent=False) == Outcome(True, True, "lean")
    assert host.lean() == Outcome(True, False, "lean")
    assert host.live == str(host.bundle / "crun")
    assert [one for one in host.commands if "--cgroup-manager=disabled run" in one]
    assert "systemctl restart edgefleet-wasm-engine.path" in host.commands
    watched = (host.places.units / "edgefleet-wasm-engine.path").read_text()
    for path in (*host.packages.values(), host.bundle, host.bundle / "libLLVM.so.19.1", host.places.root / "bin"):
        assert f"PathChanged={path}\n" in watched
    assert host.lean(sent=False) == Outcome(False, False, "lean")
    assert not [one for one in host.commands if "systemctl restart" in one or " run " in one]


def test_check_mode_changes_nothing(host: Host) -> None:
    assert host.lean(sent=False, check=True).changed
    assert not host.places.root.exists()
    host.lean()
    assert not host.lean(sent=False, check=True).changed
    assert host.engine(check=True).distro().changed
    assert host.live == str(host.bundle / "crun")


@pytest.mark.parametrize("what", ["crun", "libwasmedge.so.0.1.0"])
def test_package_update_means_the_distributions_engine_until_it_is_put_back(host: Host, what: str) -> None:
    host.lean()
    path, before = host.packages[what], host.packages[what].read_text()
    path.write_text("a security fix")
    assert host.select() == f"{path} has changed"
    assert host.live == host.places.crun
    path.unlink()
    assert host.select() == f"{path} is missing"
    path.write_text(before)
    assert host.select() == ""
    assert host.live == str(host.bundle / "crun")


@pytest.mark.parametrize("what", ["crun", "libwasmedge.so.0", "libLLVM.so.19.1"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damaged_bundle_means_the_distributions_engine_until_it_is_put_back(host: Host, what: str, damage: str) -> None:
    host.lean()
    path = host.bundle / what
    path.unlink()
    if damage == "changed":
        path.write_text("x")
    assert host.select() == f"{path} {'has changed' if damage == 'changed' else 'is missing'}"
    assert host.live == host.places.crun
    assert host.lean(sent=False).needs_file
    assert host.lean() == Outcome(True, False, "lean")
    assert host.live == str(host.bundle / "crun")


def test_lost_list_of_hashes_is_no_proof(host: Host) -> None:
    host.lean()
    (host.places.root / "SHA256SUMS").unlink()
    assert host.select() == f"{host.places.root / 'SHA256SUMS'} is missing"
    assert host.live == host.places.crun
    (host.places.root / "SHA256SUMS").touch()
    assert host.select() == f"{host.places.root / 'SHA256SUMS'} is missing"
    assert host.live == host.places.crun


def test_lost_link_is_made_again(host: Host) -> None:
    host.lean()
    host.places.live.unlink()
    host.select()
    assert host.live == str(host.bundle / "crun")


def test_several_reasons_are_told(host: Host) -> None:
    host.lean()
    for path in host.packages.values():
        path.write_text("new")
    assert host.select() == ", ".join(f"{path} has changed" for path in sorted(host.packages.values()))


def test_bundle_that_runs_nothing_is_never_used(host: Host) -> None:
    host.engine().distro()
    host.ends = 1
    with pytest.raises(EngineError, match=r"runs no module, and is not used: could not load libwasmedge\.so\.0$"):
        host.lean()
    assert host.live == host.places.crun
    host.ends = 0
    assert host.lean().live == "lean"


def test_engine_that_says_another_version_is_never_used(host: Host) -> None:
    host.engine().distro()
    host.says = "0.17.0"
    with pytest.raises(EngineError, match=r"is to be WasmEdge 0\.14\.1, and says: 0\.17\.0$"):
        host.lean(version="0.14.1")
    assert host.live == host.places.crun


def test_new_packages_bring_a_new_bundle_and_the_old_one_goes(host: Host) -> None:
    host.lean()
    host.packages["crun"].write_text("a security fix")
    key = "3" * 16 + "-" + "2" * 16
    assert host.lean(key=key).live == "lean"
    assert sorted(path.name for path in host.places.root.glob("lean-*")) == [f"lean-{key}"]
    assert [record["version"] for record in host.records.all()] == [key]
    assert host.live == str(host.places.root / f"lean-{key}" / "crun")


def test_mirror_without_a_bundle_for_the_host(host: Host) -> None:
    why = "the mirror has no wasm-engine-lean"
    first = host.engine().lacking("lean", why)
    assert (first.changed, first.live, first.reason) == (True, "distro", why)
    assert read_state(host.places.state) == {"wanted": "lean", "live": "distro", "reason": why}
    assert host.live == host.places.crun
    assert host.engine().lacking("lean", why) == Outcome(False, False, "distro", why)


def test_old_bundle_waits_while_the_mirror_has_none_for_the_new_packages(host: Host) -> None:
    host.lean()
    before = host.packages["crun"].read_text()
    host.packages["crun"].write_text("a security fix")
    assert host.engine().lacking("lean", "none").live == "distro"
    host.packages["crun"].write_text(before)
    assert host.select() == ""
    assert host.live == str(host.bundle / "crun")


def test_distro_takes_everything_away_but_the_link(host: Host) -> None:
    host.lean()
    assert host.engine().distro().changed
    assert sorted(path.name for path in host.places.root.rglob("*")) == ["bin", "crun"]
    assert (host.live, host.records.all(), list(host.places.units.iterdir())) == (host.places.crun, [], [])
    assert not host.places.state.exists()
    assert host.engine().distro() == Outcome(False, False)


def test_bundle_without_its_description(host: Host) -> None:
    host.lean()
    (host.bundle / "engine.json").write_text("{}")
    with pytest.raises(EngineError, match=r"engine\.json does not describe an engine: 'files'; make the mirror's anew"):
        host.engine()._sums(host.bundle)
