"""What the program of the platform is made of: what all systems of a hub or a site share."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pulumi_kubernetes

from edgefleet_pulumi import images
from edgefleet_pulumi.components import expose, gatekeeper, grafana, rabbitmq
from edgefleet_pulumi.components.data_locality import DataLocality, DataLocalityArgs, namespace
from edgefleet_pulumi.components.decision_point import HEALTH_PORT
from edgefleet_pulumi.components.monitoring import Monitoring, MonitoringArgs, Target
from edgefleet_pulumi.components.node_exporter import NodeExporter, NodeExporterArgs
from edgefleet_pulumi.components.policies import FOLDER, Policies, PolicyFiles
from edgefleet_pulumi.components.site_secrets import SiteSecrets, SiteSecretsArgs
from edgefleet_pulumi.components.wasm_service import METRICS_PORT
from edgefleet_pulumi.model import Industry, ModelError, PlatformConfig, load_industries
from edgefleet_pulumi.model.load import INDUSTRIES
from edgefleet_pulumi.monitoring import dashboards, rules
from edgefleet_pulumi.program import (
    MONITORING_NAMESPACE,
    cluster_provider,
    made_at_the_site,
    one_error,
    stack_config,
)

STORAGE = "4Gi"


def targets(industry: Industry) -> list[Target]:
    """What of a system has metrics. A part that is not there has no name in its DNS, and no target."""
    system = industry.system
    pods = f"{system}.{system}.svc.cluster.local"
    found = [
        Target(job=system, kind="service", system=system, service=pods, port=METRICS_PORT),
        Target(job=f"{system}-opa", kind="opa", system=system, service=pods, port=HEALTH_PORT),
    ]
    exposed = [one for one in industry.expose if one.to == "service"]
    for index, one in enumerate(exposed):
        job, port = f"{system}-tls-{one.port}", expose.STATUS_PORT + index
        found.append(Target(job=job, kind="tls", system=system, service=pods, port=port, path=expose.METRICS_PATH))
    if industry.back_ends.rabbitmq:
        server = f"{rabbitmq.NAME}.{system}.svc.cluster.local"
        job, port = f"{system}-rabbitmq", rabbitmq.METRICS_PORT
        found.append(Target(job=job, kind="rabbitmq", system=system, service=server, port=port, single=True))
    return found


class Platform:
    """The platform on one stack."""

    def __init__(self, industries: Path = INDUSTRIES, policies: Path = FOLDER) -> None:
        with one_error():
            self.site = stack_config(PlatformConfig)
            self.industries = _chosen(load_industries(industries), self.site.systems)
            self.images = images.resolve(images.of_platform(self.site), self.site)
            self.policies = PolicyFiles.read(policies)
            self.options = pulumi.ResourceOptions(provider=cluster_provider(self.site))

    def runtime_classes(self) -> None:
        """Whether the cluster has the classes that the services ask for. K3s makes them; a bundle can't look."""
        if self.site.bundle:
            return
        for name in sorted({industry.service.runtime_class for industry in self.industries.values()}):
            pulumi_kubernetes.node.v1.RuntimeClass.get(f"runtime-class-{name}", name, opts=self.options)

    def admission(self) -> None:
        """Gatekeeper and all policies of the project."""
        space = namespace(gatekeeper.NAMESPACE, "platform", self.options)
        args = SiteSecretsArgs(namespace=gatekeeper.NAMESPACE, system="platform", secrets=[gatekeeper.SECRET])
        inside = pulumi.ResourceOptions.merge(self.options, pulumi.ResourceOptions(depends_on=[space]))
        listed = SiteSecrets("gatekeeper-secrets", args, inside)
        ready = pulumi.ResourceOptions(depends_on=[space, made_at_the_site(listed, args, self.site)])
        engine = gatekeeper.Gatekeeper(
            "gatekeeper",
            gatekeeper.GatekeeperArgs(image=self.images["gatekeeper"], kinds=self.policies.kinds()),
            pulumi.ResourceOptions.merge(self.options, ready),
        )
        Policies("policies", self.policies, [engine.deployment], self.options)

    def monitoring(self) -> None:
        """Prometheus with the rules of the systems here, Alertmanager, the nodes' figures, and Grafana if wanted."""
        inside = self._monitoring_namespace()
        chosen = list(self.industries.values())
        NodeExporter(
            "node-exporter",
            NodeExporterArgs(namespace=MONITORING_NAMESPACE, image=self.images["node-exporter"]),
            inside,
        )
        args = MonitoringArgs(
            namespace=MONITORING_NAMESPACE,
            image=self.images["prometheus"],
            alertmanager_image=self.images["alertmanager"],
            storage=STORAGE,
            targets=[target for industry in chosen for target in targets(industry)],
            rules=rules.files(chosen),
            hub=self.site.hub,
        )
        prometheus = Monitoring("monitoring", args, inside)
        if self.site.grafana:
            shown = grafana.GrafanaArgs(
                namespace=MONITORING_NAMESPACE,
                image=self.images["grafana"],
                prometheus=prometheus.address,
                dashboards=dashboards.files(chosen, sends=self.site.hub.remote_write is not None),
            )
            grafana.Grafana("grafana", shown, inside)

    def _monitoring_namespace(self) -> pulumi.ResourceOptions:
        """The namespace, who may come into it, and its secrets: what depends on these options finds them there."""
        needed: list[pulumi.Input[pulumi.Resource]] = [namespace(MONITORING_NAMESPACE, "platform", self.options)]
        inside = pulumi.ResourceOptions.merge(self.options, pulumi.ResourceOptions(depends_on=needed))
        locality = DataLocalityArgs(
            namespace=MONITORING_NAMESPACE,
            system="platform",
            stays_local=False,
            site_network=self.site.site_network,
            entrances=[],
            monitoring_namespace=MONITORING_NAMESPACE,
            metrics_ports=[],
        )
        DataLocality("monitoring-data-locality", locality, inside)
        if self.site.grafana:
            args = SiteSecretsArgs(namespace=MONITORING_NAMESPACE, system="platform", secrets=[grafana.SECRET])
            listed = SiteSecrets("monitoring-secrets", args, inside)
            needed.append(made_at_the_site(listed, args, self.site))
        return pulumi.ResourceOptions.merge(self.options, pulumi.ResourceOptions(depends_on=needed))


def _chosen(industries: dict[str, Industry], systems: list[str]) -> dict[str, Industry]:
    unknown = sorted(set(systems) - set(industries))
    if unknown:
        raise ModelError(f"site.systems: no system {', '.join(unknown)}: there are {', '.join(sorted(industries))}")
    return {name: industry for name, industry in industries.items() if name in systems}
