"""HTTP in an open loop on a lab's host, with a ramp to the knee: the skeleton service as Wasm and as a native program.

    python -m tests.bench.http_load [--lab bench] [--rates 500 1000 ...] [--seconds 8]

Latencies are counted from when a request was due, not from when it was sent. The generator (oha, from the mirror) runs
on the host beside the service, so both share its cores: the knee is that of the pair.
"""

from __future__ import annotations

import argparse

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, MirrorError, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import kit
from rich.console import Console
from rich.table import Table

from lab.builders.base import host_arch
from tests.bench.lab_host import BenchHost, ready
from tests.bench.record import save

RATES = (500, 1000, 2000, 4000, 8000, 16000, 24000, 32000, 48000, 64000, 96000, 128000)
PLACE = "/run/edgefleet-bench.oha"


def bring_generator(bench: BenchHost) -> None:
    """oha on the host."""
    arch = host_arch()
    release = Release(kit.OHA, kit.OHA_VERSION, arch, f"oha-linux-{arch}")
    mirror = Mirror(bench.lab.paths.mirror)
    try:
        mirror.verify(release)
    except MirrorError as error:
        raise SystemExit(f"{error}; or: python -m lab.builders.oha") from error
    bench.shell(f"cat > {PLACE} && chmod 700 {PLACE}", mirror.path(release).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="bench")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES))
    parser.add_argument("--seconds", type=int, default=8, choices=range(4, 301), metavar="4..300")
    arguments = parser.parse_args()
    with ready(arguments.lab) as bench:
        bench.bring_service_images()
        bring_generator(bench)
        identity = bench.identity()
        try:
            sides = bench.measure("ramp", numbers=sorted(arguments.rates), seconds=arguments.seconds, program=PLACE)
        finally:
            bench.shell(f"rm -f {PLACE}")
    path = save("http_load", {"host": identity, "sides": sides})
    table = Table("side", "rate", "answered/s", "p50 ms", "p99", "p99.9", "past the knee")
    for side, steps in sides.items():
        for one in steps:
            latencies = (f"{one[name]:.2f}" for name in ("p50", "p99", "p999"))
            table.add_row(side, f"{one['qps']:g}", f"{one['achieved_qps']:.0f}", *latencies, str(one["past_knee"]))
    Console().print(table)
    print(path)


if __name__ == "__main__":
    main()
