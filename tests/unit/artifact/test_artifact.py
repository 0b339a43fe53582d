"""The host's side of the artifact module, on a folder that stands for the host."""

from __future__ import annotations

import grp
import hashlib
import io
import json
import os
import pwd
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils import artifact as library
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact import (
    ArtifactError,
    Outcome,
    Wanted,
    ensure,
    remove,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Records

USER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name
BODY = b"a program" * 1000


class Host:
    """A root folder with records, and a file that has been sent to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dest = root / "usr/local"
        self.sent = root / "sent"
        self.records = Records(root / "var/lib/edgefleet/artifacts.json", root / "lock")

    def send(self, body: bytes, **changes: Any) -> Wanted:
        self.sent.write_bytes(body)
        return self.wanted(body, **changes)

    def wanted(self, body: bytes, **changes: Any) -> Wanted:
        provenance: dict[str, Any] = {
            "name": "tool",
            "version": "1",
            "arch": "amd64",
            "sha256": hashlib.sha256(body).hexdigest(),
            "pinned_sha256": None,
            "source": "https://example.com/tool",
            "rebuilt": False,
            "size": len(body),
        }
        provenance.update({key: changes.pop(key) for key in list(changes) if key in provenance})
        params: dict[str, Any] = {"dest": str(self.dest / "bin/tool"), "unpack": False, "strip": 0, "members": []}
        params |= {"owner": USER, "group": GROUP, "mode": None} | changes
        return Wanted.of(params, Provenance(**provenance))

    def ensure(self, wanted: Wanted, *, source: bool = True, check: bool = False) -> Outcome:
        return ensure(wanted, self.sent if source else None, self.root / "tmp", self.records, check)

    def files(self) -> dict[str, bytes]:
        folder = self.dest
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def everything(self) -> list[str]:
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p != self.sent)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def archive(files: dict[str, bytes | tarfile.TarInfo], mode: int = 0o777) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, body in files.items():
            if isinstance(body, tarfile.TarInfo):
                tar.addfile(body)
                continue
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), mode
            tar.addfile(member, io.BytesIO(body))
    return out.getvalue()


TWO = archive({"bin/one": b"1", "bin/two": b"2"})


def unpacked(host: Host, body: bytes, **changes: Any) -> Wanted:
    return host.send(body, dest=str(host.dest), unpack=True, **changes)


# --- one file


def test_file_is_needed_then_put_then_unchanged(host: Host) -> None:
    wanted = host.send(BODY, mode="0755")
    first = host.ensure(wanted, source=False)
    assert (first.changed, first.needs_file, host.everything()) == (True, True, ["lock"])
    second = host.ensure(wanted)
    assert (second.changed, second.needs_file) == (True, False)
    assert host.files() == {"bin/tool": BODY}
    assert (host.dest / "bin/tool").stat().st_mode & 0o7777 == 0o755
    third = host.ensure(wanted, source=False)
    assert (third.changed, third.needs_file, third.before) == (False, False, third.after)


def test_record_says_where_it_came_from(host: Host) -> None:
    wanted = host.send(BODY, pinned_sha256="0" * 64, rebuilt=True, source="built from a module")
    outcome = host.ensure(wanted)
    digest = hashlib.sha256(BODY).hexdigest()
    assert json.loads(host.records.path.read_text()) == [outcome.record]
    assert outcome.record == {
        "name": "tool",
        "version": "1",
        "arch": "amd64",
        "sha256": digest,
        "pinned_sha256": "0" * 64,
        "source": "built from a module",
        "rebuilt": True,
        "dest": str(host.dest / "bin/tool"),
        "unpack": None,
        "files": [{"path": str(host.dest / "bin/tool"), "sha256": digest, "mode": "0644"}],
    }


def test_check_mode_changes_nothing_on_an_empty_host(host: Host) -> None:
    outcome = host.ensure(host.send(BODY), source=False, check=True)
    assert (outcome.changed, outcome.needs_file, outcome.before) == (True, True, "")
    assert outcome.after.startswith(f"{host.dest}/bin/tool 0644 ")
    assert host.everything() == []


@pytest.mark.parametrize(
    "drift",
    [
        lambda path: path.write_bytes(b"other"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/bin/true")),
    ],
    ids=["changed", "removed", "link"],
)
def test_drift_of_content_needs_the_file_again(host: Host, drift: Callable[[Path], object]) -> None:
    wanted = host.send(BODY)
    host.ensure(wanted)
    drift(host.dest / "bin/tool")
    assert host.ensure(wanted, source=False).needs_file
    assert host.ensure(wanted).changed
    assert host.files() == {"bin/tool": BODY}
    assert not host.ensure(wanted, source=False).changed


def test_drift_of_mode_needs_no_file(host: Host) -> None:
    wanted = host.send(BODY, mode="0750")
    host.ensure(wanted)
    path = host.dest / "bin/tool"
    path.chmod(0o777)
    checked = host.ensure(wanted, source=False, check=True)
    assert (checked.changed, path.stat().st_mode & 0o777) == (True, 0o777)
    assert " 0777 " in checked.before
    assert " 0750 " in checked.after
    outcome = host.ensure(wanted, source=False)
    assert (outcome.changed, outcome.needs_file, path.stat().st_mode & 0o777) == (True, False, 0o750)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text('[{"na')])
def test_lost_record_of_a_file_is_written_anew_without_the_file(host: Host, damage: Callable[[Path], object]) -> None:
    wanted = host.send(BODY)
    host.ensure(wanted)
    before = host.records.path.read_text()
    damage(host.records.path)
    outcome = host.ensure(wanted, source=False)
    assert (outcome.changed, outcome.needs_file) == (True, False)
    assert host.records.path.read_text() == before


def test_cut_transfer_leaves_the_old_file(host: Host) -> None:
    host.ensure(host.send(b"old"))
    wanted = host.send(BODY, version="2")
    host.sent.write_bytes(BODY[:-1])
    with pytest.raises(
        ArtifactError, match=r"^tool 2 amd64 arrived with 8999 bytes .* sent were 9000 .* was cut off; run"
    ):
        host.ensure(wanted)
    assert host.files() == {"bin/tool": b"old"}


def test_killed_run_leaves_nothing_that_stays(host: Host) -> None:
    folder = host.dest / "bin"
    folder.mkdir(parents=True)
    (folder / ".tool.edgefleet-new").write_bytes(b"half")
    host.ensure(host.send(BODY))
    assert host.files() == {"bin/tool": BODY}


def test_no_room_is_said_before_anything_is_sent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "free_bytes", lambda _: 10 << 20)
    wanted = host.wanted(b"", size=8 << 20)
    with pytest.raises(
        ArtifactError, match=r"no room for it under .*: 16 MiB needed, 10 MiB free; free some and run again"
    ):
        host.ensure(wanted, source=False)


def test_disk_full_while_writing_is_one_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.ensure(host.send(b"old"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"^tool 1 amd64 can't be put into .*/bin/tool: .*No space left on device"):
        host.ensure(host.send(BODY))
    assert host.files() == {"bin/tool": b"old"}


def test_folder_in_place_of_the_file(host: Host) -> None:
    (host.dest / "bin/tool").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"dest: .*/bin/tool is a folder; name the file, or set unpack: true"):
        host.ensure(host.send(BODY))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dest": "usr/bin/tool"}, "dest: usr/bin/tool is no absolute path"),
        ({"mode": "rwx"}, "mode: 'rwx' is no octal file mode"),
        ({"mode": "493"}, "mode: '493' is no octal file mode"),
        ({"mode": "0"}, "mode: '0' is no octal file mode"),
        ({"owner": "nobody-here"}, "owner: there is no user nobody-here on the host"),
        ({"group": "nobody-here"}, "group: there is no group nobody-here on the host"),
    ],
)
def test_bad_values(host: Host, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ArtifactError, match=f"^{message}"):
        host.ensure(host.send(BODY, **changes))
    assert host.files() == {}


# --- an archive


def test_archive_is_unpacked_then_unchanged(host: Host) -> None:
    wanted = unpacked(host, TWO)
    first = host.ensure(wanted, source=False)
    assert (first.needs_file, first.after) == (True, f"{host.dest}/ files of tool 1 amd64 {wanted.provenance.sha256}\n")
    assert host.ensure(wanted).changed
    assert host.files() == {"bin/one": b"1", "bin/two": b"2"}
    assert (host.dest / "bin/one").stat().st_mode & 0o7777 == 0o755
    again = host.ensure(wanted, source=False)
    assert (again.changed, again.needs_file) == (False, False)


def test_strip_and_members(host: Host) -> None:
    body = archive({"tool-1/bin/one": b"1", "tool-1/bin/two": b"2", "tool-1/README": b"text"})
    host.ensure(unpacked(host, body, strip=1, members=["bin/*"], mode="0700"))
    assert host.files() == {"bin/one": b"1", "bin/two": b"2"}
    assert (host.dest / "bin/two").stat().st_mode & 0o7777 == 0o700
    host.ensure(unpacked(host, body, strip=2, members=["one"]))
    assert host.files() == {"one": b"1"}


@pytest.mark.parametrize("drift", [lambda p: p.unlink(), lambda p: p.write_bytes(b"x")], ids=["removed", "changed"])
def test_drift_of_one_member_is_healed(host: Host, drift: Callable[[Path], object]) -> None:
    wanted = unpacked(host, TWO)
    host.ensure(wanted)
    drift(host.dest / "bin/two")
    assert host.ensure(wanted, source=False).needs_file
    host.ensure(wanted)
    assert host.files() == {"bin/one": b"1", "bin/two": b"2"}


def test_next_version_removes_what_it_no_longer_has(host: Host) -> None:
    host.ensure(unpacked(host, TWO))
    host.ensure(unpacked(host, archive({"bin/one": b"new"}), version="2"))
    assert host.files() == {"bin/one": b"new"}
    assert [record["version"] for record in host.records.all()] == ["2"]


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "body",
    [
        archive({"bin/one": b"1", "bin/link": link("bin/link", tarfile.SYMTYPE)}),
        archive({"bin/one": b"1", "bin/hard": link("bin/hard", tarfile.LNKTYPE)}),
        archive({"bin/one": b"1", "../out": b"2"}),
        archive({"bin/one": b"1", "/abs": b"2"}),
        archive({"bin/one": b"1", "dev": link("dev", tarfile.CHRTYPE)}),
    ],
    ids=["symlink", "hardlink", "above", "absolute", "device"],
)
def test_archive_that_reaches_out_is_refused_whole(host: Host, body: bytes) -> None:
    with pytest.raises(ArtifactError, match="is no plain file below dest; exclude it by members"):
        host.ensure(unpacked(host, body))
    assert host.files() == {}


def test_nothing_chosen(host: Host) -> None:
    with pytest.raises(ArtifactError, match=r"has no file that members=\['sbin/\*'\] strip=0 chooses"):
        host.ensure(unpacked(host, TWO, members=["sbin/*"]))


@pytest.mark.parametrize("body", [b"no archive", TWO[:-20], b""], ids=["text", "cut", "empty"])
def test_what_is_no_archive(host: Host, body: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^tool 1 amd64 can't be unpacked: "):
        host.ensure(unpacked(host, body))
    assert host.files() == {}


def test_cut_archive_transfer(host: Host) -> None:
    wanted = unpacked(host, TWO)
    host.sent.write_bytes(TWO[:50])
    with pytest.raises(ArtifactError, match="arrived with 50 bytes"):
        host.ensure(wanted)
    assert host.files() == {}


def test_room_for_the_unpacked_files(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    body = archive({"big": b"\0" * (4 << 20)})
    wanted = unpacked(host, body)
    monkeypatch.setattr(library, "free_bytes", lambda _: 1 << 20)
    assert host.ensure(wanted, source=False).needs_file
    with pytest.raises(ArtifactError, match="4 MiB needed, 1 MiB free"):
        host.ensure(wanted)


# --- absent


def test_remove_takes_away_what_was_put(host: Host) -> None:
    (host.dest / "bin").mkdir(parents=True)
    (host.dest / "bin/other").write_bytes(b"not ours")
    host.ensure(unpacked(host, TWO))
    assert remove("tool", host.dest, host.records, check=True).changed
    assert len(host.files()) == 3
    outcome = remove("tool", host.dest, host.records, check=False)
    assert (outcome.changed, outcome.before) == (True, f"{host.dest}/bin/one\n{host.dest}/bin/two\n")
    assert host.files() == {"bin/other": b"not ours"}
    assert not host.records.path.parent.exists()
    assert not remove("tool", host.dest, host.records, check=False).changed


def test_remove_a_file_without_its_record(host: Host) -> None:
    host.ensure(host.send(BODY))
    host.records.path.unlink()
    assert remove("tool", host.dest / "bin/tool", host.records, check=False).changed
    assert host.files() == {}


def test_remove_keeps_the_records_of_others(host: Host) -> None:
    host.ensure(host.send(BODY))
    host.ensure(unpacked(host, TWO, name="two"))
    remove("two", host.dest, host.records, check=False)
    assert [record["name"] for record in host.records.all()] == ["tool"]
