"""Prometheus: metrics of one site, kept there, and sent on when the site is online."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import yaml
from pulumi_kubernetes import core
from pydantic import Field

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.industry import Name, Resources
from edgefleet_pulumi.model.units import Memory, mebibytes

NAME, PORT = "prometheus", 9090
# Of the disk; the rest is for what is being written and merged.
RETENTION_SHARE = 0.7


class Target(Args):
    """What is asked for metrics: a Service by its name in the cluster's DNS."""

    job: Name
    service: str
    port: int
    path: str = "/metrics"


class MonitoringArgs(Args):
    """What a site measures."""

    namespace: Name
    image: ImageReference
    storage: Memory
    resources: Resources
    targets: list[Target] = Field(min_length=1)
    rules: dict[str, str] = Field(default={}, description="file name and text of recording and alert rules")
    remote_write: str | None = Field(default=None, description="URL that takes the metrics when the site is online")


def configuration(args: MonitoringArgs) -> dict[str, str]:
    """prometheus.yml and the rules beside it."""
    document: dict[str, object] = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["/etc/prometheus/*.rules.yml"],
        "scrape_configs": [_scrape(target) for target in sorted(args.targets, key=lambda one: one.job)],
    }
    if args.remote_write:
        document["remote_write"] = [{"url": args.remote_write}]
    return {"prometheus.yml": yaml.safe_dump(document, sort_keys=True), **args.rules}


def _scrape(target: Target) -> Mapping[str, object]:
    """By DNS: asking Kubernetes for its pods would need a service account token."""
    return {
        "job_name": target.job,
        "metrics_path": target.path,
        "dns_sd_configs": [{"names": [target.service], "type": "A", "port": target.port, "refresh_interval": "30s"}],
    }


class Monitoring(Component):
    """A small Prometheus server with a disk of its own, which keeps what fits on it."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        server = pods.Server(
            name=NAME,
            namespace=args.namespace,
            system="platform",
            containers=[_container(args)],
            volumes=[pods.config_volume("config", f"{NAME}-config"), pods.disk_volume("data", f"{NAME}-data")],
            config=configuration(args),
        )
        own = self.own()
        needed = [
            server.config_map(own),
            pods.claim(f"{NAME}-data", args.namespace, server.labels, args.storage, own),
        ]
        server.service({"http": PORT}, own)
        server.stateful_set(self.own(after=needed))
        self.register_outputs({"address": f"{NAME}.{args.namespace}:{PORT}"})


def _container(args: MonitoringArgs) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["prometheus"],
        args=[
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.size={int(mebibytes(args.storage) * RETENTION_SHARE)}MB",
            "--storage.tsdb.wal-compression",
            f"--web.listen-address=0.0.0.0:{PORT}",
        ],
        ports=[core.v1.ContainerPortArgs(name="http", container_port=PORT)],
        resources=pods.requirements(args.resources),
        # After a power cut it reads its log again, which takes a while.
        startup_probe=pods.tcp_probe("http", period=5, failures=60),
        readiness_probe=pods.http_probe("/-/ready", "http"),
        liveness_probe=pods.http_probe("/-/healthy", "http"),
        security_context=pods.container_security(),
        volume_mounts=[pods.mount("config", "/etc/prometheus", read_only=True), pods.mount("data", "/prometheus")],
    )
