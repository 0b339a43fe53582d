# SPDX-License-Identifier: Apache-2.0
"""What a host is and has: read from /proc, /sys and a few programs that change nothing."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import Machine

# Programs that set the clock; where one of them runs, it stays the only one.
TIMEKEEPERS = ("chrony.service", "ntpsec.service", "ntp.service", "openntpd.service")
SSHD = "/usr/sbin/sshd"
_CAPABILITIES = {"net_admin": 12, "sys_admin": 21, "sys_time": 25}
_NETLINK_AUDIT = 9
_AUDIT_GET = 1000
_NLM_F_REQUEST_ACK = 5
_NLMSG_ERROR = 2


@dataclass(frozen=True)
class Unit:
    """A unit as systemd sees it; `load` is not-found where there is none."""

    load: str
    enabled: str
    active: str


@dataclass(frozen=True)
class Mount:
    """One mount; the last one where several lie on each other."""

    filesystem: str
    options: frozenset[str]


@dataclass(frozen=True)
class Facts:
    """What was found. ``lacks`` has a reason for each thing that a control may need and this host does not have."""

    systemd: bool
    container: str
    lacks: dict[str, str]
    mounts: dict[str, Mount]
    swaps: dict[str, int]
    memory_free_kb: int
    modules: dict[str, int]
    units: dict[str, Unit] = field(default_factory=dict)


def inspect(machine: Machine, units: Iterable[str], audit: Callable[[], str] | None = None) -> Facts:
    """Look at the host; ``units`` are those whose state matters."""
    systemd = machine.path("/run/systemd/system").is_dir()
    container = machine.run(["systemd-detect-virt", "--container"])[1].strip() if systemd else "none"
    container = "" if container == "none" else container
    found = unit_states(machine, [*units, *TIMEKEEPERS]) if systemd else {}
    return Facts(
        systemd=systemd,
        container=container,
        lacks=_lacks(machine, container, found, (audit or audit_refusal)()),
        mounts=_mounts(machine.read("/proc/self/mountinfo") or ""),
        swaps=_swaps(machine.read("/proc/swaps") or ""),
        memory_free_kb=_memory_free(machine.read("/proc/meminfo") or ""),
        modules=_modules(machine.read("/proc/modules") or ""),
        units=found,
    )


def unit_states(machine: Machine, names: Iterable[str]) -> dict[str, Unit]:
    """All of them in one call; systemd answers in the order of the question, a blank line between two."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    properties = ("LoadState", "UnitFileState", "ActiveState")
    out = machine.must("systemctl", "show", *(f"--property={name}" for name in properties), "--", *wanted)
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in out.strip().split("\n\n")]
    return {
        name: Unit(block["LoadState"], block["UnitFileState"], block["ActiveState"])
        for name, block in zip(wanted, blocks, strict=True)
    }


def audit_refusal() -> str:
    """Why the kernel's audit can't be used from here; empty if it can."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_AUDIT) as channel:
            channel.settimeout(2)
            channel.send(struct.pack("=IHHII", 16, _AUDIT_GET, _NLM_F_REQUEST_ACK, 1, 0))
            answer = channel.recv(8192)
    except OSError as error:
        return f"the kernel offers no audit here ({error.strerror or error})"
    _, kind, _, _, _ = struct.unpack_from("=IHHII", answer)
    code = -struct.unpack_from("=i", answer, 16)[0] if kind == _NLMSG_ERROR else 0
    return f"the kernel refuses audit here ({errno.errorcode.get(code, code)})" if code else ""


def _lacks(machine: Machine, container: str, units: dict[str, Unit], audit: str) -> dict[str, str]:
    lacks = {
        f"cap_{name}": f"this host may not do it (no CAP_{name.upper()})"
        for name, bit in _CAPABILITIES.items()
        if not _effective_capabilities(machine.read("/proc/self/status") or "") >> bit & 1
    }
    if container:
        lacks["own_kernel"] = f"the kernel is shared with another machine ({container} container)"
    if audit:
        lacks["audit"] = audit
    if not os.path.exists(machine.path("/dev/watchdog")):  # noqa: PTH110 - a device, never opened: closing it reboots
        lacks["watchdog"] = "no /dev/watchdog"
    elif container:
        lacks["watchdog"] = lacks["own_kernel"]
    keepers = [name for name in TIMEKEEPERS if name in units and units[name].active == "active"]
    if keepers:
        lacks["timekeeper"] = f"{keepers[0].removesuffix('.service')} keeps the time already"
    elif container:
        lacks["timekeeper"] = f"the clock is the machine's ({container} container)"
    if not machine.path(SSHD).exists():
        lacks["sshd"] = f"no {SSHD}"
    return lacks


def _effective_capabilities(status: str) -> int:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def _mounts(mountinfo: str) -> dict[str, Mount]:
    mounts = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        place, options = left.split()[4:6]
        mounts[place.replace("\\040", " ")] = Mount(right.split()[0], frozenset(options.split(",")))
    return mounts


def _swaps(text: str) -> dict[str, int]:
    """Used kilobytes by device or file."""
    return {words[0]: int(words[3]) for words in map(str.split, text.splitlines()[1:]) if len(words) > 3}


def _memory_free(meminfo: str) -> int:
    found = re.search(r"^MemAvailable:\s*(\d+)", meminfo, re.MULTILINE)
    return int(found[1]) if found else 0


def _modules(text: str) -> dict[str, int]:
    """How often each loaded module is in use."""
    return {words[0]: int(words[2]) for words in map(str.split, text.splitlines()) if len(words) > 2}
