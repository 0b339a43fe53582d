"""Rules and alerts, by Prometheus's own promtool: each alert fires for its reason, and stays silent beside it.

Needs no lab host.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgefleet_pulumi.components.monitoring import MonitoringArgs, configuration
from edgefleet_pulumi.model import load_industries
from edgefleet_pulumi.model.stack import Hub
from edgefleet_pulumi.monitoring import rules, slo
from edgefleet_pulumi.monitoring.metrics import bucket
from edgefleet_pulumi.site_platform import targets
from lab.builders import promtool
from lab.builders.promtool import Promtool
from lab.paths import cache_root
from lab.progress import Progress

pytestmark = pytest.mark.lab
INDUSTRIES = load_industries()
SYSTEM = "examination-system"
LIMITS = INDUSTRIES[SYSTEM].slo.latency
HERE = f'kind="service",system="{SYSTEM}"'
NODE = 'kind="node",node="edge1"'
POD = 'namespace="n",pod="p",container="c"'
# Each minute there is one sample; this is how many.
LENGTH = 200


def steady(value: float) -> str:
    return f"{value}+0x{LENGTH}"


def rising(by: float, start: float = 0) -> str:
    return f"{start}+{by}x{LENGTH}"


def requests(failing: str = "0+0x200", *, slow: float = 0.0, up: str = "") -> dict[str, str]:
    """1000 requests a minute with so many failing, and a share of them slower than each limit."""
    duration = "edgefleet_request_duration_seconds"
    buckets = {
        f'{duration}_bucket{{{HERE},le="{bucket(limit)}"}}': rising(1000 * (1 - slow))
        for limit in (LIMITS.p50, LIMITS.p99, LIMITS.p999)
    }
    return {
        f"up{{{HERE}}}": up or steady(1),
        f'edgefleet_requests_total{{{HERE},code="200"}}': rising(1000),
        f'edgefleet_requests_total{{{HERE},code="503"}}': failing,
        f"{duration}_count{{{HERE}}}": rising(1000),
        **buckets,
    }


def used(share: float) -> dict[str, str]:
    return {
        f"node_memory_MemTotal_bytes{{{NODE}}}": steady(1000),
        f"node_memory_MemAvailable_bytes{{{NODE}}}": steady(1000 * (1 - share)),
    }


def disk(share: float) -> dict[str, str]:
    labels = 'kind="cadvisor",node="edge1",id="/",device="/dev/vda"'
    return {
        f"container_fs_limit_bytes{{{labels}}}": steady(1000),
        f"container_fs_usage_bytes{{{labels}}}": steady(1000 * share),
    }


def clock(status: int, offset: float) -> dict[str, str]:
    return {
        f"node_timex_sync_status{{{NODE}}}": steady(status),
        f"node_timex_offset_seconds{{{NODE}}}": steady(offset),
    }


def opa(code: str) -> dict[str, str]:
    labels = f'kind="opa",system="{SYSTEM}",handler="v1/data",code="{code}"'
    return {f"http_request_duration_seconds_count{{{labels}}}": rising(10)}


def rabbit(memory: int, full: int) -> dict[str, str]:
    labels = 'kind="rabbitmq",system="telemedicine-service"'
    return {
        f"rabbitmq_alarms_memory_used_watermark{{{labels}}}": steady(memory),
        f"rabbitmq_alarms_free_disk_space_watermark{{{labels}}}": steady(full),
    }


def sent(behind: float) -> dict[str, str]:
    where = 'instance="127.0.0.1:9090"'
    newest = "prometheus_remote_storage_highest_timestamp_in_seconds"
    reached = "prometheus_remote_storage_queue_highest_sent_timestamp_seconds"
    return {
        f"{newest}{{{where}}}": rising(60, 1000),
        f'{reached}{{{where},remote_name="hub",url="u"}}': rising(60, 1000 - behind),
    }


@dataclass(frozen=True)
class Case:
    """Series with which an alert fires at a minute, and series with which it does not."""

    fires: Mapping[str, str]
    silent: Mapping[str, str]
    labels: Mapping[str, str]
    minute: int = 25


SERVICE = {"system": SYSTEM}
EDGE = {"node": "edge1"}
CASES = {
    "ServiceGone": Case({}, requests(), SERVICE, minute=3),
    "BudgetBurnsFast": Case(requests(rising(25)), requests(rising(4)), {**SERVICE, "slo": "availability"}, 90),
    "BudgetBurnsSlowly": Case(requests(rising(4)), requests(rising(0.5)), {**SERVICE, "slo": "availability"}, 90),
    "NodeMemoryLow": Case(used(0.95), used(0.9), EDGE),
    "NodeDiskFull": Case(disk(0.9), disk(0.8), EDGE),
    "PodsEvicted": Case(
        {'kubelet_evictions{node="edge1",eviction_signal="memory.available"}': "0+0x15 1+0x50"},
        {'kubelet_evictions{node="edge1",eviction_signal="memory.available"}': steady(3)},
        {**EDGE, "eviction_signal": "memory.available"},
    ),
    "ClockNotSynchronised": Case(clock(0, 2), clock(0, 0.01), {}, 65),
    "NodeBusierThanDeclared": Case({**requests(), **used(0.8)}, {**requests(), **used(0.3)}, EDGE, 65),
    "ContainerRestarts": Case(
        {f"container_start_time_seconds{{{POD}}}": "0+0x15 1 2 3 4 4+0x50"},
        {f"container_start_time_seconds{{{POD}}}": "0+0x15 1+0x60"},
        {"namespace": "n", "pod": "p", "container": "c"},
    ),
    "ContainerOutOfMemory": Case(
        {f"container_oom_events_total{{{POD}}}": "0+0x15 1+0x50"},
        {f"container_oom_events_total{{{POD}}}": steady(2)},
        {"namespace": "n", "pod": "p", "container": "c"},
    ),
    "DecisionsFail": Case(opa("500"), opa("200"), SERVICE),
    "QueueStopped": Case(rabbit(0, 1), rabbit(0, 0), {"system": "telemedicine-service"}),
    "TargetGone": Case(
        {'up{kind="opa",job="j",instance="i"}': steady(0)},
        {'up{kind="opa",job="j",instance="i"}': steady(1)},
        {"job": "j", "instance": "i"},
    ),
    "RulesFail": Case(
        {'prometheus_rule_evaluation_failures_total{rule_group="g"}': rising(1)},
        {'prometheus_rule_evaluation_failures_total{rule_group="g"}': steady(7)},
        {"rule_group": "g"},
    ),
    "HubOutOfReach": Case(sent(900), sent(20), {}),
    "Watchdog": Case({}, {}, {}),
}
# It is there for being there.
ALWAYS = {"Watchdog"}


@pytest.fixture(scope="module")
def tool() -> Promtool:
    return promtool.ensure(cache_root(), Progress())


def site_of(folder: Path, *systems: str) -> Path:
    """The configuration of a site with these systems, as Prometheus gets it."""
    industries = [INDUSTRIES[system] for system in systems]
    args = MonitoringArgs(
        namespace="edgefleet-monitoring",
        image="registry.example.com/prometheus:1",
        alertmanager_image="registry.example.com/alertmanager:1",
        storage="4Gi",
        targets=[target for industry in industries for target in targets(industry)],
        rules=rules.files(industries),
        hub=Hub(remote_write="https://hub.example.com/write", alerts="https://hub.example.com/alerts"),
    )
    for name, text in configuration(args).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One system's: the rules of the others are the same with other names."""
    return site_of(tmp_path_factory.mktemp("prometheus"), SYSTEM)


def ask(
    tool: Promtool, written: Path, series: Mapping[str, str], minute: int, expected: Mapping[str, list[str]]
) -> str:
    """What promtool says of queries with expected samples, each as Prometheus writes it; nothing if all is right."""
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": labels, "value": 1} for labels in found],
            }
            for expr, found in expected.items()
        ],
    }
    files = [str(path) for path in sorted(written.glob("*.rules.yml"))]
    document = {"rule_files": files, "evaluation_interval": "1m", "tests": [test]}
    path = written / "test.yml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run(
        tool.command("promtool", "test", "rules", str(path)), capture_output=True, text=True, check=False, timeout=120
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def firing(name: str, labels: Mapping[str, str]) -> str:
    """Whether an alert fires with these labels, as a query that says 1 for it."""
    selector = "".join(f',{key}="{value}"' for key, value in labels.items())
    return f'max(ALERTS{{alertname="{name}",alertstate="firing"{selector}}})'


def test_prometheus_takes_the_configuration_of_all_systems(tool: Promtool, tmp_path: Path) -> None:
    written = site_of(tmp_path, *INDUSTRIES)
    for name in ("token", "ca.crt"):
        (written / name).touch()
    text = (written / "prometheus.yml").read_text(encoding="utf-8")
    text = text.replace("/etc/prometheus", str(written)).replace("/run/secrets/hub", str(written))
    (written / "here.yml").write_text(
        text.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(written)), encoding="utf-8"
    )
    done = subprocess.run(
        tool.command("promtool", "check", "config", str(written / "here.yml")),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(INDUSTRIES) + 1} rule files found" in done.stdout


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == {alert.name for alert in rules.all_alerts(INDUSTRIES.values())}


@pytest.mark.parametrize("name", CASES)
def test_it_fires_for_its_reason(tool: Promtool, written: Path, name: str) -> None:
    case = CASES[name]
    said = ask(tool, written, case.fires, case.minute, {firing(name, case.labels): ["{}"]})
    assert not said, said


@pytest.mark.parametrize("name", sorted(set(CASES) - ALWAYS))
def test_it_is_silent_beside_it(tool: Promtool, written: Path, name: str) -> None:
    case = CASES[name]
    said = ask(tool, written, case.silent, case.minute, {firing(name, case.labels): []})
    assert not said, said


def test_promtool_looks(tool: Promtool, written: Path) -> None:
    """What is expected wrongly is an error: both of the above can fail."""
    case = CASES["TargetGone"]
    query = firing("TargetGone", case.labels)
    assert "FAILED" in ask(tool, written, case.silent, case.minute, {query: ["{}"]})
    assert "FAILED" in ask(tool, written, case.fires, case.minute, {query: []})


@pytest.mark.parametrize("percentile", slo.PERCENTILES)
def test_latency_has_a_budget_too(tool: Promtool, written: Path, percentile: str) -> None:
    """P50 may be slow for half of all requests, so that no fast rate of burning exists for it."""
    labels = {**SERVICE, "slo": f"latency-{percentile}"}
    everything_slow = requests(slow=0.9)
    fast = [] if percentile == "p50" else ["{}"]
    expected = {firing("BudgetBurnsFast", labels): fast, firing("BudgetBurnsSlowly", labels): ["{}"]}
    assert not ask(tool, written, everything_slow, 90, expected)
    nothing_slow: dict[str, list[str]] = {firing(name, labels): [] for name in ("BudgetBurnsFast", "BudgetBurnsSlowly")}
    assert not ask(tool, written, requests(), 90, nothing_slow)


def test_a_page_ends_soon_after_its_reason(tool: Promtool, written: Path) -> None:
    """By its short window: the long one remembers for hours."""
    series = requests("0+25x60 1500+0x140")
    labels = {**SERVICE, "slo": "availability"}
    assert not ask(tool, written, series, 60, {firing("BudgetBurnsFast", labels): ["{}"]})
    assert not ask(tool, written, series, 105, {firing("BudgetBurnsFast", labels): []})


def test_time_without_the_service_is_unavailable_though_no_request_fails(tool: Promtool, written: Path) -> None:
    gone = {f"up{{{HERE}}}": "1+0x60 stale"}
    query = f'slo:errors:ratio_rate1h{{slo="availability",system="{SYSTEM}"}}'
    assert not ask(tool, written, gone, 90, {f"{query} > bool 0.45": [f'{{slo="availability", system="{SYSTEM}"}}']})
    assert not ask(tool, written, gone, 90, {firing("BudgetBurnsFast", SERVICE): ["{}"]})


def test_no_request_is_no_failed_request(tool: Promtool, written: Path) -> None:
    idle = {f"up{{{HERE}}}": steady(1)}
    query = f'slo:errors:ratio_rate1h{{system="{SYSTEM}"}} == bool 0'
    names = ["availability", *(f"latency-{percentile}" for percentile in slo.PERCENTILES)]
    found = [f'{{slo="{name}", system="{SYSTEM}"}}' for name in names]
    assert not ask(tool, written, idle, 90, {query: found})
