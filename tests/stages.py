"""The test stages, in the order in which they fail fastest, with the time of each printed.

``python -m tests.stages TIER`` runs one tier:

* ``static`` and ``unit``: seconds, no lab;
* ``test``: what CI runs: static, unit, then one lab host and one path through each capability;
* ``full``: everything in ``test`` and every scenario and fault. It is resumable: a stage that passed for the same
  content of the checkout is not run again, and the results are kept in ``reports/test-full-<date>.json``.

The output of a stage goes to the terminal and to ``reports/stages/<stage>.log``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
# The lab that the tests make and remove: never the one a person has brought up with `make lab`.
TEST_LAB = "test"
POLICY_TOOLS = ("python", "-m", "lab.builders.opa")


@dataclass(frozen=True)
class Stage:
    """One step of a tier: commands that run in order until one fails."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    # Run even if an earlier stage failed: takes down what the stages made.
    always: bool = False
    # Neighbours with the same word run at the same time: what one leaves of two cores the others take.
    together: str = ""


@dataclass
class Result:
    """How one stage ended. ``seconds`` is wall time; ``counts`` are pytest's own, added up."""

    stage: str
    status: str
    seconds: float
    finished: str
    counts: dict[str, int] = field(default_factory=dict)


def python_files() -> tuple[str, ...]:
    """Folders that hold Python of ours, as far as they exist."""
    folders = ("lab", "plugins", "pulumi/edgefleet_pulumi", "tests", "tools", "molecule")
    return tuple(name for name in folders if (ROOT / name).is_dir())


def tracked(*patterns: str) -> tuple[str, ...]:
    """Files git knows or would add, that match a pattern."""
    out = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(line for line in out.splitlines() if (ROOT / line).is_file())


def shell_scripts() -> tuple[str, ...]:
    """Shell scripts, by their ending or their first line."""
    named = tracked("*.sh")
    others = [
        name
        for name in tracked(".ci/*", "lab/*", "wasm/*")
        if name not in named and re.match(rb"#!.*\b(ba)?sh\b", (ROOT / name).read_bytes()[:64])
    ]
    return (*named, *others)


def static() -> list[Stage]:
    """Everything that reads the source and runs none of it."""
    stages = {
        "static": (
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("yamllint", "--strict", *tracked("*.yml", "*.yaml")),
            ("shellcheck", *shell_scripts()),
            # Built once, then found: the tests of the policies need them, and a build should be seen.
            POLICY_TOOLS,
            ("pytest", "-q", "-n", "2", "tests/static"),
        ),
        "types": (("mypy", *python_files()),),
        # Else a collection of the same name in the home folder would be looked at in place of this one.
        "ansible-lint": (("env", f"ANSIBLE_HOME={ROOT}/.venv/ansible", "ansible-lint"),),
    }
    return [Stage(name, commands, together="static") for name, commands in stages.items()]


def unit() -> Stage:
    """Unit tests: no lab, no network."""
    return Stage("unit", (POLICY_TOOLS, ("pytest", "-q", "-n", "2", "tests/unit")))


def page() -> Stage:
    """The fleet page in a real browser; needs no lab host."""
    install = ("python", "-m", "lab", "packages", "--browser")
    return Stage("page", (install, ("pytest", "-q", "tests/integration/test_fleet_page.py")))


def lab_stages() -> list[Stage]:
    """The main job on a fresh host, then what must hold on it; always taken down."""
    lab = ("python", "-m", "lab")
    return [
        Stage("lab", (("python", "-m", "tests.integration.packet_filter"), (*lab, "run", "--name", TEST_LAB))),
        Stage("integration", (("pytest", "-q", "--durations=25", "-m", "lab and not full", "tests/integration"),)),
        Stage("lab down", ((*lab, "down", "--name", TEST_LAB),), always=True),
    ]


def molecule(*scenarios: str, hosts: str = "containers", together: str = "") -> list[Stage]:
    """Each scenario in the order of molecule's base configuration: check, converge, idempotence, verify."""
    kind = ("env", f"EDGEFLEET_LAB_HOSTS={hosts}")
    suffix = "" if hosts == "containers" else f" {hosts}"
    return [
        Stage(f"molecule {name}{suffix}", ((*kind, "molecule", "test", "-s", name),), together=together)
        for name in scenarios
    ]


def tier(name: str) -> list[Stage]:
    """The stages of a tier."""
    if name == "static":
        return static()
    if name == "unit":
        return [unit()]
    stages = [*static(), unit(), page(), *lab_stages(), *molecule("default", "agents", together="molecule")]
    if name == "full":
        pytest_full = ("pytest", "-q", "-m", "full")
        stages += molecule("airgap", "hardening", "upgrade", "backup-restore", "reset")
        stages += [Stage(f"full {path.stem[5:]}", ((*pytest_full, str(path)),)) for path in full_tests()]
        stages += molecule("default", "hardening", "reset", hosts="vm")
    return stages


def full_tests() -> list[Path]:
    """The test files that belong to `full`, a stage each, so that one that is cut costs no more than itself."""
    files = sorted((ROOT / "tests" / "integration").rglob("test_*.py"))
    return [path.relative_to(ROOT) for path in files if "pytest.mark.full" in path.read_text()]


def content_key() -> str:
    """A hash over the content of the checkout: results of ``full`` hold for exactly this."""
    digest = hashlib.sha256()
    for name in tracked():
        digest.update(name.encode() + b"\0" + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def pytest_counts(log: Path) -> dict[str, int]:
    """Add up the closing lines of the pytest runs in a log."""
    counts: dict[str, int] = {}
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r"\bin [0-9.]+s", line):
            for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", line):
                counts[word] = counts.get(word, 0) + int(number)
    return counts


def groups(stages: list[Stage]) -> list[list[Stage]]:
    """The stages in their order, those that run together in one group."""
    found: list[list[Stage]] = []
    for stage in stages:
        if found and stage.together and found[-1][0].together == stage.together:
            found[-1].append(stage)
        else:
            found.append([stage])
    return found


def run_group(stages: list[Stage]) -> list[Result]:
    """All stages of a group at the same time; more than one put their names before their lines."""
    if len(stages) == 1:
        return [run_stage(stages[0])]
    with ThreadPoolExecutor(len(stages)) as pool:
        return list(pool.map(lambda stage: run_stage(stage, f"{stage.name} | ".encode()), stages))


def run_stage(stage: Stage, prefix: bytes = b"") -> Result:
    """Run a stage's commands; stops at the first that fails."""
    log = REPORTS / "stages" / f"{stage.name.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    status = "passed"
    with log.open("wb") as sink:
        for command in stage.commands:
            print(f"\n==> {stage.name}: {' '.join(command)[:150]}", flush=True)
            if stream(command, sink, prefix) != 0:
                status = "failed"
                print(f"==> {stage.name}: FAILED, log: {log.relative_to(ROOT)}", flush=True)
                break
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Result(stage.name, status, round(time.monotonic() - began, 1), now, pytest_counts(log))


def stream(command: tuple[str, ...], sink: BinaryIO, prefix: bytes) -> int:
    """Run a command, its output to the terminal, behind the prefix, and to ``sink``; returns its exit code."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        assert run.stdout is not None
        for line in iter(run.stdout.readline, b""):
            sys.stdout.buffer.write(prefix + line)
            sys.stdout.flush()
            sink.write(line)
    return run.returncode


class Ledger:
    """The dated result file of ``full``, written after every stage."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.path = REPORTS / f"test-full-{datetime.now(UTC):%Y-%m-%d}.json"
        self.results: list[Result] = list(self._earlier())

    def _earlier(self) -> Iterator[Result]:
        if not self.path.exists():
            return
        document = json.loads(self.path.read_text())
        if document["content"] == self.key:
            yield from (Result(**entry) for entry in document["results"])

    def passed(self, stage: Stage) -> bool:
        """Whether a stage has passed for this content; what takes things down is always run."""
        return not stage.always and any(r.stage == stage.name and r.status == "passed" for r in self.results)

    def add(self, result: Result) -> None:
        self.results = [r for r in self.results if r.stage != result.stage] + [result]
        document = {"content": self.key, "results": [asdict(r) for r in self.results]}
        self.path.write_text(json.dumps(document, indent=2) + "\n")


def summary(results: list[Result], seconds: float) -> None:
    """A table of the stages and the wall time of all, then the line that tells how many passed."""
    print("\n{:<20} {:<8} {:>9}  {}".format("stage", "result", "seconds", "tests"))
    for result in results:
        counts = ", ".join(f"{number} {word}" for word, number in result.counts.items())
        print(f"{result.stage:<20} {result.status:<8} {result.seconds:>9.1f}  {counts}")
    print("{:<20} {:<8} {:>9.1f}".format("total", "", seconds))
    failed = sum(r.status == "failed" for r in results)
    print(f"\n{sum(r.status == 'passed' for r in results)} passed, {failed} failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tier", choices=["static", "unit", "test", "full"])
    name = parser.parse_args().tier
    ledger = Ledger(content_key()) if name == "full" else None
    began = time.monotonic()
    results: list[Result] = []
    failed = False
    for group in groups(tier(name)):
        # CI fails fast; the full tier says of everything how it stands.
        if failed and not group[0].always and ledger is None:
            continue
        to_run = [stage for stage in group if not (ledger and ledger.passed(stage))]
        for stage in group:
            if stage not in to_run:
                print(f"==> {stage.name}: passed before for this content, not run again", flush=True)
        for result in run_group(to_run) if to_run else []:
            results.append(result)
            failed = failed or result.status == "failed"
            if ledger:
                ledger.add(result)
    summary(results, time.monotonic() - began)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
