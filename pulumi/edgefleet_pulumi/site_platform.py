"""What the program of the platform is made of: what all systems of a hub or a site share."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pulumi_kubernetes

from edgefleet_pulumi import images
from edgefleet_pulumi.components import gatekeeper, rabbitmq
from edgefleet_pulumi.components.data_locality import namespace
from edgefleet_pulumi.components.decision_point import HEALTH_PORT
from edgefleet_pulumi.components.monitoring import Monitoring, MonitoringArgs, Target
from edgefleet_pulumi.components.policies import FOLDER, Policies, PolicyFiles
from edgefleet_pulumi.components.site_secrets import SiteSecrets, SiteSecretsArgs
from edgefleet_pulumi.model import Industry, load_industries
from edgefleet_pulumi.model.industry import Amount, Resources
from edgefleet_pulumi.model.load import INDUSTRIES
from edgefleet_pulumi.program import (
    MONITORING_NAMESPACE,
    cluster_provider,
    made_at_the_site,
    one_error,
    stack_config,
)

IMAGES = ("gatekeeper", "prometheus")
PROMETHEUS = Resources(requests=Amount(cpu="100m", memory="256Mi"), limits=Amount(cpu="500m", memory="512Mi"))
STORAGE = "4Gi"


def targets(industries: dict[str, Industry]) -> list[Target]:
    """What has metrics, in all systems. A system that is not on this site has no name in its DNS, and no target."""
    found = []
    for system, industry in industries.items():
        domain = f"{system}.svc.cluster.local"
        found.append(Target(job=f"{system}-opa", service=f"{system}.{domain}", port=HEALTH_PORT))
        if industry.back_ends.rabbitmq:
            service = f"{rabbitmq.NAME}.{domain}"
            found.append(Target(job=f"{system}-rabbitmq", service=service, port=rabbitmq.METRICS_PORT))
    return found


class Platform:
    """The platform on one stack."""

    def __init__(self, industries: Path = INDUSTRIES, policies: Path = FOLDER) -> None:
        with one_error():
            self.site = stack_config()
            self.industries = load_industries(industries)
            self.images = images.resolve({name: images.PRODUCT[name] for name in IMAGES}, self.site)
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

    def monitoring(self) -> Monitoring:
        """Prometheus."""
        space = namespace(MONITORING_NAMESPACE, "platform", self.options)
        args = MonitoringArgs(
            namespace=MONITORING_NAMESPACE,
            image=self.images["prometheus"],
            storage=STORAGE,
            resources=PROMETHEUS,
            targets=targets(self.industries),
        )
        after = pulumi.ResourceOptions(depends_on=[space])
        return Monitoring("monitoring", args, pulumi.ResourceOptions.merge(self.options, after))
