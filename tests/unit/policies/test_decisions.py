"""The decisions: every case of every table, by the pinned OPA and by the oldest, and every line of them looked at."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgefleet_pulumi.model import load_industries
from edgefleet_pulumi.model.load import INDUSTRIES
from lab.builders.opa import PolicyTools

SYSTEMS = sorted(load_industries())
every_system = pytest.mark.parametrize("system", SYSTEMS)


def folder(system: str) -> Path:
    return INDUSTRIES / system / "policy"


def source(system: str) -> Path:
    (file,) = (file for file in folder(system).glob("*.rego") if not file.stem.endswith("_test"))
    return file


def run(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


@every_system
def test_cases_by_the_pinned_opa_with_every_line_covered(tools: PolicyTools, system: str) -> None:
    done = run(tools.opa, "test", "--coverage", "--format=json", folder(system))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert str(source(system)) in report["files"]
    assert {file: one.get("not_covered") for file, one in report["files"].items() if one.get("not_covered")} == {}
    assert report["coverage"] == 100


@every_system
def test_cases_by_the_oldest_opa(tools: PolicyTools, system: str) -> None:
    assert "0.60.0" in run(tools.oldest_opa, "version").stdout
    done = run(tools.oldest_opa, "test", folder(system))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^PASS: [1-9]", done.stdout, re.MULTILINE)


@every_system
def test_package_is_the_declared_one_and_has_a_decision(tools: PolicyTools, system: str) -> None:
    package = load_industries()[system].policy.package
    answer = run(tools.opa, "eval", "--format=json", "--data", folder(system), f"data.{package}.decision")
    (result,) = json.loads(answer.stdout)["result"]
    assert result["expressions"][0]["value"] is False, "nothing is known, so nothing is allowed"


@every_system
def test_the_table_has_all_three_kinds_of_cases(system: str) -> None:
    (table,) = folder(system).glob("*_test.rego")
    text = table.read_text()
    assert re.search(r'^\t"allowed', text, re.MULTILINE)
    assert "denied while allowed" in text or "test_denied_while_allowed" in text
    assert '"nothing at all"' in text


def conditions(system: str) -> list[int]:
    """The lines of a decision that can be left out one by one: each must be missed by a case."""
    lines = source(system).read_text().splitlines()
    return [number for number, line in enumerate(lines) if line.startswith("\t")]


@pytest.mark.parametrize(("system", "line"), [(system, line) for system in SYSTEMS for line in conditions(system)])
def test_no_condition_can_be_left_out_unseen(tools: PolicyTools, tmp_path: Path, system: str, line: int) -> None:
    copy = shutil.copytree(folder(system), tmp_path / "policy") / source(system).name
    lines = copy.read_text().splitlines(keepends=True)
    left_out = lines.pop(line)
    copy.write_text("".join(lines))
    done = run(tools.opa, "test", copy.parent)
    assert done.returncode != 0, f"{system}: no case needs this line: {left_out}"
