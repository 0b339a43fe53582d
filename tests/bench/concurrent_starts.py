"""Many containers started at once by the OCI runtime on a lab's host, 1 to 200, all four sides in turn.

    python -m tests.bench.concurrent_starts [--lab bench] [--numbers 1 2 5 10 20 50 100 200] [--rounds 3]

Milliseconds from each start to its first output, and until all of a batch have ended.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.lab_host import ready
from tests.bench.record import save, summary

NUMBERS = (1, 2, 5, 10, 20, 50, 100, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="bench")
    parser.add_argument(
        "--numbers", type=int, nargs="+", default=list(NUMBERS), choices=range(1, 501), metavar="1..500"
    )
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 51), metavar="1..50")
    arguments = parser.parse_args()
    with ready(arguments.lab) as bench:
        identity = bench.identity()
        measured = bench.measure("many", numbers=arguments.numbers, count=arguments.rounds)
    sides: dict[str, Any] = {
        side: {number: {what: summary(values) for what, values in batch.items()} for number, batch in batches.items()}
        for side, batches in measured.items()
    }
    path = save("concurrent_starts", {"host": identity, "sides": sides})
    table = Table("at once", *sides, title="median (p95) ms of a start; all ended after")
    for number in map(str, arguments.numbers):
        found = [batches[number] for batches in sides.values()]
        cells = [f"{one['each']['median']:.0f} ({one['each']['p95']:.0f}); {one['all']['median']:.0f}" for one in found]
        table.add_row(number, *cells)
    Console().print(table)
    print(path)


if __name__ == "__main__":
    main()
