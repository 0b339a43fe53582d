"""No playbook shows a secret of the site: not in what it prints, on no command line, in no journal or readable file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import playbook, shell
from tests.unit.keeper.conftest import make_pair

pytestmark = pytest.mark.lab

WATCHER = Path(__file__).with_name("watcher.py")
PLACE = "/root/watcher.py"
FOLDER = "/root/watched"
UNIT = "secrets-watcher"
# What the host calls its secrets is printed by it, and compared here: they never leave it but for this.
TOKENS = "cut -d, -f1 /var/lib/rancher/k3s/server/cred/passwd; cat /etc/rancher/node/password"


@pytest.fixture(scope="module")
def watched(lab: Lab, host: Host) -> Iterator[Host]:
    shell(lab.hosts, host, f"umask 077; mkdir -p {FOLDER}; cat > {PLACE} <<'END'\n{WATCHER.read_text()}\nEND")
    yield host
    shell(lab.hosts, host, f"rm -rf {PLACE} {FOLDER}")


@contextmanager
def watching(lab: Lab, host: Host) -> Iterator[dict[str, Any]]:
    """What was seen on command lines meanwhile; filled in at the end."""
    found: dict[str, Any] = {}
    start = f"systemd-run --quiet --unit={UNIT} python3 {PLACE} watch {FOLDER}/watch"
    shell(lab.hosts, host, f"rm -f {FOLDER}/watch; {start}; sleep 1")
    try:
        yield found
    finally:
        found.update(json.loads(shell(lab.hosts, host, f"systemctl stop {UNIT}; cat {FOLDER}/watch")))


def searched(lab: Lab, host: Host) -> dict[str, Any]:
    run = f"python3 {PLACE} search {FOLDER}/search && cat {FOLDER}/search"
    found: dict[str, Any] = json.loads(shell(lab.hosts, host, run))
    assert found["looks"] > 1000
    return found


def tokens(lab: Lab, host: Host) -> set[str]:
    return {word for word in shell(lab.hosts, host, TOKENS).split() if len(word) >= 16}


def test_no_playbook_shows_a_secret(lab: Lab, watched: Host, tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    backups = tmp_path / "backups"
    backups.mkdir()
    backup = {"keeper_backup_certificate": pair.certificate.read_text(), "edgefleet_backup_dir": str(backups)}
    plays = {
        "site": (),
        "deploy": (),
        "smoke": (),
        "backup": ("--extra-vars", json.dumps({**backup, "edgefleet_backup_key": str(pair.key)})),
        "rotate": ("--extra-vars", "edgefleet_rotate_token=true"),
        "upgrade": (),
        # Takes the timer of backups away again.
        "site again": (),
    }
    said = ""
    with watching(lab, watched) as seen:
        for name, words in plays.items():
            run = playbook(lab.paths, f"edgefleet.wasm.{name.split()[0]}", "--diff", "-vv", *words)
            assert run.returncode == 0, run.stdout + run.stderr
            said += run.stdout + run.stderr
    assert seen["looks"] > 100
    assert seen["secrets"] >= 6
    assert seen["found"] == []
    # Of the controller's side: tokens, passwords, and the key of the backups.
    secret = tokens(lab, watched) | {pair.key.read_text().splitlines()[1]}
    assert len(secret) >= 3
    assert [number for number, one in enumerate(sorted(secret)) if one in said] == []
    assert not re.search(r"BEGIN (EC |RSA )?PRIVATE KEY", said)
    assert searched(lab, watched)["found"] == []
    left = [path for path in backups.iterdir() if path.stat().st_mode & 0o077]
    assert left == [], "a backup on the controller can be read by others"


def test_what_is_shown_is_found(lab: Lab, watched: Host) -> None:
    token = "$(cut -d, -f1 /var/lib/rancher/k3s/server/cred/passwd | head -1)"
    with watching(lab, watched) as seen:
        shell(lab.hosts, watched, f'sh -c "sleep 1; true" {token}')
    assert any("on the command line of" in one for one in seen["found"])
    shell(lab.hosts, watched, f"install -m 0644 /dev/null /srv/shown; echo {token} > /srv/shown")
    try:
        found = searched(lab, watched)["found"]
    finally:
        shell(lab.hosts, watched, "rm /srv/shown")
    assert any(one.endswith(" in /srv/shown") for one in found)
