"""How many pods, and whether they fit: arithmetic, with the table that an operator reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefleet_pulumi.model import ModelError, load_industries
from edgefleet_pulumi.model.budget import (
    NODE,
    Part,
    Reserve,
    Room,
    back_end_parts,
    check,
    reserves,
    service_part,
    table,
)
from edgefleet_pulumi.model.scale import hub_replicas, site_replicas

INDUSTRIES = load_industries()
CALLS, EXAMS = INDUSTRIES["telemedicine-service"], INDUSTRIES["examination-system"]
RESERVED = [Reserve("system reserved", Room(250, 512)), Reserve("eviction threshold", Room(0, 256))]


def test_a_hub_has_the_declared_number() -> None:
    assert {system: hub_replicas(one) for system, one in INDUSTRIES.items()} == {
        "examination-system": 40,
        "learning-management-system": 60,
        "digital-government-service": 100,
        "telemedicine-service": 20,
        "iot-data-processor": 100,
    }


@pytest.mark.parametrize(("measured", "pods"), [(100, 5), (499, 2), (500, 1), (20_000, 1)])
def test_a_site_has_as_many_as_it_needs(measured: int, pods: int) -> None:
    assert site_replicas(CALLS, measured) == pods


@pytest.mark.parametrize("measured", [None, 500, 20_000])
def test_a_service_with_a_file_of_its_own_has_one(measured: int | None) -> None:
    assert site_replicas(EXAMS, measured) == 1


def test_one_pod_that_is_too_slow_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"examination-system: a node has to carry 500 QPS and a pod carries 499, .* one pod"
    ):
        site_replicas(EXAMS, 499)


def test_no_number_without_a_measurement() -> None:
    with pytest.raises(
        ModelError, match=r"telemedicine-service: measured_qps_per_pod is missing: set it .* carry 500 QPS"
    ):
        site_replicas(CALLS)
    with pytest.raises(ModelError, match="measured_qps_per_pod: must be at least 1, not 0"):
        site_replicas(CALLS, 0)


def test_what_is_left() -> None:
    parts = [service_part(CALLS, 2), *back_end_parts(CALLS)]
    assert [(part.name, part.pods, part.total) for part in parts] == [
        ("telemedicine-service", 2, Room(400, 512)),
        ("rabbitmq", 1, Room(200, 512)),
        ("turn", 1, Room(100, 64)),
    ]
    left = check(parts, reserved=RESERVED)
    assert left == Room(4000 - 250 - 700, 8192 - 768 - 1088)


def test_a_full_node_is_not_too_full() -> None:
    assert check([Part("all", 1, NODE)], reserved=[]) == Room(0, 0)


def test_too_much_is_refused_with_the_whole_sum() -> None:
    parts = [service_part(CALLS, 20), *back_end_parts(CALLS)]
    with pytest.raises(ModelError, match=r"the node is too small by 550m CPU: deploy fewer") as raised:
        check(parts, reserved=RESERVED)
    assert str(raised.value).splitlines()[1:] == [
        "                        pods       CPU     memory",
        "node                             4000m     8192Mi",
        "- system reserved                 250m      512Mi",
        "- eviction threshold                0m      256Mi",
        "- telemedicine-service    20     4000m     5120Mi",
        "- rabbitmq                 1      200m      512Mi",
        "- turn                     1      100m       64Mi",
        "left                             -550m     1728Mi",
    ]
    assert str(raised.value).endswith(table(parts, reserved=RESERVED))


def test_both_short() -> None:
    with pytest.raises(ModelError, match="too small by 1m CPU and 1Mi memory"):
        check([Part("all", 1, NODE + Room(1, 1))], reserved=[])


DEFAULTS = """
k3s_system_reserved: {cpu: 250m, memory: 512Mi}
k3s_kube_reserved: {cpu: "1", memory: 1Gi}
k3s_eviction_hard: {memory.available: 256Mi}
"""


def defaults(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "main.yml"
    path.write_text(text)
    return path


def test_reserves_of_the_role(tmp_path: Path) -> None:
    assert reserves(defaults(tmp_path, DEFAULTS)) == [
        Reserve("system reserved", Room(250, 512)),
        Reserve("kube reserved", Room(1000, 1024)),
        Reserve("eviction threshold", Room(0, 256)),
    ]


@pytest.mark.parametrize("system", INDUSTRIES)
def test_each_system_fits_beside_what_the_role_reserves(system: str) -> None:
    one = INDUSTRIES[system]
    left = check([service_part(one, site_replicas(one, 1000)), *back_end_parts(one)], reserved=reserves())
    assert left.memory > 4096, "monitoring, policies and a second system have to go there, too"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("k3s_kube_reserved", "k3s_kube", "k3s_kube_reserved: must have cpu and memory, such as"),
        ("512Mi", "512", "k3s_system_reserved.memory: write bytes with Ki, Mi or Gi such as 256Mi, not '512'"),
        ("memory.available", "nodefs.available", "k3s_eviction_hard: has no memory.available: add it"),
    ],
)
def test_reserves_that_can_not_be_read(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = defaults(tmp_path, DEFAULTS.replace(old, new))
    with pytest.raises(ModelError, match=f"{path}: {sentence}"):
        reserves(path)
