"""A site on a host that is a folder: datastore, identity, one application's volume; and a certificate with its key."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.roles.conftest import Clock, FakeRun


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


def make_pair(folder: Path, name: str = "backup") -> Pair:
    """As the README of the role keeper says."""
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes"]
    command += ["-days", "36500", "-subj", "/CN=edgefleet backups", "-keyout", str(pair.key), "-out"]
    subprocess.run([*command, str(pair.certificate)], check=True, capture_output=True)
    return pair


def make_datastore(path: Path, *names: str) -> None:
    """As kine has it: a row for each change of an object, the last one counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, deleted INTEGER, value BLOB)")
        for name in names:
            database.execute("INSERT INTO kine (name, deleted, value) VALUES (?, 0, 'x')", [name])
        database.commit()


def listed(*objects: object) -> str:
    return json.dumps({"kind": "List", "items": objects})


DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"namespace": "exam", "name": "api"},
    "status": {"readyReplicas": 2},
}


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run() -> FakeRun:
    """A healthy K3s."""
    answers = FakeRun()
    answers.on("--version", "k3s version v1.30.4+k3s1 (98262b5d)\ngo version go1.22.5\n")
    answers.on("get deployments.apps", listed(DEPLOYMENT))
    return answers
