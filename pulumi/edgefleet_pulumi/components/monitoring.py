"""Prometheus and Alertmanager: what a site measures and when somebody is told, kept there, sent on when it can."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import yaml
from pulumi_kubernetes import core, meta, rbac
from pydantic import Field

from edgefleet_pulumi.components import grafana, node_exporter, pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.budget import Part, Room
from edgefleet_pulumi.model.industry import Amount, Name, PortNumber, Resources
from edgefleet_pulumi.model.stack import Hub
from edgefleet_pulumi.model.units import Memory, mebibytes
from edgefleet_pulumi.monitoring import metrics

NAME, PORT = "prometheus", 9090
ALERTMANAGER, ALERTMANAGER_PORT = "alertmanager", 9093
PROMETHEUS_RESOURCES = Resources(requests=Amount(cpu="100m", memory="256Mi"), limits=Amount(cpu="500m", memory="512Mi"))
ALERTMANAGER_RESOURCES = Resources(requests=Amount(cpu="10m", memory="32Mi"), limits=Amount(cpu="100m", memory="96Mi"))
# Of the disk; the rest is for what is being written and merged.
RETENTION_SHARE = 0.7
# A budget is that of 30 days.
RETENTION_TIME = "32d"
INTERVAL = "15s"
ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
# The Secret with the token for the hub, which the operator makes: a site can't make it by itself.
HUB_SECRET, HUB_PATH = "hub", "/run/secrets/hub"


def parts() -> list[Part]:
    """What the monitoring asks of a node. Room for Grafana is kept: whether it is wanted, another stack says."""
    return [
        Part(
            "prometheus, alertmanager",
            1,
            Room.of(PROMETHEUS_RESOURCES.requests) + Room.of(ALERTMANAGER_RESOURCES.requests),
        ),
        Part("node exporter", 1, Room.of(node_exporter.RESOURCES.requests)),
        Part("grafana, if it is wanted", 1, Room.of(grafana.RESOURCES.requests)),
    ]


class Target(Args):
    """What is asked for metrics: a Service by its name in the cluster's DNS."""

    job: Name
    kind: Name = Field(description="which of the sources of metrics it is")
    system: Name
    service: str
    port: PortNumber
    path: str = "/metrics"
    # One server behind a Service of its own: when it is gone, its name is still asked. Else each pod has an address.
    single: bool = False


class MonitoringArgs(Args):
    """What a site measures."""

    namespace: Name
    image: ImageReference
    alertmanager_image: ImageReference
    storage: Memory
    targets: list[Target] = Field(min_length=1)
    rules: dict[str, str] = Field(min_length=1, description="file name and text of recording and alert rules")
    hub: Hub = Field(default=Hub(), description="what takes metrics and alerts when the site is online")


def configuration(args: MonitoringArgs) -> dict[str, str]:
    """prometheus.yml, the rules beside it, and alertmanager.yml."""
    scraped = [_scrape(target) for target in sorted(args.targets, key=lambda one: one.job)]
    document: dict[str, object] = {
        "global": {
            "scrape_interval": INTERVAL,
            "evaluation_interval": INTERVAL,
            # A bundle is the same for all sites: which one this is, the node knows.
            "external_labels": {"site": "${NODE_NAME}"},
        },
        "rule_files": ["/etc/prometheus/*.rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ALERTMANAGER_PORT}"]}]}]},
        "scrape_configs": [*scraped, *_of_node(args.namespace), *_itself()],
    }
    if args.hub.remote_write:
        document["remote_write"] = [_remote_write(args.hub.remote_write)]
    files = {"prometheus.yml": document, "alertmanager.yml": _alertmanager(args.hub)}
    return {**{name: yaml.safe_dump(content, sort_keys=True) for name, content in files.items()}, **args.rules}


def _job(name: str, source: metrics.Source, *relabelled: Mapping[str, object], **more: object) -> dict[str, object]:
    """A scrape job that keeps what its source declares."""
    kind = {"target_label": "kind", "replacement": source.kind}
    kept = {"source_labels": ["__name__"], "regex": source.pattern(), "action": "keep"}
    return {
        "job_name": name,
        "relabel_configs": [kind, *relabelled],
        "metric_relabel_configs": [kept],
        **more,
    }


def _scrape(target: Target) -> dict[str, object]:
    """By DNS: asking Kubernetes for pods of all namespaces would be a right that nothing else needs."""
    source = next(source for source in metrics.SOURCES if source.kind == target.kind)
    system = {"target_label": "system", "replacement": target.system}
    addresses: dict[str, object] = {
        "dns_sd_configs": [{"names": [target.service], "type": "A", "port": target.port, "refresh_interval": "15s"}]
    }
    if target.single:
        addresses = {"static_configs": [{"targets": [f"{target.service}:{target.port}"]}]}
    return _job(target.job, source, system, metrics_path=target.path, **addresses)


def _of_node(namespace: str) -> list[dict[str, object]]:
    """The kubelets, by their own certificate and the pod's token, and the exporters beside them."""
    by_node = {"source_labels": ["__meta_kubernetes_node_name"], "target_label": "node"}
    kubelet = {
        "scheme": "https",
        "authorization": {"credentials_file": f"{ACCOUNT_PATH}/token"},
        "tls_config": {"ca_file": f"{ACCOUNT_PATH}/ca.crt"},
        "kubernetes_sd_configs": [{"role": "node"}],
    }
    own = {"names": [namespace]}
    exporter = [
        {"source_labels": ["__meta_kubernetes_pod_container_name"], "regex": node_exporter.NAME, "action": "keep"},
        {"source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "node"},
    ]
    return [
        _job("kubelet", metrics.KUBELET, by_node, **kubelet),
        _job("cadvisor", metrics.CADVISOR, by_node, **kubelet, metrics_path="/metrics/cadvisor"),
        _job("node", metrics.NODE, *exporter, kubernetes_sd_configs=[{"role": "pod", "namespaces": own}]),
    ]


def _itself() -> list[dict[str, object]]:
    return [
        _job("prometheus", metrics.PROMETHEUS, static_configs=[{"targets": [f"127.0.0.1:{PORT}"]}]),
        _job("alertmanager", metrics.ALERTMANAGER, static_configs=[{"targets": [f"127.0.0.1:{ALERTMANAGER_PORT}"]}]),
    ]


def _authorization() -> dict[str, object]:
    return {"credentials_file": f"{HUB_PATH}/token"}


def _remote_write(url: str) -> dict[str, object]:
    """Sent from the log on disk: what could not be sent waits there, for two hours and more."""
    return {
        "name": "hub",
        "url": url,
        "authorization": _authorization(),
        "queue_config": {"max_shards": 4, "max_backoff": "30s"},
        "write_relabel_configs": [{"source_labels": ["__name__"], "regex": metrics.SENT, "action": "keep"}],
    }


def _alertmanager(hub: Hub) -> dict[str, object]:
    """Tried again every minute until somebody has taken it, or the alert is over."""
    receiver: dict[str, object] = {"name": "hub"}
    if hub.alerts:
        http = {"authorization": _authorization()}
        receiver["webhook_configs"] = [{"url": hub.alerts, "send_resolved": True, "http_config": http}]
    return {
        "route": {
            "receiver": "hub",
            "group_by": ["alertname", "system"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
            "routes": [{"matchers": ['alertname="Watchdog"'], "receiver": "hub", "repeat_interval": "10m"}],
        },
        "inhibit_rules": [
            {"source_matchers": ["severity=page"], "target_matchers": ["severity=ticket"], "equal": ["system", "slo"]}
        ],
        "receivers": [receiver],
    }


class Monitoring(Component):
    """A small Prometheus server with Alertmanager beside it, each with a disk of its own, which keep what fits there.

    Alertmanager is reached inside the pod only: whoever reaches it can silence everything. Prometheus's account may
    look at nodes, read their kubelets' metrics, and see the pods of its own namespace.
    """

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        server = pods.Server(
            name=NAME,
            namespace=args.namespace,
            system="platform",
            containers=[_prometheus(args), _alertmanager_container(args)],
            volumes=[
                pods.config_volume("config", f"{NAME}-config"),
                pods.disk_volume("data", f"{NAME}-data"),
                pods.disk_volume("alerts", f"{ALERTMANAGER}-data"),
                _account(),
                _hub_volume(),
            ],
            config=configuration(args),
            service_account=NAME,
        )
        own = self.own()
        needed = [
            server.config_map(own),
            pods.claim(f"{NAME}-data", args.namespace, server.labels, args.storage, own),
            pods.claim(f"{ALERTMANAGER}-data", args.namespace, server.labels, "64Mi", own),
            *_rights(args.namespace, server.labels, own),
        ]
        server.service({"http": PORT}, own)
        server.stateful_set(self.own(after=needed))
        self.address = f"{NAME}.{args.namespace}:{PORT}"
        self.register_outputs({"address": self.address})


def _rights(namespace: str, labelled: Mapping[str, str], opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
    """To look for what it asks, and to read metrics: no more, and nothing that can be changed."""
    account = core.v1.ServiceAccount(
        f"{namespace}-{NAME}",
        metadata=pods.metadata(NAME, namespace, labelled),
        automount_service_account_token=False,
        opts=opts,
    )
    look = ["get", "list", "watch"]
    nodes = rbac.v1.ClusterRole(
        f"edgefleet-{NAME}",
        metadata=meta.v1.ObjectMetaArgs(name=f"edgefleet-{NAME}", labels=dict(labelled)),
        rules=[
            rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["nodes"], verbs=look),
            rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["nodes/metrics"], verbs=["get"]),
        ],
        opts=opts,
    )
    own = rbac.v1.Role(
        f"{namespace}-{NAME}",
        metadata=pods.metadata(NAME, namespace, labelled),
        rules=[rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=look)],
        opts=opts,
    )
    subject = rbac.v1.SubjectArgs(kind="ServiceAccount", name=NAME, namespace=namespace)
    group = "rbac.authorization.k8s.io"
    bound = rbac.v1.ClusterRoleBinding(
        f"edgefleet-{NAME}",
        metadata=meta.v1.ObjectMetaArgs(name=f"edgefleet-{NAME}", labels=dict(labelled)),
        role_ref=rbac.v1.RoleRefArgs(api_group=group, kind="ClusterRole", name=f"edgefleet-{NAME}"),
        subjects=[subject],
        opts=opts,
    )
    bound_own = rbac.v1.RoleBinding(
        f"{namespace}-{NAME}",
        metadata=pods.metadata(NAME, namespace, labelled),
        role_ref=rbac.v1.RoleRefArgs(api_group=group, kind="Role", name=NAME),
        subjects=[subject],
        opts=opts,
    )
    return [account, nodes, own, bound, bound_own]


def _account() -> core.v1.VolumeArgs:
    """The token as a volume, for Prometheus alone: mounted by itself, Alertmanager would have it too."""
    return core.v1.VolumeArgs(
        name="account",
        projected=core.v1.ProjectedVolumeSourceArgs(
            sources=[
                core.v1.VolumeProjectionArgs(
                    service_account_token=core.v1.ServiceAccountTokenProjectionArgs(
                        path="token", expiration_seconds=3600
                    )
                ),
                core.v1.VolumeProjectionArgs(
                    config_map=core.v1.ConfigMapProjectionArgs(
                        name="kube-root-ca.crt", items=[core.v1.KeyToPathArgs(key="ca.crt", path="ca.crt")]
                    )
                ),
            ]
        ),
    )


def _hub_volume() -> core.v1.VolumeArgs:
    """The token for the hub. A site measures and keeps without it: it is the operator's, and may come later."""
    return core.v1.VolumeArgs(
        name="hub",
        secret=core.v1.SecretVolumeSourceArgs(
            secret_name=HUB_SECRET,
            default_mode=0o440,
            optional=True,
            items=[core.v1.KeyToPathArgs(key="token", path="token")],
        ),
    )


def _prometheus(args: MonitoringArgs) -> core.v1.ContainerArgs:
    node = core.v1.EnvVarSourceArgs(field_ref=core.v1.ObjectFieldSelectorArgs(field_path="spec.nodeName"))
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["prometheus"],
        args=[
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.size={int(mebibytes(args.storage) * RETENTION_SHARE)}MB",
            f"--storage.tsdb.retention.time={RETENTION_TIME}",
            "--storage.tsdb.wal-compression",
            "--enable-feature=expand-external-labels",
            f"--web.listen-address=0.0.0.0:{PORT}",
        ],
        env=[core.v1.EnvVarArgs(name="NODE_NAME", value_from=node)],
        ports=[core.v1.ContainerPortArgs(name="http", container_port=PORT)],
        resources=pods.requirements(PROMETHEUS_RESOURCES),
        # After a power cut it reads its log again, which takes a while.
        startup_probe=pods.tcp_probe("http", period=5, failures=60),
        readiness_probe=pods.http_probe("/-/ready", "http"),
        liveness_probe=pods.http_probe("/-/healthy", "http"),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("config", "/etc/prometheus", read_only=True),
            pods.mount("data", "/prometheus"),
            pods.mount("account", ACCOUNT_PATH, read_only=True),
            pods.mount("hub", HUB_PATH, read_only=True),
        ],
    )


def _alertmanager_container(args: MonitoringArgs) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=ALERTMANAGER,
        image=args.alertmanager_image,
        image_pull_policy="IfNotPresent",
        command=["alertmanager"],
        args=[
            "--config.file=/etc/alertmanager/alertmanager.yml",
            "--storage.path=/alertmanager",
            f"--web.listen-address=127.0.0.1:{ALERTMANAGER_PORT}",
            # One a site: it has nobody to agree with.
            "--cluster.listen-address=",
        ],
        resources=pods.requirements(ALERTMANAGER_RESOURCES),
        readiness_probe=_asked_inside(),
        liveness_probe=_asked_inside(),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("config", "/etc/alertmanager", read_only=True),
            pods.mount("alerts", "/alertmanager"),
            pods.mount("hub", HUB_PATH, read_only=True),
        ],
    )


def _asked_inside() -> core.v1.ProbeArgs:
    """By its own client, in its own container: the kubelet does not reach the pod's loopback."""
    asked = ["amtool", f"--alertmanager.url=http://127.0.0.1:{ALERTMANAGER_PORT}", "config", "show"]
    return core.v1.ProbeArgs(exec_=core.v1.ExecActionArgs(command=asked), period_seconds=30, timeout_seconds=10)
