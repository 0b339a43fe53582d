"""A host whose OCI runtime runs probes without containers: Wasm by wasmtime, native programs as they are.

The probes are the real ones, so that what a check reads is what a module really prints.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
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
    probes_made = Compiled("wasmedge", version, arch, f"1-wasmedge-{version}", "built here", ahead)
    return dataclasses.replace(made, compiled=(probes_made,), no_compiled="")


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
    # What of isolation does not hold: "memory", "cpu", "read_only", "escape", "socket", "files"; "no_cpu" to give.
    lacks: str = ""
    ignores_kill: bool = False
    killed: bool = False
    commands: list[list[str]] = field(default_factory=list)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(  # noqa: PLR0911 - one answer a program
        self,
        argv: Sequence[str],
        *,
        timeout: float,  # noqa: ARG002 - as RunCommand has it
        while_open: Callable[[], None] | None = None,
    ) -> Ended:
        self.commands.append(list(argv))
        if "--version" in argv:
            return self._version(argv[0])
        if "kill" in argv:
            self.killed = not self.ignores_kill
            return Ended(0, b"", "")
        if "engine_starts.py" in " ".join(argv):
            sides = {"wasm_ms": [self.wasm_ms - 4] * 5, "native_ms": [self.native_ms - 4] * 5}
            return Ended(0, json.dumps(sides).encode() + b"\n", "") if self.engine_version else Ended(1, b"", "no")
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
        if bundle.name in self.broken:
            return self.broken[bundle.name]
        if bundle.name in ("files", "socket", "grow", "spin"):
            return _FakeProbe(config, bundle / "rootfs", while_open, self).run()
        if while_open:
            while_open()
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


@dataclass
class _FakeProbe:
    """What the probes of isolation would do in a container: wasmtime has neither mounts nor limits nor sockets."""

    config: dict[str, Any]
    root: Path
    while_open: Callable[[], None] | None
    crun: FakeCrun

    def run(self) -> Ended:
        args: list[str] = self.config["process"]["args"][1:]
        probes: dict[str, Callable[..., Ended]] = {
            "files": self.files, "socket": self.serve, "grow": self.grow, "spin": self.spin,
        }  # fmt: skip
        return probes[self.root.parent.name](*args)

    def files(self, mode: str, path: str, text: str = "") -> Ended:
        at, writable = self.root / path, False
        for mount in (one for one in self.config["mounts"] if one["type"] == "bind"):
            if path.split("/", maxsplit=1)[0] == mount["destination"].lstrip("/"):
                at, writable = Path(mount["source"], path.split("/", 1)[1]), "rw" in mount["options"]
        if mode == "w":
            if not writable and self.crun.lacks != "read_only":
                return Ended(1, b"errno 69\n", "could not get wasmedge result from VM")
            if self.crun.lacks != "files":
                at.write_text(text)
            return Ended(0, b"ok ", "")
        inside = self.root.resolve() in at.resolve().parents or at != self.root / path
        if path.startswith("/") or (not inside and self.crun.lacks != "escape") or not at.exists():
            return Ended(1, b"errno 76\n", "could not get wasmedge result from VM")
        return Ended(0, b"ok " + at.read_bytes(), "")

    def serve(self, port: str) -> Ended:
        with socket.create_server(("127.0.0.1", int(port))) as server:
            answering = threading.Thread(target=self._answer, args=(server,))
            answering.start()
            if self.while_open:
                self.while_open()
            answering.join()
        return Ended(0, b"ready\n", "")

    def _answer(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            got = connection.recv(1024)
            connection.sendall(b"wrong" if self.crun.lacks == "socket" else got)

    def grow(self) -> Ended:
        if self.crun.lacks == "memory":
            return Ended(0, b"." * 24 + b" end\n", "")
        limit = self.config["linux"]["resources"]["memory"]["limit"] >> 20
        return Ended(137, b"." * ((limit - 16) // 8), "")

    def spin(self, milliseconds: str = "") -> Ended:
        if not milliseconds:
            if self.while_open:
                self.while_open()
            return Ended(137 if self.crun.killed else -9, b"ready\n", "", 0.005, timed_out=not self.crun.killed)
        cpu = self.config["linux"]["resources"].get("cpu")
        share = cpu["quota"] / cpu["period"] if cpu and self.crun.lacks != "cpu" else 1.0
        if self.crun.lacks == "no_cpu":
            share = min(share, 0.3)
        return Ended(0, b"ready\n", "", 0.005, seconds=0.6, cpu_seconds=0.6 * share)
