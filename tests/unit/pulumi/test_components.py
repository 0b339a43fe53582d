"""Each component: what matters of what it declares, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pulumi
import pytest
import yaml

from edgefleet_pulumi.components import data_locality, grafana, mosquitto, rabbitmq, redis, turn
from edgefleet_pulumi.components.data_locality import DataLocality, DataLocalityArgs
from edgefleet_pulumi.components.decision_point import DecisionPoint, DecisionPointArgs
from edgefleet_pulumi.components.expose import Expose, ExposeArgs
from edgefleet_pulumi.components.monitoring import Monitoring, MonitoringArgs, Target
from edgefleet_pulumi.components.node_exporter import NodeExporter, NodeExporterArgs
from edgefleet_pulumi.components.site_secrets import SiteSecret, SiteSecrets, SiteSecretsArgs
from edgefleet_pulumi.components.sqlite_volume import BackupArgs, SqliteVolume, SqliteVolumeArgs
from edgefleet_pulumi.components.wasm_service import Beside, SecretVariable, WasmService, WasmServiceArgs
from edgefleet_pulumi.model import ModelError
from edgefleet_pulumi.model.industry import Amount, ConfigMap, Policy, Port, Resources
from edgefleet_pulumi.model.industry import Turn as DeclaredTurn
from edgefleet_pulumi.model.stack import Hub
from tests.unit.pulumi.recording import Declared, declared, one, pods

TARGET = Target(job="s-opa", kind="opa", system="s", service="s.n", port=8282)
RESOURCES = Resources(requests=Amount(cpu="50m", memory="64Mi"), limits=Amount(cpu="500m", memory="512Mi"))
IMAGE = "registry.example.com/some/image:1"


def redis_args(**changed: Any) -> redis.RedisArgs:
    values = {"namespace": "n", "system": "s", "image": IMAGE, "uses": ["cache"], "storage": "1Gi"}
    return redis.RedisArgs(**{**values, "resources": RESOURCES, **changed})


def rabbitmq_args(**changed: Any) -> rabbitmq.RabbitMQArgs:
    values = {"namespace": "n", "system": "s", "image": IMAGE, "storage": "2Gi", "resources": RESOURCES}
    return rabbitmq.RabbitMQArgs(**{**values, **changed})


def mosquitto_args(**changed: Any) -> mosquitto.MosquittoArgs:
    values = {"namespace": "n", "system": "s", "image": IMAGE, "port": 1883, "storage": "1Gi"}
    return mosquitto.MosquittoArgs(**{**values, "resources": RESOURCES, **changed})


def turn_args(**changed: Any) -> turn.TurnArgs:
    wanted = DeclaredTurn(port=3478, relay_ports=[49160, 49161], resources=RESOURCES)
    values = {"system": "s", "image": IMAGE, "declared": wanted, "site_network": "192.168.10.0/24"}
    return turn.TurnArgs(**{**values, **changed})


def expose_args(**changed: Any) -> ExposeArgs:
    values = {"namespace": "n", "system": "s", "target": "s", "port_name": "http", "port": 8080, "node_port": 30080}
    return ExposeArgs(**{**values, "image": IMAGE, **changed})


def decision_args(**changed: Any) -> DecisionPointArgs:
    values = {"namespace": "n", "system": "s", "service": "s", "image": IMAGE, "policy": Policy(package="a.b")}
    return DecisionPointArgs(**{**values, "rego": {"b.rego": "package a.b\n"}, **changed})


def service_args(**changed: Any) -> WasmServiceArgs:
    values = {"namespace": "n", "system": "s", "image": IMAGE, "replicas": 1, "runtime_class": "wasmedge"}
    values |= {"node_selector": {"node-type": "edge"}, "resources": RESOURCES}
    values |= {"latency_bounds_ms": [1.0, 2.5, 20.0]}
    return WasmServiceArgs(**{**values, "ports": [Port(name="http", port=8080, app="http")], **changed})


def monitoring_args(**changed: Any) -> MonitoringArgs:
    values: dict[str, Any] = {"namespace": "n", "image": IMAGE, "alertmanager_image": IMAGE, "storage": "4Gi"}
    values |= {"targets": [TARGET], "rules": {"s.rules.yml": "groups: []\n"}}
    return MonitoringArgs(**{**values, **changed})


def grafana_args(**changed: Any) -> grafana.GrafanaArgs:
    values = {"namespace": "n", "image": IMAGE, "prometheus": "prometheus.n:9090", "dashboards": {"a.json": "{}"}}
    return grafana.GrafanaArgs(**{**values, **changed})


def locality_args(**changed: Any) -> DataLocalityArgs:
    values = {"namespace": "n", "system": "s", "stays_local": True, "site_network": "192.168.10.0/24"}
    values |= {"entrances": [8443], "monitoring_namespace": "m", "metrics_ports": [8282]}
    return DataLocalityArgs(**{**values, **changed})


def sqlite_args(**changed: Any) -> SqliteVolumeArgs:
    return SqliteVolumeArgs(**{"namespace": "n", "system": "s", "service": "s", "storage": "1Gi", **changed})


BACKUP = BackupArgs(schedule="0 3 * * *", image=IMAGE, url="http://s.n:8080/backup")
EVERYTHING: dict[str, Callable[[], object]] = {
    "redis": lambda: redis.Redis("c", redis_args()),
    "rabbitmq": lambda: rabbitmq.RabbitMQ("c", rabbitmq_args()),
    "mosquitto": lambda: mosquitto.Mosquitto("c", mosquitto_args(), [Expose("e", expose_args())]),
    "turn": lambda: turn.Turn("c", turn_args()),
    "sqlite": lambda: SqliteVolume("c", sqlite_args(backup=BACKUP)),
    "monitoring": lambda: Monitoring("c", monitoring_args()),
    "node exporter": lambda: NodeExporter("c", NodeExporterArgs(namespace="n", image=IMAGE)),
    "grafana": lambda: grafana.Grafana("c", grafana_args()),
    "service": lambda: WasmService(
        "c",
        service_args(),
        Beside(
            sqlite=SqliteVolume("v", sqlite_args()),
            decision=DecisionPoint("d", decision_args()),
            expose=[Expose("e", expose_args())],
        ),
    ),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_least_privilege(name: str) -> None:
    specs = pods(declared(EVERYTHING[name]))
    assert specs
    for spec in specs.values():
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["nodeSelector"] == {"node-type": "edge"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume]
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["imagePullPolicy"] == "IfNotPresent"
            assert {*container["resources"]["requests"], *container["resources"]["limits"]} == {"cpu", "memory"}


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name != "sqlite"])
def test_every_long_running_container_is_probed(name: str) -> None:
    for spec in pods(declared(EVERYTHING[name])).values():
        for container in spec["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= set(container), container["name"]


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_volume_that_is_mounted_is_there(name: str) -> None:
    for spec in pods(declared(EVERYTHING[name])).values():
        volumes = [volume["name"] for volume in spec.get("volumes", [])]
        assert len(volumes) == len(set(volumes))
        mounted = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
        assert mounted == set(volumes)


@pytest.mark.parametrize(
    ("uses", "lines"),
    [
        (["cache"], {"maxmemory-policy allkeys-lru", "appendonly no"}),
        (["queue"], {"maxmemory-policy noeviction", "appendonly yes"}),
        (["cache", "queue"], {"maxmemory-policy volatile-lru", "appendonly yes"}),
    ],
)
def test_redis_keeps_what_is_queued(uses: list[str], lines: set[str]) -> None:
    found = declared(lambda: redis.Redis("c", redis_args(uses=uses)))
    config = one(found, "ConfigMap")["data"]["redis.conf"]
    assert lines <= set(config.splitlines())
    assert "maxmemory 307mb" in config
    assert one(found, "StatefulSet")["spec"]["replicas"] == 1
    assert one(found, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_a_changed_configuration_makes_a_new_pod() -> None:
    def hashed(args: redis.RedisArgs) -> str:
        template = one(declared(lambda: redis.Redis("c", args)), "StatefulSet")["spec"]["template"]
        value = template["metadata"]["annotations"]["edgefleet.io/config"]
        assert isinstance(value, str)
        return value

    assert hashed(redis_args()) == hashed(redis_args())
    assert hashed(redis_args()) != hashed(redis_args(uses=["queue"]))


def test_rabbitmq_counts_its_own_memory_and_disk() -> None:
    found = declared(lambda: rabbitmq.RabbitMQ("c", rabbitmq_args()))
    config = one(found, "ConfigMap")["data"]["rabbitmq.conf"]
    assert "vm_memory_high_watermark.absolute = 307MiB" in config
    assert "disk_free_limit.absolute = 204MiB" in config


def test_mosquitto_lets_nobody_in_without_a_password_and_keeps_sessions() -> None:
    found = declared(lambda: mosquitto.Mosquitto("c", mosquitto_args(), [Expose("e", expose_args())]))
    lines = one(found, "ConfigMap")["data"]["mosquitto.conf"].splitlines()
    assert {"allow_anonymous false", "persistence true", "max_queued_messages 0"} <= set(lines)
    assert [c["name"] for c in pods(found)["mosquitto"]["containers"]] == ["mosquitto", "tls-http"]


def test_turn_has_the_hosts_ports_and_its_exemption_in_writing() -> None:
    def program() -> None:
        turn.exempt_namespace(turn_args(), pulumi.ResourceOptions())
        turn.Turn("c", turn_args())

    found = declared(program)
    space = one(found, "Namespace", "s-turn")["metadata"]
    assert space["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert "ports of the host" in space["annotations"]["edgefleet.io/exemption"]
    ports = {(p["hostPort"], p["protocol"]) for p in pods(found)["turn"]["containers"][0]["ports"]}
    assert ports == {(3478, "TCP"), (3478, "UDP"), (49160, "UDP"), (49161, "UDP")}
    assert one(found, "Deployment")["spec"]["strategy"]["type"] == "Recreate"


def test_turn_relays_to_the_site_only() -> None:
    lines = turn.configuration(turn_args()).splitlines()
    assert "allowed-peer-ip=192.168.10.0-192.168.10.255" in lines
    assert "denied-peer-ip=0.0.0.0-255.255.255.255" in lines
    assert "static-auth-secret={secret}" in lines


def test_sqlite_is_one_pods_alone() -> None:
    def program() -> None:
        WasmService("c", service_args(), Beside(sqlite=SqliteVolume("v", sqlite_args())))

    found = declared(program)
    claims = [d.inputs["spec"]["accessModes"] for d in found if d.kind == "PersistentVolumeClaim"]
    assert claims == [["ReadWriteOncePod"]] * 2
    assert one(found, "StatefulSet", "s")["spec"]["replicas"] == 1
    assert not [d for d in found if d.kind == "Deployment"]


def test_sqlite_refuses_a_second_writer() -> None:
    with pytest.raises(ModelError, match="s: 2 replicas with a SQLite file, which has one writer: set replicas to 1"):
        declared(lambda: WasmService("c", service_args(replicas=2), Beside(sqlite=SqliteVolume("v", sqlite_args()))))


def test_the_backup_asks_the_service_and_needs_no_disk() -> None:
    found = declared(lambda: SqliteVolume("c", sqlite_args(backup=BACKUP)))
    job = one(found, "CronJob")["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    spec = job["jobTemplate"]["spec"]["template"]["spec"]
    assert "volumes" not in spec
    assert spec["containers"][0]["command"][-1] == BACKUP.url


def test_the_decision_point_is_reached_from_its_pod_only() -> None:
    points: list[DecisionPoint] = []
    found = declared(lambda: points.append(DecisionPoint("c", decision_args())))
    arguments = points[0].containers[0].args
    assert isinstance(arguments, list)
    assert "--addr=127.0.0.1:8181" in arguments
    assert "--set=decision_logs.console=true" in arguments
    assert arguments[-1] == "/policy/b.rego"
    assert points[0].environment == {"OPA_URL": "http://127.0.0.1:8181/v1/data/a/b/decision"}
    assert one(found, "ConfigMap", "s-policy")["data"] == {"b.rego": "package a.b\n"}


def test_the_service_surges_so_that_no_request_is_lost() -> None:
    found = declared(lambda: WasmService("c", service_args(replicas=3)))
    spec = one(found, "Deployment", "s")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = spec["template"]["spec"]
    assert pod["runtimeClassName"] == "wasmedge"
    assert pod["terminationGracePeriodSeconds"] == 5
    probe = pod["containers"][0]["readinessProbe"]["httpGet"]
    assert (probe["path"], probe["port"]) == ("/readyz", "http")


def test_the_service_is_told_names_of_secrets_never_values() -> None:
    beside = Beside(secrets=[SecretVariable("PASSWORD", "redis", "password")])
    config = ConfigMap(name="settings", data={"sync": "true"})
    args = service_args(environment={"B": "2"}, config_map=config)
    found = declared(lambda: WasmService("c", args, beside))
    container = pods(found)["s"]["containers"][0]
    assert container["env"] == [
        {"name": "B", "value": "2"},
        {"name": "LATENCY_BUCKETS_MS", "value": "1,2.5,20"},
        {"name": "METRICS_PORT", "value": "9464"},
        {"name": "PORT", "value": "8080"},
        {"name": "SYSTEM", "value": "s"},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
    ]
    assert container["envFrom"] == [{"configMapRef": {"name": "settings"}}]


def test_a_service_without_http_is_probed_by_its_port() -> None:
    args = service_args(ports=[Port(name="mqtt", port=1883, app="mqtt")])
    container = pods(declared(lambda: WasmService("c", args)))["s"]["containers"][0]
    assert container["readinessProbe"]["tcpSocket"] == {"port": "mqtt"}


def test_what_is_exposed_is_encrypted_and_nothing_else_is_exposed() -> None:
    exposed: list[Expose] = []
    found = declared(lambda: exposed.extend(Expose(f"e{i}", expose_args(index=i, port_name=f"p{i}")) for i in (0, 1)))
    service = one(found, "Service", "s-p1")["spec"]
    assert service["type"] == "NodePort"
    assert service["externalTrafficPolicy"] == "Local"
    assert service["ports"] == [{"name": "p1-tls", "port": 8080, "targetPort": 8444, "nodePort": 30080}]
    arguments = exposed[1].containers[0].args
    assert isinstance(arguments, list)
    assert {"--listen=0.0.0.0:8444", "--target=127.0.0.1:8080"} <= set(arguments)
    assert [len(one.volumes) for one in exposed] == [1, 0], "both use one volume"


def rules(found: list[Declared], name: str) -> dict[str, Any]:
    spec = one(found, "NetworkPolicy", name)["spec"]
    assert isinstance(spec, dict)
    return spec


def test_data_that_stays_local_finds_no_way_out() -> None:
    def program() -> None:
        data_locality.no_way_out("n", "s", pulumi.ResourceOptions())
        DataLocality("c", locality_args())

    found = declared(program)
    assert rules(found, "no-way-out") == {"podSelector": {}, "policyTypes": ["Egress"]}
    assert rules(found, "default-deny")["policyTypes"] == ["Ingress"]
    out = rules(found, "ways-out")["egress"]
    assert [peer for rule in out for peer in rule["to"] if "ipBlock" in peer] == [
        {"ipBlock": {"cidr": "192.168.10.0/24"}}
    ]
    assert {port["port"] for rule in out for port in rule.get("ports", [])} == {53}
    assert rules(found, "entrances")["ingress"] == [
        {"from": [{"ipBlock": {"cidr": "192.168.10.0/24"}}], "ports": [{"protocol": "TCP", "port": 8443}]}
    ]


def test_data_that_may_leave_is_still_not_reached_from_elsewhere() -> None:
    found = declared(lambda: DataLocality("c", locality_args(stays_local=False)))
    assert rules(found, "default-deny")["policyTypes"] == ["Ingress"]
    assert not [d for d in found if d.inputs["metadata"]["name"] == "ways-out"]


def test_a_namespace_is_restricted_and_says_what_its_data_may() -> None:
    options = pulumi.ResourceOptions()
    found = declared(lambda: data_locality.namespace("n", "s", options, stays_local=True))
    labels = one(found, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["edgefleet.io/data"] == "local"


def prometheus_config(**changed: Any) -> dict[str, Any]:
    found = declared(lambda: Monitoring("c", monitoring_args(**changed)))
    config = yaml.safe_load(one(found, "ConfigMap")["data"]["prometheus.yml"])
    assert isinstance(config, dict)
    return config


def alertmanager_config(**changed: Any) -> dict[str, Any]:
    found = declared(lambda: Monitoring("c", monitoring_args(**changed)))
    config = yaml.safe_load(one(found, "ConfigMap")["data"]["alertmanager.yml"])
    assert isinstance(config, dict)
    return config


def test_monitoring_fits_its_disk_and_keeps_a_budgets_30_days() -> None:
    found = declared(lambda: Monitoring("c", monitoring_args()))
    arguments = pods(found)["prometheus"]["containers"][0]["args"]
    assert {"--storage.tsdb.retention.size=2867MB", "--storage.tsdb.retention.time=32d"} <= set(arguments)


def test_prometheus_may_look_and_read_and_nothing_else() -> None:
    found = declared(lambda: Monitoring("c", monitoring_args()))
    assert one(found, "ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
    ]
    assert one(found, "Role")["metadata"]["namespace"] == "n"
    assert one(found, "Role")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    assert one(found, "ServiceAccount")["automountServiceAccountToken"] is False


def test_the_token_is_prometheuss_alone() -> None:
    spec = pods(declared(lambda: Monitoring("c", monitoring_args())))["prometheus"]
    mounted = {c["name"]: {m["name"] for m in c["volumeMounts"]} for c in spec["containers"]}
    assert "account" in mounted["prometheus"]
    assert "account" not in mounted["alertmanager"]


def test_alertmanager_is_reached_from_its_pod_only() -> None:
    found = declared(lambda: Monitoring("c", monitoring_args()))
    arguments = pods(found)["prometheus"]["containers"][1]["args"]
    assert "--web.listen-address=127.0.0.1:9093" in arguments
    assert [port["port"] for port in one(found, "Service")["spec"]["ports"]] == [9090]


def test_pods_are_found_by_name_and_a_single_server_is_missed_when_it_is_gone() -> None:
    rabbit = Target(job="s-rabbitmq", kind="rabbitmq", system="s", service="r.n", port=1, single=True)
    jobs = {job["job_name"]: job for job in prometheus_config(targets=[TARGET, rabbit])["scrape_configs"]}
    assert jobs["s-opa"]["dns_sd_configs"][0]["names"] == ["s.n"]
    assert jobs["s-rabbitmq"]["static_configs"] == [{"targets": ["r.n:1"]}]
    assert set(jobs) == {"s-opa", "s-rabbitmq", "kubelet", "cadvisor", "node", "prometheus", "alertmanager"}


def test_of_each_source_only_what_is_declared_is_kept() -> None:
    for job in prometheus_config()["scrape_configs"]:
        assert [rule["action"] for rule in job["metric_relabel_configs"]] == ["keep"]
    opa = prometheus_config()["scrape_configs"][0]["metric_relabel_configs"][0]["regex"]
    assert "http_request_duration_seconds_count" in opa.split("|")


def test_without_a_hub_nothing_is_sent() -> None:
    assert "remote_write" not in prometheus_config()
    assert alertmanager_config()["receivers"] == [{"name": "hub"}]


def test_a_hub_gets_what_the_rules_made_and_is_shown_the_operators_token() -> None:
    hub = Hub(remote_write="https://hub.example.com/write", alerts="https://hub.example.com/alerts")
    (written,) = prometheus_config(hub=hub)["remote_write"]
    assert written["url"] == "https://hub.example.com/write"
    assert written["authorization"] == {"credentials_file": "/run/secrets/hub/token"}
    sent = re.compile(written["write_relabel_configs"][0]["regex"])
    assert all(sent.fullmatch(name) for name in ("slo:errors:ratio_rate5m", "ALERTS", "up"))
    assert not sent.fullmatch("container_memory_working_set_bytes")
    (receiver,) = alertmanager_config(hub=hub)["receivers"]
    assert receiver["webhook_configs"][0]["http_config"]["authorization"] == written["authorization"]
    volume = next(
        volume
        for volume in pods(declared(lambda: Monitoring("c", monitoring_args(hub=hub))))["prometheus"]["volumes"]
        if volume["name"] == "hub"
    )
    assert volume["secret"]["optional"] is True, "a site measures without it"


def test_grafana_is_told_its_password_by_a_file() -> None:
    found = declared(lambda: grafana.Grafana("c", grafana_args()))
    container = pods(found)["grafana"]["containers"][0]
    settings = {entry["name"]: entry["value"] for entry in container["env"]}
    assert settings["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana/password"
    assert one(found, "ConfigMap", "grafana-dashboards")["data"] == {"a.json": "{}"}


def test_secrets_are_a_list_of_names() -> None:
    args = SiteSecretsArgs(namespace="n", system="s", secrets=[redis.SECRET, mosquitto.SECRET])
    found = declared(lambda: SiteSecrets("c", args))
    text = one(found, "ConfigMap", "site-secrets")["data"]["secrets.json"]
    assert yaml.safe_load(text)[1] == {
        "name": "redis",
        "random": {"password": 40},
        "text": {"auth.conf": "requirepass {password}\n"},
    }
    assert not [d for d in found if d.kind == "Secret"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: redis_args(storage="1G"), r"RedisArgs: storage: write bytes with Ki, Mi or Gi .* not '1G'"),
        (lambda: redis_args(uses=[]), "RedisArgs: uses: List should have at least 1 item"),
        (lambda: redis_args(image="redis"), "RedisArgs: image: String should match pattern"),
        (lambda: redis_args(image="docker.io/library/redis"), "RedisArgs: image: String should match pattern"),
        (lambda: redis_args(pasword="x"), "RedisArgs: pasword: Extra inputs are not permitted, given 'x'"),
        (
            lambda: rabbitmq_args(resources=small()),
            "RabbitMQArgs: arguments: limits.memory 128Mi: RabbitMQ needs 512Mi",
        ),
        (lambda: mosquitto_args(port=0), "MosquittoArgs: port: Input should be greater than or equal to 1"),
        (lambda: service_args(replicas=0), "WasmServiceArgs: replicas: Input should be greater than or equal to 1"),
        (lambda: service_args(ports=[]), "WasmServiceArgs: ports: List should have at least 1 item"),
        (lambda: expose_args(node_port=8080), "ExposeArgs: node_port: Input should be greater than or equal to 30000"),
        (lambda: decision_args(rego={"b_test.rego": ""}), r"DecisionPointArgs: rego: b_test\.rego: policies are"),
        (lambda: decision_args(rego={}), "DecisionPointArgs: rego: Dictionary should have at least 1 item"),
        (lambda: monitoring_args(targets=[]), "MonitoringArgs: targets: List should have at least 1 item"),
        (lambda: SiteSecret(name="x"), "SiteSecret: arguments: x: give either random keys or a certificate's names"),
        (lambda: SiteSecret(name="x", random={"k": 8}), "SiteSecret: arguments: x: k has fewer than 16 letters"),
        (
            lambda: SiteSecret(name="x", random={"k": 16}, text={"t": "{other}"}),
            "SiteSecret: arguments: x: no random key other: add it",
        ),
        (
            lambda: SiteSecretsArgs(namespace="n", system="s", secrets=[redis.SECRET, redis.SECRET]),
            "SiteSecretsArgs: arguments: redis is declared twice: remove one",
        ),
    ],
)
def test_bad_arguments(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ModelError, match=f"^{sentence}") as refused:
        make()
    assert len(re.findall("\n", str(refused.value))) == 0, "one mistake, one line"


def small() -> Resources:
    return Resources(requests=Amount(cpu="50m", memory="64Mi"), limits=Amount(cpu="500m", memory="128Mi"))


def test_an_exemption_without_a_reason() -> None:
    with pytest.raises(ValueError, match="namespace n: a level other than restricted goes with an exemption's reason"):
        data_locality.namespace("n", "s", pulumi.ResourceOptions(), level="privileged")
