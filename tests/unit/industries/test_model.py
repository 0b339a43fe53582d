"""Each mistake ends in one line that names file, key and fix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgefleet_pulumi.model import Industry, ModelError, StackConfig, checked, load_industries, load_industry
from edgefleet_pulumi.model.load import INDUSTRIES, ROOT
from edgefleet_pulumi.model.units import mebibytes, millicores

SYSTEM = "telemedicine-service"
SCHEMA = json.loads((INDUSTRIES / "schema.json").read_text())


def declaration(system: str = SYSTEM) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((INDUSTRIES / system / "industry.yml").read_text())
    return content


Spoil = Callable[[dict[str, Any]], Any]


def put(*path: str | int, value: Any) -> Spoil:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def drop(*path: str) -> Spoil:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


# How it is spoilt, what is said, and whether the JSON Schema sees it, too: it knows nothing of what spans several keys.
MISTAKES: list[tuple[Spoil, str, bool]] = [
    (put("sytem", value=1), "sytem: no such key: did you mean system?", True),
    (put("service", "replica", value=1), "service.replica: no such key: did you mean replicas?", True),
    (
        put("data", "xyz", value=1),
        "data.xyz: no such key: remove it; known here: audited, encrypted, stays_local",
        True,
    ),
    (put("service", "ports", 0, "prot", value=1), r"service.ports\[0\].prot: no such key: did you mean port?", True),
    (drop("scale", "nodes"), r"scale.nodes: is missing: add it \(edge nodes, at least\)", True),
    (drop("policy"), "policy: is missing: add it", True),
    (put("slo", "latency", "p50", value="20s"), "slo.latency.p50: write milliseconds such as 20ms, not '20s'", True),
    (put("slo", "latency", "p50", value=20), "slo.latency.p50: write milliseconds such as 20ms, not 20", True),
    (put("slo", "latency", "p50", value="0ms"), "slo.latency.p50: must be more than 0ms", False),
    (put("slo", "latency", "p50", value="60ms"), "slo.latency: p50 <= p99 <= p999 must hold", False),
    (put("slo", "availability", value="0.999"), "slo.availability: write a percentage such as 99.9%", True),
    (put("slo", "availability", value="101%"), "slo.availability: must be more than 0% and at most 100%", False),
    (put("goals", "node_cost", value="60%"), "goals.node_cost: write a change with its sign, such as -50%", True),
    (
        put("service", "resources", "limits", "memory", value="1GB"),
        "service.resources.limits.memory: write bytes with Ki, Mi or Gi such as 256Mi, not '1GB'",
        True,
    ),
    (put("service", "resources", "requests", "cpu", value=200), "requests.cpu: must be text: put 200 in quotes", True),
    (put("service", "resources", "requests", "cpu", value="0"), "requests.cpu: write cores or millicores", True),
    (
        put("service", "resources", "requests", "cpu", value="2"),
        "service.resources: requests.cpu 2 is above limits.cpu 1000m: lower it, or raise the limit",
        False,
    ),
    (
        put("service", "resources", "requests", "memory", value="2Gi"),
        "service.resources: requests.memory 2Gi is above limits.memory 1Gi",
        False,
    ),
    (put("service", "replicas", value="20"), "service.replicas: must be a whole number, not '20'", True),
    (put("service", "replicas", value=0), "service.replicas: must be at least 1, not 0", True),
    (put("service", "runtime_class", value="wasmtime"), "runtime_class: must be 'wasmedge', not 'wasmtime'", True),
    (put("service", "image", value="telemedicine"), "service.image: must match .* which 'telemedicine' does not", True),
    (
        put("service", "environment", "WEBRTC_ENABLED", value=True),
        "WEBRTC_ENABLED: must be text: put true in quotes",
        True,
    ),
    (
        put("service", "environment", "DB_PASSWORD", value="x"),
        "service: environment: DB_PASSWORD looks like a secret, and secrets are made at the site",
        False,
    ),
    (
        put("service", "environment", "MODEL_PATH", value="/models/x.wasm"),
        "service: environment: MODEL_PATH /models/x.wasm is not in models: add it there",
        False,
    ),
    (put("service", "ports", value=[]), "service.ports: needs at least 1 entries: add one", True),
    (put("service", "ports", 1, "name", value="http"), "service: ports: names must differ, not http, http", False),
    (put("service", "ports", 1, "port", value=8080), "service: ports: numbers must differ, not 8080, 8080", False),
    (put("service", "ports", 0, "port", value=70000), r"ports\[0\].port: must be at most 65535, not 70000", True),
    (put("service", "ports", 0, "app", value="ftp"), r"ports\[0\].app: must be 'http', 'webrtc' or 'mqtt'", True),
    (put("back_ends", "rabbitmq", "version", value=3.13), "rabbitmq.version: must be text: put 3.13 in quotes", True),
    (
        put("back_ends", "turn", "relay_ports", value=[49000, 49100]),
        "1 to 100 ports: each is a hole in the firewall",
        False,
    ),
    (
        put("back_ends", "turn", "relay_ports", value=[49100, 49000]),
        "from 49100 to 49000 must be 1 to 100 ports",
        False,
    ),
    (put("back_ends", "turn", value=None), "back_ends.turn: a webrtc port needs a TURN server", False),
    (
        put("expose", 0, "port", value="https"),
        r"expose\[0\].port: the service has no port https: use one of http, web",
        False,
    ),
    (put("expose", 0, "to", value="mosquitto"), r"expose\[0\].to: no mosquitto in back_ends: declare it there", False),
    (put("expose", 0, "tls", value=False), r"expose\[0\].tls: must be true, not false", True),
    (put("expose", 0, "node_port", value=8080), r"expose\[0\].node_port: must be at least 30000, not 8080", True),
    (put("expose", value={}), "expose: must be a list, not {}", True),
    (put("data", value=[]), r"data: must be a mapping, not \[\]", True),
    (put("data", "stays_local", value="yes"), "data.stays_local: must be true or false, not 'yes'", True),
]


@pytest.mark.parametrize(("spoil", "sentence", "seen_by_schema"), MISTAKES, ids=[one[1][:40] for one in MISTAKES])
def test_mistake(spoil: Spoil, sentence: str, seen_by_schema: bool) -> None:
    content = declaration()
    spoil(content)
    with pytest.raises(ModelError, match=f"^industries/x/industry.yml: .*{sentence}") as raised:
        checked(Industry, content, "industries/x/industry.yml")
    assert len(str(raised.value).splitlines()) == 1
    assert bool(list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(content))) == seen_by_schema


def test_each_mistake_has_its_line() -> None:
    content = declaration()
    for spoil in (drop("scale", "nodes"), put("slo", "cold_start", value="10"), put("x", value=1)):
        spoil(content)
    with pytest.raises(ModelError) as raised:
        checked(Industry, content, "f.yml")
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == ["scale.nodes", "slo.cold_start", "x"]


@pytest.mark.parametrize("system", sorted(load_industries()))
def test_schema_accepts_what_the_model_accepts(system: str) -> None:
    jsonschema.validate(declaration(system), SCHEMA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "industries"
    for file in INDUSTRIES.glob("*/industry.yml"):
        (copy / file.parent.name).mkdir(parents=True)
        shutil.copy(file, copy / file.parent.name)
    return copy


def test_system_and_folder_have_one_name(folder: Path) -> None:
    (folder / SYSTEM).rename(folder / "clinic")
    with pytest.raises(
        ModelError, match=f"industries/clinic/industry.yml: system: is {SYSTEM}, the folder clinic: give"
    ):
        load_industries(folder)


def test_node_ports_of_two_systems_differ(folder: Path) -> None:
    file = folder / SYSTEM / "industry.yml"
    file.write_text(file.read_text().replace("30084", "30081"))
    with pytest.raises(ModelError, match=r"node_port 30081 is examination-system's: choose another"):
        load_industries(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("system: a\nsystem: b\n", "industry.yml, line 2: the key system stands there twice: remove one"),
        ("a: [1\n", "industry.yml, line 2: expected ',' or ']'"),
        ("", "industry.yml: must be a mapping, not nothing"),
    ],
)
def test_not_even_yaml(folder: Path, text: str, sentence: str) -> None:
    file = folder / SYSTEM / "industry.yml"
    file.write_text(text)
    with pytest.raises(ModelError, match=sentence):
        load_industry(file)


def test_no_file_and_no_system(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"industries/x/industry\.yml: no such file: copy one from another system"):
        load_industry(tmp_path / "x" / "industry.yml")
    with pytest.raises(ModelError, match=r"no <system>/industry\.yml in it"):
        load_industries(tmp_path)


def test_quantities() -> None:
    assert [millicores(text) for text in ("200m", "1", "1.5", "0.25")] == [200, 1000, 1500, 250]
    assert [mebibytes(text) for text in ("1Gi", "256Mi", "1Ki")] == [1024, 256, 1]
    with pytest.raises(ValueError, match="such as 200m or 1, not '1 core'"):
        millicores("1 core")
    with pytest.raises(ValueError, match="such as 256Mi, not '1M'"):
        mebibytes("1M")


STACK = {
    "environment": "prod",
    "topology": "site",
    "site_network": "192.168.10.0/24",
    "images": {"a": f"sha256:{'0' * 64}"},
}


def test_stack() -> None:
    assert checked(StackConfig, STACK, "Pulumi.prod.yaml").bundle is False
    assert checked(StackConfig, {**STACK, "images": {}}, "Pulumi.prod.yaml").images == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": {"a": "sha256:1"}}, "images.a: must match"),
        ({"site_network": "192.168.10.1/24"}, "site_network: write a network such as .*has host bits set"),
        ({"environment": "test"}, "environment: must be 'dev', 'staging' or 'prod', not 'test'"),
        ({"measured_qps_per_pod": 0}, "measured_qps_per_pod: must be at least 1"),
        ({"toplogy": "hub"}, "toplogy: no such key: did you mean topology?"),
    ],
)
def test_stack_mistake(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=f"^Pulumi.prod.yaml: {sentence}"):
        checked(StackConfig, {**STACK, **change}, "Pulumi.prod.yaml")


def test_repository_root() -> None:
    assert (ROOT / "galaxy.yml").is_file()
