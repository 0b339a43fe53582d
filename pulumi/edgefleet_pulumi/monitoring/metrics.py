"""Every metric that a site keeps: where it comes from, and what it says. Everything else is dropped when it is read.

A small server on a small disk keeps what a rule or a dashboard asks for, and nothing else: a kubelet alone tells some
thousand series.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgefleet_pulumi.model import Industry

# What a service must tell, whatever language it is written in.
REQUESTS = "edgefleet_requests_total"
DURATION = "edgefleet_request_duration_seconds"
INFO = "edgefleet_service_info"
# Bounds of the latency histogram beside a system's own limits, in milliseconds: where most answers are, and far beyond.
COMMON_BOUNDS = (1.0, 2.0, 5.0, 10.0, 200.0, 1000.0)


@dataclass(frozen=True)
class Metric:
    """One metric that is kept."""

    name: str
    says: str


@dataclass(frozen=True)
class Source:
    """What tells metrics of one kind: `kind` is a label of all its series."""

    kind: str
    says: str
    metrics: tuple[Metric, ...]

    def pattern(self) -> str:
        """The names that are kept, as a regular expression of Prometheus's, which is anchored."""
        return "|".join(sorted(metric.name for metric in self.metrics))


def _metrics(**says: str) -> tuple[Metric, ...]:
    return tuple(Metric(name, text) for name, text in says.items())


SERVICE = Source(
    "service",
    "the Wasm service itself, on a port of its own that users don't reach",
    (
        Metric(INFO, "1, with the service's version and platform"),
        Metric(REQUESTS, "answered requests by `code`; probes are left out"),
        Metric(f"{DURATION}_bucket", "latency, with a bucket for each limit that the system declares"),
        Metric(f"{DURATION}_count", "how many there were"),
    ),
)
OPA = Source(
    "opa",
    "the decision point in the service's pod",
    _metrics(
        http_request_duration_seconds_bucket="how long decisions took",
        http_request_duration_seconds_count="decisions by `code` and `handler`",
    ),
)
TLS = Source(
    "tls",
    "the TLS server in front of a port",
    _metrics(
        ghostunnel_conn_open="connections open now",
    ),
)
RABBITMQ = Source(
    "rabbitmq",
    "RabbitMQ's own exporter",
    _metrics(
        rabbitmq_queue_messages="messages in all queues",
        rabbitmq_alarms_memory_used_watermark="1: publishers are stopped, memory is used up",
        rabbitmq_alarms_free_disk_space_watermark="1: publishers are stopped, the disk is full",
    ),
)
NODE = Source(
    "node",
    "node exporter in a pod without any access to the host: what the kernel tells everybody",
    _metrics(
        node_cpu_seconds_total="seconds by `cpu` and `mode`",
        node_memory_MemAvailable_bytes="memory that could be had",
        node_memory_MemTotal_bytes="memory that there is",
        node_load1="load of the last minute",
        node_timex_offset_seconds="how far the clock is off",
        node_timex_sync_status="1: the clock is held by a time server",
    ),
)
KUBELET = Source(
    "kubelet",
    "the kubelet: pods of the node",
    _metrics(
        kubelet_evictions="pods that had to go, by `eviction_signal`",
        kubelet_running_pods="pods that run",
    ),
)
CADVISOR = Source(
    "cadvisor",
    "cAdvisor in the kubelet: what each container uses, and the node's disk",
    _metrics(
        container_cpu_usage_seconds_total="CPU time",
        container_cpu_cfs_periods_total="scheduling periods",
        container_cpu_cfs_throttled_periods_total="periods in which the container had to wait for its limit",
        container_memory_working_set_bytes="memory that can't be taken back",
        container_oom_events_total="times that it was killed for want of memory",
        container_start_time_seconds="when it started: a change is a restart",
        container_fs_usage_bytes="used on the node's file systems",
        container_fs_limit_bytes="size of the node's file systems",
        machine_cpu_cores="cores of the node",
    ),
)
PROMETHEUS = Source(
    "prometheus",
    "Prometheus itself",
    _metrics(
        prometheus_remote_storage_highest_timestamp_in_seconds="newest sample there is",
        prometheus_remote_storage_queue_highest_sent_timestamp_seconds="newest sample that the hub has",
        prometheus_remote_storage_samples_pending="samples that wait to be sent",
        prometheus_rule_evaluation_failures_total="rules that could not be computed",
        prometheus_tsdb_head_series="series in memory",
    ),
)
ALERTMANAGER = Source(
    "alertmanager",
    "Alertmanager",
    _metrics(
        alertmanager_notifications_total="messages to the receiver, tried",
        alertmanager_notifications_failed_total="messages to the receiver, failed",
    ),
)
SOURCES = (SERVICE, OPA, TLS, RABBITMQ, NODE, KUBELET, CADVISOR, PROMETHEUS, ALERTMANAGER)
# What goes to the hub: what the rules have made of it, alerts, and who was there. Raw series stay at the site.
SENT = rf".+:.+|ALERTS|up|{REQUESTS}|{INFO}"
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def kept() -> Iterator[str]:
    """The names of all metrics that are kept."""
    for source in SOURCES:
        yield from (metric.name for metric in source.metrics)


def bounds_ms(industry: Industry) -> tuple[float, ...]:
    """Upper bounds of the latency histogram of a system's service: its own limits are among them."""
    latency = industry.slo.latency
    return tuple(sorted({*COMMON_BOUNDS, latency.p50, latency.p99, latency.p999}))


def bucket(limit_ms: float) -> str:
    """The label `le` of the bucket that ends at a limit."""
    return f"{limit_ms / 1000:g}"
