"""A site that has been prepared: run again, cut off from the network, rebooted, killed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from lab import aptsources, workload
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import ask, lab_command, no_way_out, playbook, recap, shell, until

pytestmark = pytest.mark.lab

# A program that ends: port 0 to 65535 alone is one.
ENDED_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: ended, namespace: {namespace}}}
spec:
  restartPolicy: Never
  runtimeClassName: wasmedge
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: c
      image: {image}
      imagePullPolicy: Never
      env: [{{name: SYSTEM, value: test}}, {{name: PORT, value: none}}]
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
      resources: {{requests: {{cpu: 50m, memory: 32Mi}}, limits: {{cpu: "1", memory: 256Mi}}}}
"""
# What the host's timer does, by a clock that is an hour late: what was made in this hour is from the future.
PRUNE_AN_HOUR_AGO = """
import sys, time
sys.path.insert(0, "/usr/local/lib/edgefleet/keeper")
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import program, sandboxes
print(sandboxes.Sandboxes(program.run_command, now=lambda: time.time() - 3600).prune())
"""


@pytest.fixture(scope="module", autouse=True)
def converged(lab: Lab) -> Iterator[None]:
    """Leave the host as the other tests expect it, whatever happened here."""
    yield
    assert playbook(lab.paths, "edgefleet.wasm.site").returncode == 0


def node_is_ready(lab: Lab, host: Host) -> bool:
    code, out = lab.hosts.exec(host.name, ["k3s", "kubectl", "get", "nodes", "-o", "json"])
    if code != 0:
        return False
    (node,) = json.loads(out)["items"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])


@pytest.mark.full
def test_second_run_of_everything_changes_nothing() -> None:
    run = subprocess.run(
        lab_command("run", "--name", "test"),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    figures = recap(run.stdout)
    assert figures, "no play recap in the output"
    assert all(figure["changed"] == 0 for figure in figures.values()), figures


def test_check_mode_on_a_converged_host_reports_nothing(lab: Lab) -> None:
    run = playbook(lab.paths, "edgefleet.wasm.site", "--check", "--diff")
    assert run.returncode == 0, run.stdout + run.stderr
    assert all(figure["changed"] == 0 for figure in recap(run.stdout).values()), run.stdout


def test_back_after_a_power_cut_with_no_network_and_no_ansible(lab: Lab, host: Host) -> None:
    before = shell(lab.hosts, host, "cat /proc/sys/kernel/random/boot_id; systemctl show -P ActiveEnterTimestamp k3s")
    mirror = urlsplit(aptsources.for_release(aptsources.read())[0].uri).hostname or ""
    question = ["timeout", "5", "getent", "hosts", mirror]
    assert lab.hosts.exec(host.name, question)[0] == 0, "no network to take away: this test would prove nothing"
    with no_way_out(host):
        assert lab.hosts.exec(host.name, question)[0] != 0, "the host still reaches a name server"
        lab.hosts.reboot(host.name, power_cut=True)
        until("node Ready after the power cut", 180, lambda: node_is_ready(lab, host))
        until("workload answers after the power cut", 180, lambda: bool(ask(lab.hosts, host)))
    after = shell(lab.hosts, host, "cat /proc/sys/kernel/random/boot_id; systemctl show -P ActiveEnterTimestamp k3s")
    assert before != after, "the host was not rebooted"


@pytest.mark.parametrize("unit", ["containerd", "k3s"])
def test_back_by_itself_after_kill(lab: Lab, host: Host, unit: str) -> None:
    pid = shell(lab.hosts, host, f"systemctl show -P MainPID {unit}").strip()
    assert pid != "0"
    shell(lab.hosts, host, f"kill -9 {pid}")
    until(
        f"{unit} with a new process",
        60,
        lambda: (
            shell(lab.hosts, host, f"systemctl is-active -q {unit} && systemctl show -P MainPID {unit}").strip()
            not in {pid, "0"}
        ),
    )
    until("node Ready", 120, lambda: node_is_ready(lab, host))
    assert ask(lab.hosts, host)


def test_dead_pods_from_the_future_are_removed_and_none_that_runs(lab: Lab, host: Host) -> None:
    """With a clock that is wrong itself: test_upgrade_vm.py."""
    kubectl = f"k3s kubectl --namespace {workload.NAMESPACE}"
    image = shell(lab.hosts, host, f"{kubectl} get deployments -o jsonpath='{{..image}}'")
    manifest = ENDED_POD.format(namespace=workload.NAMESPACE, image=image)
    shell(lab.hosts, host, f"{kubectl} apply -f - <<'END'\n{manifest}END")
    sandbox = f"k3s crictl pods --quiet --state NotReady --namespace {workload.NAMESPACE} --name ended"
    try:
        until("the pod has ended", 60, lambda: bool(shell(lab.hosts, host, sandbox)))
        running = shell(lab.hosts, host, "k3s crictl ps --quiet")
        assert "nothing dead is from the future" in shell(lab.hosts, host, "edgefleet-keeper prune")
        assert shell(lab.hosts, host, sandbox), "removed by the right clock"
        said = shell(lab.hosts, host, f"python3 -B - <<'END'\n{PRUNE_AN_HOUR_AGO}END")
        assert f"sandbox {workload.NAMESPACE}/ended" in said
        assert shell(lab.hosts, host, sandbox) == ""
        assert shell(lab.hosts, host, "k3s crictl ps --quiet") == running
    finally:
        shell(lab.hosts, host, f"{kubectl} delete pod ended --wait --timeout=60s")
    assert ask(lab.hosts, host)
    assert "active" in shell(lab.hosts, host, "systemctl is-active edgefleet-prune.timer")
