"""industries/<system>/industry.yml: everything that is to be known about a system, once."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from edgefleet_pulumi.model.units import Change, Cpu, Memory, Milliseconds, Percent, mebibytes, millicores

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+){1,2}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
NodePort = Annotated[int, Field(ge=30000, le=32767)]
Count = Annotated[int, Field(ge=1)]

# A name like these holds a secret, and a declaration holds none: they are made at the site.
SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|PRIVATE_?KEY|API_?KEY", re.IGNORECASE)
MOST_RELAY_PORTS = 100


class Strict(BaseModel):
    """What all parts of a declaration have in common: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Scale(Strict):
    """How big the whole fleet of the system is."""

    nodes: Count = Field(description="edge nodes, at least")
    pods: Count = Field(description="pods, at least")
    users: Count = Field(description="how many use it")
    users_are: str = Field(description="what they are, such as students")
    events_per_day: Count = Field(description="events a day")
    events_are: str = Field(description="what they are, such as exam events")
    qps: Count = Field(description="requests a second over all nodes")

    @property
    def qps_per_node(self) -> int:
        """What one node has to carry."""
        return math.ceil(self.qps / self.nodes)


class Latency(Strict):
    """Latency of a request at the service, counted from the intended send time."""

    p50: Milliseconds
    p99: Milliseconds
    p999: Milliseconds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.p50 <= self.p99 <= self.p999:
            raise ValueError("p50 <= p99 <= p999 must hold: put the larger limit at the higher percentile")
        return self


class Slo(Strict):
    """What the system promises its users."""

    latency: Latency
    cold_start: Milliseconds = Field(description="`crun run` to first output: the layer of the OCI runtime")
    availability: Percent
    cpu_mean: Percent = Field(description="mean CPU use of a node, at most")
    memory_mean: Percent = Field(description="mean memory use of a node, at most")
    video_latency: Milliseconds | None = Field(default=None, description="latency of video, at most")


class OwnTarget(Strict):
    """What this industry measures itself by."""

    name: Name
    at_least: Percent
    formula: str = Field(description="how it is computed, in words")


class Goals(Strict):
    """What the move to the edge shall bring."""

    node_cost: Change = Field(description="cost of an edge node, compared with before")
    utilisation: Change = Field(description="use of a node's resources, compared with before")
    own: OwnTarget


class Amount(Strict):
    """CPU and memory."""

    cpu: Cpu
    memory: Memory


class Resources(Strict):
    """What a pod asks for, and what it gets at most."""

    requests: Amount
    limits: Amount

    @model_validator(mode="after")
    def _requests_fit(self) -> Self:
        requests, limits = self.requests, self.limits
        if millicores(requests.cpu) > millicores(limits.cpu):
            raise ValueError(
                f"requests.cpu {requests.cpu} is above limits.cpu {limits.cpu}: lower it, or raise the limit"
            )
        if mebibytes(requests.memory) > mebibytes(limits.memory):
            raise ValueError(
                f"requests.memory {requests.memory} is above limits.memory {limits.memory}: lower it, "
                "or raise the limit"
            )
        return self


class Port(Strict):
    """A port of the service's container."""

    name: Name
    port: PortNumber
    app: Literal["http", "webrtc", "mqtt"] = Field(description="what is spoken there")


class ConfigMap(Strict):
    """A ConfigMap that the service reads."""

    name: Name
    data: dict[str, str]


class Service(Strict):
    """The system's own Wasm service."""

    image: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+:[A-Za-z0-9._-]+$")] = (
        Field(description="registry, repository and tag; stacks other than dev resolve it to a digest")
    )
    replicas: Count = Field(description="pods at a hub; a site's number follows from the scale rule")
    runtime_class: Literal["wasmedge"]
    node_selector: dict[str, str]
    resources: Resources
    ports: list[Port] = Field(min_length=1)
    environment: dict[EnvironmentName, str] = Field(
        default={}, description="plain settings; secrets are never among them"
    )
    config_map: ConfigMap | None = None
    models: list[Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]+\.wasm$")]] = Field(
        default=[], description="models, compiled to Wasm, that its image carries"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [port.name for port in self.ports]
        if len(set(names)) < len(names):
            raise ValueError(f"ports: names must differ, not {', '.join(names)}: rename one")
        numbers = [port.port for port in self.ports]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"ports: numbers must differ, not {', '.join(map(str, numbers))}: change one")
        secret = next((name for name in self.environment if SECRET_NAME.search(name)), None)
        if secret:
            raise ValueError(
                f"environment: {secret} looks like a secret, and secrets are made at the site: remove it; "
                "what connects to a back end follows from back_ends"
            )
        path = self.environment.get("MODEL_PATH")
        if path is not None and path not in self.models:
            raise ValueError(f"environment: MODEL_PATH {path} is not in models: add it there, so that the image has it")
        return self


class Sqlite(Strict):
    """A SQLite file of the service's own: one writer, so one pod at a site."""

    version: Version = Field(description="this or later")
    storage: Memory


class Redis(Strict):
    """A Redis server at the site."""

    version: Version
    uses: list[Literal["cache", "queue"]] = Field(min_length=1)
    storage: Memory
    resources: Resources


class RabbitMQ(Strict):
    """A RabbitMQ server at the site."""

    version: Version
    storage: Memory
    resources: Resources


class Mosquitto(Strict):
    """An MQTT broker at the site: what devices connect to."""

    protocol: Literal["5.0"]
    port: PortNumber
    storage: Memory
    resources: Resources


class Turn(Strict):
    """A TURN server, which relays calls that can't go directly; it needs ports of the host itself."""

    port: PortNumber = Field(description="STUN and TURN, over UDP and as fallback over TCP")
    relay_ports: list[PortNumber] = Field(min_length=2, max_length=2, description="first and last port of the relays")
    resources: Resources

    @model_validator(mode="after")
    def _few_ports(self) -> Self:
        first, last = self.relay_ports
        if not 0 <= last - first < MOST_RELAY_PORTS:
            raise ValueError(
                f"relay_ports: from {first} to {last} must be 1 to {MOST_RELAY_PORTS} ports: "
                "each is a hole in the firewall"
            )
        return self


class BackEnds(Strict):
    """What runs beside the service at the site."""

    sqlite: Sqlite | None = None
    redis: Redis | None = None
    rabbitmq: RabbitMQ | None = None
    mosquitto: Mosquitto | None = None
    turn: Turn | None = None

    def declared(self) -> dict[str, Redis | RabbitMQ | Mosquitto | Turn]:
        """The servers by name. SQLite is none: it is a file."""
        servers = {"redis": self.redis, "rabbitmq": self.rabbitmq, "mosquitto": self.mosquitto, "turn": self.turn}
        return {name: server for name, server in servers.items() if server is not None}


class Expose(Strict):
    """A port that the site's network reaches: a node port, and the one hole in the firewall for it."""

    port: Name = Field(description="name of a port of the service, or of mosquitto's (mqtt)")
    to: Literal["service", "mosquitto"] = "service"
    node_port: NodePort
    tls: Literal[True] = Field(description="always true: nothing leaves a site's node in clear text")


class Data(Strict):
    """What holds for the system's data."""

    stays_local: bool = Field(
        description="compiled to the OPA decision, admission, NetworkPolicy egress and host firewall"
    )
    encrypted: bool
    audited: bool


class Policy(Strict):
    """Who decides what a user may do."""

    package: Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_]+)+$")] = Field(
        description="package of policy/*.rego; its `decision` is what is enforced"
    )

    @property
    def decision_path(self) -> str:
        """Where OPA's data API answers with the decision."""
        return f"/v1/data/{self.package.replace('.', '/')}/decision"


class Hole(Strict):
    """A port, or a range, that the host's firewall lets in."""

    protocol: Literal["tcp", "udp"]
    first: PortNumber
    last: PortNumber
    why: str


class Industry(Strict):
    """One system of one industry."""

    system: Name
    industry: Literal["education", "government", "healthcare", "manufacturing"] | Name
    description: str
    scale: Scale
    slo: Slo
    goals: Goals
    service: Service
    back_ends: BackEnds = BackEnds()
    data: Data
    policy: Policy
    expose: list[Expose] = Field(min_length=1)

    @property
    def namespace(self) -> str:
        """Where everything of the system runs."""
        return self.system

    @property
    def wasm_repository(self) -> str:
        """The image's repository, without registry and tag."""
        return self.service.image.split("/", 1)[1].rsplit(":", 1)[0]

    def holes(self) -> list[Hole]:
        """The firewall holes of the system: what it exposes, and nothing else."""
        holes = [
            Hole(protocol="tcp", first=one.node_port, last=one.node_port, why=f"{self.system} {one.port}")
            for one in self.expose
        ]
        turn = self.back_ends.turn
        if turn:
            first, last = turn.relay_ports
            holes += [
                Hole(protocol="tcp", first=turn.port, last=turn.port, why=f"{self.system} TURN over TCP"),
                Hole(protocol="udp", first=turn.port, last=turn.port, why=f"{self.system} TURN"),
                Hole(protocol="udp", first=first, last=last, why=f"{self.system} TURN relays"),
            ]
        return holes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = {port.name for port in self.service.ports}
        for number, one in enumerate(self.expose):
            if one.to == "service" and one.port not in names:
                raise ValueError(
                    f"expose[{number}].port: the service has no port {one.port}: use one of {', '.join(sorted(names))}"
                )
            if one.to == "mosquitto" and self.back_ends.mosquitto is None:
                raise ValueError(
                    f"expose[{number}].to: no mosquitto in back_ends: declare it there, or expose the service"
                )
        speaks = {port.app for port in self.service.ports}
        if "webrtc" in speaks and self.back_ends.turn is None:
            raise ValueError(
                "back_ends.turn: a webrtc port needs a TURN server for calls that can't go directly: add turn"
            )
        if "mqtt" in speaks and self.back_ends.mosquitto is None:
            raise ValueError("back_ends.mosquitto: an mqtt port needs a broker: add mosquitto")
        return self
