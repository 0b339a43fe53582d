"""What each thing that a pod's container has costs: a pod's own config.json, run with one thing less at a time."""

from __future__ import annotations

import copy
import json
import secrets
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.cri import Cri, Program, first_line
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import arch, cgroup_manager

from tests.bench.onhost import cold
from tests.bench.onhost.idle import FIRST_PORT, SERVICE_ENV
from tests.bench.onhost.sides import LEAN, NATIVE, BenchError, Side

TASKS = Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io")
WORK = Path("/run/edgefleet-bench.pieces")
MOUNTED = ("/proc", "/dev")
MANAGER = cgroup_manager("auto")
WHOLE = "as in a pod"
APART = "as in a pod, by create and start"

Config = dict[str, Any]


def no_seccomp(config: Config) -> None:
    config["linux"].pop("seccomp", None)


def no_mounts(config: Config) -> None:
    """/proc and /dev remain: nothing runs without."""
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] in MOUNTED]


def no_masks(config: Config) -> None:
    for key in ("maskedPaths", "readonlyPaths"):
        config["linux"].pop(key, None)


def no_shared_namespaces(config: Config) -> None:
    """New ones in place of the sandbox's; the network's and the user's not at all."""
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]


def no_capability_changes(config: Config) -> None:
    config["process"].pop("capabilities", None)
    config["process"].pop("noNewPrivileges", None)


def no_limits(config: Config) -> None:
    config["linux"]["resources"] = {}


def nothing(config: Config) -> None:
    for change in (no_seccomp, no_mounts, no_masks, no_shared_namespaces, no_capability_changes, no_limits):
        change(config)


def as_it_is(_: Config) -> None:
    pass


VARIANTS: Mapping[str, tuple[Callable[[Config], None], str]] = {
    WHOLE: (as_it_is, MANAGER),
    "without seccomp": (no_seccomp, MANAGER),
    "without mounts but /proc and /dev": (no_mounts, MANAGER),
    "without masked and read-only paths": (no_masks, MANAGER),
    "without the sandbox's namespaces": (no_shared_namespaces, MANAGER),
    "without changes of capabilities": (no_capability_changes, MANAGER),
    "without limits": (no_limits, MANAGER),
    "without a control group": (no_limits, "disabled"),
    "without all of these": (nothing, "disabled"),
}
"""What is changed, and who makes the control group."""


@contextmanager
def pods(cri: Cri, images: dict[str, str], module: bytes, logs: Path) -> Iterator[dict[str, tuple[Side, Config]]]:
    """Of the service as a Wasm and as a native pod, both running: side and config.json, with our program in it."""
    with cold.cleared(cri):
        found = {}
        for number, side in enumerate((LEAN, NATIVE)):
            sandbox = cri.run_sandbox(side.handler, logs, cold.LABELS, cold.PARENT)
            image = images["service_wasm" if side.wasm else "service_native"]
            container, log = cri.create(sandbox, Program(image, env={**SERVICE_ENV, "PORT": str(FIRST_PORT + number)}))
            cri.start(container)
            first_line(log, cold.TIMEOUT)
            config = json.loads((TASKS / container / "config.json").read_text(encoding="utf-8"))
            content = module if side.wasm else native_program(arch(), cold.TEXT)
            program = "probe.wasm" if side.wasm else "native"
            root = WORK / side.handler / "rootfs"
            root.mkdir(parents=True)
            (root / program).write_bytes(content)
            (root / program).chmod(0o555)
            config["root"]["path"] = str(root)
            config["process"]["args"] = [f"/{program}", "ready"]
            found[side.name] = side, config
        yield found


def bundle(config: Config, change: Callable[[Config], None], name: str) -> Path:
    changed = copy.deepcopy(config)
    changed["linux"]["cgroupsPath"] = f"{cold.PARENT}-pieces/{name}"
    changed["process"]["terminal"] = False
    change(changed)
    folder = WORK / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    return folder


def first_output_ms(side: Side, folder: Path, manager: str, *, apart: bool) -> float:
    """To the first output; with ``apart`` by `create` and `start`, two processes, as containerd's shim has it."""
    name = f"bench-{secrets.token_hex(6)}"
    command = [side.runtime, "--root", str(WORK / "state"), f"--cgroup-manager={manager}"]
    verb = ["create" if apart else "run", "--bundle", str(folder), name]
    began = time.perf_counter()
    with subprocess.Popen([*command, *verb], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        if apart:
            subprocess.run([*command, "start", name], check=process.wait(cold.TIMEOUT) == 0, timeout=cold.TIMEOUT)
        ready, _, _ = select.select([process.stdout], [], [], cold.TIMEOUT)
        took = 1000 * (time.perf_counter() - began)
        # To its end: a program whose output nobody reads fails.
        out = process.stdout.read() if ready else b""
    if (b"ready" if side.wasm else cold.TEXT) not in out:
        raise BenchError(f"{side.name} in {folder}: no output but {out!r}")
    if apart:
        subprocess.run([*command, "delete", "--force", name], check=True, timeout=cold.TIMEOUT)
    return took


def by_piece(images: dict[str, str], module: bytes, count: int, logs: Path) -> dict[str, cold.Samples]:
    """Milliseconds to the first output by variant and side, all in turn."""
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        with Cri() as cri, pods(cri, images, module, logs) as found:
            starts = {
                (variant, side.name): starter(side, config, variant)
                for side, config in found.values()
                for variant in [*VARIANTS, APART]
            }
            return measured(starts, count)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


def starter(side: Side, config: Config, variant: str) -> Callable[[], float]:
    change, manager = VARIANTS.get(variant, VARIANTS[WHOLE])
    folder = bundle(config, change, f"{side.handler}-{secrets.token_hex(4)}")
    return lambda: first_output_ms(side, folder, manager, apart=variant == APART)


def measured(starts: Mapping[tuple[str, str], Callable[[], float]], count: int) -> dict[str, cold.Samples]:
    found: dict[str, cold.Samples] = {variant: {} for variant, _ in starts}
    for index in range(-cold.WARM_UP, count):
        for (variant, side), start in starts.items():
            took = start()
            if index >= 0:
                found[variant].setdefault(side, []).append(round(took, 3))
    return found
