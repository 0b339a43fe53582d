"""What Grafana shows: one dashboard for a site, one for a system. Grafana itself is not needed to make them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import BigValueColorMode

from edgefleet_pulumi.model import Industry
from edgefleet_pulumi.monitoring import rules
from edgefleet_pulumi.monitoring.metrics import DURATION, INFO, REQUESTS
from edgefleet_pulumi.monitoring.slo import REACHABLE

DATASOURCE = "edgefleet-prometheus"
SITE, SYSTEM = "edgefleet-site", "edgefleet-system"
HEIGHT = 7
HERE = 'system="$system"'
PODS = 'namespace="$system",container!=""'


@dataclass(frozen=True)
class Query:
    """One query, and the name of each of its series."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel: a figure, or a course over time."""

    title: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["figure", "course"] = "course"
    width: int = 8
    description: str = ""
    # Where a figure turns yellow, and where red: the lower of both comes last when less is worse.
    yellow: float | None = None
    red: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def _site() -> list[Row]:
    return [_promises_here(), _node(), _pods_by_namespace(), _itself()]


def _system() -> list[Row]:
    return [_promises(), _pods(), _beside()]


THERE = "There"
BUDGET_LEFT = "Budget left of 30 days"


def _promises_here() -> Row:
    alerts = 'sum by (alertname, system, severity) (ALERTS{alertstate="firing"})'
    left = Query(rules.LEFT, "{{system}} {{slo}}")
    broken = "Less than 0: the promise is broken."
    rate = Query(f"sum by (system) (rate({REQUESTS}[$__rate_interval]))", "{{system}}")
    return Row(
        "Promises",
        [
            Panel(THERE, "bool_yes_no", [Query(REACHABLE, "{{system}}")], "figure", yellow=0.5, red=0),
            Panel(BUDGET_LEFT, "percentunit", [left], "figure", width=16, description=broken, yellow=0.25, red=0),
            Panel("Alerts", "short", [Query(alerts, "{{severity}} {{alertname}} {{system}}")], "figure"),
            Panel("Requests", "reqps", [rate], width=16),
        ],
    )


def _node() -> Row:
    def use(what: str) -> list[Query]:
        return [
            Query(f"node:{what}_used:ratio", "{{node}}"),
            Query(f"node:{what}_used:mean1d", "{{node}}, mean of a day"),
            Query(f"edgefleet:declared:{what}_mean", "declared by {{system}}"),
        ]

    return Row(
        "Node",
        [
            Panel("CPU", "percentunit", use("cpu")),
            Panel("Memory", "percentunit", use("memory")),
            Panel("Disk", "percentunit", [Query("node:disk_used:ratio", "{{node}}")]),
            Panel("Load", "short", [Query("node_load1", "{{node}}"), Query("machine_cpu_cores", "cores of {{node}}")]),
            Panel("Pods", "short", [Query("kubelet_running_pods", "{{node}}")]),
            Panel("Clock off by", "s", [Query("node_timex_offset_seconds", "{{node}}")]),
        ],
    )


def _pods_by_namespace() -> Row:
    every = 'container!=""'
    memory = f"sum by (namespace) (container_memory_working_set_bytes{{{every}}})"
    cpu = f"sum by (namespace) (rate(container_cpu_usage_seconds_total{{{every}}}[$__rate_interval]))"
    restarts = f"sum by (namespace, pod, container) (changes(container_start_time_seconds{{{every}}}[1h]))"
    return Row(
        "Pods",
        [
            Panel("Memory", "bytes", [Query(memory, "{{namespace}}")]),
            Panel("CPU", "short", [Query(cpu, "{{namespace}}")]),
            Panel("Restarts in an hour", "short", [Query(restarts, "{{namespace}} {{pod}} {{container}}")]),
        ],
    )


def _itself() -> Row:
    sent = {"tried": "alertmanager_notifications_total", "failed": "alertmanager_notifications_failed_total"}
    return Row(
        "Monitoring itself",
        [
            Panel("Who tells", "bool_yes_no", [Query("up", "{{job}} {{instance}}")]),
            Panel("Series in memory", "short", [Query("prometheus_tsdb_head_series", "series")]),
            Panel("Alerts sent", "short", [Query(f"sum({name})", legend) for legend, name in sent.items()]),
        ],
    )


def _hub() -> Row:
    behind = (
        "prometheus_remote_storage_highest_timestamp_in_seconds - on (instance) group_right"
        " prometheus_remote_storage_queue_highest_sent_timestamp_seconds"
    )
    return Row(
        "To the hub",
        [
            Panel("Behind", "s", [Query(behind, "behind")]),
            Panel("Samples waiting", "short", [Query("prometheus_remote_storage_samples_pending", "waiting")]),
        ],
    )


def _quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share:g}, sum by (le) (rate({histogram}[$__rate_interval])))"


def _promises() -> Row:
    there = Query(f"{REACHABLE}{{{HERE}}}", "{{system}}")
    left = Query(f"{rules.LEFT}{{{HERE}}}", "{{slo}}")
    burns = [
        Query(f"{rules.errors(window)}{{{HERE}}} / {rules.BUDGET}{{{HERE}}}", f"{{{{slo}}}}, {window}")
        for window in ("5m", "1h")
    ]
    codes = Query(f"sum by (code) (rate({REQUESTS}{{{HERE}}}[$__rate_interval]))", "{{code}}")
    latency = [
        Query(_quantile(share, f"{DURATION}_bucket{{{HERE}}}"), f"P{100 * share:g}") for share in (0.5, 0.99, 0.999)
    ]
    told = "1 uses up the budget in 30 days; 14.4 over an hour is an alarm."
    exact = "Read from a histogram: exact at the declared limits, estimated between them."
    return Row(
        "Promises",
        [
            Panel(THERE, "bool_yes_no", [there], "figure", yellow=0.5, red=0),
            Panel(BUDGET_LEFT, "percentunit", [left], "figure", width=16, yellow=0.25, red=0),
            Panel("Burn rate", "short", burns, description=told),
            Panel("Requests by code", "reqps", [codes]),
            Panel("Latency", "s", latency, description=exact),
        ],
    )


def _pods() -> Row:
    each, legend = "sum by (pod, container)", "{{pod}} {{container}}"

    def rate(metric: str) -> str:
        return f"{each} (rate({metric}{{{PODS}}}[$__rate_interval]))"

    memory = f"{each} (container_memory_working_set_bytes{{{PODS}}})"
    held = f"{rate('container_cpu_cfs_throttled_periods_total')} / {rate('container_cpu_cfs_periods_total')}"
    version = Query(f"{INFO}{{{HERE}}}", "{{service}} {{version}} on {{platform}}")
    return Row(
        "Pods",
        [
            Panel("CPU", "short", [Query(rate("container_cpu_usage_seconds_total"), legend)]),
            Panel("Memory", "bytes", [Query(memory, legend)]),
            Panel("Held up by its CPU limit", "percentunit", [Query(held, legend)]),
            Panel("Versions", "short", [version], "figure"),
        ],
    )


def _beside() -> Row:
    opa = f'kind="opa",{HERE}'
    decisions = f"sum by (handler, code) (rate(http_request_duration_seconds_count{{{opa}}}[$__rate_interval]))"
    took = _quantile(0.99, f"http_request_duration_seconds_bucket{{{opa}}}")
    return Row(
        "Beside it",
        [
            Panel("Decisions", "reqps", [Query(decisions, "{{handler}} {{code}}")]),
            Panel("Decision, P99", "s", [Query(took, "P99")]),
            Panel("TLS connections", "short", [Query(f"sum(ghostunnel_conn_open{{{HERE}}})", "open")]),
        ],
    )


def _queues() -> Row:
    alarms = "max by (system) ({memory}) + max by (system) ({disk})".format(
        memory=f"rabbitmq_alarms_memory_used_watermark{{{HERE}}}",
        disk=f"rabbitmq_alarms_free_disk_space_watermark{{{HERE}}}",
    )
    return Row(
        "RabbitMQ",
        [
            Panel(
                "Messages", "short", [Query(f"sum by (system) (rabbitmq_queue_messages{{{HERE}}})", "in all queues")]
            ),
            Panel("Stopped", "bool_yes_no", [Query(alarms, "{{system}}")], "figure", yellow=0.5, red=1),
        ],
    )


def files(industries: Sequence[Industry], *, sends: bool) -> dict[str, str]:
    """File name and JSON of each dashboard, for a site with these systems; `sends`: its metrics go to a hub."""
    queues = [_queues()] if any(one.back_ends.rabbitmq for one in industries) else []
    site = _dashboard(SITE, "Site", [*_site(), *([_hub()] if sends else [])])
    system = _dashboard(SYSTEM, "System", [*_system(), *queues]).with_variable(
        build.CustomVariable("system").values(",".join(one.system for one in industries))
    )
    encoder = JSONEncoder(sort_keys=True, indent=1)
    return {f"{one.uid}.json": encoder.encode(one) for one in (site.build(), system.build())}


def queries(dashboard: str, system: str) -> Iterator[tuple[str, str]]:
    """Panel's title and query, of a dashboard's JSON, with a system in the variable's place."""
    for panel in _panels(json.loads(dashboard)["panels"]):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$system", system)


def _panels(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in found:
        yield panel
        yield from _panels(panel.get("panels", []))


def _dashboard(uid: str, title: str, rows: Sequence[Row]) -> build.Dashboard:
    made = build.Dashboard(title).uid(uid).tags(["edgefleet"]).refresh("30s").time("now-1h", "now").readonly()
    for row in rows:
        made.with_row(build.Row(row.title))
        for panel in row.panels:
            made.with_panel(_panel(panel))
    return made


def _panel(panel: Panel) -> build.Panel | stat.Panel | timeseries.Panel:
    figure = stat.Panel().reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    made = figure if panel.kind == "figure" else timeseries.Panel()
    made.title(panel.title).unit(panel.unit).height(HEIGHT).span(panel.width)
    made.datasource(model.DataSourceRef(type_val="prometheus", uid=DATASOURCE))
    if panel.description:
        made.description(panel.description)
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        made.with_target(target.instant() if panel.kind == "figure" else target.range())
    if panel.yellow is not None and panel.red is not None:
        made.thresholds(_thresholds(panel.yellow, panel.red))
        if isinstance(made, stat.Panel):
            made.color_mode(BigValueColorMode.BACKGROUND)
    return made


def _thresholds(yellow: float, red: float) -> build.ThresholdsConfig:
    """Green at one end, red at the other: whichever is the lower."""
    steps = [(None, "green"), (yellow, "yellow"), (red, "red")]
    if red < yellow:
        steps = [(None, "red"), (red, "yellow"), (yellow, "green")]
    made = build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    return made.steps([model.Threshold(value=value, color=color) for value, color in steps])
