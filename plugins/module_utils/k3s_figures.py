# SPDX-License-Identifier: Apache-2.0
"""The figures that keep a node alive under load: what is reserved for system and K3s, and when pods are evicted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
SIGNALS = (
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
)
# K3s's own two and the one that it leaves out: with fewer, a full disk or memory takes the node down with its pods.
NEEDED_SIGNALS = ("memory.available", "nodefs.available", "imagefs.available")
# With less for pods nothing of use would run.
LEAST_FOR_PODS_MB = 256

_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti|)")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")


def quantity(value: Any) -> float | None:
    """Bytes (or a count) as Kubernetes writes them, None if it is none."""
    match = _QUANTITY.fullmatch(str(value))
    return float(match[1]) * _UNITS[match[2]] if match else None


def cpus(value: Any) -> float | None:
    match = _CPU.fullmatch(str(value))
    return float(match[1]) / (1000 if match[2] else 1) if match else None


def figure_problems(reserved: Mapping[str, Mapping[str, Any]], eviction: Mapping[str, Any]) -> list[str]:
    """What is wrong with the figures by themselves. ``reserved`` by the name of its variable."""
    found = []
    for variable, figures in reserved.items():
        for name, value in figures.items():
            if name not in RESERVABLE:
                found.append(f"{variable}: {name} can't be reserved; there are {', '.join(RESERVABLE)}.")
            elif (cpus(value) if name == "cpu" else quantity(value)) is None:
                example = "250m" if name == "cpu" else "512Mi"
                found.append(f"{variable}: {name} is {value}, which is no quantity; write it like {example}.")
    for name, value in eviction.items():
        if name not in SIGNALS:
            found.append(f"k3s_eviction_hard: the kubelet does not watch {name}; it does {', '.join(SIGNALS)}.")
        elif quantity(value) is None and not _percent(value):
            found.append(f"k3s_eviction_hard: {name} is {value}, which is no quantity; write it like 256Mi or 5%.")
    found += [
        f"k3s_eviction_hard has no {name}, and what stands there replaces K3s's own limits; add it, 5% say."
        for name in NEEDED_SIGNALS
        if name not in eviction
    ]
    return found


def host_problems(
    reserved: Mapping[str, Mapping[str, Any]], eviction: Mapping[str, Any], memory_mb: int, cores: int
) -> list[str]:
    """What of the figures this host can't give."""
    found = []
    memory = sum(quantity(one.get("memory", 0)) or 0 for one in reserved.values()) / (1 << 20)
    limit = eviction.get("memory.available", 0)
    kept = memory_mb * (_percent(limit) or 0) / 100 if _percent(limit) else (quantity(limit) or 0) / (1 << 20)
    variables = " and ".join(reserved)
    if memory + kept + LEAST_FOR_PODS_MB > memory_mb:
        found.append(
            f"{variables} keep {memory:.0f} MB and k3s_eviction_hard {kept:.0f} MB of this host's {memory_mb} MB, "
            f"which leaves pods less than {LEAST_FOR_PODS_MB} MB; lower them, or add memory."
        )
    taken = sum(cpus(one.get("cpu", 0)) or 0 for one in reserved.values())
    if taken >= cores:
        found.append(f"{variables} keep {taken:g} of this host's {cores} CPUs, which leaves pods none; lower them.")
    return found


def _percent(value: Any) -> float | None:
    match = _PERCENT.fullmatch(str(value))
    return float(match[1]) if match and float(match[1]) <= 100 else None
