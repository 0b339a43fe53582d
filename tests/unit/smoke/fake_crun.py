"""A host whose OCI runtime runs probes without containers: Wasm by wasmtime, native programs as they are.

The probes are the real ones, so that what a check reads is what a module really prints.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wasmtime
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Compiled, Payload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

FEATURES = "+SYSTEMD +WASM:wasmedge +YAJL"
# How much slower the fake's interpreter is than its compiled code.
INTERPRETER = 50
# A custom section named "wasmedge", as the engine's compiler adds one; what is in it is for the engine.
NATIVE_CODE = b"\x00\x0d\x08wasmedgecode"


_ENGINE = wasmtime.Engine()


@functools.cache
def _loaded(module: bytes) -> wasmtime.Module:
    return wasmtime.Module(_ENGINE, module)


def compiled(module: bytes) -> bytes:
    return module + NATIVE_CODE


def payload(*, version: str = "0.14.1", arch: str = "amd64", **modules: bytes) -> Payload:
    """As the controller makes it; ``modules`` replace compiled probes."""
    made = probes.payload(None)
    ahead = {name: compiled(made.plain[name]) for name in probes.AOT} | modules
    return Payload(
        made.nonce, made.plain, (Compiled("wasmedge", version, arch, f"1-wasmedge-{version}", "built here", ahead),)
    )


def run_wasm(module: bytes, args: Sequence[str] = (), env: Sequence[str] = (), stdin: bytes = b"") -> tuple[int, bytes]:
    """Exit code and output; a module that is none, or that traps, ends with 1."""
    with tempfile.TemporaryDirectory() as folder:
        out, given = Path(folder, "out"), Path(folder, "in")
        given.write_bytes(stdin)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["/probe.wasm", *args]
        wasi.env = [tuple(entry.split("=", 1)) for entry in env]
        wasi.stdout_file, wasi.stdin_file = str(out), str(given)
        store = wasmtime.Store(_ENGINE)
        store.set_wasi(wasi)
        linker = wasmtime.Linker(_ENGINE)
        linker.define_wasi()
        try:
            instance = linker.instantiate(store, _loaded(module))
            instance.exports(store)["_start"](store)
        except (wasmtime.WasmtimeError, wasmtime.Trap):
            return 1, out.read_bytes() if out.exists() else b""
        return 0, out.read_bytes()


@dataclass
class FakeCrun:
    """Takes the place of ``run_command``. What it does wrong is said by its fields."""

    features: str | None = FEATURES
    engine_version: str | None = "0.14.1"
    interprets_all: bool = False
    wasm_ms: float = 6.0
    native_ms: float = 4.5
    # By name of the bundle: what the container does instead.
    broken: dict[str, Ended] = field(default_factory=dict)
    leaves_behind: bool = False
    commands: list[list[str]] = field(default_factory=list)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout: float,  # noqa: ARG002 - as RunCommand has it
        while_open: Callable[[], None] | None = None,
    ) -> Ended:
        self.commands.append(list(argv))
        if "--version" in argv:
            return self._version(argv[0])
        if argv[1] == "-c":
            return Ended(0, f"{self.engine_version}\n".encode(), "") if self.engine_version else Ended(1, b"", "no")
        if "state" in argv:
            return Ended(0, json.dumps({"pid": os.getpid()}).encode(), "")
        if "delete" in argv:
            state = Path(argv[argv.index("--root") + 1], argv[-1])
            if state.exists():
                state.rmdir()
            return Ended(0, b"", "")
        return self._run(Path(argv[argv.index("--bundle") + 1]), argv, while_open)

    def ran(self, word: str) -> list[list[str]]:
        return [command for command in self.commands if word in command]

    def _version(self, program: str) -> Ended:
        if not program.endswith("crun") or self.features is None:
            return Ended(127, b"", f"{program}: No such file or directory")
        return Ended(0, f"crun version 1.21\n{self.features}\n".encode(), "")

    def _run(self, bundle: Path, argv: Sequence[str], while_open: Callable[[], None] | None) -> Ended:
        config = json.loads((bundle / "config.json").read_text())
        self.configs[bundle.name] = config
        if self.leaves_behind:
            Path(argv[argv.index("--root") + 1], argv[-1]).mkdir()
        if while_open:
            while_open()
        if bundle.name in self.broken:
            return self.broken[bundle.name]
        program = bundle / "rootfs" / config["process"]["args"][0].lstrip("/")
        if not program.exists():
            return Ended(1, b"[error] loading failed: invalid path\n", "could not get wasmedge result from VM")
        if program.suffix != ".wasm":
            out = subprocess.run([program], capture_output=True, check=True).stdout
            return Ended(0, out, "", self.native_ms / 1000)
        rc, out = run_wasm(program.read_bytes(), config["process"]["args"][1:], config["process"]["env"])
        if not program.read_bytes().endswith(NATIVE_CODE) or self.interprets_all:
            out = re.sub(rb"^(fib \d+ \d+) (\d+)", lambda m: b"%s %d" % (m[1], int(m[2]) * INTERPRETER), out)
        return Ended(rc, out, "", self.wasm_ms / 1000)
