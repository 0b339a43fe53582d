# SPDX-License-Identifier: Apache-2.0
"""Section: the WebAssembly programs that run on this host, each looked at in its container.

An engine interprets what was compiled for another one, and says nothing. `edgefleet.wasm.deploy` refuses such images;
this sees those that came another way, and what an engine replaced since has made of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import identity, model
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Findings,
    Layer,
    Level,
    Status,
    line,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import AOT_FORMATS, version_number
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import Native, native

NAME = "programs"
LEAST = Level.QUICK
COMPILED = Check("programs", Layer.FUNCTION, "the Wasm programs that run on this host are compiled for its engine")
CHECKS = (COMPILED,)
_STEP = (
    "build the images anew with `wasmedge compile --generic-binary` of the hosts' version, shown an old processor "
    "(README of the role site_bundle), and deploy them"
)
# What crun calls the process of a Wasm program: this, then the program's path, with a blank or a zero byte between them
# and behind.
_TITLE = f"[libcrun:{model.ENGINE}]"


def measure(bench: Bench) -> Findings:
    found = dict(running())
    if not found:
        return Findings([line(COMPILED, Status.NOT_APPLICABLE, "no Wasm program runs here but the test's own")])
    number = version_number(bench.engine.version or "")
    reads = AOT_FORMATS.get((number[0], number[1])) if number else None
    if reads is None:
        reason = f"which format the engine reads is not known of version {bench.engine.version}"
        return Findings([line(COMPILED, Status.INVALID, reason, n=len(found))])
    wrong = sorted({text for path in found.values() if (text := complaint(path, reads, identity.arch()))})
    if wrong:
        return Findings([line(COMPILED, Status.FAIL, "; ".join(wrong), n=len(found), next_step=_STEP)])
    return Findings([line(COMPILED, Status.PASS, n=len(found))])


def running(proc: Path = Path("/proc")) -> Iterator[tuple[int, Path]]:
    """The processes of Wasm programs by id, and where the host sees each program."""
    for folder in proc.glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if title.startswith(_TITLE):
            yield int(folder.name), folder / "root" / title.removeprefix(_TITLE).strip().lstrip("/")


def complaint(path: Path, reads: int, arch: str) -> str | None:
    """Why the engine interprets a program, or None. One that has ended meanwhile is nobody's concern."""
    name = "/" + path.as_posix().partition("/root/")[2]
    try:
        made = native(path.read_bytes())
    except OSError:
        return None
    except ValueError as error:
        return f"{name} is damaged: {error}"
    if made is None:
        return f"{name} is not compiled ahead of time: it is interpreted"
    if made != Native(reads, "linux", arch):
        return (
            f"{name} was compiled in format {made.format} for {made.system} {made.arch}, and the engine reads format "
            f"{reads} for linux {arch}: it is interpreted"
        )
    return None
