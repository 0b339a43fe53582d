"""Rego is formatted as OPA formats it, and passes its strict check."""

from __future__ import annotations

import subprocess

import pytest

from lab.builders import opa
from lab.builders.opa import PolicyTools
from lab.paths import CHECKOUT, cache_root
from lab.progress import Progress

FOLDERS = sorted(CHECKOUT.glob("industries/*/policy"))


@pytest.fixture(scope="session")
def tools() -> PolicyTools:
    return opa.tools(cache_root(), Progress()).ensure()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_decisions(tools: PolicyTools, folder: str) -> None:
    for command in (["fmt", "--fail", "--diff"], ["check", "--strict"]):
        done = subprocess.run([tools.opa, *command, folder], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
