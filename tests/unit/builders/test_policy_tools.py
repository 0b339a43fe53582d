"""The programs that policies are tested with: what is built, and that a killed build is not taken for finished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lab.builders import opa
from lab.builders.opa import PolicyTools
from lab.builders.pulumi import required
from tests.unit.builders.test_recipes import FakeGo


class Fake(FakeGo):
    """Notes what is built where; a package `.` gets its module's name, as go does it."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.killed_at = killed_at

    def build(self, title: str, module: Path, packages: Sequence[str], *, to: Path, log: Path, **options: Any) -> None:
        if len(self.titles) == self.killed_at:
            raise KeyboardInterrupt
        assert log.suffix == ".log"
        assert options["tags"] == opa.TAGS
        self.titles.append(title)
        to.mkdir(parents=True, exist_ok=True)
        for package in packages:
            (to / (module.name if package == "." else package.rpartition("/")[2])).write_text(title, encoding="utf-8")


def test_all_are_built_once(tmp_path: Path) -> None:
    go = Fake()
    tools = PolicyTools(tmp_path, go).ensure()
    assert "OPA v0.70.0" in tools.opa.read_text()
    assert "OPA v0.60.0" in tools.oldest_opa.read_text()
    assert "gator v3.15.1" in tools.gator.read_text()
    assert "v0.30.4" in tools.admission.read_text()
    tools.ensure()
    assert len(go.titles) == 4


def test_a_killed_build_is_begun_again(tmp_path: Path) -> None:
    tools = PolicyTools(tmp_path, Fake(killed_at=2))
    with pytest.raises(KeyboardInterrupt):
        tools.ensure()
    assert not tools.opa.exists()
    assert PolicyTools(tmp_path, Fake()).ensure().admission.exists()
    assert not list(tmp_path.glob("*.part"))


def test_versions_are_those_of_the_product() -> None:
    assert required(opa.OPA, opa.OPA_PATH) == "v0.70.0"
    assert required(opa.GATOR, opa.GATEKEEPER_PATH) == "v3.15.1"
    # Kubernetes 1.30.4: what the cluster runs.
    assert required(opa.ADMISSION, opa.KUBERNETES_PATH) == "v0.30.4"
