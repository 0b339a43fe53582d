"""Does hyperfine see what the smoke test sees? `crun run` of the compiled probe on a lab's host, timed by both in turn.

    python -m tests.bench.agree [--lab test] [--count 100]

Whole runs, from the start of the process to its end: hyperfine knows no first output, which the smoke test judges by
and which is shown beside them. The medians may differ by 15 %.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror

from tests.bench.lab_host import PROGRAM, BenchHost, program
from tests.bench.record import save, summary

WITHIN = 0.15
HYPERFINE = "/run/edgefleet-hyperfine"


def compared(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of both, how far apart they are, and whether that is near enough."""
    smoke, hyperfine = (statistics.median(samples[name]) for name in ("smoke", "hyperfine"))
    apart = smoke / hyperfine - 1
    figures = {name: summary(values) for name, values in samples.items()}
    return {"figures": figures, "apart": round(apart, 4), "agrees": abs(apart) <= WITHIN}


def measured(name: str, count: int) -> dict[str, list[float]]:
    """On the host, which keeps nothing of it."""
    found = shutil.which("hyperfine")
    if found is None:
        sys.exit("agree: no hyperfine on this machine: apt-get install hyperfine")
    bench = BenchHost(name)
    bench.shell(f"cat > {HYPERFINE} && chmod 700 {HYPERFINE}", Path(found).read_bytes())
    bench.shell(f"cat > {PROGRAM}", program(Mirror(bench.lab.paths.mirror)))
    try:
        samples: dict[str, list[float]] = bench.measure("agree", hyperfine=HYPERFINE, count=count)
        return samples
    finally:
        bench.shell(f"rm -f {HYPERFINE} {PROGRAM}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="test")
    parser.add_argument("--count", type=int, default=100, choices=range(10, 1001), metavar="10..1000")
    arguments = parser.parse_args()
    found = compared(measured(arguments.lab, arguments.count))
    for name, one in found["figures"].items():
        print(f"{name:14} median {one['median']:.2f} ms, p95 {one['p95']:.2f} ms, n {one['n']}")
    print(f"apart {found['apart']:+.1%}, {'agrees' if found['agrees'] else 'DOES NOT AGREE'} within {WITHIN:.0%}")
    print(save("agree", found))
    sys.exit(not found["agrees"])


if __name__ == "__main__":
    main()
