"""Grafana: the dashboards over Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import yaml
from pulumi_kubernetes import apps, core, meta
from pydantic import Field

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.model.industry import Amount, Name, Resources
from edgefleet_pulumi.monitoring.dashboards import DATASOURCE

NAME, PORT = "grafana", 3000
RESOURCES = Resources(requests=Amount(cpu="50m", memory="128Mi"), limits=Amount(cpu="500m", memory="256Mi"))
SECRET = SiteSecret.of(NAME, password=40)
PROVISIONING, DASHBOARDS, DATA = "/etc/grafana/provisioning", "/etc/grafana/dashboards", "/var/lib/grafana"


class GrafanaArgs(Args):
    """What Grafana shows."""

    namespace: Name
    image: ImageReference
    prometheus: str = Field(description="host and port of what is asked")
    dashboards: dict[str, str] = Field(min_length=1, description="file name and JSON of each dashboard")


class Grafana(Component):
    """Grafana with its data source and dashboards from files; nothing that is made in it by hand is kept.

    It is reached by `kubectl port-forward`; its password is made at the site.
    """

    def __init__(self, name: str, args: GrafanaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        labelled = pods.labels(NAME, "platform")
        own = self.own()
        config = _provisioning(args)
        maps = [
            _map(args.namespace, "grafana-provisioning", config, labelled, own),
            _map(args.namespace, "grafana-dashboards", args.dashboards, labelled, own),
        ]
        hashed = {pods.CONFIG_ANNOTATION: pods.config_hash({**config, **args.dashboards})}
        apps.v1.Deployment(
            f"{args.namespace}-{NAME}",
            metadata=pods.metadata(NAME, args.namespace, labelled),
            spec=apps.v1.DeploymentSpecArgs(
                replicas=1,
                selector=meta.v1.LabelSelectorArgs(match_labels=labelled),
                template=core.v1.PodTemplateSpecArgs(
                    metadata=meta.v1.ObjectMetaArgs(labels=labelled, annotations=hashed), spec=_pod(args)
                ),
            ),
            opts=self.own(after=maps),
        )
        pods.cluster_service(NAME, args.namespace, labelled, {"http": PORT}, own)
        self.register_outputs({})


def _map(
    namespace: str, name: str, data: Mapping[str, str], labelled: Mapping[str, str], opts: pulumi.ResourceOptions
) -> core.v1.ConfigMap:
    return core.v1.ConfigMap(
        f"{namespace}-{name}", metadata=pods.metadata(name, namespace, labelled), data=dict(data), opts=opts
    )


def _provisioning(args: GrafanaArgs) -> dict[str, str]:
    source = {"name": "Prometheus", "uid": DATASOURCE, "type": "prometheus", "url": f"http://{args.prometheus}"}
    sources = {"apiVersion": 1, "datasources": [{**source, "access": "proxy", "isDefault": True}]}
    folder = {"name": "edgefleet", "type": "file", "options": {"path": DASHBOARDS}, "allowUiUpdates": False}
    files = {"datasources.yaml": sources, "dashboards.yaml": {"apiVersion": 1, "providers": [folder]}}
    return {name: yaml.safe_dump(content) for name, content in files.items()}


def _pod(args: GrafanaArgs) -> core.v1.PodSpecArgs:
    provisioning = core.v1.ConfigMapVolumeSourceArgs(
        name="grafana-provisioning",
        items=[
            core.v1.KeyToPathArgs(key=f"{kind}.yaml", path=f"{kind}/edgefleet.yaml")
            for kind in ("datasources", "dashboards")
        ],
    )
    return core.v1.PodSpecArgs(
        node_selector={"node-type": "edge"},
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=pods.pod_security(),
        containers=[_container(args)],
        volumes=[
            core.v1.VolumeArgs(name="provisioning", config_map=provisioning),
            pods.config_volume("dashboards", "grafana-dashboards"),
            pods.secret_volume("password", SECRET.name, "password"),
            pods.scratch_volume("data", "256Mi"),
        ],
    )


def _container(args: GrafanaArgs) -> core.v1.ContainerArgs:
    settings = {
        "GF_PATHS_DATA": DATA,
        "GF_PATHS_PLUGINS": f"{DATA}/plugins",
        "GF_PATHS_PROVISIONING": PROVISIONING,
        "GF_LOG_MODE": "console",
        "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana/password",
        # Nobody is asked for a newer version, nobody is told of this one.
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
    }
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        env=[core.v1.EnvVarArgs(name=name, value=value) for name, value in sorted(settings.items())],
        ports=[core.v1.ContainerPortArgs(name="http", container_port=PORT)],
        resources=pods.requirements(RESOURCES),
        readiness_probe=pods.http_probe("/api/health", "http"),
        liveness_probe=pods.http_probe("/api/health", "http", period=30),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("provisioning", PROVISIONING, read_only=True),
            pods.mount("dashboards", DASHBOARDS, read_only=True),
            pods.mount("password", "/run/secrets/grafana", read_only=True),
            pods.mount("data", DATA),
        ],
    )
