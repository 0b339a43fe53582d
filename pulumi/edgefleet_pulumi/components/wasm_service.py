"""The Wasm service of a system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi
from pulumi_kubernetes import apps, core, meta
from pydantic import Field

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args, ArgsError, ImageReference
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.components.decision_point import DecisionPoint
from edgefleet_pulumi.components.expose import Expose
from edgefleet_pulumi.components.sqlite_volume import SqliteVolume
from edgefleet_pulumi.model.industry import ConfigMap, Name, Port, Resources

# WebAssembly hears no SIGTERM: it serves for this long and is killed. Until then new connections have long gone
# elsewhere: kube-proxy follows within a second or two.
GRACE_SECONDS = 5
# Not among the declared ports: users have no way to it, and Prometheus alone is let in.
METRICS_PORT = 9464


class WasmServiceArgs(Args):
    """What a Wasm service is made of."""

    namespace: Name
    system: Name
    image: ImageReference
    replicas: int = Field(ge=1)
    runtime_class: Name
    node_selector: dict[str, str] = Field(min_length=1)
    resources: Resources
    ports: list[Port] = Field(min_length=1)
    environment: dict[str, str] = Field(default={})
    config_map: ConfigMap | None = None
    latency_bounds_ms: list[float] = Field(min_length=1, description="ends of the latency histogram's buckets")


@dataclass(frozen=True)
class SecretVariable:
    """A variable of the service whose value only the site knows."""

    name: str
    secret: str
    key: str


@dataclass(frozen=True)
class Beside:
    """What else is in the service's pod."""

    sqlite: SqliteVolume | None = None
    decision: DecisionPoint | None = None
    expose: Sequence[Expose] = ()
    secrets: Sequence[SecretVariable] = field(default_factory=list)


class WasmService(Component):
    """The service under its Wasm runtime class; OPA, TLS servers and a SQLite disk are in the same pod.

    Without a SQLite file it is a Deployment that surges, so that an update loses no request; with one a StatefulSet of
    one replica, whose old pod is gone before the new one starts. It refuses more replicas there.
    """

    def __init__(
        self,
        name: str,
        args: WasmServiceArgs,
        beside: Beside | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(name, opts)
        beside = beside or Beside()
        if beside.sqlite and args.replicas != 1:
            raise ArgsError(
                f"{args.system}: {args.replicas} replicas with a SQLite file, which has one writer: set replicas to 1"
            )
        labelled = pods.labels(args.system, args.system)
        needed: list[pulumi.Resource] = [*(beside.sqlite.claims if beside.sqlite else ())]
        if beside.decision:
            needed.append(beside.decision.config_map)
        if args.config_map:
            needed.append(_config_map(args, args.config_map, self.own()))
        pod = _pod(args, beside, labelled)
        pods.cluster_service(
            args.system,
            args.namespace,
            labelled,
            {port.name: port.port for port in args.ports},
            self.own(),
            headless=True,
        )
        make = _stateful_set if beside.sqlite else _deployment
        make(args, labelled, pod, self.own(after=needed))
        self.register_outputs({"replicas": args.replicas})


def _config_map(args: WasmServiceArgs, declared: ConfigMap, opts: pulumi.ResourceOptions) -> core.v1.ConfigMap:
    return core.v1.ConfigMap(
        f"{args.namespace}-{declared.name}",
        metadata=pods.metadata(declared.name, args.namespace, pods.labels(args.system, args.system)),
        data=declared.data,
        opts=opts,
    )


def _container(args: WasmServiceArgs, beside: Beside) -> core.v1.ContainerArgs:
    first = args.ports[0]
    asked = {
        "SYSTEM": args.system,
        "PORT": str(first.port),
        "METRICS_PORT": str(METRICS_PORT),
        "LATENCY_BUCKETS_MS": ",".join(f"{bound:g}" for bound in args.latency_bounds_ms),
    }
    variables = {**asked, **(beside.decision.environment if beside.decision else {}), **args.environment}
    speaks_http = first.app == "http"
    return core.v1.ContainerArgs(
        name="service",
        image=args.image,
        image_pull_policy="IfNotPresent",
        env=[
            *(core.v1.EnvVarArgs(name=name, value=value) for name, value in sorted(variables.items())),
            *(pods.secret_env(one.name, one.secret, one.key) for one in beside.secrets),
        ],
        env_from=[core.v1.EnvFromSourceArgs(config_map_ref=core.v1.ConfigMapEnvSourceArgs(name=args.config_map.name))]
        if args.config_map
        else None,
        ports=[
            *(core.v1.ContainerPortArgs(name=port.name, container_port=port.port) for port in args.ports),
            core.v1.ContainerPortArgs(name="metrics", container_port=METRICS_PORT),
        ],
        resources=pods.requirements(args.resources),
        readiness_probe=pods.http_probe("/readyz", first.name, period=5) if speaks_http else pods.tcp_probe(first.name),
        liveness_probe=pods.http_probe("/healthz", first.name) if speaks_http else pods.tcp_probe(first.name),
        security_context=pods.container_security(),
        volume_mounts=beside.sqlite.mounts if beside.sqlite else None,
    )


def _pod(args: WasmServiceArgs, beside: Beside, labelled: dict[str, str]) -> core.v1.PodTemplateSpecArgs:
    others = [part for part in (beside.decision, *beside.expose) if part is not None]
    config = dict(args.config_map.data) if args.config_map else {}
    config |= beside.decision.config if beside.decision else {}
    volumes = [*(beside.sqlite.volumes if beside.sqlite else ()), *(one for part in others for one in part.volumes)]
    return core.v1.PodTemplateSpecArgs(
        metadata=meta.v1.ObjectMetaArgs(
            labels=labelled, annotations={pods.CONFIG_ANNOTATION: pods.config_hash(config)}
        ),
        spec=core.v1.PodSpecArgs(
            runtime_class_name=args.runtime_class,
            node_selector=args.node_selector,
            automount_service_account_token=False,
            enable_service_links=False,
            termination_grace_period_seconds=GRACE_SECONDS,
            security_context=pods.pod_security(),
            containers=[_container(args, beside), *(one for part in others for one in part.containers)],
            volumes=volumes or None,
        ),
    )


def _deployment(
    args: WasmServiceArgs,
    labelled: dict[str, str],
    pod: core.v1.PodTemplateSpecArgs,
    opts: pulumi.ResourceOptions,
) -> None:
    apps.v1.Deployment(
        f"{args.namespace}-{args.system}",
        metadata=pods.metadata(args.system, args.namespace, labelled),
        spec=apps.v1.DeploymentSpecArgs(
            replicas=args.replicas,
            selector=meta.v1.LabelSelectorArgs(match_labels=labelled),
            strategy=apps.v1.DeploymentStrategyArgs(
                type="RollingUpdate",
                rolling_update=apps.v1.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
            ),
            template=pod,
        ),
        opts=opts,
    )


def _stateful_set(
    args: WasmServiceArgs,
    labelled: dict[str, str],
    pod: core.v1.PodTemplateSpecArgs,
    opts: pulumi.ResourceOptions,
) -> None:
    apps.v1.StatefulSet(
        f"{args.namespace}-{args.system}",
        metadata=pods.metadata(args.system, args.namespace, labelled),
        spec=apps.v1.StatefulSetSpecArgs(
            replicas=1,
            service_name=args.system,
            selector=meta.v1.LabelSelectorArgs(match_labels=labelled),
            template=pod,
        ),
        opts=opts,
    )
