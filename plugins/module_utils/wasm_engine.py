# SPDX-License-Identifier: Apache-2.0
"""Which engine a host has for Wasm pods, which is live, and what can't work.

containerd's runtime is the link ``bin/crun`` below ROOT. It points at the distribution's crun, or at the crun of a
bundle: a folder with a crun that finds another engine than the distribution's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sha256_of

CRUN = "/usr/bin/crun"
ENGINE_PACKAGE = "libwasmedge0"
ENGINE_LIBRARY = "libwasmedge.so.0"
INDEX = "engine.json"
ROOT = Path("/usr/local/lib/edgefleet/wasm-engine")
LIVE = ROOT / "bin" / "crun"
STATE = Path("/run/edgefleet/wasm-engine")
UNITS = Path("/etc/systemd/system")
UNIT = "edgefleet-wasm-engine"

CRUN_MINIMUM = (1, 8, 5)
# Compiled modules carry the format of their compiler; an engine that reads another one interprets them without a word.
AOT_FORMATS = {(0, 14): 1, (0, 15): 2, (0, 16): 2}
_INTERPRETS_UNDER_CRUN = (0, 17)

ARGUMENTS: dict[str, Any] = {
    "engine": {"type": "str", "choices": ["distro", "archive", "lean"], "required": True},
    "mirror": {"type": "path"},
    "arch": {"type": "str", "choices": ["amd64", "arm64"]},
    "identity": {"type": "dict", "required": True},
    "archive_sha256": {"type": "str"},
    "archive_version": {"type": "str"},
}
REQUIRED_IF: list[tuple[str, str, tuple[str, ...]]] = [
    ("engine", "lean", ("mirror", "arch")),
    ("engine", "archive", ("mirror", "arch", "archive_sha256", "archive_version")),
]

RunCommand = Callable[[list[str]], tuple[int, str, str]]


@dataclass(frozen=True)
class Identity:
    """What the host has. Versions are empty where nothing is installed."""

    crun: str = ""
    features: str = ""
    crun_sha256: str = ""
    engine: str = ""
    library: str = ""
    library_sha256: str = ""
    llvm: str = "no"
    wanted: str = "distro"
    live: str = "distro"
    reason: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Places:
    """Where things are on the host; tests have them elsewhere."""

    root: Path = ROOT
    crun: str = CRUN
    state: Path = STATE
    units: Path = UNITS
    owner: str = "root"
    group: str = "root"

    @property
    def live(self) -> Path:
        return self.root / "bin" / "crun"


def key_of(crun: str, other: str) -> str:
    """Names a bundle after the SHA-256 of the crun and of the engine that it was made from."""
    return f"{crun[:16]}-{other[:16]}"


def bundle_folder(engine: str, key: str) -> Path:
    """Where a bundle is on every host: its crun has that path in it."""
    return ROOT / f"{engine}-{key}"


def artifact_of(engine: str) -> str:
    """The name of its archive in the mirror."""
    return f"wasm-engine-{engine}"


def archive_file(engine: str, arch: str) -> str:
    """The archive's file."""
    return f"{artifact_of(engine)}-{arch}.tar"


def read_state(path: Path = STATE) -> dict[str, str]:
    """What `select` has last decided: wanted, live and reason. Empty where it never ran."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def identify(run: RunCommand, places: Places | None = None) -> Identity:
    """Ask the host."""
    places = places or Places()
    crun, features = _crun(run, places.crun)
    code, out, _ = run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", ENGINE_PACKAGE])
    status, _, version = out.strip().partition(" ")
    library = _library(run) if crun else ""
    state = read_state(places.state)
    live = state.get("live", "distro")
    return Identity(
        crun=crun,
        features=features,
        crun_sha256=sha256_of(Path(places.crun)) if crun else "",
        engine=version if code == 0 and status == "installed" else "",
        library=library,
        library_sha256=sha256_of(Path(library)) if library else "",
        llvm="yes" if _loads_llvm(run, live, library, places) else "no",
        wanted=state.get("wanted", "distro"),
        live=live,
        reason=state.get("reason", ""),
    )


def refusals(identity: Mapping[str, str], aot_format: int) -> list[str]:
    """Why this crun with this engine can't run the site's modules. What is not installed is not judged."""
    found = []
    if identity.get("crun"):
        if "+WASM:wasmedge" not in identity.get("features", "").split():
            found.append(
                f"{CRUN} was built without WasmEdge (no +WASM:wasmedge in `crun --version`), as crun's own releases "
                "and forky's package are; install Debian 13's: apt-get install --reinstall crun"
            )
        if (version_number(identity["crun"]) or (0,)) < CRUN_MINIMUM:
            wanted = ".".join(map(str, CRUN_MINIMUM))
            found.append(f"{CRUN} is {identity['crun']}, {wanted} or later is needed: apt-get install --reinstall crun")
    if identity.get("engine"):
        found += engine_refusals(identity["engine"], aot_format)
    return found


def engine_refusals(version: str, aot_format: int) -> list[str]:
    """Why an engine of this version can't run modules compiled in this format."""
    number = version_number(version)
    if number is None:
        return [f"{version!r} is no version of WasmEdge, such as 0.14.1"]
    series = number[:2]
    if series >= _INTERPRETS_UNDER_CRUN:
        return [
            f"WasmEdge {version} interprets compiled modules under crun, about 20 times slower, and says nothing "
            "(0.17 and later); use 0.14.x"
        ]
    if series not in AOT_FORMATS:
        return [f"WasmEdge {version} was never tried here; use 0.14.x"]
    if AOT_FORMATS[series] != aot_format:
        known = " and ".join(f"{a}.{b}" for (a, b), format_ in AOT_FORMATS.items() if format_ == aot_format)
        return [
            f"WasmEdge {version} reads compiled modules of format {AOT_FORMATS[series]}; this site's are of format "
            f"{aot_format} (edgefleet_aot_format, read by {known}.x): it would interpret them, about 20 times "
            "slower, and say nothing. Use an engine of that series, or compile all images for this one and say so there"
        ]
    return []


def version_number(version: str) -> tuple[int, ...] | None:
    found = re.match(r"(?:\d+:)?v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def _crun(run: RunCommand, crun: str) -> tuple[str, str]:
    if not Path(crun).is_file():
        return "", ""
    code, out, _ = run([crun, "--version"])
    version = re.search(r"^crun version (\S+)", out, re.MULTILINE)
    features = re.search(r"^\+.*", out, re.MULTILINE)
    return (version[1] if code == 0 and version else "", features[0] if features else "")


def _library(run: RunCommand) -> str:
    _, out, _ = run(["/sbin/ldconfig", "-p"])
    found = re.search(rf"^\s*{re.escape(ENGINE_LIBRARY)} .*=> (\S+)", out, re.MULTILINE)
    return str(Path(found[1]).resolve()) if found else ""


def _loads_llvm(run: RunCommand, live: str, library: str, places: Places) -> bool:
    if live == "lean" or not library:
        return False
    if live == "archive":
        library = str(places.live.resolve().with_name(ENGINE_LIBRARY))
    return "libLLVM" in run(["ldd", library])[1]
