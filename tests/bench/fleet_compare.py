"""How often the comparison of runs cries wolf, and how often it sees one: synthetic runs, without and with a change.

    python -m tests.bench.fleet_compare [--runs 500] [--samples 20]

A run is one host with a check and its native control, or 20 of them. Prints the table of docs/fleet-page.md.
"""

from __future__ import annotations

import argparse
from collections import Counter

from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.compare import VERDICTS
from rich.console import Console
from rich.table import Table

from tests.bench.record import save
from tests.fleets import two_runs

CASES = [
    (sigma, slow, hosts)
    for hosts in (1, 20)
    for sigma in (0.08, 0.15, 0.25)
    for slow in (1.0, 1.1, 1.2, 1.3)
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, choices=range(1, 100_001), metavar="1..100000")
    parser.add_argument("--samples", type=int, default=20)
    arguments = parser.parse_args()
    table = Table("hosts", "sigma", "slow-down", *VERDICTS)
    figures = []
    for sigma, slow, hosts in CASES:
        runs = arguments.runs if hosts == 1 else max(1, arguments.runs // 5)
        counts = Counter(
            two_runs(seed, hosts, wasm=slow, sigma=sigma, n=arguments.samples).verdict for seed in range(runs)
        )
        shares = {verdict: counts[verdict] / runs for verdict in VERDICTS}
        figures.append({"hosts": hosts, "sigma": sigma, "slow": slow, "runs": runs, "shares": shares})
        table.add_row(str(hosts), f"{sigma:g}", f"{slow - 1:.0%}", *(f"{share:.1%}" for share in shares.values()))
    path = save("fleet_compare", {"samples": arguments.samples, "cases": figures})
    Console().print(table)
    print(path)


if __name__ == "__main__":
    main()
