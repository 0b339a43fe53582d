"""The node's own figures: processors, memory, load, clock."""

from __future__ import annotations

import pulumi
from pulumi_kubernetes import apps, core, meta

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.industry import Amount, Name, Resources

NAME, PORT = "node-exporter", 9100
RESOURCES = Resources(requests=Amount(cpu="10m", memory="24Mi"), limits=Amount(cpu="100m", memory="64Mi"))
# What a process sees of the whole node through its own /proc and /sys. Disks and networks are not among it: those of
# the node are told by the kubelet.
COLLECTORS = ("cpu", "loadavg", "meminfo", "stat", "timex")


class NodeExporterArgs(Args):
    """What a node exporter is made of."""

    namespace: Name
    image: ImageReference


class NodeExporter(Component):
    """One exporter on each node, without any access to the host: no host path, no host network, no exemption."""

    def __init__(self, name: str, args: NodeExporterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        labelled = pods.labels(NAME, "platform")
        spec = core.v1.PodSpecArgs(
            node_selector={"node-type": "edge"},
            automount_service_account_token=False,
            enable_service_links=False,
            termination_grace_period_seconds=5,
            security_context=pods.pod_security(),
            containers=[_container(args)],
        )
        apps.v1.DaemonSet(
            f"{args.namespace}-{NAME}",
            metadata=pods.metadata(NAME, args.namespace, labelled),
            spec=apps.v1.DaemonSetSpecArgs(
                selector=meta.v1.LabelSelectorArgs(match_labels=labelled),
                template=core.v1.PodTemplateSpecArgs(metadata=meta.v1.ObjectMetaArgs(labels=labelled), spec=spec),
            ),
            opts=self.own(),
        )
        self.register_outputs({})


def _container(args: NodeExporterArgs) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["node_exporter"],
        args=[
            "--collector.disable-defaults",
            *(f"--collector.{name}" for name in COLLECTORS),
            f"--web.listen-address=:{PORT}",
        ],
        ports=[core.v1.ContainerPortArgs(name="metrics", container_port=PORT)],
        resources=pods.requirements(RESOURCES),
        readiness_probe=pods.http_probe("/", "metrics"),
        liveness_probe=pods.http_probe("/", "metrics", period=30),
        security_context=pods.container_security(),
    )
