"""Bad input ends in one clear error that names the thing, before anything changes on the host."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release

from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import look, playbook

pytestmark = pytest.mark.lab

# (artifact, the variable of its pins)
PINS = {
    "containerd": ("containerd", "containerd"),
    "k3s": ("k3s", "k3s"),
    "k3s-airgap-images": ("k3s", "k3s_airgap_images"),
}


def pinned(name: str) -> Release:
    """What the role asks the mirror for."""
    role, prefix = PINS[name]
    defaults: dict[str, Any] = yaml.safe_load((CHECKOUT / f"roles/{role}/defaults/main.yml").read_text())
    version = defaults[f"{role}_version"]
    pin = defaults[f"{prefix}_releases"][version]["amd64"]
    return Release(name, version, "amd64", pin["file"], sha256=pin["sha256"])


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror that satisfies every preflight. Nothing in it would run: no test here may get so far."""
    folder = tmp_path / "mirror"
    for name in PINS:
        part = tmp_path / "part"
        part.write_text(f"stands in for {name}\n")
        Mirror(folder).add(pinned(name), part, "made by a test")
    return folder


def file_of(mirror: Path, name: str) -> Path:
    return Mirror(mirror).path(pinned(name))


def forget(mirror: Path, name: str) -> None:
    """As if the artifact had never been put there."""
    manifest = mirror / "manifest.json"
    document = json.loads(manifest.read_text())
    document["artifacts"] = [one for one in document["artifacts"] if one["name"] != name]
    manifest.write_text(json.dumps(document))
    file_of(mirror, name).unlink()


def damage(mirror: Path, name: str) -> None:
    """Same size, other content."""
    path = file_of(mirror, name)
    path.write_bytes(b"X" + path.read_bytes()[1:])


def truncate(mirror: Path, name: str) -> None:
    path = file_of(mirror, name)
    path.write_bytes(path.read_bytes()[:5])


def site(lab: Lab, mirror: Path, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    # The mirrors of these tests hold K3s and containerd alone: nothing else is to be taken out of them.
    given = {
        "edgefleet_mirror_dir": str(mirror),
        "edgefleet_mirror_allow_rebuilt": True,
        "wasm_runtime_engine": "distro",
        "wasm_runtime_packages_source": "apt",
        **variables,
    }
    return playbook(lab.paths, "edgefleet.wasm.site", *options, "--extra-vars", json.dumps(given))


def refused(run: subprocess.CompletedProcess[str]) -> str:
    """The text of the one error, on one line."""
    assert run.returncode != 0, run.stdout
    failures = re.findall(r"^(?:fatal|failed): \[.*?(?=^\S*(?:TASK|PLAY) )", run.stdout, re.MULTILINE | re.DOTALL)
    assert len(failures) == 1, run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    return " ".join(failures[0].split())


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda m: damage(m, "k3s"),
            r"k3s v1\.30\.4\+k3s1 amd64 .* has SHA-256 .* damaged or replaced; remove it and run",
        ),
        (lambda m: damage(m, "containerd"), r"containerd 2\.0\.11 amd64 .* damaged or replaced"),
        (lambda m: truncate(m, "k3s-airgap-images"), r"k3s-airgap-images .* has 5 bytes, .* truncated or replaced"),
        (lambda m: forget(m, "k3s"), r"k3s v1\.30\.4\+k3s1 .* is not in the mirror .*edgefleet\.wasm\.mirror"),
        (shutil.rmtree, r"the mirror folder .* \(edgefleet_mirror_dir\) does not exist; fill it"),
    ],
    ids=["wrong checksum", "wrong checksum of containerd", "truncated", "missing artifact", "no mirror"],
)
def test_bad_artifact(bare_lab: Lab, mirror: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    before = look(bare_lab)
    spoil(mirror)
    assert re.search(sentence, refused(site(bare_lab, mirror)))
    assert look(bare_lab) == before


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"edgefleet_mirror_allow_rebuilt": False},
            r"has SHA-256 .* pinned is .* Accept rebuilt artifacts with edgefleet_mirror_allow_rebuilt: true",
        ),
        ({"k3s_min_memory_mb": "plenty"}, r"k3s_min_memory_mb.* int"),
        ({"k3s_disable": {"a": 1}}, r"k3s_disable.* list"),
        ({"k3s_role": "agent"}, r"edge1 must be in one of the groups .* k3s_role is no variable of this role"),
        (
            {"edgefleet_cgroup_driver": "openrc"},
            r"edgefleet_cgroup_driver must be one of: systemd, cgroupfs, got: openrc",
        ),
        ({"k3s_version": "v9.9.9"}, r"k3s_releases has no file and sha256 for k3s_version v9\.9\.9 .* pinned version"),
        ({"k3s_config": {"tls-sans": ["a"]}}, r"k3s_config: K3s has no key tls-sans: .* did you mean tls-san\?"),
        ({"k3s_config": {"write-kubeconfig-mode": 420}}, r"k3s_config: write-kubeconfig-mode must be a string"),
        ({"k3s_config": {"embedded-registry": True}}, r"k3s_config: embedded-registry can''t be used: .* leave it out"),
        ({"k3s_min_memory_mb": 99999999}, r"MB of memory, k3s_min_memory_mb asks for 99999999; add memory"),
        ({"k3s_min_disk_mb": 99999999}, r"MB of free disk, k3s_min_disk_mb asks for 99999999; free some"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_bad_variable(bare_lab: Lab, mirror: Path, variables: dict[str, Any], sentence: str) -> None:
    before = look(bare_lab)
    assert re.search(sentence, refused(site(bare_lab, mirror, **variables)))
    assert look(bare_lab) == before


def test_host_that_can_not_be_reached(bare_lab: Lab, mirror: Path) -> None:
    before = look(bare_lab)
    error = refused(site(bare_lab, mirror, ansible_port=1))
    assert re.search(r"fatal: \[edge1\]: UNREACHABLE! .* ssh: connect to host \S+ port 1: Connection refused", error)
    assert look(bare_lab) == before


def test_host_without_systemd(lab_without_systemd: Lab, mirror: Path) -> None:
    before = look(lab_without_systemd)
    error = refused(site(lab_without_systemd, mirror))
    assert re.search(r"edge1.* does not run systemd, .* boot it with systemd as its init", error)
    assert look(lab_without_systemd) == before


def test_inventory_without_hosts(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {}}\n")
    run = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "edgefleet.wasm.site"],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the inventory has no host in the group edge" in refused(run)


def test_reset_wants_a_confirmation(bare_lab: Lab) -> None:
    before = look(bare_lab)
    assert "edgefleet_reset_confirm=true" in refused(playbook(bare_lab.paths, "edgefleet.wasm.reset"))
    assert look(bare_lab) == before


def test_good_input_gets_past_every_preflight(bare_lab: Lab, mirror: Path) -> None:
    """Else the tests above could pass for another reason than theirs."""
    run = site(bare_lab, mirror, "--check")
    assert "TASK [edgefleet.wasm.containerd : Unpack containerd]" in run.stdout
