# SPDX-License-Identifier: Apache-2.0
"""Cold starts without containers, in turn with a native program: WasmEdge on the host, wasmtime on the controller.

A start is all that stands between a module in a file and its output: a new engine, loading, instantiating, running. The
control is what a host does without an engine: a new process from a program in a file, to its output.

WasmEdge's half is run as a program of its own (``python engine_starts.py LIBRARY MODULE NATIVE COUNT``), since an
engine's library is not for the process of a module of Ansible; so nothing of this collection is imported here.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import wasmtime

_WARM_UP = 2
_WASI = 0  # WasmEdge_HostRegistration_Wasi


class _Text(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint32), ("buffer", ctypes.c_char_p))


class _Result(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint32),)


def in_turn(wasm: Callable[[], float], native: Callable[[], float], count: int) -> dict[str, list[float]]:
    """Milliseconds of both, A B A B after a warm-up."""
    pairs = [(wasm(), native()) for _ in range(_WARM_UP + count)][_WARM_UP:]
    return {"wasm_ms": [pair[0] for pair in pairs], "native_ms": [pair[1] for pair in pairs]}


def native_ms(program: str) -> float:
    """A new process, to its first output."""
    out, into = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, into, 1), (os.POSIX_SPAWN_CLOSE, out)]
    try:
        began = time.perf_counter()
        pid = os.posix_spawn(program, [program], {}, file_actions=actions)
        os.close(into)
        into = -1
        said = os.read(out, 1024)
        took = time.perf_counter() - began
        os.waitpid(pid, 0)
    finally:
        os.close(out)
        if into >= 0:
            os.close(into)
    if not said:
        raise RuntimeError("the native control printed nothing")
    return round(took * 1000, 3)


def _wasmedge(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    pointer = ctypes.c_void_p
    library.WasmEdge_ConfigureCreate.restype = pointer
    library.WasmEdge_ConfigureAddHostRegistration.argtypes = (pointer, ctypes.c_int)
    library.WasmEdge_ConfigureDelete.argtypes = (pointer,)
    library.WasmEdge_VMCreate.argtypes = (pointer, pointer)
    library.WasmEdge_VMCreate.restype = pointer
    library.WasmEdge_VMDelete.argtypes = (pointer,)
    library.WasmEdge_VMGetImportModuleContext.argtypes = (pointer, ctypes.c_int)
    library.WasmEdge_VMGetImportModuleContext.restype = pointer
    strings, number = ctypes.POINTER(ctypes.c_char_p), ctypes.c_uint32
    library.WasmEdge_ModuleInstanceInitWASI.argtypes = (
        pointer, strings, number, strings, number, strings, number,
    )  # fmt: skip
    library.WasmEdge_VMRunWasmFromFile.argtypes = (
        pointer, ctypes.c_char_p, _Text, pointer, number, pointer, number,
    )  # fmt: skip
    library.WasmEdge_VMRunWasmFromFile.restype = _Result
    return library


def _wasmedge_ms(library: ctypes.CDLL, module: bytes) -> float:
    """A new virtual machine, to the end of a module that prints and ends; checked by what it printed."""
    out, into = os.pipe()
    kept = os.dup(1)
    os.dup2(into, 1)
    os.close(into)
    args = (ctypes.c_char_p * 2)(b"probe.wasm", b"edgefleet")
    try:
        began = time.perf_counter()
        configuration = library.WasmEdge_ConfigureCreate()
        library.WasmEdge_ConfigureAddHostRegistration(configuration, _WASI)
        machine = library.WasmEdge_VMCreate(configuration, None)
        wasi = library.WasmEdge_VMGetImportModuleContext(machine, _WASI)
        library.WasmEdge_ModuleInstanceInitWASI(wasi, args, 2, None, 0, None, 0)
        result = library.WasmEdge_VMRunWasmFromFile(machine, module, _Text(6, b"_start"), None, 0, None, 0)
        took = time.perf_counter() - began
        library.WasmEdge_VMDelete(machine)
        library.WasmEdge_ConfigureDelete(configuration)
    finally:
        # With the last writer gone, reading ends.
        os.dup2(kept, 1)
        os.close(kept)
    with os.fdopen(out, "rb") as stream:
        said = stream.read()
    # 1: the module has ended itself, as a program does.
    if result.code not in (0, 1) or b"edgefleet\0" not in said:
        raise RuntimeError(f"the module did not run: code {result.code:#x}, it printed {said[:200]!r}")
    return round(took * 1000, 3)


def wasmtime_starts(module: bytes, native: bytes, count: int) -> dict[str, list[float]]:
    """The same by wasmtime, in this process: a module that was compiled before is taken up, instantiated and run."""
    import wasmtime  # noqa: PLC0415 - only the controller has it

    engine = wasmtime.Engine()
    compiled = wasmtime.Module(engine, module).serialize()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    with tempfile.TemporaryDirectory(prefix="edgefleet-smoke.") as name:
        out, program = Path(name, "out"), Path(name, "native")
        program.write_bytes(native)
        program.chmod(0o700)

        def start() -> float:
            wasi = wasmtime.WasiConfig()
            wasi.argv = ["probe.wasm", "edgefleet"]
            began = time.perf_counter()
            wasi.stdout_file = str(out)
            store = wasmtime.Store(engine)
            store.set_wasi(wasi)
            instance = linker.instantiate(store, wasmtime.Module.deserialize(engine, compiled))
            cast("wasmtime.Func", instance.exports(store)["_start"])(store)
            took = time.perf_counter() - began
            if b"edgefleet\0" not in out.read_bytes():
                raise RuntimeError("the module did not run under wasmtime")
            return round(took * 1000, 3)

        return in_turn(start, lambda: native_ms(str(program)), count)


def main(library: str, module: str, native: str, count: str) -> None:
    """Prints the samples of WasmEdge as one line of JSON."""
    engine = _wasmedge(library)
    found = in_turn(lambda: _wasmedge_ms(engine, os.fsencode(module)), lambda: native_ms(native), int(count))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
