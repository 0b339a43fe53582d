"""Wasm without LLVM for long and through updates: packages of other versions come and go, ten thousand starts."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.deb_collect import read_archive
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.wasm_mirror import packages_release

from lab.builders import engine
from lab.builders.base import host_arch
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.bench.lab_host import BenchHost, ready
from tests.integration.engines import engines_of_pods, one_more_pod, pods, smoke, until_live
from tests.integration.hosts import ask, lab_command, lab_of, shell

pytestmark = pytest.mark.full
LAB = "soak"
CYCLES = 10_000
# What a new version of a package is made of on the host: the same, with one byte more in each program and library.
OTHER = """
set -eu
cd /root && rm -rf other && dpkg-deb --raw-extract "$1" other
sed -i 's/^Version: .*/&+other1/' other/DEBIAN/control
find other -type f '(' -name crun -o -name 'libwasmedge.so*' ')' -exec sh -c 'printf x >> "$1"' sh {} ';'
rm -f other/DEBIAN/md5sums
dpkg-deb --build other other.deb >/dev/null
dpkg --install other.deb 2>&1
"""
# Files of containerd itself that grow and shrink by themselves: a few.
SLACK = {"files": 40, "open_files_of_containerd": 6, "mounts": 0, "control_groups": 0, "shims": 0, "programs": 0}
CONTAINERD_MIB = 16.0
# containerd's CRI plugin keeps the events of every container for five minutes: until then it grows, whatever ran.
EVENTS_SECONDS = 310.0
# Of programs that print and end at once containerd 2.0 loses the line of one now and then: the more, the busier it is.
SILENT = 0.002


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    subprocess.run(lab_command("run", "--name", LAB), cwd=CHECKOUT, check=True, timeout=1800)
    try:
        yield lab_of(LAB)
    finally:
        subprocess.run(lab_command("down", "--name", LAB), cwd=CHECKOUT, check=True, timeout=300)


@pytest.fixture(scope="module")
def own_host(own_lab: Lab) -> Host:
    return own_lab.hosts.status()[0].host


def deb_on_host(lab: Lab, package: str) -> str:
    """The package that the host has, as a file on it."""
    archive = Mirror(lab.paths.mirror).path(packages_release(engine.packages_version(), host_arch()))
    packages, content = read_archive(archive)
    (file,) = (one.file for one in packages if one.name == package)
    BenchHost(LAB).shell(f"cat > /root/{package}.deb", content[file])
    return f"/root/{package}.deb"


@pytest.mark.parametrize("package", ["crun", "libwasmedge0"])
def test_a_package_of_another_version_takes_effect_at_once_and_its_return_too(
    own_lab: Lab, own_host: Host, tmp_path: Path, package: str
) -> None:
    before = pods(own_lab, own_host)
    deb = deb_on_host(own_lab, package)
    shell(own_lab.hosts, own_host, f"set -- {deb}; {OTHER}")
    try:
        reason = until_live(own_lab, own_host, "distro")["reason"]
        assert reason.endswith("has changed")
        with one_more_pod(own_lab, own_host):
            assert engines_of_pods(own_lab, own_host) == ["distro", "lean"]
            assert before.items() <= pods(own_lab, own_host).items()
            assert ask(own_lab.hosts, own_host)
        told = smoke(own_lab, own_host, tmp_path)
        assert f"Wasm pods get the engine distro, wanted is lean: {reason}" in told["warnings"]
    finally:
        shell(own_lab.hosts, own_host, f"dpkg --install {shlex.quote(deb)} 2>&1")
    until_live(own_lab, own_host, "lean")
    with one_more_pod(own_lab, own_host):
        assert engines_of_pods(own_lab, own_host)[-1] == "lean"


def test_ten_thousand_starts_leave_nothing(own_lab: Lab) -> None:
    with ready(LAB) as bench:
        found: dict[str, Any] = bench.measure("cycles", count=CYCLES)
    print(found)
    assert leaked(found) == {}
    assert found["silent"] <= SILENT * CYCLES, found


def leaked(found: dict[str, Any]) -> dict[str, float]:
    """What there is more of than before, beyond what comes and goes by itself."""
    more = {what: found["after"][what] - count for what, count in found["before"].items()}
    left: dict[str, float] = {what: count for what, count in more.items() if count > SLACK[what]}
    memory = [mib for seconds, mib in found["containerd_mib"] if seconds > EVENTS_SECONDS]
    assert len(memory) > 2, f"too short to judge: {found['containerd_mib']}"
    if memory[-1] - memory[0] > CONTAINERD_MIB:
        left["containerd_mib"] = memory[-1] - memory[0]
    return left


def test_what_is_left_is_seen() -> None:
    clean: dict[str, Any] = {
        "before": dict.fromkeys(SLACK, 5),
        "after": dict.fromkeys(SLACK, 5),
        "containerd_mib": [(0.0, 20.0), (320.0, 30.0), (400.0, 40.0), (480.0, 41.0)],
    }
    assert leaked(clean) == {}
    assert leaked({**clean, "after": {**clean["after"], "mounts": 6}}) == {"mounts": 1}
    assert leaked({**clean, "containerd_mib": [(320.0, 40.0), (400.0, 41.0), (480.0, 60.0)]}) == {
        "containerd_mib": 20.0
    }
