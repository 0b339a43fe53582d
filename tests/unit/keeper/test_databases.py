"""Copies of databases that are in use: whole, or refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import databases
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.databases import DatabaseError

from tests.unit.keeper.conftest import make_datastore


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT COUNT(*) FROM kine").fetchone()[0])


def test_a_copy_has_what_stands_only_in_the_log(tmp_path: Path) -> None:
    source = tmp_path / "state.db"
    make_datastore(source, "/registry/pods/a/b")
    with closing(sqlite3.connect(source)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("INSERT INTO kine (name, deleted) VALUES ('/registry/pods/a/c', 0)")
        writer.commit()
        assert (tmp_path / "state.db-wal").stat().st_size > 0, "nothing in the log: this would prove nothing"
        databases.copy(source, tmp_path / "copy.db")
    assert rows(tmp_path / "copy.db") == 2
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0


def test_a_copy_while_a_writer_holds_a_transaction_has_none_of_it(tmp_path: Path) -> None:
    source = tmp_path / "state.db"
    make_datastore(source, "/registry/pods/a/b")
    with closing(sqlite3.connect(source)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO kine (name, deleted) VALUES ('/registry/pods/a/c', 0)")
        databases.copy(source, tmp_path / "copy.db")
        writer.rollback()
    assert rows(tmp_path / "copy.db") == 1


def without_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT)")
        database.commit()


def test_a_database_that_changes_under_a_copy_is_copied_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer inside WebAssembly takes no lock that SQLite here would see."""
    source = tmp_path / "answers.db"
    without_log(source)
    real, copies = databases._copy, []

    def copy(origin: Path, target: Path) -> None:
        real(origin, target)
        copies.append(target)
        if len(copies) == 1:
            with closing(sqlite3.connect(source)) as writer:
                writer.execute("INSERT INTO kine (name) VALUES ('late')")
                writer.commit()

    monkeypatch.setattr(databases, "_copy", copy)
    databases.copy(source, tmp_path / "copy.db", sleep=lambda _: None)
    assert len(copies) == 2
    assert rows(tmp_path / "copy.db") == 1


def test_one_that_never_rests_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "answers.db"
    without_log(source)
    (tmp_path / "answers.db-journal").write_bytes(b"")
    numbers = iter(range(1000))
    monkeypatch.setattr(databases, "_stamp", lambda _: (next(numbers).to_bytes(4, "big"), 0, 0))
    with pytest.raises(DatabaseError, match=r"answers\.db: no whole copy .* written to all the time"):
        databases.copy(source, tmp_path / "copy.db", sleep=lambda _: None)


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make_datastore(path, *(f"/registry/pods/a/{number:0400d}" for number in range(200)))
    databases.check(path)
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"state\.db: "):
        databases.check(path)
    with pytest.raises(DatabaseError, match=r"no whole copy"):
        databases.copy(path, tmp_path / "copy.db", sleep=lambda _: None)


def test_what_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("SQLite?")
    with pytest.raises(DatabaseError, match="no SQLite database"):
        databases.check(tmp_path / "x")


def test_objects_are_counted_as_they_are_last(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make_datastore(
        path, "/registry/pods/a/b", "/registry/pods/a/b", "/registry/secrets/a/s", "/registry/pods/a/gone", "x"
    )
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO kine (name, deleted) VALUES ('/registry/pods/a/gone', 1)")
        database.commit()
    assert databases.objects(path) == {"pods": 1, "secrets": 1}


def test_the_log_of_the_database_before_goes(tmp_path: Path) -> None:
    copy, place = tmp_path / "copy.db", tmp_path / "state.db"
    make_datastore(copy, "/registry/pods/a/b")
    place.write_text("damaged")
    (tmp_path / "state.db-wal").write_text("of the damaged one")
    databases.put_back(copy, place)
    assert rows(place) == 1
