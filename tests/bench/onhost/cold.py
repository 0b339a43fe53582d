"""Cold starts by layer, all sides in turn, so that whatever slows the host slows all of them alike."""

from __future__ import annotations

import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Bundle, Containers, workspace
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri, Program, Sandbox, first_line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import arch, cgroup_manager
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended, run_command

from tests.bench.onhost.sides import SIDES, BenchError, Side

TEXT = b"edgefleet-bench\n"
LABELS = {"edgefleet.wasm/bench": "yes"}
PARENT = "/edgefleet-bench"
WARM_UP = 3
TIMEOUT = 60.0

Samples = dict[str, list[float]]
"""Milliseconds by side."""


def run_as_runc(argv: Sequence[str], **more: Any) -> Ended:
    """runc takes its cgroup manager from the config; crun's option for it is none of runc's."""
    return run_command([word for word in argv if not word.startswith("--cgroup-manager")], **more)


def started(side: Side, containers: Containers, bundle: Bundle) -> float:
    """Milliseconds from the start of the runtime's process to the program's first output, which is checked."""
    fresh = secrets.token_hex(8)
    ended = containers.start(bundle, [fresh] if side.wasm else []).ended
    right = fresh.encode() in ended.out if side.wasm else ended.out == TEXT
    if ended.rc != 0 or not right or ended.first_output is None:
        raise BenchError(f"{side.name}: the program did not run: {ended.complaint}")
    return 1000 * ended.first_output


def ordered(sides: Sequence[Side], index: int) -> list[Side]:
    """The sides in the order of this round: in as many rounds as there are sides each has been in each place.

    Of an even number each has also come right after each other one once (a Williams design): what a start leaves to
    the kernel to clear away is paid by the next one, and must not fall to the same side each time.
    """
    offsets = [(step + 1) // 2 * (1 if step % 2 else -1) for step in range(len(sides))]
    return [sides[(index + offset) % len(sides)] for offset in offsets]


def in_turn(sides: Sequence[Side], count: int, one: Callable[[Side], dict[str, float]]) -> dict[str, Samples]:
    """``one`` for each side, ``count`` times after the warm-up: by what was measured, then by side. The order turns."""
    found: dict[str, Samples] = defaultdict(lambda: defaultdict(list))
    for index in range(-WARM_UP, count):
        for side in ordered(sides, index):
            for what, value in one(side).items():
                if index >= 0:
                    found[what][side.name].append(round(value, 3))
        if index >= 0 and (index + 1) % 25 == 0:
            print(f"{index + 1}/{count}", file=sys.stderr, flush=True)
    return {what: dict(samples) for what, samples in found.items()}


@contextmanager
def bundles(module: bytes, sides: Sequence[Side] = SIDES) -> Iterator[Callable[[Side], float]]:
    """What starts one container of a side by its OCI runtime alone."""
    with ExitStack() as stack:
        ready = {}
        for side in sides:
            run = run_as_runc if side.name.endswith("runc") else run_command
            folder = stack.enter_context(workspace(run, side.runtime))
            containers = Containers(run, side.runtime, cgroup_manager("auto"), folder, TIMEOUT)
            content = module if side.wasm else native_program(arch(), TEXT)
            ready[side.name] = containers, containers.bundle("b", content, "probe.wasm" if side.wasm else "native")
        yield lambda side: started(side, *ready[side.name])


def by_runtime(module: bytes, count: int) -> dict[str, Samples]:
    """`crun run` or `runc run` to the first output."""
    with bundles(module) as start:
        return in_turn(SIDES, count, lambda side: {"run": start(side)})


def program_of(side: Side, images: dict[str, str]) -> Program:
    # A line's end makes containerd write the line at once, as it does the native program's.
    return Program(images["wasm"], args=["/probe.wasm", "ready\n"]) if side.wasm else Program(images["native"])


def log_ms(began_ns: int, log: Path) -> float:
    """From then to containerd's time stamp of the first line."""
    return (first_line(log, TIMEOUT)[0] - began_ns) / 1e6


@contextmanager
def cleared(cri: Cri) -> Iterator[None]:
    """What a killed run left is gone before, what this one made is gone after."""
    try:
        for sandbox in cri.sandboxes(LABELS):
            cri.remove_sandbox(sandbox)
        yield
    finally:
        for sandbox in cri.sandboxes(LABELS):
            cri.remove_sandbox(sandbox)


def by_cri(images: dict[str, str], count: int, logs: Path) -> dict[str, Samples]:
    """In a sandbox that stands: CreateContainer to the first line in the log, and StartContainer to the same."""
    with Cri() as cri, cleared(cri):
        sandboxes = {side.name: cri.run_sandbox(side.handler, logs, LABELS, PARENT) for side in SIDES}

        def one(side: Side) -> dict[str, float]:
            return container_ms(cri, sandboxes[side.name], program_of(side, images))

        return in_turn(SIDES, count, one)


def container_ms(cri: Cri, sandbox: Sandbox, program: Program) -> dict[str, float]:
    began = time.time_ns()
    container, log = cri.create(sandbox, program)
    created = time.time_ns()
    cri.start(container)
    found = {"create_to_log": log_ms(began, log), "start_to_log": log_ms(created, log)}
    cri.ended(container, TIMEOUT)
    cri.remove(container)
    log.unlink()
    return found


def by_sandbox(images: dict[str, str], count: int, logs: Path) -> dict[str, Samples]:
    """RunPodSandbox (without a network of its own) to the first line in the log of its container."""
    with Cri() as cri, cleared(cri):

        def one(side: Side) -> dict[str, float]:
            began = time.time_ns()
            sandbox = cri.run_sandbox(side.handler, logs, LABELS, PARENT)
            container, log = cri.create(sandbox, program_of(side, images))
            cri.start(container)
            took = log_ms(began, log)
            cri.ended(container, TIMEOUT)
            cri.remove_sandbox(sandbox.id)
            log.unlink()
            return {"sandbox_to_log": took}

        return in_turn(SIDES, count, one)
