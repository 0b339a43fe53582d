"""Mosquitto: the MQTT 5.0 broker that devices of a site connect to."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_kubernetes import core

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.expose import Expose
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.model.industry import Name, PortNumber, Resources
from edgefleet_pulumi.model.units import Memory, mebibytes

NAME = "mosquitto"
SERVICE_USER, DEVICE_USER = "service", "device"
SECRET = SiteSecret(
    name=NAME,
    random={"service_password": 40, "device_password": 40},
    mosquitto_users={SERVICE_USER: "service_password", DEVICE_USER: "device_password"},
)


class MosquittoArgs(Args):
    """What an MQTT broker is made of."""

    namespace: Name
    system: Name
    image: ImageReference
    port: PortNumber
    storage: Memory
    resources: Resources


def configuration(args: MosquittoArgs) -> str:
    """mosquitto.conf: nobody without a password; sessions and what is queued for them outlive a restart."""
    lines = [
        f"listener {args.port} 0.0.0.0",
        "allow_anonymous false",
        "password_file /run/secrets/mosquitto/passwords",
        "persistence true",
        "persistence_location /mosquitto/data/",
        "autosave_interval 30",
        f"memory_limit {mebibytes(args.resources.limits.memory) * 1024 * 1024 * 3 // 4}",
        # By default a session keeps 1000 messages: a device that is away would lose what comes after.
        "max_queued_messages 0",
        f"max_queued_bytes {mebibytes(args.storage) * 1024 * 1024 // 100}",
        "log_dest stdout",
        "connection_messages false",
    ]
    return "\n".join(lines) + "\n"


class Mosquitto(Component):
    """A broker with two users whose passwords the site made, reached inside the namespace as `mosquitto`.

    Devices reach it through what `Expose` puts into its pod: the listener itself is not encrypted.
    """

    def __init__(
        self,
        name: str,
        args: MosquittoArgs,
        expose: Sequence[Expose] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(name, opts)
        server = pods.Server(
            name=NAME,
            namespace=args.namespace,
            system=args.system,
            containers=[_container(args), *(container for one in expose for container in one.containers)],
            volumes=[
                pods.config_volume("config", f"{NAME}-config"),
                pods.secret_volume("auth", SECRET.name, "passwords"),
                pods.disk_volume("data", f"{NAME}-data"),
                *(volume for one in expose for volume in one.volumes),
            ],
            config={"mosquitto.conf": configuration(args)},
        )
        own = self.own()
        needed = [
            server.config_map(own),
            pods.claim(f"{NAME}-data", args.namespace, server.labels, args.storage, own),
        ]
        server.service({"mqtt": args.port}, own)
        server.stateful_set(self.own(after=needed))
        self.address = f"{NAME}:{args.port}"
        self.register_outputs({"address": self.address})


def _container(args: MosquittoArgs) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["mosquitto", "-c", "/etc/edgefleet/mosquitto.conf"],
        ports=[core.v1.ContainerPortArgs(name="mqtt", container_port=args.port)],
        resources=pods.requirements(args.resources),
        readiness_probe=pods.tcp_probe(args.port, period=5),
        liveness_probe=pods.tcp_probe(args.port),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("config", "/etc/edgefleet", read_only=True),
            pods.mount("auth", "/run/secrets/mosquitto", read_only=True),
            pods.mount("data", "/mosquitto/data"),
        ],
    )
