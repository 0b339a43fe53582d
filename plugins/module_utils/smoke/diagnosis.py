# SPDX-License-Identifier: Apache-2.0
"""From what was seen to what it most likely comes from, and the command that shows or mends it.

A table of what containerd, its shim and crun say when something is missing or set wrong; and what of the host itself
can explain times that are too long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Line, Status

_SITE = "ansible-playbook edgefleet.wasm.site"
_POD = (
    (
        r"no runtime for \"(\w+)\" is configured",
        "containerd has no runtime of that name: the drop-in of the role wasm_runtime is missing, or containerd was "
        "not restarted after it",
        f"{_SITE} --tags wasm_runtime; ls /etc/containerd/conf.d; systemctl restart containerd",
    ),
    (
        r"containerd-shim[\w.-]*.*(not found|no such file|executable file)",
        "containerd's shim is missing: it comes with containerd and must be in its PATH",
        f"ls -l /usr/local/bin/containerd-shim-runc-v2; {_SITE} --tags containerd",
    ),
    (
        r"exec format error",
        "the Wasm handler is not taken: the runtime behind `wasmedge` is another program than crun with WasmEdge, or "
        "its base spec lacks the annotation module.wasm.image/variant: compat-smart",
        "grep -A9 wasmedge /etc/containerd/conf.d/50-wasmedge.toml; crun --version",
    ),
    (
        r"libwasmedge[\w.]*.*(cannot open|no such file|not found)",
        "crun can't load the engine: its library is missing",
        "ldconfig -p | grep libwasmedge; apt-get install --reinstall libwasmedge0",
    ),
    (
        r"(systemd|cgroups?path|slice).*(slice|cgroup|driver|expected)|"
        r"cgroup.*(not supported|invalid|denied|no such)",
        "kubelet, containerd and crun do not agree on the cgroup driver",
        "grep -r SystemdCgroup /etc/containerd; grep -r cgroup-driver /etc/rancher/k3s "
        "(edgefleet_cgroup_driver sets both)",
    ),
    (
        r"fork/exec ([^:]*): (no such file|permission denied)|runtime path.*not found",
        "the program behind the runtime is not there",
        f"ls -l /usr/local/lib/edgefleet/wasm-engine/bin/crun /usr/bin/crun; {_SITE} --tags wasm_runtime",
    ),
    (r"no space left", "a file system is full", "df -h /run /var/lib/containerd; df -i /var/lib/containerd"),
    (
        r"API server does not answer",
        "K3s is not running, or is being restarted",
        "systemctl status k3s; journalctl -u k3s -n 30",
    ),
    (
        r"containerd\.sock: .*(refused|pipe|reset|no such file|closed)|ends the connection|closed the connection",
        "containerd is not running, or is being restarted",
        "systemctl status containerd; journalctl -u containerd -n 30",
    ),
)
# Units of what a busy host makes worse.
TIMED = ("ms", "times", "CPU", "1/s", "%")
_POD_STEP = "journalctl -u containerd -n 30"
STEAL_PERCENT, CPU_PRESSURE, IO_PRESSURE, SLOW_SYNC_MS = 5.0, 20.0, 10.0, 50.0


def of_pod(reason: str) -> tuple[str, str]:
    """Likely cause and next command of a pod or container that does not run; no cause where nothing points at one."""
    for pattern, cause, step in _POD:
        if re.search(pattern, reason, re.IGNORECASE):
            return cause, step
    return "", _POD_STEP


def completed(lines: Sequence[Line], identity: Mapping[str, Any]) -> list[Line]:
    """Lines of time that were not passed and have no cause yet get the host's, if it has one."""
    host = of_host(identity)
    if host is None:
        return list(lines)
    cause, step = host
    return [
        replace(one, cause=cause, next=step)
        if one.status in (Status.FAIL, Status.INVALID) and not one.cause and one.unit in TIMED
        else one
        for one in lines
    ]


def of_host(identity: Mapping[str, Any]) -> tuple[str, str] | None:
    """What of the host explains times that can't be trusted, the most likely first; None if nothing does."""
    pressure = identity.get("pressure") or {}
    cores = (identity.get("cpu") or {}).get("count") or 1
    candidates = (
        (
            identity.get("steal_percent", 0.0) > STEAL_PERCENT,
            f"the hypervisor took {identity.get('steal_percent')} % of the CPU time",
            "vmstat 1 5 (column st); move the machine, or give it CPUs of its own",
        ),
        (
            (identity.get("throttled_percent") or 0.0) > STEAL_PERCENT,
            f"a CPU quota held this login back {identity.get('throttled_percent')} % of the time",
            "systemctl show -p CPUQuotaPerSecUSec user.slice system.slice; grep throttled /sys/fs/cgroup/cpu.stat",
        ),
        (
            (pressure.get("io") or 0.0) > IO_PRESSURE or (identity.get("disk_sync_ms") or 0.0) > SLOW_SYNC_MS,
            f"slow disk: {identity.get('disk_sync_ms')} ms for a write to reach it, "
            f"tasks waited for it {pressure.get('io')} % of the time",
            "iostat -x 1 5; cat /proc/pressure/io",
        ),
        (
            (pressure.get("cpu") or 0.0) > CPU_PRESSURE or identity.get("load_1m", 0.0) > cores,
            f"other work: load {identity.get('load_1m')} on {cores} CPUs, "
            f"tasks waited for one {pressure.get('cpu')} % of the time",
            "top -b -n 1 | head -20; run again when the host is idle",
        ),
    )
    return next(((cause, step) for holds, cause, step in candidates if holds), None)
