"""An upgrade under guard and back again on the tests' host, while its workload answers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror

from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import playbook, recap
from tests.integration.upgrades import CURRENT, OTHER, asked_throughout, build, declared, noticed, pods, versions

pytestmark = pytest.mark.lab


def test_up_and_back_while_the_workload_answers(lab: Lab, host: Host, tmp_path: Path) -> None:
    build(OTHER)
    mirror = Mirror(lab.paths.mirror)
    assert versions(lab, host) == {CURRENT}
    running = pods(lab, host)
    for number, (version, before) in enumerate(((OTHER, CURRENT), (CURRENT, OTHER))):
        began = time.monotonic()
        with asked_throughout(lab, host, tmp_path / f"{number}.json") as asked:
            run = playbook(lab.paths, "edgefleet.wasm.upgrade", *declared(mirror, version))
        assert run.returncode == 0, run.stdout + run.stderr
        assert f"K3s {version} is kept, before it was {before}" in " ".join(run.stdout.split())
        assert versions(lab, host) == {version}
        print(
            f"{before} to {version}: {time.monotonic() - began:.0f} s, asked {asked['requests']} times, "
            f"{len(asked['failures'])} failed, longest gap {asked['longest_gap_s']} s"
        )
        assert asked["requests"] > 50
        assert asked["failures"] == [], noticed(lab, host)
        assert pods(lab, host) == running, f"a running pod was ended\n{noticed(lab, host)}"
    again = playbook(lab.paths, "edgefleet.wasm.site", "--check", *declared(mirror, CURRENT))
    assert recap(again.stdout)["edge1"]["changed"] == 0, again.stdout
