"""An upgrade under guard and back again on the tests' host, while its workload answers."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror

from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import playbook, recap
from tests.integration.upgrades import (
    CURRENT,
    OTHER,
    RESTART_COSTS_SECONDS,
    asked_throughout,
    build,
    declared,
    noticed,
    pods,
    versions,
)

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
        assert pods(lab, host) == running, f"a running pod was ended\n{noticed(lab, host)}"
        assert asked["requests"] > 50
        if asked["failures"]:
            said = f"asked in vain {len(asked['failures'])} times, for {asked['longest_gap_s']} s:"
            said = "\n".join([said, *asked["failures"][:3], *asked["failures"][-3:], noticed(lab, host)])
            assert asked["longest_gap_s"] <= RESTART_COSTS_SECONDS, said
            warnings.warn(said, stacklevel=1)
    again = playbook(lab.paths, "edgefleet.wasm.site", "--check", *declared(mirror, CURRENT))
    assert recap(again.stdout)["edge1"]["changed"] == 0, again.stdout
