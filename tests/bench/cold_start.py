"""Cold start by layer on a lab's host: Wasm lean, Wasm distro, native by crun and native by runc, in turn.

    python -m tests.bench.cold_start [--lab bench] [--count 100] [--layers run cri sandbox pieces]

``run``: the OCI runtime's process to the program's first output. ``cri``: in a pod sandbox that stands, CreateContainer
to containerd's time stamp of the first line in the log. ``sandbox``: RunPodSandbox to the same. ``pieces``: a pod's own
config.json by `crun run`, with one thing less at a time. Milliseconds; all samples are kept. Take a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.lab_host import ready
from tests.bench.onhost.sides import NATIVE
from tests.bench.record import save, summary

LAYERS = ("run", "cri", "sandbox", "pieces")
# Above this the host is too slow or too busy for absolute figures: then ratios only (as the smoke test has it).
TRUSTED_MS = 7.0


def shares(count: int) -> dict[str, int]:
    """How often each layer is run: those that take longer are run less often."""
    return {"run": count, "cri": count, "sandbox": max(10, count // 4), "pieces": max(10, count // 2)}


def figures(samples: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Of each thing measured the summary by side, with the ratio of its median to native crun's in the same run."""
    found: dict[str, Any] = {}
    for what, by_side in samples.items():
        native = statistics.median(by_side[NATIVE.name])
        found[what] = {
            side: {**summary(values), "ratio": round(statistics.median(values) / native, 3), "samples": values}
            for side, values in by_side.items()
        }
    return found


def table(layers: dict[str, Any]) -> Table:
    found = Table("layer", "what", "side", "median ms", "p95", "n", "times native crun")
    for layer, measured in layers.items():
        for what, by_side in measured.items():
            for side, one in by_side.items():
                cells = (f"{one['median']:.1f}", f"{one['p95']:.1f}", str(one["n"]), f"{one['ratio']:.2f}")
                found.add_row(layer, what, side, *cells)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="bench")
    parser.add_argument("--count", type=int, default=100, choices=range(10, 1001), metavar="10..1000")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=LAYERS)
    arguments = parser.parse_args()
    count = shares(arguments.count)
    with ready(arguments.lab) as bench:
        bench.bring_service_images()
        identity = bench.identity()
        layers = {layer: figures(bench.measure(layer, count=count[layer])) for layer in arguments.layers}
    control = layers["run"]["run"][NATIVE.name]["median"] if "run" in layers else None
    trusted = control is not None and control <= TRUSTED_MS
    path = save("cold_start", {"host": identity, "trusted": trusted, "layers": layers})
    Console().print(table(layers))
    if not trusted:
        print(f"ratios only: the native control took {control} ms, milliseconds are trusted up to {TRUSTED_MS:g}")
    print(path)


if __name__ == "__main__":
    main()
