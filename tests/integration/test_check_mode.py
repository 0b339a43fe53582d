"""Check mode of every playbook on a host where nothing is installed ends well, and leaves the host as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.session import Lab
from tests.integration.hosts import look, playbook, recap
from tests.unit.keeper.conftest import make_pair

pytestmark = [pytest.mark.lab, pytest.mark.full]

# restore needs a backup of some site: test_backup.py has it.
PLAYBOOKS = ["site", "deploy", "smoke", "upgrade", "rollback", "backup", "rotate", "reset"]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_bare_host_is_looked_at_and_left(bare_lab: Lab, tmp_path: Path, name: str) -> None:
    declared = {
        "keeper_backup_certificate": make_pair(tmp_path).certificate.read_text(),
        "edgefleet_backup_dir": str(tmp_path),
        "edgefleet_rotate_token": True,
        "edgefleet_reset_confirm": True,
    }
    before = look(bare_lab)
    run = playbook(bare_lab.paths, f"edgefleet.wasm.{name}", "--check", "--diff", "--extra-vars", json.dumps(declared))
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr
    assert recap(run.stdout)["edge1"]["failed"] == 0
    assert look(bare_lab) == before
