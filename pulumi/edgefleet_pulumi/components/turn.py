"""coturn: relays calls that can't go directly between two devices of a site."""

from __future__ import annotations

import ipaddress

import pulumi
from pulumi_kubernetes import apps, core, meta
from pydantic import Field

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.data_locality import namespace
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.model.industry import Name
from edgefleet_pulumi.model.industry import Turn as Declared

NAME = "turn"
EXEMPTION = (
    "coturn listens on ports of the host: relayed media goes to one port a call, which a node port can't carry. "
    "Host ports are all that it has beyond Pod Security Standard restricted."
)


class TurnArgs(Args):
    """What a TURN server is made of."""

    system: Name
    image: ImageReference
    declared: Declared
    # Calls are relayed to devices of this network only.
    site_network: str = Field(description="such as 192.168.10.0/24")

    @property
    def namespace(self) -> str:
        """Its own: the exemption holds for nothing else."""
        return turn_namespace(self.system)


def turn_namespace(system: str) -> str:
    """Where the TURN server of a system runs."""
    return f"{system}-{NAME}"


def secret(args: TurnArgs) -> SiteSecret:
    """Shared with the service, which makes short-lived users and passwords from it; the configuration holds it, too."""
    return SiteSecret(
        name=NAME,
        random={"secret": 48},
        text={"turnserver.conf": configuration(args)},
        also_in=[args.namespace],
    )


def configuration(args: TurnArgs) -> str:
    """turnserver.conf with a place for the secret, which only the site knows."""
    network = ipaddress.ip_network(args.site_network)
    first, last = args.declared.relay_ports
    lines = [
        f"listening-port={args.declared.port}",
        f"min-port={first}",
        f"max-port={last}",
        f"realm={args.system}",
        "use-auth-secret",
        "static-auth-secret={secret}",
        "fingerprint",
        "no-cli",
        "no-tls",
        "no-dtls",
        "no-multicast-peers",
        "denied-peer-ip=0.0.0.0-255.255.255.255",
        f"allowed-peer-ip={network[0]}-{network[-1]}",
        # Users are made from the secret, not kept; without a place it may write to it complains at each start.
        "userdb=/tmp/turndb",
        "log-file=stdout",
        "pidfile=/tmp/turnserver.pid",
    ]
    return "\n".join(lines) + "\n"


class Turn(Component):
    """A TURN server in a namespace of its own, over UDP and, where that does not get through, over TCP.

    It relays to the site's network and to nowhere else. The host's firewall gets its holes from the same declaration.
    """

    def __init__(self, name: str, args: TurnArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        labelled = pods.labels(NAME, args.system)
        spec = core.v1.PodSpecArgs(
            node_selector={"node-type": "edge"},
            automount_service_account_token=False,
            enable_service_links=False,
            termination_grace_period_seconds=10,
            security_context=pods.pod_security(),
            containers=[_container(args)],
            volumes=[pods.secret_volume("config", NAME, "turnserver.conf"), pods.scratch_volume("tmp", "16Mi")],
        )
        hashed = {pods.CONFIG_ANNOTATION: pods.config_hash({"turnserver.conf": configuration(args)})}
        apps.v1.Deployment(
            f"{args.namespace}-{NAME}",
            metadata=pods.metadata(NAME, args.namespace, labelled),
            spec=apps.v1.DeploymentSpecArgs(
                replicas=1,
                selector=meta.v1.LabelSelectorArgs(match_labels=labelled),
                # The host's ports are free only when the old pod is gone.
                strategy=apps.v1.DeploymentStrategyArgs(type="Recreate"),
                template=core.v1.PodTemplateSpecArgs(
                    metadata=meta.v1.ObjectMetaArgs(labels=labelled, annotations=hashed), spec=spec
                ),
            ),
            opts=self.own(),
        )
        self.register_outputs({})


def exempt_namespace(args: TurnArgs, opts: pulumi.ResourceOptions, *, stays_local: bool = False) -> core.v1.Namespace:
    """The namespace with its exemption, in writing: it is for host ports, and not for where data may go."""
    return namespace(
        args.namespace, args.system, opts, stays_local=stays_local, level="privileged", exemption=EXEMPTION
    )


def _host_port(name: str, port: int, protocol: str) -> core.v1.ContainerPortArgs:
    return core.v1.ContainerPortArgs(name=name, container_port=port, host_port=port, protocol=protocol)


def _container(args: TurnArgs) -> core.v1.ContainerArgs:
    first, last = args.declared.relay_ports
    addresses = {"HOST_IP": "status.hostIP", "POD_IP": "status.podIP"}
    return core.v1.ContainerArgs(
        name=NAME,
        image=args.image,
        image_pull_policy="IfNotPresent",
        command=["turnserver", "-c", "/run/secrets/turn/turnserver.conf", "--external-ip=$(HOST_IP)/$(POD_IP)"],
        env=[
            core.v1.EnvVarArgs(
                name=name,
                value_from=core.v1.EnvVarSourceArgs(field_ref=core.v1.ObjectFieldSelectorArgs(field_path=path)),
            )
            for name, path in addresses.items()
        ],
        ports=[
            _host_port("turn-tcp", args.declared.port, "TCP"),
            _host_port("turn-udp", args.declared.port, "UDP"),
            *(_host_port(f"relay-{port}", port, "UDP") for port in range(first, last + 1)),
        ],
        resources=pods.requirements(args.declared.resources),
        readiness_probe=pods.tcp_probe("turn-tcp", period=5),
        liveness_probe=pods.tcp_probe("turn-tcp"),
        security_context=pods.container_security(),
        volume_mounts=[
            pods.mount("config", "/run/secrets/turn", read_only=True),
            pods.mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    )
