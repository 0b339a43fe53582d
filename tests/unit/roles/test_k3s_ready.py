"""What counts as a K3s that is ready for pods."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import (
    Expectation,
    K3sError,
    Kubectl,
    KubectlError,
    Readiness,
    cause_of,
    journal_errors,
    units_differing,
    wait_until_ready,
)

from tests.unit.roles.conftest import Clock, FakeRun

VERSION = "v1.30.4+k3s1"
UNIT_UP = "LoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=0\n"


def node(ready: str = "True", version: str = VERSION, reason: str = "KubeletReady") -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": "edge1"},
        "status": {
            "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": "why"}],
            "nodeInfo": {"kubeletVersion": version, "containerRuntimeVersion": "containerd://2.0.11"},
        },
    }


def named(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}}


ALL = [node(), named("ServiceAccount", "default"), named("RuntimeClass", "wasmedge")]


def listed(*objects: dict[str, Any]) -> str:
    return json.dumps({"kind": "List", "items": list(objects)})


@pytest.fixture
def healthy(run: FakeRun) -> FakeRun:
    run.on("systemctl show", UNIT_UP)
    run.on("--raw=/readyz", "ok")
    run.on("--raw=/version", json.dumps({"gitVersion": VERSION}))
    return run.on("--output=json", listed(*ALL))


def readiness(run: FakeRun) -> Readiness:
    return Readiness(run, Expectation(node="edge1", version=VERSION, runtime_classes=("wasmedge",)))


def test_nothing_is_missing(healthy: FakeRun) -> None:
    asked = readiness(healthy)
    assert asked.missing() == ""
    assert asked.server_version == VERSION
    assert asked.node["container_runtime"] == "containerd://2.0.11"


@pytest.mark.parametrize(
    ("words", "out", "missing"),
    [
        ("systemctl show", "LoadState=not-found\nActiveState=inactive\n", "k3s.service does not exist"),
        ("systemctl show", UNIT_UP.replace("=active", "=activating"), "k3s.service is activating (running)"),
        # The old process still answers while the restart waits in systemd's queue.
        ("systemctl show", UNIT_UP + "Job=4711\n", "k3s.service is active (running)"),
        ("--raw=/version", json.dumps({"gitVersion": "v1.30.3+k3s1"}), "the API server says v1.30.3+k3s1"),
        ("--output=json", "", "node edge1 has not registered"),
        ("--output=json", listed(node(ready="False", reason="KubeletNotReady")), "not ready (KubeletNotReady: why)"),
        ("--output=json", listed(node(version="v1.30.3+k3s1")), "node edge1 runs v1.30.3+k3s1"),
        ("--output=json", listed(*ALL[:2]), "RuntimeClass wasmedge does not exist yet"),
        ("--output=json", listed(ALL[0], ALL[2]), "ServiceAccount default does not exist yet"),
    ],
)
def test_the_first_thing_that_is_missing_is_named(healthy: FakeRun, words: str, out: str, missing: str) -> None:
    assert missing in readiness(healthy.on(words, out)).missing()


def test_an_api_server_that_says_no_is_not_ready(healthy: FakeRun) -> None:
    healthy.on("--raw=/readyz", rc=1, err="noise\nError from server (InternalError): [-]etcd failed\n")
    assert "[-]etcd failed" in readiness(healthy).missing()


def test_it_waits_until_all_is_there(healthy: FakeRun, clock: Clock) -> None:
    answers = iter(["", listed(node(ready="False")), listed(*ALL)])
    healthy.then("--output=json", lambda: (0, next(answers), ""))
    assert wait_until_ready(readiness(healthy), 60, clock, clock.sleep) == 4


def test_the_end_of_the_wait_says_what_was_missing(healthy: FakeRun, clock: Clock) -> None:
    healthy.on("--output=json", listed(node(ready="False", reason="KubeletNotReady")))
    with pytest.raises(K3sError, match=r"after 10 s \(k3s_ready_timeout\): node edge1 is not ready \(KubeletNotReady"):
        wait_until_ready(readiness(healthy), 10, clock, clock.sleep)


def test_a_service_that_keeps_falling_is_not_waited_for(healthy: FakeRun, clock: Clock) -> None:
    restarts = iter(range(1000))
    healthy.then(
        "systemctl show",
        lambda: (
            0,
            f"LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nNRestarts={next(restarts)}\n",
            "",
        ),
    )
    with pytest.raises(K3sError, match=r"does not stay up \(\d+ restarts in \d+ s\): k3s.service is activating"):
        wait_until_ready(readiness(healthy), 3600, clock, clock.sleep)
    assert clock.now < 60


def test_a_host_that_went_back_to_another_version_is_not_waited_for(healthy: FakeRun, clock: Clock) -> None:
    healthy.on("--raw=/version", json.dumps({"gitVersion": "v1.30.3+k3s1"}))
    with pytest.raises(
        K3sError, match=r"will not come up .* says v1\.30\.3\+k3s1, .* Another program .*-keeper status"
    ):
        wait_until_ready(readiness(healthy), 3600, clock, clock.sleep)
    assert clock.now < 60


def test_kubectl_errors_carry_the_last_line(run: FakeRun) -> None:
    run.on("kubectl", rc=1, err="first\nerror: the server is away\n")
    with pytest.raises(KubectlError, match="`k3s kubectl get pods` ended with 1: error: the server is away"):
        Kubectl(run).text("get", "pods")


SLOW = 'error validating data: Get "https://127.0.0.1:6443/openapi/v2?timeout=10s": context deadline exceeded'


def test_a_request_without_an_answer_is_made_again(run: FakeRun, clock: Clock) -> None:
    answers = iter([(1, "", SLOW), (1, "", SLOW), (0, "applied", "")])
    run.then("kubectl", lambda: next(answers))
    patient = Kubectl(run, patience=60, clock=clock, sleep=clock.sleep)
    assert patient.text("apply", "-f", "x") == (0, "applied")
    assert len(run.commands) == 3


def test_patience_ends(run: FakeRun, clock: Clock) -> None:
    run.on("kubectl", rc=1, err=SLOW)
    with pytest.raises(KubectlError, match="context deadline exceeded"):
        Kubectl(run, patience=60, clock=clock, sleep=clock.sleep).text("apply")
    assert 60 <= clock.now < 70


@pytest.mark.parametrize("patience", [0, 60])
def test_a_no_is_no(run: FakeRun, clock: Clock, patience: float) -> None:
    """What was answered is not asked again, nor is anything without patience."""
    run.on("kubectl", rc=1, err="Error from server (Forbidden): no" if patience else SLOW)
    with pytest.raises(KubectlError):
        Kubectl(run, patience=patience, clock=clock, sleep=clock.sleep).text("apply")
    assert (clock.now, len(run.commands)) == (0, 1)


def test_one_object_comes_as_it_is(run: FakeRun) -> None:
    run.on("kubectl", json.dumps(named("Pod", "p")))
    assert Kubectl(run).objects("pod/p") == [named("Pod", "p")]


def test_only_errors_of_the_journal_are_shown(run: FakeRun) -> None:
    lines = [
        'time="2026" level=info msg="Starting k3s"',
        "I1121 07:00:00.000000 1 server.go:1] fine",
        'time="2026" level=fatal msg="flag provided but not defined"',
        "E1121 07:00:01.000000 1 kubelet.go:1] no",
    ]
    run.on("journalctl", "\n".join(lines))
    assert journal_errors(run) == lines[2:]


AGENT = Expectation(
    node="agent1", version=VERSION, runtime_classes=("wasmedge",), role="agent", server="https://edge1:6443"
)


def agent_node() -> dict[str, Any]:
    return {**node(), "metadata": {"name": "agent1"}}


def test_an_agent_asks_as_its_kubelet(healthy: FakeRun) -> None:
    healthy.on("--output=json", listed(agent_node(), named("RuntimeClass", "wasmedge")))
    assert Readiness(healthy, AGENT).missing() == ""
    assert healthy.ran("systemctl show k3s-agent.service")
    assert all("--kubeconfig=/var/lib/rancher/k3s/agent/kubelet.kubeconfig" in line for line in healthy.ran("kubectl"))
    assert not healthy.ran("serviceaccounts")


@pytest.mark.parametrize(
    ("line", "words", "hopeless"),
    [
        (
            'level=error msg="token CA hash does not match the Cluster CA certificate hash: a != b"',
            "the token belongs to another cluster",
            True,
        ),
        (
            'level=info msg="server is not ready: Node password rejected, duplicate hostname"',
            "the server knows another host under this node's name",
            True,
        ),
        (
            'msg="server is not ready: https://127.0.0.1:6444/v1-k3s/config: 401 Unauthorized"',
            "the server rejects the token",
            True,
        ),
        ("x509: certificate has expired or is not yet valid: current time 1999", "the clocks", True),
        ("Incorrect Usage: flag provided but not defined: -tls-san", "does not know a key", True),
        (
            'failed to get CA certs: Get "https://127.0.0.1:6444/cacerts": dial tcp: connection refused',
            "the server can't be reached",
            False,
        ),
        ('failed to get CA certs: Get "https://127.0.0.1:6444/cacerts": EOF', "the server can't be reached", False),
    ],
)
def test_what_an_agent_says_of_its_server(line: str, words: str, hopeless: bool) -> None:
    cause = cause_of(line, "https://edge1:6443")
    assert cause is not None
    assert cause.text.startswith("server https://edge1:6443: ")
    assert words in cause.text
    assert cause.hopeless is hopeless


def test_other_lines_say_nothing() -> None:
    assert cause_of('level=info msg="Running kubelet --address=0.0.0.0"', "x") is None


def waiting_agent(run: FakeRun, line: str) -> Readiness:
    run.on(
        "systemctl show", "LoadState=loaded\nActiveState=activating\nSubState=start\nNRestarts=0\nInvocationID=abc\n"
    )
    run.on("journalctl _SYSTEMD_INVOCATION_ID=abc", f"something\n{line}\nsomething else\n")
    return Readiness(run, AGENT)


def test_a_cause_that_stays_ends_the_wait(run: FakeRun, clock: Clock) -> None:
    readiness = waiting_agent(run, "401 Unauthorized")
    with pytest.raises(K3sError, match=r"will not come up .* Server https://edge1:6443: the server rejects the token"):
        wait_until_ready(readiness, 300, clock, clock.sleep)
    assert clock.now < 30


def test_a_server_that_is_away_is_waited_for(run: FakeRun, clock: Clock) -> None:
    readiness = waiting_agent(run, "failed to get CA certs: connection refused")
    with pytest.raises(K3sError, match=r"not ready after 60 s \(k3s_ready_timeout\).*the server can't be reached"):
        wait_until_ready(readiness, 60, clock, clock.sleep)


def test_a_server_has_no_such_cause(run: FakeRun) -> None:
    assert readiness(run).cause() is None
    assert run.commands == []


@pytest.mark.parametrize(
    ("state", "wanted", "differs"),
    [
        (("active", "enabled"), True, False),
        (("active", "disabled"), True, True),
        (("inactive", "enabled"), True, True),
        (("inactive", "disabled"), False, False),
        (("inactive", ""), False, False),
        (("active", "disabled"), False, True),
        (("inactive", "enabled"), False, True),
    ],
)
def test_a_unit_that_is_not_as_it_should_be_is_named(
    run: FakeRun, state: tuple[str, str], wanted: bool, differs: bool
) -> None:
    run.on("systemctl show a.timer", "ActiveState={}\nUnitFileState={}\n".format(*state))
    assert units_differing(run, {"a.timer": wanted}) == (["a.timer"] if differs else [])
    assert len(run.commands) == len(run.ran("systemctl show")), "it looks only"
