"""What a load of the smoke test finds on a lab's host: Wasm beside native under the rate of each system.

    python -m tests.bench.load --name LAB [--level standard|full] [--systems SYSTEM...]

Plays ``edgefleet.wasm.smoke`` on the lab's first host with each system's targets in turn, the deployed workload being
the lab's own, and prints the lines of load and site. Needs a lab that `python -m lab run` has brought up, and oha in
its mirror (`python -m lab.builders.oha`). On a busy machine the lines are `invalid`, and say why.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.record import ROOT, save
from tests.integration.hosts import lab_of, playbook

SHOWN = (
    "p50_ms", "p99_ms", "p999_ms", "sent_p50_ms", "sent_p99_ms", "lag_p99_ms", "achieved_qps", "cpu_cores", "pss_mib",
)  # fmt: skip
LAYERS = ("load", "site")
SYSTEMS = sorted(path.parent.name for path in ROOT.glob("industries/*/smoke_targets.json"))


def measure(name: str, level: str, system: str) -> dict[str, Any]:
    """The document of one play with the targets of one system."""
    lab = lab_of(name)
    targets = json.loads((ROOT / "industries" / system / "smoke_targets.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="edgefleet-load.") as folder:
        variables = {
            "edgefleet_report_dir": folder, "wasm_smoke_level": level, "wasm_smoke_samples": 5,
            "wasm_smoke_fail_on": "none", "wasm_smoke_targets": targets,
        }  # fmt: skip
        run = playbook(lab.paths, "edgefleet.wasm.smoke", "-e", json.dumps(variables))
        reports = sorted(Path(folder).glob("*.json"))
        if not reports:
            sys.exit(f"load: no report:\n{run.stdout[-3000:]}")
        document: dict[str, Any] = json.loads(reports[0].read_text(encoding="utf-8"))
        return document


def lines(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of load and site that were measured."""
    return [one for one in document["lines"] if one["layer"] in LAYERS and one["measured"] is not None]


def sides(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Medians over the rounds of each side."""
    by_side: dict[str, list[dict[str, Any]]] = {}
    for one in document["sections"]["load"]["rounds"]:
        by_side.setdefault(one["side"], []).append(one)
    return {
        side: {name: round(statistics.median(one[name] for one in found), 3) for name in SHOWN} | {"rounds": len(found)}
        for side, found in by_side.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="of the lab")
    parser.add_argument("--level", choices=("standard", "full"), default="standard")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["digital-government-service"])
    arguments = parser.parse_args()
    found = {system: measure(arguments.name, arguments.level, system) for system in arguments.systems}
    figures = {
        system: {"lines": lines(document), "sides": sides(document), "load_1m": document["identity"]["load_1m"]}
        for system, document in found.items()
    }
    path = save("load", {"level": arguments.level, "systems": figures})
    console = Console(width=200)
    for system, one in figures.items():
        table = Table("line", "verdict", "measured", "limit", "n", "reason", title=system)
        for line in one["lines"]:
            limit = "" if line["limit"] is None else f"{line['limit']:g}"
            measured = f"{line['measured']:.4g} {line['unit'] or ''}"
            table.add_row(line["id"], line["status"], measured, limit, str(line["n"]), line["reason"])
        console.print(table)
        rounds = Table("side", *next(iter(one["sides"].values())), title="medians over rounds")
        for side, values in one["sides"].items():
            rounds.add_row(side, *(f"{value:.4g}" for value in values.values()))
        console.print(rounds)
    print(path)


if __name__ == "__main__":
    main()
