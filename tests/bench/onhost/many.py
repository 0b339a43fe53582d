"""Many starts at once: how long each takes, and all of them, by the number of starts."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Containers, workspace
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import arch, cgroup_manager
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command

from tests.bench.onhost.cold import TEXT, TIMEOUT, run_as_runc
from tests.bench.onhost.sides import SIDES, BenchError, Side

SECONDS = 120.0


@dataclass
class Batch:
    """``each``: milliseconds to each start's first output. ``all``: until the last program has ended."""

    each: list[float]
    all: float


def at_once(side: Side, state: Path, bundle: Bundle, count: int) -> Batch:
    """So many containers of one bundle, started without waiting for one another."""
    manager = [] if side.name.endswith("runc") else [f"--cgroup-manager={cgroup_manager('auto')}"]
    command = [side.runtime, "--root", str(state), *manager, "run", "--bundle", str(bundle.folder)]
    began, starts = {}, {}
    first = time.perf_counter()
    for _ in range(count):
        name = f"bench-{secrets.token_hex(6)}"
        at = time.perf_counter()
        process = subprocess.Popen(
            [*command, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert process.stdout is not None
        began[process.stdout.fileno()], starts[process.stdout.fileno()] = at, process
    each = first_outputs(side, began)
    for process in starts.values():
        _, said = process.communicate(timeout=SECONDS)
        if process.returncode != 0:
            raise BenchError(f"{side.name}, {count} at once: {said.decode(errors='replace').strip()[-300:]}")
    return Batch(each, 1000 * (time.perf_counter() - first))


def first_outputs(side: Side, began: dict[int, float]) -> list[float]:
    """Milliseconds from each start to its first output, which is checked."""
    waiting, each = select.poll(), []
    for descriptor in began:
        waiting.register(descriptor, select.POLLIN)
    left = set(began)
    while left:
        ready = waiting.poll(1000 * SECONDS)
        now = time.perf_counter()
        if not ready:
            raise BenchError(f"{side.name}: {len(left)} of {len(began)} printed nothing within {SECONDS:g} s")
        for descriptor, _ in ready:
            out = os.read(descriptor, 1 << 12)
            if (b"ready" if side.wasm else TEXT) not in out:
                raise BenchError(f"{side.name}: a program printed {out!r}")
            waiting.unregister(descriptor)
            left.discard(descriptor)
            each.append(round(1000 * (now - began[descriptor]), 3))
    return each


def by_number(module: bytes, numbers: Sequence[int], rounds: int) -> dict[str, dict[str, Any]]:
    """By side, then by number: ``each`` over all rounds, and ``all`` of each round. Sides take turns in each round."""
    found: dict[str, dict[str, Any]] = {
        side.name: {str(number): {"each": [], "all": []} for number in numbers} for side in SIDES
    }
    for number in numbers:
        for _ in range(rounds):
            for side in SIDES:
                with workspace(run_command, side.runtime) as folder:
                    batch = at_once(side, folder / "state", prepared(side, module, folder), number)
                figures = found[side.name][str(number)]
                figures["each"] += batch.each
                figures["all"].append(round(batch.all, 3))
        print(f"{number} at once", file=sys.stderr, flush=True)
    return found


def prepared(side: Side, module: bytes, folder: Path) -> Bundle:
    """A bundle that has run once: its config is written."""
    run = run_command if not side.name.endswith("runc") else run_as_runc
    containers = Containers(run, side.runtime, cgroup_manager("auto"), folder, TIMEOUT)
    content = module if side.wasm else native_program(arch(), TEXT)
    bundle = containers.bundle("b", content, "probe.wasm" if side.wasm else "native")
    containers.start(bundle, ["ready"] if side.wasm else [])
    return bundle
