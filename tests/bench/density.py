"""What idle pods cost in memory, Wasm without LLVM against the same service as a native static program.

    python -m tests.bench.density [--lab bench] [--numbers 1 10 50 100 150 200]

Pods of the skeleton service are made through containerd's CRI, without Kubernetes, and do nothing. MiB a pod are those
of the largest number; how many fit into 4 GiB follows from them. The figures of the machine (``machine``) hold on a
quiet one only.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.lab_host import ready
from tests.bench.onhost.sides import LEAN, NATIVE
from tests.bench.record import save

NUMBERS = (1, 10, 50, 100, 150, 200)
PARTS = ("program_pss", "program_private", "pause_pss", "shim_pss", "kernel")
GIB = 1024


def per_pod(measured: list[dict[str, Any]]) -> dict[str, float]:
    """MiB by part of one pod among the largest number of them, all of it, and how many of them 4 GiB hold."""
    last = measured[-1]
    found = {part: round(last[part] / last["pods"], 3) for part in PARTS}
    found["all"] = round(sum(found[part] for part in PARTS if part != "program_private"), 3)
    found["in_4_gib"] = int(4 * GIB / found["all"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="bench")
    parser.add_argument(
        "--numbers", type=int, nargs="+", default=list(NUMBERS), choices=range(1, 501), metavar="1..500"
    )
    arguments = parser.parse_args()
    with ready(arguments.lab) as bench:
        bench.bring_service_images()
        identity = bench.identity()
        measured = bench.measure("idle", numbers=sorted(arguments.numbers))
    sides = {side: {"steps": steps, "per_pod": per_pod(steps)} for side, steps in measured.items()}
    lean, native = (sides[side.name]["per_pod"] for side in (LEAN, NATIVE))
    ratio = {key: round(lean[key] / native[key], 3) for key in lean if native[key]}
    path = save("density", {"host": identity, "sides": sides, "ratio": ratio})
    table = Table("MiB of one pod", *sides, "ratio")
    for key in lean:
        table.add_row(key, *(f"{side['per_pod'][key]:g}" for side in sides.values()), f"{ratio.get(key, 0):.2f}")
    Console().print(table)
    print(path)


if __name__ == "__main__":
    main()
