"""Fleets that were never there: what ``wasm_smoke`` would have returned on so many hosts, from a seed."""

from __future__ import annotations

import copy
import math
import random
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import cold, model, verdicts
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


def document(
    host: str, chance: random.Random, *, samples: int = 20, slow: float = 1.0, native: float = 1.0
) -> dict[str, Any]:
    """A host that works; ``slow`` times as slow in Wasm, ``native`` times as slow in everything."""
    wasm_ms, native_ms = times(chance, 7.4 * slow * native, samples), times(chance, 4.8 * native, samples)
    compiled_ms, interpreted_ms = times(chance, 33 * native, 3), times(chance, 4600 * native, 3)
    lines = [model.line(check, model.Status.PASS, n=1) for check in model.CHECKS[:7]]
    lines.append(verdicts.aot(compiled_ms, interpreted_ms, same_result=True))
    lines.append(verdicts.cold_start(cold.CRUN, wasm_ms, native_ms, verdicts.Llvm("none", 0.0)))
    return model.Document(
        host=host,
        level=model.Level.QUICK,
        started=(START + timedelta(seconds=chance.randrange(300))).isoformat(),
        seconds=round(chance.uniform(4, 9), 1),
        check_mode=False,
        identity=copy.deepcopy({**IDENTITY, "node": host}),
        lines=lines,
        samples={
            "aot": {"compiled_ms": compiled_ms, "interpreted_ms": interpreted_ms},
            "cold_start_crun": {"wasm_ms": wasm_ms, "native_ms": native_ms},
        },
        sections={},
        warnings=[WARNING],
    ).as_dict()


def pod_layers(found: dict[str, Any], chance: random.Random, samples: int = 20) -> None:
    """Two more layers of cold start, as a document of a later version may have them."""
    for check, layer, middle in (("cold_start_cri", "cri", 24.0), ("cold_start_pod", "pod", 66.0)):
        wasm_ms, native_ms = times(chance, middle, samples), times(chance, middle * 0.94, samples)
        measured = round(statistics.median(wasm_ms), 3)
        found["samples"][check] = {"wasm_ms": wasm_ms, "native_ms": native_ms}
        found["lines"].append(
            {
                "id": check, "layer": layer, "what": f"cold start through the {layer}", "status": "pass",
                "measured": measured, "limit": None, "unit": "ms", "n": samples, "reason": "", "cause": "", "next": "",
                "details": {"p95": verdicts.p95(wasm_ms)},
            }
        )  # fmt: skip


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
        document_ = document(
            host, chance, samples=samples, slow=slow * drift, native=own * (1.9 if kind == 17 else 1.0)
        )
        pod_layers(document_, chance, samples)
        if kind in (11, 40):
            _with_llvm(document_)
        if kind == 23:
            spoil(
                document_, "aot", "fail", "the engine interprets: it does not take the compiled code of the module",
                "compare the engine's version with the one that compiled (wasmedge compile)", measured=0.97,
            )  # fmt: skip
        statuses = {line["status"] for line in document_["lines"] if line["layer"] == "function"}
        found.append(HostResult(host, document_, passed=not statuses & {"fail", "invalid"}))
    return found


def _with_llvm(found: dict[str, Any]) -> None:
    found["identity"]["engine"].update(llvm="shared", llvm_mapped_mib=123.7)
    for line in found["lines"]:
        if line["id"] == "cold_start_crun" and line["status"] == "fail":
            line["reason"] = "engine loads libLLVM (124 MiB mapped at each start)"
            line["next"] = "use an engine built without LLVM: running compiled modules does not need it"


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
