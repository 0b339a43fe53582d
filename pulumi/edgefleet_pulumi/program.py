"""What the programs of the systems are made of: one declaration and one stack, turned into components.

The only place that reads Pulumi's configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pulumi
import pulumi_kubernetes

from edgefleet_pulumi import images
from edgefleet_pulumi.cluster.api import Api, cluster_identity
from edgefleet_pulumi.cluster.make_secrets import make
from edgefleet_pulumi.components import decision_point, expose, gatekeeper, monitoring, mosquitto, rabbitmq, redis, turn
from edgefleet_pulumi.components.data_locality import (
    DataLocality,
    DataLocalityArgs,
    namespace,
    no_way_out,
    to_the_site,
)
from edgefleet_pulumi.components.decision_point import HEALTH_PORT, DecisionPoint, DecisionPointArgs
from edgefleet_pulumi.components.expose import Expose, ExposeArgs
from edgefleet_pulumi.components.mosquitto import Mosquitto, MosquittoArgs
from edgefleet_pulumi.components.rabbitmq import RabbitMQ, RabbitMQArgs
from edgefleet_pulumi.components.redis import Redis, RedisArgs
from edgefleet_pulumi.components.site_secrets import SiteSecret, SiteSecrets, SiteSecretsArgs
from edgefleet_pulumi.components.sqlite_volume import SqliteVolume, SqliteVolumeArgs
from edgefleet_pulumi.components.turn import Turn, TurnArgs
from edgefleet_pulumi.components.wasm_service import (
    METRICS_PORT,
    Beside,
    SecretVariable,
    WasmService,
    WasmServiceArgs,
)
from edgefleet_pulumi.model import ModelError, StackConfig, budget, checked, load_industry, scale
from edgefleet_pulumi.model.load import INDUSTRIES
from edgefleet_pulumi.monitoring import metrics

Part = TypeVar("Part")
Config = TypeVar("Config", bound=StackConfig)
MONITORING_NAMESPACE = "edgefleet-monitoring"
BUNDLES = "bundle"


@contextmanager
def one_error() -> Iterator[None]:
    """What is wrong with a declaration is told as it is: Pulumi would put a traceback around it."""
    try:
        yield
    except ModelError as error:
        raise pulumi.RunError(str(error)) from error


def stack_config(model: type[Config]) -> Config:
    """The configuration of this stack, checked by its model."""
    where = f"Pulumi.{pulumi.get_stack()}.yaml"
    config = pulumi.Config()
    found = config.get_object("site")
    if found is None:
        raise ModelError(f"{where}: {config.name}:site: is missing: copy it from another stack of this project")
    return checked(model, found, f"{where}: {config.name}:site")


def cluster_provider(site: StackConfig) -> pulumi_kubernetes.Provider:
    """The cluster of this stack, or the folder that its bundle is rendered into.

    Neither kubeconfig nor anything in it becomes part of the state: it is looked up each time. A cluster that is out of
    reach is an error here, before anything is declared.
    """
    if site.bundle:
        folder = Path.cwd() / BUNDLES / pulumi.get_stack()
        # Empty, or Pulumi would take it from KUBECONFIG and refuse to render beside it.
        return pulumi_kubernetes.Provider("bundle", kubeconfig="", render_yaml_to_directory=str(folder))
    context = pulumi.Config("kubernetes").get("context")
    if context is None and site.environment != "dev":
        raise ModelError(
            f"kubernetes:context: {site.environment} names its cluster, so that it can't be another one by accident: "
            "pulumi config set kubernetes:context <name in your kubeconfig>"
        )
    return pulumi_kubernetes.Provider(
        "cluster",
        context=context,
        # Without it another address of the same cluster would count as another cluster, and all would be replaced.
        cluster_identifier=cluster_identity(Api.of(context)),
        enable_server_side_apply=True,
        enable_config_map_mutable=True,
    )


def made_at_the_site(
    component: SiteSecrets, args: SiteSecretsArgs, site: StackConfig
) -> pulumi.Output[pulumi.Resource]:
    """The list of secrets as a resource that is there when they are made: what depends on it finds them.

    A bundle only carries the list: the site makes them when it applies it.
    """

    def ensured(_: object) -> pulumi.Resource:
        if not site.bundle and not pulumi.runtime.is_dry_run():
            make(Api.of(pulumi.Config("kubernetes").get("context")), args.namespace, args.secrets)
        return component.config_map

    return component.config_map.metadata.apply(ensured)


class System:
    """One system on one stack: its declaration, and a method for each part that a program may put together."""

    def __init__(self, *, secrets: Sequence[SiteSecret] = (), industries: Path = INDUSTRIES) -> None:
        self.folder = industries / pulumi.get_project()
        with one_error():
            self.industry = load_industry(self.folder / "industry.yml")
            self.site = stack_config(StackConfig)
            self.replicas = self._replicas()
            self.images = images.of_system(self.industry, self.site)
            provider = pulumi.ResourceOptions(provider=cluster_provider(self.site))
        self.name = self.industry.system
        spaces = self._namespaces(provider)
        self._entrances: list[int] = []
        self._metrics: list[int] = []
        args = SiteSecretsArgs(namespace=self.name, system=self.name, secrets=[*self.secrets(), *secrets])
        after = pulumi.ResourceOptions(depends_on=spaces)
        listed = SiteSecrets(self.name, args, pulumi.ResourceOptions.merge(provider, after))
        self.options = pulumi.ResourceOptions.merge(
            provider, pulumi.ResourceOptions(depends_on=[*spaces, made_at_the_site(listed, args, self.site)])
        )

    def _namespaces(self, provider: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        """Where the system runs; data that stays local has no way out of there before there is any."""
        stays_local = self.industry.data.stays_local
        found: list[pulumi.Resource] = [namespace(self.name, self.name, provider, stays_local=stays_local)]
        if self.industry.back_ends.turn:
            found.append(turn.exempt_namespace(self._turn_args(), provider, stays_local=stays_local))
        if stays_local:
            inside = pulumi.ResourceOptions.merge(provider, pulumi.ResourceOptions(depends_on=[*found]))
            found.append(no_way_out(self.name, self.name, inside))
            if self.industry.back_ends.turn:
                relay = turn.turn_namespace(self.name)
                found.append(no_way_out(relay, self.name, inside))
                found.append(to_the_site(relay, self.name, self.site.site_network, inside))
        return found

    def _replicas(self) -> int:
        if self.site.topology == "hub":
            return scale.hub_replicas(self.industry)
        replicas = scale.site_replicas(self.industry, self.site.measured_qps_per_pod)
        beside = budget.Part("OPA and TLS beside it", replicas, _beside(len(self.industry.expose)))
        own = [budget.service_part(self.industry, replicas), beside, *budget.back_end_parts(self.industry)]
        admission = budget.Part("gatekeeper", 1, budget.Room.of(gatekeeper.RESOURCES.requests))
        parts = [*own, admission, *monitoring.parts()]
        budget.check(parts, reserved=budget.reserves())
        return replicas

    def secrets(self) -> list[SiteSecret]:
        """What the site has to make for this system."""
        back_ends = self.industry.back_ends
        servers = {"redis": redis.SECRET, "rabbitmq": rabbitmq.SECRET, "mosquitto": mosquitto.SECRET}
        found = [secret for name, secret in servers.items() if getattr(back_ends, name)]
        if back_ends.turn:
            found.append(turn.secret(self._turn_args()))
        targets = {self.name if one.to == "service" else one.to for one in self.industry.expose}
        return [*found, *(expose.certificate(target, self.name) for target in sorted(targets))]

    def redis(self) -> Redis:
        """The Redis server of the declaration."""
        wanted = _declared(self.industry.back_ends.redis, "redis", self.name)
        args = RedisArgs(
            namespace=self.name,
            system=self.name,
            image=self.images["redis"],
            uses=wanted.uses,
            storage=wanted.storage,
            resources=wanted.resources,
        )
        return Redis(f"{self.name}-redis", args, self.options)

    def rabbitmq(self) -> RabbitMQ:
        """The RabbitMQ server of the declaration."""
        wanted = _declared(self.industry.back_ends.rabbitmq, "rabbitmq", self.name)
        args = RabbitMQArgs(
            namespace=self.name,
            system=self.name,
            image=self.images["rabbitmq"],
            storage=wanted.storage,
            resources=wanted.resources,
        )
        self._metrics.append(rabbitmq.METRICS_PORT)
        return RabbitMQ(f"{self.name}-rabbitmq", args, self.options)

    def mosquitto(self) -> Mosquitto:
        """The MQTT broker of the declaration, with what is exposed of it."""
        wanted = _declared(self.industry.back_ends.mosquitto, "mosquitto", self.name)
        args = MosquittoArgs(
            namespace=self.name,
            system=self.name,
            image=self.images["mosquitto"],
            port=wanted.port,
            storage=wanted.storage,
            resources=wanted.resources,
        )
        exposed = self._expose("mosquitto", wanted.port)
        return Mosquitto(f"{self.name}-mosquitto", args, exposed, self.options)

    def turn(self) -> Turn:
        """The TURN server of the declaration."""
        return Turn(f"{self.name}-turn", self._turn_args(), self.options)

    def _turn_args(self) -> TurnArgs:
        wanted = _declared(self.industry.back_ends.turn, "turn", self.name)
        image = self.images["turn"]
        return TurnArgs(system=self.name, image=image, declared=wanted, site_network=self.site.site_network)

    def sqlite(self) -> SqliteVolume:
        """The disk of the service's SQLite file."""
        wanted = _declared(self.industry.back_ends.sqlite, "sqlite", self.name)
        args = SqliteVolumeArgs(namespace=self.name, system=self.name, service=self.name, storage=wanted.storage)
        return SqliteVolume(f"{self.name}-sqlite", args, self.options)

    def decision_point(self) -> DecisionPoint:
        """OPA with the system's policies."""
        files = sorted(self.folder.glob("policy/*.rego"))
        rego = {file.name: file.read_text("utf-8") for file in files if not file.name.endswith("_test.rego")}
        args = DecisionPointArgs(
            namespace=self.name,
            system=self.name,
            service=self.name,
            image=self.images["opa"],
            policy=self.industry.policy,
            rego=rego,
        )
        self._metrics.append(HEALTH_PORT)
        return DecisionPoint(f"{self.name}-decision-point", args, self.options)

    def service(
        self,
        *,
        decision: DecisionPoint,
        sqlite: SqliteVolume | None = None,
        environment: dict[str, str] | None = None,
        secrets: Sequence[SecretVariable] = (),
    ) -> WasmService:
        """The Wasm service itself. `environment` says where its back ends are, `secrets` by which passwords."""
        wanted = self.industry.service
        args = WasmServiceArgs(
            namespace=self.name,
            system=self.name,
            image=self.images[self.name],
            replicas=self.replicas,
            runtime_class=wanted.runtime_class,
            node_selector=wanted.node_selector,
            resources=wanted.resources,
            ports=wanted.ports,
            environment={**wanted.environment, **(environment or {})},
            config_map=wanted.config_map,
            latency_bounds_ms=list(metrics.bounds_ms(self.industry)),
        )
        self._metrics.append(METRICS_PORT)
        beside = Beside(sqlite=sqlite, decision=decision, expose=self._expose("service"), secrets=secrets)
        return WasmService(self.name, args, beside, self.options)

    def _expose(self, to: str, port: int = 0) -> list[Expose]:
        numbers = {one.name: one.port for one in self.industry.service.ports}
        found = []
        for index, one in enumerate(one for one in self.industry.expose if one.to == to):
            args = ExposeArgs(
                namespace=self.name,
                system=self.name,
                target=self.name if to == "service" else to,
                port_name=one.port,
                port=port or numbers[one.port],
                node_port=one.node_port,
                index=index,
                image=self.images["tls"],
            )
            exposed = Expose(f"{self.name}-{to}-{one.port}", args, self.options)
            self._entrances.append(exposed.tls_port)
            self._metrics.append(exposed.status_port)
            found.append(exposed)
        return found

    def data_locality(self) -> DataLocality:
        """Who may talk to whom: called last, when it is known what there is."""
        args = DataLocalityArgs(
            namespace=self.name,
            system=self.name,
            stays_local=self.industry.data.stays_local,
            site_network=self.site.site_network,
            entrances=sorted(set(self._entrances)),
            monitoring_namespace=MONITORING_NAMESPACE,
            metrics_ports=sorted(set(self._metrics)),
        )
        return DataLocality(f"{self.name}-data-locality", args, self.options)


def _beside(exposed: int) -> budget.Room:
    """What the containers in a service's pod ask for beside the service."""
    return budget.Room.of(decision_point.RESOURCES.requests) + budget.Room.of(expose.RESOURCES.requests).times(exposed)


def _declared(part: Part | None, name: str, system: str) -> Part:
    if part is None:
        raise ModelError(f"industries/{system}/industry.yml: back_ends.{name}: the program uses it: declare it there")
    return part
