"""Recording and alert rules of a site, made of the promises of the systems on it.

Burn rates over several windows follow the Site Reliability Workbook, chapter 5: a rate of 1 uses up the budget of 30
days in 30 days. A rate that the budget can't reach (14.4 times one half) never fires, and needs no case of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from edgefleet_pulumi.model import Industry
from edgefleet_pulumi.monitoring import slo
from edgefleet_pulumi.monitoring.slo import REACHABLE

BUDGET = "slo:budget:ratio"
LEFT = "slo:budget_left:ratio30d"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# Over so long a window a value changes little from one evaluation to the next.
SLOW_WINDOWS = ("1d", "3d")
DOCUMENT = "docs/monitoring.md"


@dataclass(frozen=True)
class Burn:
    """A rate at which the budget is used up, seen over a long window and, so that it ends in time, over a short one."""

    rate: float
    long: str
    short: str


PAGE = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
TICKET = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))


@dataclass(frozen=True)
class Alert:
    """One alert: when it fires, and what is to be done then."""

    name: str
    expr: str
    severity: Literal["page", "ticket", "none"]
    summary: str
    runbook: str
    lasting: str = "0s"
    labels: dict[str, str] = field(default_factory=dict)

    def rule(self) -> dict[str, Any]:
        """As Prometheus has it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasting,
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {"summary": self.summary, "runbook": self.runbook, "more": f"{DOCUMENT}, {self.name}"},
        }


def errors(window: str) -> str:
    """The series with the share that went wrong in a window, for every promise of every system."""
    return f"slo:errors:ratio_rate{window}"


def files(industries: Iterable[Industry]) -> dict[str, str]:
    """File name and text of the rules for a site with these systems."""
    found = {f"{one.system}.rules.yml": _text(_of_system(one)) for one in industries}
    return {**found, "site.rules.yml": _text(_of_site())}


def _text(groups: list[dict[str, Any]]) -> str:
    return yaml.safe_dump({"groups": groups}, sort_keys=True, width=120)


def _record(name: str, expr: str, **labels: str) -> dict[str, Any]:
    return {"record": name, "expr": expr, **({"labels": labels} if labels else {})}


def _of_system(industry: Industry) -> list[dict[str, Any]]:
    system, promises = industry.system, slo.of(industry)
    here = f'kind="service",system="{system}"'
    # A service that is gone has no address, and so no series at all.
    reachable = f"max by (system) (up{{{here}}}) or sum by (system) (0 * absent(up{{{here}}}))"
    first = [_record(REACHABLE, reachable), *_targets(industry)]
    for promise in promises:
        first.append(_record(BUDGET, f"vector({promise.budget})", system=system, slo=promise.name))
        first += [_burnt(promise, window) for window in WINDOWS if window not in SLOW_WINDOWS]
    slow = [_burnt(promise, window) for promise in promises for window in SLOW_WINDOWS]
    return [
        {"name": f"{system}", "interval": "30s", "rules": [*first, _gone(system).rule()]},
        {"name": f"{system} over days", "interval": "2m", "rules": slow},
    ]


def _burnt(promise: slo.Slo, window: str) -> dict[str, Any]:
    return _record(errors(window), promise.errors(window), slo=promise.name)


def _targets(industry: Industry) -> list[dict[str, Any]]:
    """What the system declares for the node that it runs on."""
    declared = {"cpu_mean": industry.slo.cpu_mean, "memory_mean": industry.slo.memory_mean}
    return [
        _record(f"edgefleet:declared:{name}", f"vector({percent / 100:g})", system=industry.system)
        for name, percent in declared.items()
    ]


def _gone(system: str) -> Alert:
    return Alert(
        "ServiceGone",
        f'{REACHABLE}{{system="{system}"}} == 0',
        "page",
        "{{ $labels.system }} does not answer.",
        "kubectl -n {{ $labels.system }} get pods; describe the one that is not ready, read its log with --previous. "
        "It declares everything it needs: pulumi up, or the last bundle again, puts back what is missing.",
        lasting="1m",
    )


def _of_site() -> list[dict[str, Any]]:
    return [
        {"name": "node", "interval": "30s", "rules": _node()},
        {"name": "budgets", "interval": "1m", "rules": [_record(LEFT, _left())]},
        {"name": "alerts", "interval": "30s", "rules": [alert.rule() for alert in site_alerts()]},
    ]


def _left() -> str:
    """The share of 30 days' budget that is left; less than 0 when the promise is broken."""
    return f"1 - avg_over_time({errors('5m')}[30d]) / on (system, slo) {BUDGET}"


def _node() -> list[dict[str, Any]]:
    idle = 'avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[5m]))'
    left = "sum by (node) (node_memory_MemAvailable_bytes) / sum by (node) (node_memory_MemTotal_bytes)"
    disk = 'max by (node) (container_fs_usage_bytes{id="/"} / (container_fs_limit_bytes{id="/"} > 0))'
    return [
        _record("node:cpu_used:ratio", f"1 - {idle}"),
        _record("node:memory_used:ratio", f"1 - {left}"),
        _record("node:disk_used:ratio", disk),
        _record("node:cpu_used:mean1d", "avg_over_time(node:cpu_used:ratio[1d])"),
        _record("node:memory_used:mean1d", "avg_over_time(node:memory_used:ratio[1d])"),
    ]


def _burns(burns: Sequence[Burn]) -> str:
    return " or ".join(
        f"({errors(one.long)} > {one.rate:g} * {BUDGET} and {errors(one.short)} > {one.rate:g} * {BUDGET})"
        for one in burns
    )


def site_alerts() -> list[Alert]:
    """The alerts that all sites have."""
    return [*_promise_alerts(), *_node_alerts(), *_pod_alerts(), *_own_alerts()]


def all_alerts(industries: Iterable[Industry]) -> list[Alert]:
    """Every alert, once: those made for each system, and those of the site."""
    first = next(iter(industries))
    return [_gone(first.system), *site_alerts()]


def _promise_alerts() -> list[Alert]:
    return [
        Alert(
            "BudgetBurnsFast",
            _burns(PAGE),
            "page",
            "{{ $labels.system }}: {{ $labels.slo }} uses up its budget of 30 days in at most 5 days.",
            "Dashboard System: which code or percentile, since when. A bundle that was just delivered: roll it back. "
            "CPU throttled or node full: fewer neighbours, or the pod's limit. Else the service's log.",
            lasting="2m",
        ),
        Alert(
            "BudgetBurnsSlowly",
            _burns(TICKET),
            "ticket",
            "{{ $labels.system }}: {{ $labels.slo }} will have used up its budget before its 30 days are over.",
            "Not urgent, and not noise: compare with other sites at the hub; one site only is its hardware or network, "
            "all sites are the release.",
            lasting="15m",
        ),
    ]


def _node_alerts() -> list[Alert]:
    return [
        Alert(
            "NodeMemoryLow",
            "node:memory_used:ratio > 0.92",
            "page",
            "{{ $labels.node }} has used {{ $value | humanizePercentage }} of its memory.",
            "The kubelet evicts pods soon. Dashboard Site: which pod grows. Restart it, then mend its limit.",
            lasting="5m",
        ),
        Alert(
            "NodeDiskFull",
            "node:disk_used:ratio > 0.85",
            "page",
            "{{ $labels.node }} has used {{ $value | humanizePercentage }} of a disk.",
            "Above it the kubelet removes images that no pod uses and, at 95 %, pods. journalctl --vacuum-size=200M; "
            "du -xh /var/lib | sort -h; a volume of Prometheus keeps to its size by itself.",
            lasting="10m",
        ),
        Alert(
            "PodsEvicted",
            "sum by (node, eviction_signal) (increase(kubelet_evictions[15m])) > 0",
            "page",
            "{{ $labels.node }} evicts pods: {{ $labels.eviction_signal }}.",
            "Out of memory or disk; pods that asked for least go first. See NodeMemoryLow and NodeDiskFull.",
        ),
        Alert(
            "ClockNotSynchronised",
            "node_timex_sync_status == 0 and on (node) abs(node_timex_offset_seconds) > 0.5",
            "ticket",
            "{{ $labels.node }} has no time server, and its clock is off.",
            "Certificates and audit need the time. timedatectl timesync-status; the hardening role sets the servers.",
            lasting="1h",
        ),
        Alert(
            "NodeBusierThanDeclared",
            "node:cpu_used:mean1d > on () group_left min(edgefleet:declared:cpu_mean)"
            " or node:memory_used:mean1d > on () group_left min(edgefleet:declared:memory_mean)",
            "ticket",
            "{{ $labels.node }} is busier over a day ({{ $value | humanizePercentage }}) than its systems declare.",
            "Fewer systems on this node, or more nodes (scale.nodes): latency was promised below that use.",
            lasting="1h",
        ),
    ]


def _pod_alerts() -> list[Alert]:
    return [
        Alert(
            "ContainerRestarts",
            'sum by (namespace, pod, container) (changes(container_start_time_seconds{container!=""}[15m])) > 2',
            "ticket",
            "{{ $labels.namespace }}/{{ $labels.pod }}: {{ $labels.container }} restarts again and again.",
            "kubectl -n {{ $labels.namespace }} logs {{ $labels.pod }} -c {{ $labels.container }} --previous",
        ),
        Alert(
            "ContainerOutOfMemory",
            'sum by (namespace, pod, container) (increase(container_oom_events_total{container!=""}[15m])) > 0',
            "ticket",
            "{{ $labels.namespace }}/{{ $labels.pod }}: {{ $labels.container }} was killed for want of memory.",
            "Raise its limits.memory in industry.yml, or find what grows: dashboard System, memory.",
        ),
        Alert(
            "DecisionsFail",
            'sum by (system) (rate(http_request_duration_seconds_count{kind="opa",code=~"5.."}[5m])) > 0',
            "page",
            "{{ $labels.system }}: OPA fails to decide, so the service denies.",
            "kubectl -n {{ $labels.system }} logs -l app.kubernetes.io/name={{ $labels.system }} -c opa: "
            "the line names the policy and the input.",
            lasting="2m",
        ),
        Alert(
            "QueueStopped",
            "max by (system) (rabbitmq_alarms_memory_used_watermark)"
            " + max by (system) (rabbitmq_alarms_free_disk_space_watermark) > 0",
            "page",
            "{{ $labels.system }}: RabbitMQ takes no messages, its memory or disk is used up.",
            "Who does not fetch: kubectl -n {{ $labels.system }} exec rabbitmq-0 -- rabbitmqctl list_queues. "
            "When the consumer is back it empties itself.",
            lasting="2m",
        ),
    ]


def _own_alerts() -> list[Alert]:
    return [
        Alert(
            "TargetGone",
            'up{kind!="service"} == 0',
            "ticket",
            "{{ $labels.job }} on {{ $labels.instance }} tells no metrics.",
            "Alerts that need it are blind meanwhile. Is its pod there; does a NetworkPolicy let Prometheus in.",
            lasting="5m",
        ),
        Alert(
            "RulesFail",
            "increase(prometheus_rule_evaluation_failures_total[10m]) > 0",
            "ticket",
            "Prometheus can't compute {{ $labels.rule_group }}.",
            "kubectl -n edgefleet-monitoring logs prometheus-0 -c prometheus: the line names the rule.",
        ),
        Alert(
            "HubOutOfReach",
            "prometheus_remote_storage_highest_timestamp_in_seconds"
            " - on (instance) group_right prometheus_remote_storage_queue_highest_sent_timestamp_seconds > 300"
            " or rate(alertmanager_notifications_failed_total[10m]) > 0",
            "ticket",
            "The hub gets neither metrics nor alerts from here.",
            "No network is the normal case: what waits is sent when it is back. A hub that answers and refuses: "
            "the log of prometheus-0 says why; the token is the Secret hub in edgefleet-monitoring.",
            lasting="5m",
        ),
        Alert(
            "Watchdog",
            "vector(1)",
            "none",
            "Always there: a site that does not send it is cut off, or its monitoring is down.",
            "At the hub: an alert that is missing for longer than a site is usually offline.",
        ),
    ]
