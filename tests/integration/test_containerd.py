"""An operator's additions to containerd, and images that the kubelet must not collect."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.builders import oci
from lab.builders.base import host_arch
from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import playbook, recap, shell, until

IMAGES = "ctr --namespace k8s.io images"
SECRET = "not-for-anybody's-eyes"
DOWNLOADS = """\
version = 3
[plugins.'io.containerd.cri.v1.images']
max_concurrent_downloads = 2
"""
OF_VERSION_2 = """\
version = 3
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = 'docker.io/other/pause:1'
"""


def converge(lab: Lab, host: Host, variables: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    limit = ("--limit", f"{host.name},localhost", "--tags", "containerd")
    return playbook(lab.paths, "edgefleet.wasm.site", *limit, "-e", json.dumps(variables), *words)


def running(lab: Lab, host: Host) -> str:
    return shell(lab.hosts, host, "systemctl show -P MainPID -P ActiveEnterTimestampMonotonic containerd")


def configured(lab: Lab, host: Host, name: str) -> str:
    return shell(lab.hosts, host, f"containerd config dump | sed -n 's/^ *{name} = //p' | head -n 1").strip()


@pytest.fixture
def as_before(lab: Lab, host: Host) -> Iterator[None]:
    yield
    assert converge(lab, host, {}).returncode == 0


@pytest.mark.lab
@pytest.mark.full
@pytest.mark.usefixtures("as_before")
def test_dropin_is_taken_over_and_goes_with_its_variable(lab: Lab, host: Host) -> None:
    assert configured(lab, host, "max_concurrent_downloads") == "3"
    run = converge(lab, host, {"containerd_dropins": {"downloads": DOWNLOADS}})
    assert run.returncode == 0, run.stdout + run.stderr
    assert configured(lab, host, "max_concurrent_downloads") == "2"
    assert recap(converge(lab, host, {}).stdout)[host.name]["changed"] == 2
    assert configured(lab, host, "max_concurrent_downloads") == "3"


full = partial(pytest.param, marks=pytest.mark.full)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("dropin", "reason"),
    [
        (OF_VERSION_2, "'io.containerd.grpc.v1.cri'.sandbox_image and would drop it without a word: that is where"),
        full(DOWNLOADS.replace("max_", "most_"), "most_concurrent_downloads and would drop it without a word"),
        full(DOWNLOADS.replace("version = 3\n", ""), "its first line has to be `version = 3`"),
        full(DOWNLOADS.replace("= 2", "= 'two'"), "containerd does not take"),
    ],
)
def test_dropin_that_would_be_lost_is_refused_and_containerd_untouched(
    lab: Lab, host: Host, dropin: str, reason: str
) -> None:
    before = running(lab, host)
    run = converge(lab, host, {"containerd_dropins": {"bad": dropin}})
    assert run.returncode != 0
    assert reason in " ".join(run.stdout.replace("''", "'").split()) + run.stderr
    assert "60-bad.toml" in run.stdout
    assert running(lab, host) == before
    assert "60-bad" not in shell(lab.hosts, host, "ls /etc/containerd/conf.d")


@pytest.mark.lab
@pytest.mark.usefixtures("as_before")
def test_passwords_and_proxies_are_seen_by_root_on_the_host_only(lab: Lab, host: Host) -> None:
    hosts = [{"url": "https://mirror.example.com:5000", "username": "edge", "password": SECRET}]
    variables = {
        "containerd_registries": {"docker.io": {"hosts": hosts}},
        "containerd_environment": {"HTTPS_PROXY": f"http://edge:{SECRET}@proxy.example.com:3128"},
    }
    run = converge(lab, host, variables, "-vvv", "--diff")
    assert run.returncode == 0, run.stdout + run.stderr
    encoded = base64.b64encode(f"edge:{SECRET}".encode()).decode()
    output = run.stdout.replace(json.dumps(variables), "")
    assert encoded not in output + run.stderr
    assert SECRET not in output + run.stderr
    place = "/etc/containerd/certs.d/docker.io/hosts.toml"
    shown = shell(lab.hosts, host, f"stat -c %a {place} /etc/containerd/environment; cat {place}")
    assert shown.split()[:2] == ["600", "600"]
    assert f'authorization = ["Basic {encoded}"]' in shown
    proxies = "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID containerd)/environ | grep HTTPS_PROXY"
    assert SECRET in shell(lab.hosts, host, proxies)
    assert converge(lab, host, {}).returncode == 0
    assert lab.hosts.exec(host.name, ["ls", place])[0] != 0


@pytest.fixture(scope="module")
def full_disk() -> Iterator[Lab]:
    """A host whose kubelet thinks that its disk is full of images, and takes any that nothing uses."""
    yield from brought_up("image-gc")


def images(lab: Lab, host: Host, label: str = "") -> set[str]:
    chosen = f" 'labels.\"{label}\"==pinned'" if label else ""
    return set(shell(lab.hosts, host, f"{IMAGES} list --quiet{chosen}").split())


@pytest.mark.full
def test_kubelet_collects_no_pinned_image(full_disk: Lab, tmp_path: Path) -> None:
    (found,) = full_disk.hosts.status()
    host = found.host
    arguments = ["image-gc-high-threshold=2", "image-gc-low-threshold=1", "minimum-image-ttl-duration=0s"]
    config = {"kubelet-arg": ["feature-gates=KubeletInUserNamespace=true", *arguments]}
    config["kube-proxy-arg"] = ["conntrack-max-per-core=0"]
    variables = json.dumps({"k3s_config": config})
    run = playbook(full_disk.paths, "edgefleet.wasm.site", "edgefleet.wasm.deploy", "-e", variables)
    assert run.returncode == 0, run.stdout + run.stderr
    # Nothing uses it and nobody has pinned it.
    name = "registry.example.com/test/loose:1"
    oci.write(
        tmp_path / "loose.tar",
        oci.Image(name, host_arch(), [oci.ImageFile("/loose", b"loose", 0o555)], ["/loose"], "1:1", [], {}),
    )
    content = base64.b64encode((tmp_path / "loose.tar").read_bytes()).decode()
    shell(full_disk.hosts, host, f"echo {content} | base64 -d > /root/loose.tar && {IMAGES} import /root/loose.tar")
    pinned = images(full_disk, host, "io.cri-containerd.pinned")
    unused = {image for image in pinned if "skeleton" in image}
    assert unused, "no pinned image to lose"
    shell(full_disk.hosts, host, "k3s kubectl delete namespace edgefleet-skeleton --timeout=120s")
    assert name in images(full_disk, host)
    # The kubelet looks at its start and then every five minutes.
    shell(full_disk.hosts, host, "systemctl restart k3s")
    until("the kubelet takes the loose image", 420, lambda: name not in images(full_disk, host))
    assert pinned <= images(full_disk, host)
