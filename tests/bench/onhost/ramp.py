"""HTTP in an open loop, rate after rate, until answers no longer come in time: the knee of Wasm and of native."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri, Program, first_line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import oha
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import figures
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command

from tests.bench.onhost import cold
from tests.bench.onhost.idle import FIRST_PORT, MIB, SERVICE_ENV
from tests.bench.onhost.sides import LEAN, NATIVE, Side

SIDES = (LEAN, NATIVE)
SLOWEST_SECONDS = 0.05
# Below this share of the rate the service (or the generator) does not keep up: past the knee.
KEEPS_UP = 0.98
SHOWN = ("qps", "achieved_qps", "n", "answered", "p50", "p99", "p999", "sent_p50", "sent_p99", "lag_p99")


@contextmanager
def services(cri: Cri, images: dict[str, str], logs: Path) -> Iterator[dict[str, str]]:
    """One pod of the service for each side, and where it answers."""
    with cold.cleared(cri):
        urls = {}
        for number, side in enumerate(SIDES):
            port = FIRST_PORT + number
            sandbox = cri.run_sandbox(side.handler, logs, cold.LABELS, cold.PARENT)
            image = images["service_wasm" if side.wasm else "service_native"]
            program = Program(image, env={**SERVICE_ENV, "PORT": str(port)}, memory=256 * MIB)
            container, log = cri.create(sandbox, program)
            cri.start(container)
            first_line(log, cold.TIMEOUT)
            urls[side.name] = f"http://127.0.0.1:{port}/"
        yield urls


def by_rate(
    images: dict[str, str], program: Path, rates: Sequence[float], seconds: float, logs: Path
) -> dict[str, list[dict[str, Any]]]:
    """Latencies in ms by side and rate, both sides in turn; a side ends with its first rate past the knee."""
    found: dict[str, list[dict[str, Any]]] = {side.name: [] for side in SIDES}
    with Cri() as cri, services(cri, images, logs) as urls, tempfile.TemporaryDirectory() as folder:
        for rate in rates:
            for side in SIDES:
                if not past_knee(found[side.name]):
                    ask = oha.Ask(urls[side.name], rate, seconds, SLOWEST_SECONDS)
                    found[side.name].append(twice_past_knee(partial(loaded, side, program, Path(folder), ask)))
    return found


def twice_past_knee(step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A rate is past the knee if it is so again: once may be a moment in which the machine did something else."""
    one = step()
    return step() if one["past_knee"] else one


def past_knee(steps: Sequence[dict[str, Any]]) -> bool:
    return bool(steps) and steps[-1]["past_knee"]


def loaded(side: Side, program: Path, folder: Path, ask: oha.Ask) -> dict[str, Any]:
    run = figures(oha.run(run_command, program, folder, ask))
    one = {name: round(getattr(run, name), 3) for name in SHOWN}
    slow = run.achieved_qps < KEEPS_UP * ask.qps or run.p99 > 1000 * SLOWEST_SECONDS or bool(run.errors)
    one |= {"past_knee": slow, "errors": dict(run.errors)}
    print(f"{side.name}: {one}", file=sys.stderr, flush=True)
    return one
