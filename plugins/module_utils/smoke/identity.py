# SPDX-License-Identifier: Apache-2.0
"""Who was tested: host, versions as they print themselves, the engine as a container has it, where files came from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import ENGINE
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import RunCommand
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.verdicts import Llvm
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import CRUN, LIVE, read_state

LIBRARY = "libwasmedge.so.0"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What of an engine's file is mapped, with LLVM linked into it and without: 50 MiB and more, 3 to 6 MiB. A stand-in that
# only has libLLVM's name is below 1 MiB.
_LLVM_MIB = 20.0
# Run by the host's Python in a process of its own: an engine's library is not for ours.
_ASK_VERSION = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.WasmEdge_VersionGet.restype = ctypes.c_char_p
print(library.WasmEdge_VersionGet().decode())
"""
# Pins of this collection that are past their support. docs/security.md says what each exposes.
_PAST_SUPPORT = (
    ("k3s", r"v1\.30\.", "K3s 1.30 is past its support: no fixes since June 2025"),
    ("containerd", r"\bv?2\.0\.", "containerd 2.0 is past its support: it ended in November 2025"),
)
_ENGINE_FIXED = (0, 15, 1)


@dataclass(frozen=True)
class Engine:
    """The engine's library. Without ``llvm`` it was asked, but not seen in a container."""

    library: str | None
    version: str | None
    sha256: str | None = None
    llvm: Llvm | None = None
    choice: Mapping[str, str] = field(default_factory=dict)
    """Which engine the host's operator wants, which one pods get, and why it is another; empty where nobody chose."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": ENGINE,
            "version": self.version,
            "library": self.library,
            "sha256": self.sha256,
            "llvm": self.llvm.kind if self.llvm else None,
            "llvm_mapped_mib": round(self.llvm.mapped_mib, 1) if self.llvm else None,
            "wanted": self.choice.get("wanted"),
            "live": self.choice.get("live"),
            "reason": self.choice.get("reason"),
        }


def arch() -> str:
    """As Debian and OCI call it."""
    return arch_of(platform.machine())


def arch_of(machine: str) -> str:
    """The same from what `uname -m` says."""
    return _ARCHITECTURES.get(machine, machine)


def host(runtime: str, cgroup_manager: str, versions: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "node": platform.node(),
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "kernel": platform.release(),
        "arch": arch(),
        "cgroup": cgroup_mode(),
        "init": Path("/proc/1/comm").read_text(encoding="utf-8").strip(),
        "cpu": {"model": _cpu_model(), "count": os.cpu_count()},
        "load_1m": round(os.getloadavg()[0], 2),
        "versions": dict(versions),
        "runtime": {"path": runtime, "cgroup_manager": cgroup_manager},
        "artifacts": Records().all(),
    }


def versions(run: RunCommand, runtime: str) -> dict[str, str | None]:
    """As each program prints it, its lines joined; None where there is no such program."""
    found = {}
    for name, program in (("crun", runtime), ("containerd", "containerd"), ("k3s", "k3s")):
        ended = run([program, "--version"], timeout=20)
        text = ended.out.decode("utf-8", "replace")
        found[name] = "; ".join(line.strip() for line in text.splitlines() if line.strip()) if ended.rc == 0 else None
    return found


def cgroup_mode(root: Path = Path("/sys/fs/cgroup")) -> str:
    if (root / "cgroup.controllers").exists():
        return "v2"
    return "v1 hybrid" if (root / "unified").is_dir() else "v1"


def cgroup_manager(asked: str) -> str:
    """With ``auto`` what a pod on such a host would get: systemd's where systemd has the unified hierarchy."""
    if asked != "auto":
        return asked
    systemd = Path("/run/systemd/system").is_dir()
    return "systemd" if systemd and cgroup_mode() == "v2" else "cgroupfs"


def cpu_ticks(stat: str) -> tuple[int, int]:
    """Of /proc/stat: ticks stolen by the hypervisor, ticks in all (guest time is in user time already)."""
    fields = [int(value) for value in stat.split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def steal_percent(before: tuple[int, int], after: tuple[int, int]) -> float:
    return round(100 * (after[0] - before[0]) / max(1, after[1] - before[1]), 1)


def throttled_seconds(
    pid: int | str = "self", proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> float | None:
    """How long a process's control group has been held back by a CPU quota, so far. None where nobody counts."""
    for line in (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        # In version 1 the group is below a folder that is named after its controllers.
        folder = cgroups / controllers / path.lstrip("/")
        if controllers and "cpu" not in controllers.split(","):
            continue
        with contextlib.suppress(OSError):
            stat = dict(line.split() for line in (folder / "cpu.stat").read_text(encoding="utf-8").splitlines())
            if "throttled_usec" in stat:
                return int(stat["throttled_usec"]) / 1e6
            if "throttled_time" in stat:
                return int(stat["throttled_time"]) / 1e9
    return None


def pressure(proc: Path = Path("/proc")) -> dict[str, float | None]:
    """Percent of the last ten seconds in which some task waited for each. None where the kernel does not count it."""
    found: dict[str, float | None] = {}
    for name in ("cpu", "io", "memory"):
        found[name] = None
        with contextlib.suppress(OSError):
            average = re.search(r"^some avg10=([\d.]+)", (proc / "pressure" / name).read_text(encoding="utf-8"))
            found[name] = float(average[1]) if average else None
    return found


def disk_sync_ms(folder: Path) -> float:
    """Median of three: how long a small write takes to be on the disk that holds a folder."""
    times = []
    for _ in range(3):
        with tempfile.NamedTemporaryFile(dir=folder, prefix="edgefleet-smoke.") as file:
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return round(sorted(times)[1], 2)


def runtime() -> str:
    """The runtime that Wasm pods get."""
    return str(LIVE) if LIVE.exists() else CRUN


def asked_engine(run: RunCommand, library: str = LIBRARY) -> Engine:
    """What the library says of itself, found as a program of the host would find it."""
    ended = run([sys.executable, "-c", _ASK_VERSION, library], timeout=20)
    version = ended.out.decode("ascii", "replace").strip()
    return Engine(library=None, version=version if ended.rc == 0 and version else None, choice=read_state())


def seen_engine(run: RunCommand, pid: int) -> Engine:
    """The engine that a running container has mapped: not what should be used, but what is."""
    mapped = mapped_files(Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace"))
    library = next((path for path in mapped if Path(path).name.startswith("libwasmedge.so")), None)
    if library is None:
        return asked_engine(run)
    return Engine(
        library=library,
        version=asked_engine(run, library).version,
        sha256=_sha256_of_mapped(pid, library, mapped[library].ranges[0]),
        llvm=llvm_of(mapped),
        choice=read_state(),
    )


@dataclass
class Mapped:
    """What of one file is mapped into a process."""

    ranges: list[str]
    mib: float


def mapped_files(maps: str) -> dict[str, Mapped]:
    found: dict[str, Mapped] = {}
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or not fields[5].startswith("/"):
            continue
        begin, end = (int(text, 16) for text in fields[0].split("-"))
        one = found.setdefault(fields[5], Mapped([], 0.0))
        one.ranges.append(fields[0])
        one.mib += (end - begin) / (1 << 20)
    return found


def llvm_of(mapped: Mapping[str, Mapped]) -> Llvm:
    """By what is mapped, not by names: a small stand-in under libLLVM's name costs nothing."""
    for kind, prefix in (("shared", "libLLVM"), ("inside", "libwasmedge")):
        mib = max((one.mib for path, one in mapped.items() if Path(path).name.startswith(prefix)), default=0.0)
        if mib >= _LLVM_MIB:
            return Llvm(kind, mib)
    return Llvm("none", 0.0)


def _sha256_of_mapped(pid: int, library: str, mapped_range: str) -> str | None:
    """Of the very file that is mapped, also when another lies in its place now."""
    for path in (f"/proc/{pid}/map_files/{mapped_range}", library):
        try:
            with Path(path).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            continue
    return None


def _cpu_model() -> str:
    """arm64 kernels name no model."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else "unknown"


def warnings(versions: Mapping[str, str | None], engine: Engine, artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know beside the verdicts."""
    found = [
        f"{text} (installed: {versions[name]})"
        for name, pattern, text in _PAST_SUPPORT
        if re.search(pattern, versions.get(name) or "")
    ]
    number = re.match(r"(\d+)\.(\d+)\.(\d+)", engine.version or "")
    if number and tuple(map(int, number.groups())) < _ENGINE_FIXED:
        found.append(f"WasmEdge {engine.version}: CVE-2025-69261 is fixed in 0.15.1; run only modules that you trust")
    if engine.choice.get("wanted") != engine.choice.get("live"):
        wanted, live, reason = (engine.choice.get(key) for key in ("wanted", "live", "reason"))
        found.append(f"Wasm pods get the engine {live}, wanted is {wanted}: {reason}")
    found += [
        f"{one.get('name')} {one.get('version')} is REBUILT, not the pinned release: {one.get('source')}"
        for one in artifacts
        if one.get("rebuilt")
    ]
    return found
