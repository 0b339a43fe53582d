"""Exposing a port to the site's network: a node port, and in front of the pod's own port a TLS server beside it."""

from __future__ import annotations

import pulumi
from pulumi_kubernetes import core

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.site_secrets import SiteSecret
from edgefleet_pulumi.model.industry import Amount, Name, NodePort, PortNumber, Resources

STATUS_PORT = 6060
METRICS_PATH = "/_metrics/prometheus"
RESOURCES = Resources(requests=Amount(cpu="20m", memory="24Mi"), limits=Amount(cpu="500m", memory="64Mi"))
# A renewed certificate is served after this time, without a restart.
RELOAD = "300s"


class ExposeArgs(Args):
    """What is reached from where."""

    namespace: Name
    system: Name
    target: Name
    port_name: Name
    port: PortNumber
    node_port: NodePort
    # Pods may have several of these beside each other.
    index: int = 0
    image: ImageReference


class Expose(Component):
    """A node port that is encrypted with the site's certificate; clear text never leaves the pod.

    It owns the Service, and gives the pod `containers` and `volumes`. The certificate comes from the Secret `secret`,
    made and renewed at the site. The same declaration gives the host's firewall its hole.
    """

    def __init__(self, name: str, args: ExposeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self.secret = certificate(args.target, args.namespace)
        self.tls_port = 8443 + args.index
        self.status_port = STATUS_PORT + args.index
        self.containers = [_terminator(args, self.tls_port, self.status_port)]
        # One volume serves all terminators of a pod.
        self.volumes = [pods.secret_volume("tls", self.secret.name, "tls.crt", "tls.key")] if args.index == 0 else []
        labelled = pods.labels(args.target, args.system)
        exposed = f"{args.target}-{args.port_name}"
        core.v1.Service(
            f"{args.namespace}-{exposed}",
            metadata=pods.metadata(exposed, args.namespace, labelled, {"pulumi.com/skipAwait": "true"}),
            spec=core.v1.ServiceSpecArgs(
                type="NodePort",
                # Who asks stays visible to NetworkPolicies.
                external_traffic_policy="Local",
                selector=labelled,
                ports=[
                    core.v1.ServicePortArgs(
                        name=f"{args.port_name}-tls",
                        port=args.port,
                        target_port=self.tls_port,
                        node_port=args.node_port,
                    )
                ],
            ),
            opts=self.own(),
        )
        self.register_outputs({"node_port": args.node_port})


def certificate(target: str, namespace: str) -> SiteSecret:
    """The server certificate of one target."""
    return SiteSecret(name=f"{target}-tls", certificate=[target, f"{target}.{namespace}.svc"])


def _terminator(args: ExposeArgs, tls_port: int, status: int) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=f"tls-{args.port_name}",
        image=args.image,
        image_pull_policy="IfNotPresent",
        args=[
            "server",
            f"--listen=0.0.0.0:{tls_port}",
            f"--target=127.0.0.1:{args.port}",
            "--cert=/run/secrets/tls/tls.crt",
            "--key=/run/secrets/tls/tls.key",
            # Devices hold no certificates: who may do what is decided behind it, by password or by OPA.
            "--disable-authentication",
            f"--timed-reload={RELOAD}",
            f"--status=http://0.0.0.0:{status}",
            "--quiet=conns",
        ],
        ports=[
            core.v1.ContainerPortArgs(name=f"{args.port_name}-tls", container_port=tls_port),
            core.v1.ContainerPortArgs(name=f"tls-status-{args.index}", container_port=status),
        ],
        resources=pods.requirements(RESOURCES),
        # Its own health, not that of what it stands before: a service's readiness speaks for all of its ports. A bare
        # connection, to the TLS port or to the one behind it, would be an error in somebody's log every few seconds.
        readiness_probe=pods.http_probe("/_metrics", status, period=5),
        liveness_probe=pods.http_probe("/_metrics", status),
        security_context=pods.container_security(),
        volume_mounts=[pods.mount("tls", "/run/secrets/tls", read_only=True)],
    )
