"""RabbitMQ: a durable queue of one system at one site."""

from __future__ import annotations

from typing import Self

import pulumi
from pulumi_kubernetes import core
from pydantic import model_validator

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.model.industry import Name, Resources
from edgefleet_pulumi.model.units import Memory, mebibytes

PORT = 5672
METRICS_PORT = 15692
NAME = "rabbitmq"
USER = "edge"
LEAST_MEBIBYTES = 512
# Publishers are stopped at this share of the memory limit, as a figure: RabbitMQ would count the host's memory.
WATERMARK_SHARE = 0.6
SECRET = SiteSecret.of(NAME, password=40, text={"auth.conf": f"default_user = {USER}\ndefault_pass = {{password}}\n"})


class RabbitMQArgs(Args):
    """What a RabbitMQ server is made of."""

    namespace: Name
    system: Name
    image: ImageReference
    storage: Memory
    resources: Resources

    @model_validator(mode="after")
    def _enough(self) -> Self:
        given = mebibytes(self.resources.limits.memory)
        if given < LEAST_MEBIBYTES:
            raise ValueError(f"limits.memory {given}Mi: RabbitMQ needs {LEAST_MEBIBYTES}Mi at least: raise it")
        return self


def configuration(args: RabbitMQArgs) -> dict[str, str]:
    """rabbitmq.conf and the plugins: metrics only, no management."""
    lines = [
        f"listeners.tcp.default = {PORT}",
        f"prometheus.tcp.port = {METRICS_PORT}",
        f"vm_memory_high_watermark.absolute = {int(mebibytes(args.resources.limits.memory) * WATERMARK_SHARE)}MiB",
        f"disk_free_limit.absolute = {mebibytes(args.storage) // 10}MiB",
        "loopback_users = none",
        "log.console = true",
        "log.file = false",
    ]
    return {"rabbitmq.conf": "\n".join(lines) + "\n", "enabled_plugins": "[rabbitmq_prometheus].\n"}


class RabbitMQ(Component):
    """A RabbitMQ server with a user whose password the site made, reached inside the namespace as `rabbitmq`.

    It owns its configuration, disk and Service. The user is made at the first start on an empty disk: a password that
    is rotated later has to be changed in the server too.
    """

    def __init__(self, name: str, args: RabbitMQArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        server = pods.Server(
            name=NAME,
            namespace=args.namespace,
            system=args.system,
            containers=[_container(args)],
            volumes=[
                pods.config_volume("config", f"{NAME}-config"),
                pods.secret_volume("auth", SECRET.name, "auth.conf"),
                pods.disk_volume("data", f"{NAME}-data"),
                pods.scratch_volume("tmp", "64Mi"),
            ],
            config=configuration(args),
            grace_seconds=60,
        )
        own = self.own()
        needed = [
            server.config_map(own),
            pods.claim(f"{NAME}-data", args.namespace, server.labels, args.storage, own),
        ]
        server.service({"amqp": PORT, "metrics": METRICS_PORT}, own)
        server.stateful_set(self.own(after=needed))
        self.address = f"{NAME}:{PORT}"
        self.register_outputs({"address": self.address})


def _container(args: RabbitMQArgs) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["rabbitmq-server"],
        env=[
            core.v1.EnvVarArgs(name="RABBITMQ_CONFIG_FILE", value="/etc/edgefleet/rabbitmq.conf"),
            core.v1.EnvVarArgs(name="RABBITMQ_CONFIG_FILES", value="/run/secrets/rabbitmq"),
            core.v1.EnvVarArgs(name="RABBITMQ_ENABLED_PLUGINS_FILE", value="/etc/edgefleet/enabled_plugins"),
            # The disk belongs to this name: it must not follow the pod's.
            core.v1.EnvVarArgs(name="RABBITMQ_NODENAME", value=f"{NAME}@localhost"),
            core.v1.EnvVarArgs(name="RABBITMQ_MNESIA_BASE", value="/var/lib/rabbitmq/mnesia"),
            # The cookie lies there, for its owner alone; it is made anew at each start.
            core.v1.EnvVarArgs(name="HOME", value="/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
        ports=[
            core.v1.ContainerPortArgs(name="amqp", container_port=PORT),
            core.v1.ContainerPortArgs(name="metrics", container_port=METRICS_PORT),
        ],
        resources=pods.requirements(args.resources),
        # Its own diagnostics start a second Erlang machine each time: too dear for an edge node.
        startup_probe=pods.tcp_probe(PORT, period=5, failures=60),
        readiness_probe=pods.tcp_probe(PORT),
        liveness_probe=pods.tcp_probe(PORT, period=30),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("config", "/etc/edgefleet", read_only=True),
            pods.mount("auth", "/run/secrets/rabbitmq", read_only=True),
            pods.mount("data", "/var/lib/rabbitmq"),
            pods.mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    )
