"""The programs of all projects, on every stack: what they declare is valid, hardened and the same each time."""

from __future__ import annotations

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pulumi
import pytest
import yaml

from edgefleet_pulumi import images
from edgefleet_pulumi.model import PlatformConfig, StackConfig, checked, load_industries
from edgefleet_pulumi.program import stack_config
from tests.unit.pulumi.recording import Declared, declared, one, pods

ROOT = Path(__file__).resolve().parents[3]
PROJECTS = ROOT / "pulumi"
INDUSTRIES = load_industries()
SYSTEMS = sorted(INDUSTRIES)
STACKS = sorted(PROJECTS.glob("*/Pulumi.*.yaml"))
KUBERNETES = "1.30"
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declaring asks no cluster; what is made there has its own tests."""
    monkeypatch.setattr("edgefleet_pulumi.program.make", lambda *_: None)
    monkeypatch.setattr("edgefleet_pulumi.program.Api.of", lambda *_: None)
    monkeypatch.setattr("edgefleet_pulumi.program.cluster_identity", lambda _: "the-clusters-uid")


def stack_file(project: str, stack: str) -> dict[str, Any]:
    content = yaml.safe_load((PROJECTS / project / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = content["config"]
    return found


def run(project: str, stack: str = "dev", config: dict[str, Any] | None = None) -> list[Declared]:
    main = PROJECTS / project / "__main__.py"
    return declared(
        lambda: runpy.run_path(str(main), run_name="__main__"),
        project=project,
        stack=stack,
        config=config or stack_file(project, stack),
    )


@cache
def dev(project: str) -> list[Declared]:
    """What the dev stack declares, once for all tests that only look at it."""
    return run(project)


def objects(found: list[Declared]) -> list[dict[str, Any]]:
    """What is declared; the runtime classes are only looked up."""
    return [d.inputs for d in found if d.token.startswith("kubernetes:") and d.kind != "RuntimeClass"]


def test_a_project_for_every_system_and_a_program_that_fits_a_screen() -> None:
    assert sorted(path.parent.name for path in PROJECTS.glob("*/Pulumi.yaml")) == sorted([*SYSTEMS, "platform"])
    for main in PROJECTS.glob("*/__main__.py"):
        assert len(main.read_text(encoding="utf-8").splitlines()) < 60, main
        project = yaml.safe_load(main.with_name("Pulumi.yaml").read_text(encoding="utf-8"))
        assert project["name"] == main.parent.name
        names = {f"Pulumi.{env}{kind}.yaml" for env in ("dev", "staging", "prod") for kind in ("", "-bundle")}
        assert {path.name for path in main.parent.glob("Pulumi.*.yaml")} == names


@pytest.mark.parametrize("path", STACKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_stack_file_is_what_the_model_takes(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
    model = PlatformConfig if path.parent.name == "platform" else StackConfig
    site = checked(model, config[f"{path.parent.name}:site"], path.name)
    assert path.name == f"Pulumi.{site.environment}{'-bundle' if site.bundle else ''}.yaml"


@pytest.mark.parametrize("project", [*SYSTEMS, "platform"])
def test_every_object_is_valid_kubernetes(project: str) -> None:
    found = objects(dev(project))
    assert found
    # Gatekeeper's own kinds are held to their content by `gator verify`.
    for document in (d for d in found if not d["apiVersion"].partition("/")[0].endswith(".gatekeeper.sh")):
        kubernetes_validate.validate(json.loads(json.dumps(document)), KUBERNETES, strict=True)


def test_the_schemas_refuse_what_is_misspelt() -> None:
    found = objects(dev("examination-system"))
    document = json.loads(json.dumps(next(d for d in found if d["kind"] == "StatefulSet")))
    document["spec"]["template"]["spec"]["runtimeClas"] = "wasmedge"
    with pytest.raises(kubernetes_validate.ValidationError, match="runtimeClas"):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("project", [*SYSTEMS, "platform"])
def test_the_same_each_time_and_no_secret_value_in_it(project: str) -> None:
    first, second = (
        sorted((d.token, d.name, json.dumps(d.inputs, sort_keys=True)) for d in run(project)) for _ in "12"
    )
    assert first == second
    assert not [token for token, _, _ in first if token.endswith(":Secret")]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_service_is_as_its_declaration_says(system: str) -> None:
    industry = INDUSTRIES[system]
    found = dev(system)
    pod = pods(found)[system]
    service = pod["containers"][0]
    assert pod["runtimeClassName"] == "wasmedge"
    assert pod["nodeSelector"] == {"node-type": "edge"}
    assert service["image"] == f"registry.example.com/{system}:latest"
    assert service["resources"]["requests"] == industry.service.resources.requests.model_dump()
    assert service["resources"]["limits"] == industry.service.resources.limits.model_dump()
    ports = [port["containerPort"] for port in service["ports"] if port["name"] != "metrics"]
    assert ports == [port.port for port in industry.service.ports]
    given = {entry["name"]: entry.get("value") for entry in service["env"]}
    assert industry.service.environment.items() <= given.items()
    assert given["OPA_URL"].endswith(industry.policy.decision_path)
    ports = [p["nodePort"] for d in found if d.kind == "Service" for p in d.inputs["spec"]["ports"] if "nodePort" in p]
    assert sorted(ports) == sorted(exposed.node_port for exposed in industry.expose)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_declared_back_end_is_there(system: str) -> None:
    servers = {"redis", "rabbitmq", "mosquitto", "turn"}
    assert servers & set(pods(dev(system))) == set(INDUSTRIES[system].back_ends.declared())


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_secret_that_a_pod_uses_is_on_the_list(system: str) -> None:
    found = dev(system)
    secrets = json.loads(one(found, "ConfigMap", "site-secrets")["data"]["secrets.json"])
    listed = {(space, one["name"]) for one in secrets for space in [system, *one.get("also_in", [])]}
    used = set()
    workloads = [d.inputs["metadata"] for d in found if d.kind in ("Deployment", "StatefulSet")]
    spaces = {metadata["name"]: metadata["namespace"] for metadata in workloads}
    for name, spec in pods(found).items():
        names = {volume["secret"]["secretName"] for volume in spec.get("volumes", []) if "secret" in volume}
        variables = [entry for container in spec["containers"] for entry in container.get("env", [])]
        names |= {e["valueFrom"]["secretKeyRef"]["name"] for e in variables if "secretKeyRef" in e.get("valueFrom", {})}
        used |= {(spaces[name], secret) for secret in names}
    assert used == listed


def pinned(system: str) -> dict[str, Any]:
    config = stack_file(system, "prod")
    config[f"{system}:site"]["images"] = dict.fromkeys(images.needed(INDUSTRIES[system]), DIGEST)
    return {**config, "kubernetes:context": "hub"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_other_than_dev_every_image_is_a_digest(system: str) -> None:
    config = pinned(system)
    if INDUSTRIES[system].back_ends.sqlite:
        config[f"{system}:site"]["topology"] = "site"
    for spec in pods(run(system, "prod", config)).values():
        for container in spec["containers"]:
            assert re.fullmatch(r"[^@]+@sha256:0{64}", container["image"])
            assert ":latest" not in container["image"]


def test_a_missing_digest_is_named_with_the_command_that_sets_it() -> None:
    config = pinned("telemedicine-service")
    del config["telemedicine-service:site"]["images"]["opa"]
    sentence = r"site\.images: prod runs images by digest.*\n  pulumi config set --path 'site\.images\.opa' sha256:"
    with pytest.raises(pulumi.RunError, match=sentence):
        run("telemedicine-service", "prod", config)


def test_a_hub_has_the_missions_replicas() -> None:
    spec = one(
        run("telemedicine-service", "prod", pinned("telemedicine-service")), "Deployment", "telemedicine-service"
    )
    assert spec["spec"]["replicas"] == 20


def test_prod_names_its_cluster() -> None:
    config = pinned("telemedicine-service")
    del config["kubernetes:context"]
    with pytest.raises(pulumi.RunError, match=r"kubernetes:context: prod names its cluster"):
        run("telemedicine-service", "prod", config)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"enviroment": "dev"}, r"Pulumi\.dev\.yaml: test:site: enviroment: no such key: did you mean environment\?"),
        ({"site_network": "10.0.0.1/8"}, r"Pulumi\.dev\.yaml: test:site: site_network: write a network"),
        (None, r"Pulumi\.dev\.yaml: test:site: is missing: copy it from another stack"),
    ],
)
def test_a_wrong_stack(change: dict[str, Any] | None, sentence: str) -> None:
    site = {"environment": "dev", "topology": "site", "site_network": "10.0.0.0/8"}
    config = {"test:site": {**site, **change}} if change is not None else {}
    with pytest.raises(ValueError, match=sentence):
        declared(lambda: stack_config(StackConfig), config=config)


def test_an_unknown_image() -> None:
    config = stack_file("examination-system", "dev")
    config["examination-system:site"]["references"] = {"redsi": "registry.example.com/redis:7"}
    with pytest.raises(pulumi.RunError, match="no image named redsi: here are examination-system, opa, tls"):
        run("examination-system", config=config)


def test_too_many_pods_for_a_node() -> None:
    config = stack_file("telemedicine-service", "dev")
    config["telemedicine-service:site"]["measured_qps_per_pod"] = 20
    with pytest.raises(pulumi.RunError, match=r"(?s)the node is too small by .*\n.*telemedicine-service +25 "):
        run("telemedicine-service", config=config)


@pytest.mark.parametrize(
    "part", ["gatekeeper", "prometheus, alertmanager", "node exporter", "grafana, if it is wanted"]
)
def test_what_the_platform_asks_for_is_in_a_sites_budget(part: str) -> None:
    config = stack_file("telemedicine-service", "dev")
    config["telemedicine-service:site"]["measured_qps_per_pod"] = 20
    with pytest.raises(pulumi.RunError, match=rf"- {part} +1 +[0-9]+m +[0-9]+Mi"):
        run("telemedicine-service", config=config)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"systems": ["exam"]},
            "site.systems: no system exam: there are digital-government-service, examination-system",
        ),
        ({"systems": []}, "platform:site: systems: needs at least 1 entries: add one"),
        (
            {"environment": "staging", "hub": {"alerts": "http://hub.example.com/a"}},
            "hub.alerts: http://hub.example.com/a is not encrypted, and a token goes with it: use https",
        ),
        ({"hub": {"alert": "https://hub.example.com/a"}}, "hub.alert: no such key: did you mean alerts?"),
        ({"hub": {"alerts": "hub.example.com"}}, r"hub.alerts: must match .*, which 'hub.example.com' does not"),
    ],
)
def test_a_wrong_stack_of_the_platform(change: dict[str, Any], sentence: str) -> None:
    config = stack_file("platform", "dev")
    config["platform:site"].update(change)
    with pytest.raises(pulumi.RunError, match=re.escape(sentence) if ".*" not in sentence else sentence):
        run("platform", config=config)


def test_grafana_runs_at_the_hub_and_is_left_out_of_a_site() -> None:
    config = stack_file("platform", "prod") | {"kubernetes:context": "hub"}
    config["platform:site"]["images"]["gatekeeper"] = DIGEST
    assert "grafana" in pods(run("platform", "prod", config))
    assert "grafana" not in pods(dev("platform"))


def test_another_address_of_the_cluster_is_not_another_cluster() -> None:
    (provider,) = [d for d in dev("examination-system") if d.token == "pulumi:providers:kubernetes"]
    assert provider.inputs["clusterIdentifier"] == "the-clusters-uid"
    assert "kubeconfig" not in provider.inputs


def test_a_bundle_asks_no_cluster_and_goes_into_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a/kubeconfig")
    found = run("examination-system", "dev-bundle")
    (provider,) = [d for d in found if d.token == "pulumi:providers:kubernetes"]
    assert provider.inputs["renderYamlToDirectory"].endswith("/bundle/dev-bundle")
    assert provider.inputs["kubeconfig"] == ""


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_namespace_of_local_data_is_without_its_denial(system: str) -> None:
    """Each of the system's namespaces, the TURN server's too; the site's network is the one address that is opened."""
    found = dev(system)
    spaces = {d.inputs["metadata"]["name"]: d.inputs["metadata"]["labels"] for d in found if d.kind == "Namespace"}
    policies = [d.inputs for d in found if d.kind == "NetworkPolicy"]
    denied = {p["metadata"]["namespace"] for p in policies if p["metadata"]["name"] == "no-way-out"}
    local = INDUSTRIES[system].data.stays_local
    assert {labels["edgefleet.io/data"] for labels in spaces.values()} == {"local" if local else "anywhere"}
    assert denied == (set(spaces) if local else set())
    opened = {peer["ipBlock"]["cidr"] for p in policies for rule in p["spec"].get("egress", [])
              for peer in rule["to"] if "ipBlock" in peer}  # fmt: skip
    assert opened == ({"10.0.0.0/8"} if local else set())
