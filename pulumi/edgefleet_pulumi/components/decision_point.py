"""OPA beside a service: it decides what a user may do, reached from inside the pod alone."""

from __future__ import annotations

import pulumi
from pulumi_kubernetes import core
from pydantic import Field, field_validator

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.industry import Amount, Name, Policy, Resources

PORT, HEALTH_PORT = 8181, 8282
RESOURCES = Resources(requests=Amount(cpu="20m", memory="64Mi"), limits=Amount(cpu="500m", memory="128Mi"))


class DecisionPointArgs(Args):
    """Who decides, and by which policies."""

    namespace: Name
    system: Name
    service: Name
    image: ImageReference
    policy: Policy
    rego: dict[str, str] = Field(min_length=1, description="file name and text of each policy, without the tests")

    @field_validator("rego")
    @classmethod
    def _no_tests(cls, rego: dict[str, str]) -> dict[str, str]:
        wrong = sorted(name for name in rego if not name.endswith(".rego") or name.endswith("_test.rego"))
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: policies are *.rego, and tests stay at home: leave it out")
        return rego


class DecisionPoint(Component):
    """A container for the service's pod, the ConfigMap with its policies, and the address to ask (`environment`).

    It listens on the pod's loopback only; health and metrics have a port of their own, which tells nothing and decides
    nothing. Every decision is a line in its log. A changed policy makes a new pod: what is running is what is declared.
    """

    def __init__(self, name: str, args: DecisionPointArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        config = f"{args.service}-policy"
        self.config = dict(args.rego)
        self.config_map = core.v1.ConfigMap(
            f"{args.namespace}-{config}",
            metadata=pods.metadata(config, args.namespace, pods.labels(args.service, args.system)),
            data=self.config,
            opts=self.own(),
        )
        self.environment = {"OPA_URL": f"http://127.0.0.1:{PORT}{args.policy.decision_path}"}
        self.containers = [_container(args)]
        self.volumes = [pods.config_volume("policy", config)]
        self.register_outputs({"environment": self.environment})


def _container(args: DecisionPointArgs) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name="opa",
        image=args.image,
        image_pull_policy="IfNotPresent",
        args=[
            "run",
            "--server",
            f"--addr=127.0.0.1:{PORT}",
            f"--diagnostic-addr=0.0.0.0:{HEALTH_PORT}",
            "--set=decision_logs.console=true",
            "--log-format=json",
            # Nobody is asked for a newer version, nobody is told of this one.
            "--disable-telemetry",
            # File by file: in the volume's folder each of them can be seen a second time, through a hidden link.
            *(f"/policy/{name}" for name in sorted(args.rego)),
        ],
        ports=[core.v1.ContainerPortArgs(name="opa-health", container_port=HEALTH_PORT)],
        resources=pods.requirements(RESOURCES),
        readiness_probe=pods.http_probe("/health", HEALTH_PORT, period=5),
        liveness_probe=pods.http_probe("/health", HEALTH_PORT),
        security_context=pods.container_security(),
        volume_mounts=[pods.mount("policy", "/policy", read_only=True)],
    )
