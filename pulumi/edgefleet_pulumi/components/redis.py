"""Redis: cache and queue of one system at one site."""

from __future__ import annotations

from typing import Literal

import pulumi
from pulumi_kubernetes import core
from pydantic import Field

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.model.industry import Name, Resources
from edgefleet_pulumi.model.units import Memory, mebibytes

PORT = 6379
NAME = "redis"
# The rest of the limit is for forks, buffers and the program itself.
DATA_SHARE = 0.6
SECRET = SiteSecret.of(NAME, password=40, text={"auth.conf": "requirepass {password}\n"})


class RedisArgs(Args):
    """What a Redis server is made of."""

    namespace: Name
    system: Name
    image: ImageReference
    uses: list[Literal["cache", "queue"]] = Field(min_length=1)
    storage: Memory
    resources: Resources


def configuration(args: RedisArgs) -> str:
    """redis.conf. What is queued survives a power cut but for its last second, and is never evicted."""
    queue, cache = "queue" in args.uses, "cache" in args.uses
    policy = {(True, True): "volatile-lru", (True, False): "noeviction"}.get((queue, cache), "allkeys-lru")
    lines = [
        f"port {PORT}",
        "bind * -::*",
        "dir /data",
        f"maxmemory {int(mebibytes(args.resources.limits.memory) * DATA_SHARE)}mb",
        f"maxmemory-policy {policy}",
        f"appendonly {'yes' if queue else 'no'}",
        "appendfsync everysec",
        'save ""',
        "include /run/secrets/redis/auth.conf",
    ]
    return "\n".join(lines) + "\n"


class Redis(Component):
    """A Redis server with a password that the site made, reached inside the namespace as `redis`.

    It owns its configuration, disk and Service. The Secret `redis` is the site's (`SiteSecrets`); who may connect is
    `DataLocality`'s.
    """

    def __init__(self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
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
            ],
            config={"redis.conf": configuration(args)},
        )
        own = self.own()
        needed = [
            server.config_map(own),
            pods.claim(f"{NAME}-data", args.namespace, server.labels, args.storage, own),
        ]
        server.service({"redis": PORT}, own)
        server.stateful_set(self.own(after=needed))
        self.address = f"{NAME}:{PORT}"
        self.register_outputs({"address": self.address})


def _container(args: RedisArgs) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["redis-server", "/etc/redis/redis.conf"],
        # For the probe: redis-cli takes the password from here.
        env=[pods.secret_env("REDISCLI_AUTH", SECRET.name, "password")],
        ports=[core.v1.ContainerPortArgs(name="redis", container_port=PORT)],
        resources=pods.requirements(args.resources),
        # -e: an error, such as "still loading", is a failure.
        readiness_probe=core.v1.ProbeArgs(
            exec_=core.v1.ExecActionArgs(command=["redis-cli", "-e", "ping"]), period_seconds=5, timeout_seconds=3
        ),
        liveness_probe=pods.tcp_probe(PORT),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("config", "/etc/redis", read_only=True),
            pods.mount("auth", "/run/secrets/redis", read_only=True),
            pods.mount("data", "/data"),
        ],
    )
