"""An operator's own engine on a host of its own: mirrored, tried, used, refused, and given up again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import engine_bundle
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.wasm_mirror import packages_release

from lab.builders import engine
from lab.builders.base import host_arch
from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import playbook, recap, shell

pytestmark = pytest.mark.full
ENGINES = "/usr/local/lib/edgefleet/wasm-engine"
FILE = "own-build.tar.gz"


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    yield from brought_up("archive")


class Site:
    """The host, a mirror that is a copy of the lab's, and the operator's archive in it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.mirror = folder / "mirror"
        shutil.copytree(lab.paths.mirror, self.mirror, copy_function=os.link)
        # Written anew by each process; a link would be the lab's own.
        for name in ("manifest.json", ".hashes.json"):
            if (self.mirror / name).exists():
                (self.mirror / name).unlink()
                shutil.copy(lab.paths.mirror / name, self.mirror / name)
        self.archive = folder / FILE
        packages = Mirror(self.mirror).path(packages_release(engine.packages_version(), host_arch()))
        # As good as any: it is not the file that the host's programs find.
        with tarfile.open(self.archive, "w:gz") as tar:
            tar.add(engine_bundle.unpack(packages, host_arch(), folder).library, "WasmEdge/lib64/libwasmedge.so.0.1.0")
        self.sha256 = hashlib.sha256(self.archive.read_bytes()).hexdigest()

    @property
    def host(self) -> Host:
        (found,) = self.lab.hosts.status()
        return found.host

    def copy_in(self, version: str) -> None:
        """As an operator does it, by hand."""
        target = self.mirror / "wasm-runtime-archive" / version / host_arch() / FILE
        target.parent.mkdir(parents=True)
        shutil.copy(self.archive, target)

    def play(self, book: str, version: str, *, whole: bool = False, **more: Any) -> subprocess.CompletedProcess[str]:
        variables = {
            "edgefleet_mirror_dir": str(self.mirror),
            "wasm_runtime_engine": "archive",
            "wasm_runtime_archive_version": version,
            "wasm_runtime_archive_releases": {version: {host_arch(): {"file": FILE, "sha256": self.sha256}}},
            **more,
        }
        tags = ("--tags", "containerd,wasm_runtime") if book == "site" and not whole else ()
        return playbook(self.lab.paths, f"edgefleet.wasm.{book}", "-e", json.dumps(variables), *tags)

    def live(self) -> str:
        return shell(self.lab.hosts, self.host, f"readlink {ENGINES}/bin/crun").strip()


@pytest.fixture(scope="module")
def site(own_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(own_lab, tmp_path_factory.mktemp("archive"))


def said(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join((run.stdout + run.stderr).replace("''", "'").split())


def test_archive_that_is_not_in_the_mirror(site: Site) -> None:
    run = site.play("mirror", "0.14.1")
    assert run.returncode != 0
    assert "wasm-runtime-archive 0.14.1" in said(run)
    assert "is not in the mirror" in said(run)


def test_operators_engine_is_mirrored_tried_and_used(site: Site, tmp_path: Path) -> None:
    site.copy_in("0.14.1")
    run = site.play("mirror", "0.14.1")
    assert run.returncode == 0, said(run)
    # With K3s come images, for the pods of the smoke test.
    run = site.play("site", "0.14.1", whole=True)
    assert run.returncode == 0, said(run)
    assert site.live().startswith(f"{ENGINES}/archive-")
    assert recap(site.play("site", "0.14.1").stdout)[site.host.name]["changed"] == 0
    run = site.play("smoke", "0.14.1", edgefleet_report_dir=str(tmp_path), wasm_smoke_samples=5)
    assert run.returncode == 0, said(run)
    document = json.loads((tmp_path / f"{site.host.name}.json").read_text())
    found = document["identity"]["engine"]
    assert (found["live"], found["version"]) == ("archive", "0.14.1")
    assert found["library"] == f"{site.live().removesuffix('/crun')}/libwasmedge.so.0"


def test_engine_that_says_another_version_is_not_used(site: Site) -> None:
    before = site.live()
    site.copy_in("0.14.0")
    assert site.play("mirror", "0.14.0").returncode == 0
    run = site.play("site", "0.14.0")
    assert run.returncode != 0
    assert "is to be WasmEdge 0.14.0, and says: 0.14.1" in said(run)
    assert site.live() == before


def test_damaged_engine_runs_nothing_and_is_not_used(site: Site) -> None:
    with tarfile.open(site.archive) as tar:
        library = tar.extractfile("WasmEdge/lib64/libwasmedge.so.0.1.0")
        assert library
        content = library.read()
    broken = site.archive.parent / "libwasmedge.so.0.1.0"
    broken.write_bytes(content[: len(content) // 2])
    with tarfile.open(site.archive, "w:gz") as tar:
        tar.add(broken, "libwasmedge.so.0.1.0")
    site.sha256 = hashlib.sha256(site.archive.read_bytes()).hexdigest()
    shutil.rmtree(site.mirror / "wasm-runtime-archive" / "0.14.1")
    site.copy_in("0.14.1")
    before = site.live()
    assert site.play("mirror", "0.14.1").returncode == 0
    run = site.play("site", "0.14.1")
    assert run.returncode != 0
    assert "is to be WasmEdge 0.14.1, and says:" in said(run)
    assert site.live() == before


def test_given_up_leaves_debians_engine_and_nothing_else(site: Site) -> None:
    run = site.play("site", "0.14.1", wasm_runtime_engine="distro")
    assert run.returncode == 0, said(run)
    assert site.live() == "/usr/bin/crun"
    left = shell(
        site.lab.hosts, site.host, f"find {ENGINES} -mindepth 1; find /etc/systemd/system -name '*wasm-engine*'"
    )
    assert left.split() == [f"{ENGINES}/bin", f"{ENGINES}/bin/crun"]


def test_packages_by_the_hosts_own_sources_are_the_same(site: Site) -> None:
    """Reset takes away what the role brought; apt brings it again."""
    run = playbook(site.lab.paths, "edgefleet.wasm.reset", "-e", "edgefleet_reset_confirm=true")
    assert run.returncode == 0, said(run)
    assert site.lab.hosts.exec(site.host.name, ["test", "-e", "/usr/bin/crun"])[0] != 0
    run = site.play("site", "0.14.1", wasm_runtime_engine="lean", wasm_runtime_packages_source="apt")
    assert run.returncode == 0, said(run)
    assert site.live().startswith(f"{ENGINES}/lean-")
