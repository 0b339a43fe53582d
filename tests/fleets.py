"""Fleets that were never there: what ``wasm_smoke`` would have returned on so many hosts, from a seed."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import cold, core, cri_section, model, pods, verdicts
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.compare import Comparison, compare
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetRun, HostResult

START = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
VERSIONS = {
    "crun": "crun version 1.21; spec: 1.0.0; +SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +WASM:wasmedge +YAJL",
    "containerd": "containerd github.com/containerd/containerd/v2 v2.0.11",
    "k3s": "k3s version v1.30.4+k3s1 (98262b5d)",
}
IDENTITY: Mapping[str, Any] = {
    "node": "hall", "os": "Debian GNU/Linux 13 (trixie)", "kernel": "6.12.48+deb13-amd64", "arch": "amd64",
    "cgroup": "v2", "init": "systemd", "cpu": {"model": "Intel(R) N100", "count": 4}, "load_1m": 0.3,
    "steal_percent": 0.0, "versions": VERSIONS, "runtime": {"path": "/usr/bin/crun", "cgroup_manager": "systemd"},
    "engine": {
        "name": "wasmedge", "version": "0.14.1", "library": "/opt/edgefleet/wasmedge/libwasmedge.so.0", "llvm": "none",
        "llvm_mapped_mib": 0.0, "sha256": "0" * 64,
    },
    "throttled_percent": 0.0, "pressure": {"cpu": 1.2, "io": 0.4, "memory": 0.0}, "disk_sync_ms": 2.1,
    "artifacts": [], "compiled_probes": {"version": "1-wasmedge-0.14.1", "source": "built here"},
}  # fmt: skip
COLD = "cold_start_crun"
WARNING = "K3s v1.30.4+k3s1 is past its support (Kubernetes 1.30 ended in June 2025): docs/security.md"


def dice(seed: int) -> random.Random:
    """The same figures in every run."""
    return random.Random(seed)  # noqa: S311 - figures for tests


def times(chance: random.Random, middle: float, n: int, sigma: float = 0.08) -> list[float]:
    """Cold starts as they are: skewed, and now and then one that was in the way of something."""
    return [
        round(middle * math.exp(chance.gauss(0, sigma)) * (1.0 if chance.random() > 0.03 else 1.8), 3) for _ in range(n)
    ]


# Milliseconds of a start in Wasm and of its control, by layer.
STARTS = {
    cold.CONTROLLER: (1.4, 1.2), cold.ENGINE: (0.25, 0.6), cold.CRUN: (7.4, 4.8), cri_section.COLD: (24.0, 22.0),
    pods.COLD: (66.0, 62.0),
}  # fmt: skip
RATIOS = {cold.CRUN: cold.CRUN_RATIO, cri_section.COLD: cri_section.RATIO, pods.COLD: pods.RATIO}
# What the engine's libraries add to a start, in milliseconds: nothing inside of a process that has them.
LOADED = (cold.CRUN, cri_section.COLD, pods.COLD)


def document(
    host: str,
    chance: random.Random,
    *,
    samples: int = 20,
    slow: float = 1.0,
    native: float = 1.0,
    llvm: verdicts.Llvm = verdicts.Llvm("none", 0.0),  # noqa: B008 - immutable
) -> dict[str, Any]:
    """A host that works; ``slow`` times as slow in Wasm, ``native`` times as slow in everything."""
    compiled_ms, interpreted_ms = times(chance, 33 * native, 3), times(chance, 4600 * native, 3)
    taken = {"aot": {"compiled_ms": compiled_ms, "interpreted_ms": interpreted_ms}}
    found = {"aot": verdicts.aot(compiled_ms, interpreted_ms, same_result=True)}
    for check, (wasm, control) in STARTS.items():
        more = 7.4 * (slow - 1) if check in LOADED else 0.0
        wasm_ms, native_ms = times(chance, (wasm + more) * native, samples), times(chance, control * native, samples)
        taken[check.id] = {"wasm_ms": wasm_ms, "native_ms": native_ms}
        found[check.id] = verdicts.cold_start(check, wasm_ms, native_ms, llvm)
        if check in RATIOS:
            found[RATIOS[check].id] = verdicts.ratio(RATIOS[check], wasm_ms, native_ms, llvm)
    return model.Document(
        host=host,
        level=model.Level.STANDARD,
        started=(START + timedelta(seconds=chance.randrange(300))).isoformat(),
        seconds=round(chance.uniform(30, 50), 1),
        check_mode=False,
        identity=copy.deepcopy({**IDENTITY, "node": host}),
        lines=[found.get(check.id) or _line(check, chance) for check in core.every_check()],
        samples=taken,
        sections={},
        warnings=[WARNING],
    ).as_dict()


def _line(check: model.Check, chance: random.Random) -> model.Line:
    """Of a check that says yes or no, or of a target of a system that is not there."""
    if check.layer is not model.Layer.FUNCTION:
        return model.line(check, model.Status.NOT_APPLICABLE, "no system was named")
    measured = {"memory_limit": 56.0, "cpu_quota": 0.11, "deadline": 11.0, "concurrent": 210.0}.get(check.id)
    return model.line(check, model.Status.PASS, n=1, measured=measured and measured * chance.uniform(0.99, 1.01))


def spoil(found: dict[str, Any], check: str, status: str, reason: str, next_step: str, **changes: Any) -> None:
    """Turn one line of a document into one that did not pass."""
    (line,) = [one for one in found["lines"] if one["id"] == check]
    line.update(status=status, reason=reason, next=next_step, **changes)
    found["summary"]["pass"] -= 1
    found["summary"][status] += 1


def hosts(
    count: int, seed: int = 1, *, drift: float = 1.0, samples: int = 20, trouble: bool = True
) -> list[HostResult]:
    """A fleet of which most is well; with trouble: engines with LLVM, an interpreter, a busy host, lost hosts."""
    found = []
    for index in range(count):
        host = f"hall-{index + 1:03}.example.com"
        chance = dice(seed * 100_003 + index)
        kind = index % 47 if trouble and count > 1 else 0
        if kind == 5:
            found.append(HostResult(host, reason="Failed to connect to the host via ssh: timed out", unreachable=True))
            continue
        if kind == 29:
            found.append(HostResult(host, reason="wasm_smoke starts containers and needs root: set become: true"))
            continue
        own = math.exp(dice(index).gauss(0, 0.07))
        slow = 3.1 if kind in (11, 40) else 1.0
        llvm = verdicts.Llvm("shared", 123.7) if kind in (11, 40) else verdicts.Llvm("none", 0.0)
        document_ = document(
            host, chance, samples=samples, slow=slow * drift, native=own * (1.9 if kind == 17 else 1.0), llvm=llvm
        )
        document_["identity"]["engine"].update(llvm=llvm.kind, llvm_mapped_mib=llvm.mapped_mib)
        if kind == 23:
            spoil(
                document_, "aot", "fail", "the engine interprets: it does not take the compiled code of the module",
                "compare the engine's version with the one that compiled (wasmedge compile)", measured=0.97,
            )  # fmt: skip
        statuses = {line["status"] for line in document_["lines"] if line["layer"] == "function"}
        found.append(HostResult(host, document_, passed=not statuses & {"fail", "invalid"}))
    return found


def fleet(count: int, seed: int = 1, *, days: int = 0, **changes: Any) -> FleetRun:
    """A run so many days after the first one."""
    started = START + timedelta(days=days)
    return FleetRun(
        started, started + timedelta(seconds=5 + count / 4), "smoke.yml", tuple(hosts(count, seed, **changes))
    )


def starts(seed: int, middle: float, n: int = 20, sigma: float = 0.1) -> list[float]:
    """Cold starts from a seed of their own."""
    return times(dice(seed), middle, n, sigma)


def one_run(samples: Mapping[str, Mapping[str, list[float]]]) -> FleetRun:
    """A run with one timed check, of which only the samples matter: by host and side."""
    line = {"id": COLD, "layer": "crun", "status": "pass"}
    hosts_ = (HostResult(host, {"lines": [line], "samples": {COLD: sides}}) for host, sides in samples.items())
    return FleetRun(START, START, "", tuple(hosts_))


def two_runs(
    seed: int,
    hosts: int = 1,
    *,
    wasm: float = 1.0,
    native: float = 1.0,
    sigma: float = 0.1,
    n: int = 20,
    threshold: float = 0.1,
) -> Comparison:
    """Two runs compared, of which the second is so many times as slow in Wasm, and in everything."""

    def run(first: int, slow: float, control: float) -> FleetRun:
        return one_run(
            {
                f"h{host}": {
                    "wasm_ms": starts(first + 2 * host, 8 * slow, n, sigma),
                    "native_ms": starts(first + 2 * host + 1, 5 * control, n, sigma),
                }
                for host in range(hosts)
            }
        )

    base = seed * 10_000
    return compare(run(base, 1, 1), run(base + 5_000, wasm * native, native), threshold)
