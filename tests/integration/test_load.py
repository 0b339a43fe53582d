"""The load of the smoke test on a real host: what it yields, how it fails, and whether another generator agrees."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import core
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import kit, oha, section
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import figures
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command

from lab import workload
from lab.builders import oha as builder
from lab.builders.golang import Go
from lab.builders.k6 import K6
from lab.hosts import Host
from lab.paths import CHECKOUT, cache_root
from lab.progress import Progress
from lab.session import Lab
from tests.integration.hosts import lab_command, lab_of, playbook, shell
from tests.integration.traces import left_behind

pytestmark = [pytest.mark.lab, pytest.mark.full]
SCHEMA = json.loads((Path(core.__file__).parent / "schema.json").read_text(encoding="utf-8"))
NAME = "load"
AGREE = 0.15
SCRIPT = Path(__file__).with_name("k6.js")
# The service's own arithmetic for some milliseconds: what two generators cost themselves is then small beside it.
WORK = "/work?n=29"

Smoke = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    subprocess.run(lab_command("run", "--name", NAME), cwd=CHECKOUT, check=True, timeout=1800)
    found = lab_of(NAME)
    yield found
    with found.locked():
        found.down()


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    return lab.hosts.status()[0].host


@pytest.fixture(scope="module")
def mirror(lab: Lab) -> Mirror:
    """The lab's mirror, with the generator in it."""
    builder.ensure(lab.paths.mirror, cache_root(), Progress())
    return Mirror(lab.paths.mirror)


@pytest.fixture
def smoke(lab: Lab, host: Host, mirror: Mirror, tmp_path: Path) -> Smoke:
    """Play smoke.yml at a level with load; the document that it wrote."""

    def play(*variables: str, level: str = "standard") -> dict[str, Any]:
        own = (f"edgefleet_report_dir={tmp_path}", f"wasm_smoke_level={level}", "wasm_smoke_samples=5")
        given = [word for one in (*own, *variables) for word in ("-e", one)]
        run = playbook(lab.paths, "edgefleet.wasm.smoke", "--limit", f"{host.name},localhost", *given)
        assert (tmp_path / f"{host.name}.json").exists(), run.stdout
        document: dict[str, Any] = json.loads((tmp_path / f"{host.name}.json").read_text(encoding="utf-8"))
        jsonschema.validate(document, SCHEMA)
        assert left_behind(lab, host) == set()
        assert shell(lab.hosts, host, "pgrep -c oha || true").strip() == "0"
        return document

    return play


def by_id(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in document["lines"]}


def rounds(document: dict[str, Any], side: str) -> list[dict[str, Any]]:
    return [one for one in document["sections"]["load"]["rounds"] if one["side"] == side]


def test_the_deployed_workload_is_loaded_beside_its_copies(smoke: Smoke) -> None:
    document = smoke()
    lines, load = by_id(document), document["sections"]["load"]
    assert load["judged"] == "service"
    for side in (section.SERVICE, section.WASM, section.NATIVE):
        for one in rounds(document, side):
            assert one["errors"] == {}
            assert one["answered"] == one["n"] == 3000
            assert one["cpu_cores"] > 0
            assert one["pss_mib"] > 0.5
    # A busy machine is no reason to fail here, and none to pass either.
    for name in ("load_rate", "load_p50", "load_p99", "load_ratio", "cpu_mean", "memory_mean"):
        assert lines[name]["status"] in ("pass", "fail", "invalid")
        assert lines[name]["measured"] is not None
        assert (lines[name]["status"] == "pass") == (lines[name]["reason"] == "")
    assert lines["load_rate"]["limit"] == 980
    assert lines["own_satisfaction"]["measured"] > 90
    assert lines["density"]["status"] == "not_applicable"
    wasm, native = rounds(document, section.WASM)[0], rounds(document, section.NATIVE)[0]
    assert wasm["pss_mib"] > native["pss_mib"]


def test_density_and_cost_at_level_full(smoke: Smoke) -> None:
    document = smoke(level="full")
    density = by_id(document)["density"]
    assert density["status"] != "not_applicable"
    assert density["details"]["copies"] == 10
    assert density["details"]["native_pods"] >= density["details"]["wasm_pods"] > 0
    assert by_id(document)["node_cost"]["status"] in ("fail", "invalid")


def starved(mirror: Mirror, folder: Path) -> str:
    """A mirror whose oha is the real one, stopped by a signal for most of the time."""
    folder.mkdir()
    script = """#!/bin/sh
real=$(mktemp -p "$(dirname "$0")"); tail -n +7 "$0" > "$real"; chmod 755 "$real"
"$real" "$@" & pid=$!
while kill -STOP $pid 2>/dev/null; do sleep 0.08; kill -CONT $pid; sleep 0.03; done
wait $pid
exit $?
"""
    for entry in mirror.entries():
        if entry.name in ("oha", "skeleton-image", "skeleton-native-image", "wasm-probes"):
            release = Release(entry.name, entry.version, entry.arch, entry.file)
            content = mirror.path(release).read_bytes()
            file = folder / "file"
            file.write_bytes(script.encode() + content if entry.name == "oha" else content)
            Mirror(folder / "mirror").add(release, file, "made by a test")
    return f"edgefleet_mirror_dir={folder / 'mirror'}"


def test_a_starved_generator_makes_the_load_invalid(smoke: Smoke, mirror: Mirror, tmp_path: Path) -> None:
    lines = by_id(smoke(starved(mirror, tmp_path / "starved")))
    for name in ("load_rate", "load_p50", "load_p99", "load_p999", "load_ratio", "own_satisfaction", "cpu_mean"):
        assert lines[name]["status"] == "invalid", lines[name]
    # On a busy machine that is said first.
    reason = lines["load_p99"]["reason"]
    assert "the generator did not keep its schedule" in reason or "trusted up to" in reason
    assert lines["load_p99"]["details"]["lag_p99_ms"] > 20


@contextmanager
def throttled(lab: Lab, host: Host, cpu: float) -> Iterator[None]:
    """The workload's container with so much of a CPU, while it runs."""
    pid = shell(lab.hosts, host, "pgrep -f skeleton.wasm | head -1").strip()
    shown = shell(lab.hosts, host, f"cat /proc/{pid}/cgroup")
    paths = {field: line.split(":", 2)[2] for line in shown.splitlines() for field in line.split(":")[1].split(",")}
    quota = f"/sys/fs/cgroup/cpu{paths['cpu']}/cpu.cfs_quota_us"
    before = shell(lab.hosts, host, f"cat {quota}").strip()
    shell(lab.hosts, host, f"echo {round(cpu * 100000)} > {quota}")
    try:
        yield
    finally:
        shell(lab.hosts, host, f"echo {before} > {quota}")


def test_a_throttled_workload_fails_because_of_its_limit(lab: Lab, host: Host, smoke: Smoke) -> None:
    with throttled(lab, host, 0.03):
        line = by_id(smoke())["load_p99"]
    assert line["status"] == "fail", line
    assert line["reason"].startswith("the workload is throttled: its limit of 0.03 CPU stopped it in ")
    assert "resources.limits.cpu" in line["next"]


def test_a_workload_that_is_not_there_fails_by_name(smoke: Smoke) -> None:
    gone = {"wasm_smoke_workload": {"url": "http://127.0.0.1:30999/", "namespace": "edgefleet-skeleton"}}
    line = by_id(smoke(json.dumps(gone)))["load_rate"]
    assert line["status"] in ("fail", "invalid")
    assert line["details"]["errors"] > 1000
    if line["status"] == "fail":
        assert "requests got no right answer" in line["reason"]


def by_k6(program: Path, url: str, qps: int, seconds: int, folder: Path) -> dict[str, float]:
    result = folder / "k6.json"
    given = {"URL": url, "QPS": str(qps), "SECONDS": str(seconds), "RESULT": str(result), "K6_NO_USAGE_REPORT": "true"}
    words = [
        str(program),
        "run",
        "--quiet",
        *(word for key, value in given.items() for word in ("-e", f"{key}={value}")),
    ]
    done = subprocess.run(
        [*words, str(SCRIPT)], env={**os.environ, **given}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(result.read_text())
    return found


def test_k6_sees_what_oha_sees(lab: Lab, host: Host, mirror: Mirror, tmp_path: Path) -> None:
    """Both from the same place against the same host, in turn; medians of five rounds each."""
    k6 = K6(cache_root() / "toolchain" / "k6", Go(Progress())).ensure()
    url = f"http://{host.address}:{workload.port(lab.hosts, host)}{WORK}"
    ours = kit.unpack(kit.made_once(tmp_path, mirror, "amd64", mqtt=False), tmp_path / "kit").path(kit.OHA)
    assert ours is not None
    qps, seconds = 60, 6
    found: dict[str, list[tuple[float, float]]] = {"p50": [], "qps": []}
    for _ in range(5):
        one = figures(oha.run(run_command, ours, tmp_path, oha.Ask(url, qps, seconds, 0.1)))
        other = by_k6(k6, url, qps, seconds, tmp_path)
        found["p50"].append((one.sent_p50, other["p50"]))
        found["qps"].append((one.achieved_qps, other["qps"]))
    medians = {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in found.items()}
    print(json.dumps({"medians of oha and k6": medians, "rounds": found}))
    for name, (mine, theirs) in medians.items():
        assert abs(mine / theirs - 1) <= AGREE, f"{name}: oha {mine:.2f}, k6 {theirs:.2f}; all rounds: {found[name]}"


def drill(lab: Lab, host: Host, folder: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    own = (f"edgefleet_report_dir={folder}", "edgefleet_drill_limit_ms=2000", "edgefleet_drill_seconds=120", *variables)
    given = [word for one in own for word in ("-e", one)]
    return playbook(lab.paths, "edgefleet.wasm.drill", "--limit", f"{host.name},localhost", *given)


def started(lab: Lab, host: Host) -> list[str]:
    """When containerd and K3s were started, since the machine booted."""
    return shell(lab.hosts, host, "systemctl show containerd k3s --property=ActiveEnterTimestampMonotonic").split()


def test_what_an_upgrade_does_is_drilled_and_shown_by_the_smoke_test(
    lab: Lab, host: Host, smoke: Smoke, tmp_path: Path
) -> None:
    before = started(lab, host)
    run = drill(lab, host, tmp_path, '{"edgefleet_drill_events": ["containerd_restart", "k3s_restart"]}')
    assert run.returncode == 0, run.stdout[-3000:]
    assert len(before) == 2
    assert not set(before) & set(started(lab, host))
    events = json.loads((tmp_path / "drills" / f"{host.name}.json").read_text())["events"]
    line = by_id(smoke(level="quick"))["availability"]
    assert (line["status"], line["limit"], line["n"]) == ("pass", 43.2, 2)
    for event in ("containerd_restart", "k3s_restart"):
        assert events[event]["requests"] > 100
        assert line["details"][f"{event}_seconds_out"] == events[event]["seconds_out"]


def test_nothing_is_done_to_a_host_whose_workload_is_out_of_its_slo_already(
    lab: Lab, host: Host, tmp_path: Path
) -> None:
    before = started(lab, host)
    run = drill(lab, host, tmp_path, f"edgefleet_drill_url=http://{host.address}:30999/")
    assert run.returncode == 2
    assert "nothing was done" in " ".join(run.stdout.split())
    assert started(lab, host) == before
