"""What a site must look like from outside once site.yml and deploy.yml have run."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

CONTAINERD = "unix:///run/containerd/containerd.sock"
RUNTIME_PLUGIN = "io.containerd.cri.v1.runtime"


def kubectl(host: Host, *words: str) -> Any:
    """Ask the API server; ``words`` is what follows ``kubectl get``."""
    run = host.run("k3s kubectl get -o json " + " ".join(words))
    assert run.rc == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def containerd_config(host: Host) -> dict[str, Any]:
    return tomllib.loads(host.check_output("containerd config dump"))


@pytest.mark.parametrize("unit", ["containerd", "k3s"])
def test_service_runs_and_is_enabled(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_containerd_is_the_pinned_version(host: Host) -> None:
    assert re.search(r"\bv?2\.0\.\d+\b", host.check_output("containerd --version"))


def test_containerd_offers_crun_and_wasmedge(containerd_config: dict[str, Any]) -> None:
    containerd = containerd_config["plugins"][RUNTIME_PLUGIN]["containerd"]
    assert containerd["default_runtime_name"] == "crun"
    assert {"crun", "wasmedge"} <= set(containerd["runtimes"])
    assert containerd["runtimes"]["crun"]["options"]["BinaryName"] == "/usr/bin/crun"
    # A binary of any other name sets one handler for every container, and native sidecars break.
    assert Path(containerd["runtimes"]["wasmedge"]["options"]["BinaryName"]).name == "crun"


def test_only_the_wasmedge_runtime_carries_the_wasm_annotation(host: Host, containerd_config: dict[str, Any]) -> None:
    runtimes = containerd_config["plugins"][RUNTIME_PLUGIN]["containerd"]["runtimes"]
    assert not runtimes["crun"].get("base_runtime_spec")
    spec = json.loads(host.file(runtimes["wasmedge"]["base_runtime_spec"]).content_string)
    assert spec["annotations"]["module.wasm.image/variant"] == "compat-smart"


def test_crun_runs_wasm(host: Host) -> None:
    assert "+WASM:wasmedge" in host.check_output("crun --version")


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/etc/rancher/k3s/config.yaml", 0o600),
        ("/etc/rancher/k3s/k3s.yaml", 0o600),
        ("/var/lib/rancher/k3s/server/token", 0o600),
        ("/etc/systemd/system/k3s.service", 0o644),
        ("/etc/containerd/config.toml", 0o644),
        ("/usr/local/bin/k3s", 0o755),
    ],
)
def test_file_belongs_to_root_with_the_right_mode(host: Host, path: str, mode: int) -> None:
    file = host.file(path)
    assert file.user == "root"
    assert file.mode == mode


def test_node_is_ready_at_the_version_the_api_reports(host: Host) -> None:
    (node,) = kubectl(host, "nodes")["items"]
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.30.4+k3s1"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://2.0.")
    assert node["metadata"]["labels"]["node-type"] == "edge"


def test_wasmedge_runtime_class_exists(host: Host) -> None:
    assert kubectl(host, "runtimeclass", "wasmedge")["handler"] == "wasmedge"


def test_cluster_dns_runs(host: Host) -> None:
    (deployment,) = kubectl(host, "-n kube-system", "deployments", "-l k8s-app=kube-dns")["items"]
    assert deployment["status"]["readyReplicas"] == deployment["spec"]["replicas"]


def test_images_are_pinned_against_garbage_collection(host: Host) -> None:
    images = json.loads(host.check_output(f"k3s crictl --runtime-endpoint {CONTAINERD} images -o json"))["images"]
    pinned = {tag: image.get("pinned", False) for image in images for tag in image["repoTags"]}
    assert pinned
    assert all(pinned.values()), pinned


def test_workload_runs_under_the_wasm_class_and_answers_from_outside(host: Host) -> None:
    (deployment,) = kubectl(host, "-n edgefleet-skeleton", "deployments")["items"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "wasmedge"
    assert pod["nodeSelector"] == {"node-type": "edge"}
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert deployment["status"]["readyReplicas"] == deployment["spec"]["replicas"]
    (service,) = kubectl(host, "-n edgefleet-skeleton", "services")["items"]
    port = service["spec"]["ports"][0]["nodePort"]
    variables = host.ansible.get_variables()
    address = variables["ansible_host"]
    with urllib.request.urlopen(f"http://{address}:{port}/?nonce=outside", timeout=10) as answer:
        document = json.load(answer)
    assert document["platform"].startswith("wasm32")
    assert document["nonce"] == "outside"
