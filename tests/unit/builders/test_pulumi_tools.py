"""Pulumi's programs: what is built, under which name it is kept, and the environment they run in."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lab.builders import pulumi
from lab.builders.pulumi import PulumiTools
from lab.errors import LabError
from lab.paths import CHECKOUT
from tests.unit.builders.test_recipes import FakeGo

BUILT = {"pulumi", "pulumi-language-python", "pulumi-language-python-exec", "pulumi-resource-kubernetes"}


class Modules(FakeGo):
    """Has the Python SDK's files, too."""

    def __init__(self, sdk: Path, version: str = "go1.26.8") -> None:
        super().__init__(version)
        self.sdk = sdk
        (sdk / "python" / "cmd").mkdir(parents=True, exist_ok=True)
        (sdk / "python" / "cmd" / pulumi.EXEC).write_text("#!/usr/bin/env python\n", encoding="utf-8")

    def module_folder(self, module: Path, path: str) -> Path:
        assert (module, path) == (pulumi.PYTHON, pulumi.SDK)
        return self.sdk


class Killed(Modules):
    """Ends in the middle."""

    def build(self, title: str, module: Path, packages: Sequence[str], *, to: Path, log: Path, **options: Any) -> None:
        super().build(title, module, packages, to=to, log=log, **options)
        if module == pulumi.KUBERNETES:
            raise KeyboardInterrupt


def test_all_programs_are_built_once(tmp_path: Path) -> None:
    go = Modules(tmp_path / "sdk")
    tools = PulumiTools(tmp_path / "cache", go)
    programs = tools.ensure()
    assert {file.name for file in programs.iterdir()} == BUILT
    assert stat.S_IMODE((programs / pulumi.EXEC).stat().st_mode) == 0o755
    built = len(go.variables)
    assert tools.ensure() == programs
    assert len(go.variables) == built == 3


def test_a_killed_build_leaves_nothing_that_is_taken_for_finished(tmp_path: Path) -> None:
    tools = PulumiTools(tmp_path / "cache", Killed(tmp_path / "sdk"))
    with pytest.raises(KeyboardInterrupt):
        tools.ensure()
    assert not tools.programs.exists()
    again = Modules(tmp_path / "sdk")
    assert {file.name for file in PulumiTools(tmp_path / "cache", again).ensure().iterdir()} == BUILT
    assert not list((tmp_path / "cache").glob("*.part"))


def test_an_older_go_is_named_before_anything_is_built(tmp_path: Path) -> None:
    go = Modules(tmp_path / "sdk", "go1.24.1")
    with pytest.raises(LabError, match=r"Go 1\.25 or later, this is go1\.24\.1"):
        PulumiTools(tmp_path / "cache", go).ensure()
    assert go.variables == []


def test_versions_go_together() -> None:
    """CLI, provider and Python packages: one pair of versions, in go.mod and in the lock file."""
    locked = (CHECKOUT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    assert f"pulumi=={pulumi.required(pulumi.CLI, pulumi.PKG)[1:]} " in locked
    assert f"pulumi-kubernetes=={pulumi.PROVIDER_VERSION} " in locked
    for module, oldest in ((pulumi.CLI, pulumi.OLDEST_GO), (pulumi.KUBERNETES, pulumi.OLDEST_GO)):
        found = re.search(r"^go (\d+)\.(\d+)", (module / "go.mod").read_text(encoding="utf-8"), re.M)
        assert found is not None
        assert (int(found[1]), int(found[2])) == oldest


def test_a_module_that_is_not_required() -> None:
    with pytest.raises(LabError, match=r"pulumi-python/go\.mod does not require example\.com/other"):
        pulumi.required(pulumi.PYTHON, "example.com/other")


def test_environment_has_no_service_and_keeps_its_secret_in_a_file(tmp_path: Path) -> None:
    given = {"HOME": "/root", "PULUMI_ACCESS_TOKEN": "t", "PULUMI_IGNORE_AMBIENT_PLUGINS": "1", "KUBECONFIG": "/k"}
    found = pulumi.environment(tmp_path / "programs", tmp_path / "home", given)
    assert not {"PULUMI_ACCESS_TOKEN", "PULUMI_IGNORE_AMBIENT_PLUGINS", "KUBECONFIG"} & set(found)
    assert found["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/home/state?metadata=skip"
    assert found["PATH"].startswith(f"{tmp_path}/programs:")
    passphrase = Path(found["PULUMI_CONFIG_PASSPHRASE_FILE"])
    assert stat.S_IMODE(passphrase.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    secret = passphrase.read_text(encoding="utf-8")
    assert len(secret) == 64
    assert secret not in found.values()
    assert pulumi.environment(tmp_path / "programs", tmp_path / "home", given) == found
    assert passphrase.read_text(encoding="utf-8") == secret
