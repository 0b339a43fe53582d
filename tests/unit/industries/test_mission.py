"""The declarations against the figures that were asked for, written down here once more, by hand."""

from __future__ import annotations

import pytest

from edgefleet_pulumi.model import Industry, load_industries

INDUSTRIES = load_industries()
# nodes, pods, users, events a day, latency, QPS, CPU and memory mean, replicas, ports, cost, utilisation, own target
MISSION = {
    "examination-system": (
        200,
        2_000,
        500_000,
        1_000_000,
        (20, 30, 50),
        100_000,
        (50, 60),
        40,
        {"http": 8080},
        -50,
        60,
        95,
    ),
    "learning-management-system": (
        300,
        3_000,
        1_000_000,
        5_000_000,
        (30, 50, 100),
        200_000,
        (40, 50),
        60,
        {"http": 8080},
        -50,
        60,
        95,
    ),
    "digital-government-service": (
        500,
        5_000,
        10_000_000,
        50_000_000,
        (30, 50, 100),
        500_000,
        (40, 50),
        100,
        {"http": 8080},
        -50,
        60,
        95,
    ),
    "telemedicine-service": (
        100,
        1_000,
        100_000,
        500_000,
        (20, 50, 100),
        50_000,
        (30, 50),
        20,
        {"http": 8080, "webrtc": 8081},
        -60,
        70,
        99,
    ),
    "iot-data-processor": (
        500,
        5_000,
        100_000,
        10_000_000,
        (30, 50, 100),
        500_000,
        (50, 60),
        100,
        {"mqtt": 1883},
        -60,
        70,
        99.9,
    ),
}
PER_NODE = {
    "examination-system": 500,
    "learning-management-system": 667,
    "digital-government-service": 1000,
    "telemedicine-service": 500,
    "iot-data-processor": 1000,
}
ENVIRONMENT = {
    "examination-system": {"ANTI_CHEAT_ENABLED": "true", "MODEL_PATH": "/models/anti-cheat-model.wasm"},
    "learning-management-system": {"SYNC_ENABLED": "true"},
    "digital-government-service": {},
    "telemedicine-service": {"WEBRTC_ENABLED": "true"},
    "iot-data-processor": {"MQTT_ENABLED": "true"},
}
BACK_ENDS = {
    "examination-system": {"sqlite": "3.45"},
    "learning-management-system": {"sqlite": "3.45", "redis": "7.2"},
    "digital-government-service": {"sqlite": "3.45", "redis": "7.2"},
    "telemedicine-service": {"rabbitmq": "3.13"},
    "iot-data-processor": {"sqlite": "3.45", "mosquitto": "5.0"},
}
PACKAGES = {
    "examination-system": "education.examination",
    "learning-management-system": "education.learning",
    "digital-government-service": "government.digital",
    "telemedicine-service": "healthcare.telemedicine",
    "iot-data-processor": "manufacturing.smart",
}
every_system = pytest.mark.parametrize("system", MISSION)


def test_no_system_is_missing() -> None:
    assert set(INDUSTRIES) == set(MISSION)
    assert len({one.model_dump_json(exclude={"system"}) for one in INDUSTRIES.values()}) == 5


@every_system
def test_figures(system: str) -> None:
    one = INDUSTRIES[system]
    latency = one.slo.latency
    assert MISSION[system] == (
        one.scale.nodes,
        one.scale.pods,
        one.scale.users,
        one.scale.events_per_day,
        (latency.p50, latency.p99, latency.p999),
        one.scale.qps,
        (one.slo.cpu_mean, one.slo.memory_mean),
        one.service.replicas,
        {port.name: port.port for port in one.service.ports},
        one.goals.node_cost,
        one.goals.utilisation,
        one.goals.own.at_least,
    )
    assert one.scale.qps_per_node == PER_NODE[system]
    assert (one.slo.cold_start, one.slo.availability) == (10, 99.9)
    assert one.slo.video_latency == (50 if system == "telemedicine-service" else None)


@every_system
def test_workload(system: str) -> None:
    service = INDUSTRIES[system].service
    assert service.image == f"registry.example.com/{system}:latest"
    assert service.runtime_class == "wasmedge"
    assert service.node_selector == {"node-type": "edge"}
    requests, limits = service.resources.requests, service.resources.limits
    small = system == "iot-data-processor"
    assert (requests.cpu, requests.memory) == (("100m", "128Mi") if small else ("200m", "256Mi"))
    assert (limits.cpu, limits.memory) == (("500m", "512Mi") if small else ("1000m", "1Gi"))
    assert service.environment == ENVIRONMENT[system]


def test_configuration_of_the_learning_system() -> None:
    config = INDUSTRIES["learning-management-system"].service.config_map
    assert config is not None
    assert config.name == "learning-management-config"
    assert config.data == {"sync_enabled": "true", "sync_interval": "10s", "cache_enabled": "true", "cache_ttl": "300s"}


@every_system
def test_back_ends_policy_and_data(system: str) -> None:
    one = INDUSTRIES[system]
    declared = one.back_ends.model_dump(exclude_none=True)
    versions = {name: part.get("version", part.get("protocol")) for name, part in declared.items() if name != "turn"}
    assert versions == BACK_ENDS[system]
    assert one.policy.package == PACKAGES[system]
    assert one.data.stays_local == (system in ("telemedicine-service", "iot-data-processor"))
    assert (one.data.encrypted, one.data.audited) == ((system == "digital-government-service"),) * 2


def test_calls_that_can_not_go_directly_have_a_relay_with_few_ports() -> None:
    turn = INDUSTRIES["telemedicine-service"].back_ends.turn
    assert turn is not None
    first, last = turn.relay_ports
    assert last - first < 100


@every_system
def test_holes_are_what_is_exposed_and_nothing_else(system: str) -> None:
    one = INDUSTRIES[system]
    tcp = {hole.first for hole in one.holes() if hole.protocol == "tcp"}
    turn = one.back_ends.turn
    assert tcp == {exposed.node_port for exposed in one.expose} | ({turn.port} if turn else set())
    assert any(hole.protocol == "udp" for hole in one.holes()) == (turn is not None)


def test_decision_path() -> None:
    industry: Industry = INDUSTRIES["examination-system"]
    assert industry.policy.decision_path == "/v1/data/education/examination/decision"
