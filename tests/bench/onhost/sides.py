"""What is compared: a WebAssembly program under both engines, and a native one under two OCI runtimes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import CRUN, LIVE, read_state

DROPIN = Path("/etc/containerd/conf.d/95-bench.toml")
RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin:/bin")


class BenchError(Exception):
    """This host can't be measured; the text says why, and what to do."""


@dataclass(frozen=True)
class Side:
    """``handler`` is containerd's name for the runtime."""

    name: str
    runtime: str
    handler: str
    wasm: bool


LEAN = Side("wasm lean", str(LIVE), "wasmedge", wasm=True)
DISTRO = Side("wasm distro", CRUN, "bench-distro", wasm=True)
NATIVE = Side("native crun", CRUN, "crun", wasm=False)
NATIVE_RUNC = Side("native runc", RUNC or "runc", "bench-runc", wasm=False)
SIDES = (LEAN, DISTRO, NATIVE, NATIVE_RUNC)


def check() -> None:
    """Refuse a host whose figures would not be those of the sides."""
    live = read_state().get("live", "distro")
    if live != "lean":
        raise BenchError(f"the host's Wasm pods get the engine {live}, not lean: see /run/edgefleet/wasm-engine")
    if RUNC is None:
        raise BenchError("no runc on the host, the second native control: apt-get install runc")


def dropin(systemd: bool) -> str:
    """containerd's runtimes for the sides that no site has."""
    runtimes = "".join(
        f"""
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{side.handler}]
runtime_type = "io.containerd.runc.v2"
{'base_runtime_spec = "/etc/containerd/wasmedge-base-spec.json"' if side.wasm else ""}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{side.handler}.options]
BinaryName = "{side.runtime}"
SystemdCgroup = {"true" if systemd else "false"}
"""
        for side in (DISTRO, NATIVE_RUNC)
    )
    return f"version = 3\n{runtimes}"
