"""Only what is dead and from the future is removed; answers as crictl of Kubernetes 1.30 gives them."""

from __future__ import annotations

import json

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.sandboxes import Sandboxes

from tests.unit.roles.conftest import FakeRun

NOW = 1_764_400_000.0
PAST, FUTURE = NOW - 60, NOW + 730 * 86400


def pod(name: str, state: str, created: float) -> dict[str, object]:
    metadata = {"name": name, "namespace": "exam", "uid": f"uid-{name}", "attempt": 1}
    return {
        "id": f"sandbox-{name}",
        "metadata": metadata,
        "state": f"SANDBOX_{state}",
        "createdAt": nanoseconds(created),
    }


def container(name: str, sandbox: str, state: str, created: float) -> dict[str, object]:
    return {
        "id": f"container-{name}",
        "podSandboxId": f"sandbox-{sandbox}",
        "metadata": {"name": name, "attempt": 3},
        "state": f"CONTAINER_{state}",
        "createdAt": nanoseconds(created),
    }


def nanoseconds(seconds: float) -> str:
    return str(int(seconds * 1e9))


def pruned(run: FakeRun) -> list[str]:
    return Sandboxes(run, now=lambda: NOW).prune()


def crictl(pods: list[dict[str, object]], containers: list[dict[str, object]]) -> FakeRun:
    run = FakeRun().on(" rmp --force").on(" rm --force")
    run.on(" pods ", json.dumps({"items": pods}))
    return run.on(" ps --all", json.dumps({"containers": containers}))


def test_nothing_is_removed_that_runs_or_is_of_the_past() -> None:
    run = crictl(
        [pod("old", "NOTREADY", PAST), pod("ahead", "READY", FUTURE)],
        [container("ended", "old", "EXITED", PAST), container("serves", "ahead", "RUNNING", FUTURE)],
    )
    assert pruned(run) == []
    assert not run.ran("--force")


def test_a_dead_sandbox_of_the_future_goes_with_its_containers() -> None:
    run = crictl(
        [pod("api", "NOTREADY", FUTURE), pod("dns", "NOTREADY", FUTURE), pod("old", "NOTREADY", PAST)],
        [container("api", "api", "EXITED", FUTURE)],
    )
    assert pruned(run) == ["sandbox exam/api", "sandbox exam/dns"]
    (command,) = run.ran("--force")
    assert command.endswith(" rmp --force sandbox-api sandbox-dns")


def test_a_dead_container_of_the_future_goes_from_a_sandbox_that_stays() -> None:
    run = crictl(
        [pod("api", "READY", PAST)],
        [container("api", "api", "EXITED", FUTURE), container("again", "api", "RUNNING", PAST)],
    )
    assert pruned(run) == ["container api (container-api)"]
    (command,) = run.ran("--force")
    assert command.endswith(" rm --force container-api")


def test_a_host_without_pods_is_left_alone() -> None:
    assert pruned(crictl([], [])) == []
    assert Sandboxes(FakeRun().on("crictl", "{}\n")).prune() == []


def test_what_containerd_does_not_do_is_told() -> None:
    run = crictl([pod("api", "NOTREADY", FUTURE)], []).on(" rmp --force", rc=1, err="context deadline exceeded")
    with pytest.raises(K3sError, match=r"rmp --force sandbox-api` ended with 1: context deadline exceeded; look at"):
        pruned(run)
