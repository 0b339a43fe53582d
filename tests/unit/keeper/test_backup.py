"""From a running site to an encrypted file, and what must never be in the clear."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError, Kubectl
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import archive, backup, site
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.archive import ArchiveError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.backup import BackupError, Wanted
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.backups import opened

from tests.unit.keeper.conftest import Pair, listed, make_datastore, make_pair
from tests.unit.roles.conftest import FakeRun

TOKEN = "K10abc::server:very-secret-token"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: FakeRun) -> Path:
    """A server's files, and the places of the program moved to them."""
    server, etc, volume = tmp_path / "k3s/server", tmp_path / "etc/rancher", tmp_path / "storage/pvc-1_exam_answers"
    make_datastore(server / "db/state.db", "/registry/secrets/exam/a", "/registry/pods/exam/b")
    for name, text in {"token": TOKEN, "tls/server-ca.key": "key", "cred/passwd": "secret,server,server"}.items():
        (server / name).parent.mkdir(parents=True, exist_ok=True)
        (server / name).write_text(text)
    (server / "node-token").symlink_to(server / "token")
    (etc / "k3s").mkdir(parents=True)
    (etc / "k3s/config.yaml").write_text('cluster-cidr: "10.42.0.0/16"\n')
    (volume / "answers.db.lock").mkdir(parents=True)
    with closing(sqlite3.connect(volume / "answers.db")) as database:
        database.execute("CREATE TABLE answers (text TEXT)")
        database.execute("INSERT INTO answers VALUES ('42')")
        database.commit()
    (volume / "notes.txt").write_text("plain")
    (volume / "notes.txt").chmod(0o640)
    monkeypatch.setattr(backup, "DATASTORE", server / "db/state.db")
    monkeypatch.setattr(backup, "KEPT", (server / "token", server / "tls", server / "cred", etc))
    monkeypatch.setattr(backup, "OPTIONAL", (server / "agent-token", server / "node-token"))
    monkeypatch.setattr("ansible_collections.edgefleet.wasm.plugins.plugin_utils.backups.DATASTORE", backup.DATASTORE)
    claim = {"namespace": "exam", "name": "answers"}
    run.on("get persistentvolumes", listed({"spec": {"claimRef": claim, "hostPath": {"path": str(volume)}}}))
    return tmp_path


def wanted(host: Path, pair: Pair, **more: object) -> Wanted:
    return Wanted("hall", ["exam/answers"], folder=host / "backups", certificate=pair.certificate, **more)  # type: ignore[arg-type]


def test_what_is_backed_up_comes_back_the_same(host: Path, pair: Pair, run: FakeRun, tmp_path: Path) -> None:
    made = backup.make(run, wanted(host, pair))
    with opened(made.path, pair.key) as found:
        manifest = found.manifest
        assert found.databases == 2
        archive.unpack(found.tar, tmp_path / "out")
    assert manifest.objects == {"pods": 1, "secrets": 1}
    assert manifest.workloads == {"Deployment exam/api": 2}
    assert manifest.k3s == "v1.30.4+k3s1"
    folder = manifest.volumes["exam/answers"]
    entries = {Path(one["path"]).name: one for one in manifest.under(folder)}
    # The lock of a program that won't be there is left out.
    assert set(entries) == {Path(folder).name, "answers.db", "notes.txt"}
    for name, entry in entries.items():
        archive.place(tmp_path / "out", entry, tmp_path / "again" / name)
    assert (tmp_path / "again/notes.txt").read_text() == "plain"
    assert (tmp_path / "again/notes.txt").stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(tmp_path / "again/answers.db")) as database:
        assert database.execute("SELECT text FROM answers").fetchall() == [("42",)]
    link = next(one for one in manifest.files if one["path"].endswith("node-token"))
    assert link["target"].endswith("server/token")


def test_nothing_of_it_is_readable_by_others_or_in_the_clear(host: Path, pair: Pair, run: FakeRun) -> None:
    made = backup.make(run, wanted(host, pair))
    assert made.path.stat().st_mode & 0o077 == 0
    assert made.path.parent.stat().st_mode & 0o077 == 0
    assert b"very-secret" not in made.path.read_bytes()
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name]
    assert not [line for line in run.commands if "very-secret" in line]


def test_another_key_and_a_changed_byte_are_refused(host: Path, pair: Pair, run: FakeRun, tmp_path: Path) -> None:
    made = backup.make(run, wanted(host, pair))
    other = make_pair(tmp_path, "other")
    with (
        pytest.raises(ArchiveError, match="another certificate, is damaged or was changed"),
        opened(made.path, other.key),
    ):
        pass
    content = bytearray(made.path.read_bytes())
    content[len(content) // 2] ^= 1
    made.path.write_bytes(content)
    with pytest.raises(ArchiveError, match="is damaged or was changed"), opened(made.path, pair.key):
        pass


def test_the_oldest_go_when_the_new_one_is_whole(host: Path, pair: Pair, run: FakeRun) -> None:
    folder = host / "backups"
    folder.mkdir()
    names = [f"hall-2026010{day}T000000Z.edgefleet-backup" for day in range(1, 6)]
    for name in (*names, "other-20200101T000000Z.edgefleet-backup", "notes.txt"):
        (folder / name).write_text("old")
    (folder / ".hall-x.edgefleet-backup.part").write_text("cut")
    made = backup.make(run, wanted(host, pair, keep=3), time.gmtime(1_800_000_000))
    assert made.removed == names[:3]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*names[3:], made.path.name, "other-20200101T000000Z.edgefleet-backup", "notes.txt"]
    )


def test_a_failed_backup_leaves_the_old_ones_and_nothing_else(host: Path, tmp_path: Path, run: FakeRun) -> None:
    (tmp_path / "bad.crt").write_text("no certificate")
    folder = host / "backups"
    folder.mkdir()
    (folder / "hall-20260101T000000Z.edgefleet-backup").write_text("old")
    with pytest.raises(ArchiveError, match=r"can't encrypt for .*bad\.crt|could not be written"):
        backup.make(run, wanted(host, Pair(tmp_path / "bad.crt", tmp_path / "x"), keep=1))
    assert [path.name for path in folder.iterdir()] == ["hall-20260101T000000Z.edgefleet-backup"]


def test_an_agent_is_refused(tmp_path: Path, pair: Pair, run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "DATASTORE", tmp_path / "none")
    with pytest.raises(BackupError, match="only servers are backed up"):
        backup.make(run, Wanted("hall", folder=tmp_path, certificate=pair.certificate))


def test_a_full_disk_is_said_before_anything_is_written(
    host: Path, pair: Pair, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "free_bytes", lambda _: 1000)
    with pytest.raises(BackupError, match=r"a backup may need .* MiB and 0 MiB are free"):
        backup.make(run, wanted(host, pair))
    assert list((host / "backups").iterdir()) == []


@pytest.mark.parametrize(
    ("declared", "said"),
    [("exam/none", "no claim exam/none .* is bound to a folder"), ("/not/there", "there is no folder /not/there")],
)
def test_a_volume_that_is_not_there_is_named(host: Path, run: FakeRun, declared: str, said: str) -> None:
    with pytest.raises(K3sError, match=said):
        site.claim_folders(Kubectl(run), [declared])


def test_what_is_no_backup_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no tar")
    with pytest.raises(ArchiveError, match="this is no whole backup"):
        archive.unpack(tmp_path / "x", tmp_path / "out")
