"""The double's own Go tests: configuration, certificates, port 6443 and the rest that needs no Kubernetes."""

from __future__ import annotations

import os
import subprocess

import pytest

from lab.builders.k3s import DOUBLE


@pytest.mark.parametrize("command", [["go", "vet", "./..."], ["go", "test", "./..."]], ids=["vet", "test"])
def test_go(command: list[str]) -> None:
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=DOUBLE, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_go_sources_are_formatted() -> None:
    done = subprocess.run(["gofmt", "-l", str(DOUBLE)], capture_output=True, text=True, check=True)
    assert done.stdout == ""
