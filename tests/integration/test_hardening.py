"""Hardening on a live site: services go on, nobody is locked out, and what would is refused or taken back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab import ssh, workload
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import lab_command, lab_of, playbook, recap, shell, until

pytestmark = [pytest.mark.lab, pytest.mark.full]

NAME = "hardening"
PLAYBOOK = str(CHECKOUT / "tests/integration/playbooks/hardening.yml")
PROBER = CHECKOUT / "tests/integration/prober.py"
CONTAINERD = "unix:///run/containerd/containerd.sock"
PENDING = "/var/lib/edgefleet/hardening/pending"
# A short time for Ansible to come back, and what the host adds to it.
CONFIRM_SECONDS = 5
TAKEN_BACK_AFTER = CONFIRM_SECONDS + 30
# What Ansible must not find changed after a refusal: sshd's configuration, the table, what is remembered.
STATE = (
    "sshd -T | sha256sum; nft list table inet edgefleet 2>&1 | sha256sum; sha256sum /var/lib/edgefleet/hardening.json"
)


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """A site of its own with the workload on it."""
    subprocess.run(lab_command("run", "--name", NAME), cwd=CHECKOUT, check=True, timeout=1800)
    lab = lab_of(NAME)
    yield lab
    with lab.locked():
        lab.down()


@pytest.fixture(scope="module")
def edge(site: Lab) -> Host:
    return site.hosts.status()[0].host


@pytest.fixture
def hardened(site: Lab) -> None:
    """On, with the inventory's own variables, whatever the test before left."""
    play(site)


def play(lab: Lab, *words: str, **variables: Any) -> dict[str, int]:
    """Play the role; the recap of the first host."""
    run = playbook(lab.paths, PLAYBOOK, "-e", json.dumps(variables), *words)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr
    return next(iter(recap(run.stdout).values()))


def new_connection(lab: Lab, host: Host) -> bool:
    """Whether ssh lets somebody in who comes anew."""
    command = ssh.command(lab.paths, host, "-o", "ControlPath=none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5")
    return subprocess.run([*command, "true"], check=False, capture_output=True, timeout=30).returncode == 0


def kube_rules(lab: Lab, host: Host) -> dict[str, int]:
    """How many rules kube-proxy and the kubelet have, by address family."""
    return {
        tool: int(shell(lab.hosts, host, f"{tool}-save | grep -c KUBE- || true").strip())
        for tool in ("iptables", "ip6tables")
    }


def kubectl(lab: Lab, host: Host, words: str) -> Any:
    return json.loads(shell(lab.hosts, host, f"k3s kubectl get -o json {words}"))


@contextmanager
def probed_from_outside(lab: Lab, host: Host, result: Path) -> Iterator[None]:
    """Ask the node port from the controller meanwhile."""
    url = f"http://{host.address}:{workload.port(lab.hosts, host)}/readyz"
    with subprocess.Popen([sys.executable, str(PROBER), str(result), url]) as prober:
        try:
            yield
        finally:
            prober.terminate()


@contextmanager
def probed_from_a_pod(lab: Lab, host: Host, result: Path) -> Iterator[None]:
    """Ask ClusterIPs from the workload's pod meanwhile: its own Service, and the API server, which is on the host."""
    (service,) = kubectl(lab, host, f"-n {workload.NAMESPACE} services")["items"]
    (api,) = [one for one in kubectl(lab, host, "services")["items"] if one["metadata"]["name"] == "kubernetes"]
    urls = f"http://{service['spec']['clusterIP']}/readyz https://{api['spec']['clusterIP']}/version"
    crictl = f"k3s crictl --runtime-endpoint {CONTAINERD}"
    # The pause process of the pod has its network.
    pod = shell(lab.hosts, host, f"{crictl} pods --quiet --namespace {workload.NAMESPACE}").split()[0]
    pid = json.loads(shell(lab.hosts, host, f"{crictl} inspectp {pod}"))["info"]["pid"]
    shell(lab.hosts, host, f"cat > /run/prober.py <<'END'\n{PROBER.read_text()}\nEND\nrm -f /run/prober.json")
    start = f"systemd-run --quiet --collect --unit=prober nsenter --net --target {pid} python3 /run/prober.py"
    shell(lab.hosts, host, f"{start} /run/prober.json {urls}")
    try:
        yield
    finally:
        shell(lab.hosts, host, "systemctl stop prober")
        result.write_text(shell(lab.hosts, host, "cat /run/prober.json; rm -f /run/prober.*"))


def test_on_off_on_while_services_are_asked(site: Lab, edge: Host, tmp_path: Path) -> None:
    play(site, hardening_enabled=False)
    rules = kube_rules(site, edge)
    assert rules["iptables"] > 20, "no rules of kube-proxy: this test would prove nothing"
    steps: list[dict[str, Any]] = []
    with (
        probed_from_outside(site, edge, tmp_path / "outside.json"),
        probed_from_a_pod(site, edge, tmp_path / "pod.json"),
    ):
        for enabled in (True, False, True):
            began = time.monotonic()
            figures = play(site, hardening_enabled=enabled)
            steps.append({"enabled": enabled, "seconds": round(time.monotonic() - began, 1), **kube_rules(site, edge)})
            assert figures["changed"] == 1
            assert new_connection(site, edge)
            assert kube_rules(site, edge) == rules
            time.sleep(5)
    asked = json.loads((tmp_path / "outside.json").read_text()) | json.loads((tmp_path / "pod.json").read_text())
    report = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "steps": steps, "asked": asked}
    site.paths.reports.mkdir(parents=True, exist_ok=True)
    (site.paths.reports / "hardening-on-off-on.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    assert len(asked) == 3
    for url, figures in asked.items():
        assert figures["requests"] > 50, url
        assert figures["failures"] == [], url
    # Once more: nothing is left to do.
    assert play(site)["changed"] == 0
    assert play(site, "--check")["changed"] == 0


def answers(lab: Lab, host: Host) -> bool:
    """Whether the workload's node port is reached from outside the host."""
    try:
        workload.fetch(f"http://{host.address}:{workload.port(lab.hosts, host)}/readyz")
    except OSError:
        return False
    return True


@pytest.mark.usefixtures("hardened")
def test_node_port_that_is_not_declared_is_closed_from_outside_only(site: Lab, edge: Host) -> None:
    assert answers(site, edge)
    (service,) = kubectl(site, edge, f"-n {workload.NAMESPACE} services")["items"]
    other = 30999
    assert service["spec"]["ports"][0]["nodePort"] != other
    play(site, hardening_firewall_node_ports=[other])
    assert not answers(site, edge)
    assert shell(
        site.hosts, edge, f"curl --silent --fail --max-time 5 http://{service['spec']['clusterIP']}/readyz; echo"
    )
    play(site, hardening_firewall_node_ports=[str(service["spec"]["ports"][0]["nodePort"])])
    assert answers(site, edge)
    play(site)
    assert answers(site, edge)


REFUSED = {
    "user": ({"hardening_ssh_allow_users": ["deploy"]}, r"AllowUsers deploy would lock out root"),
    "group": ({"hardening_ssh_allow_groups": ["wheel"]}, r"AllowGroups wheel would lock out root"),
    "root": ({"hardening_ssh_root_login": "no"}, r"PermitRootLogin no would lock out root"),
    "method": ({"hardening_ssh_options": {"PubkeyAuthentication": "no"}}, r"PubkeyAuthentication no would lock out"),
    "port": ({"hardening_ssh_options": {"Port": [2222]}}, r"listen on 2222 only, and this connection uses port 22"),
    "hole": ({"hardening_firewall_ssh_ports": [2222]}, r"hardening_firewall_ssh_ports \(2222\) would lock out Ansible"),
    "source": (
        {"hardening_firewall_ssh_sources": ["192.0.2.0/24"]},
        r"hardening_firewall_ssh_sources .* would lock out",
    ),
    "bad sshd fragment": (
        {"hardening_ssh_options": {"PermitRootLogn": "no"}},
        r"Bad configuration option: PermitRootLogn",
    ),
    "bad nft fragment": (
        {"hardening_firewall_holes": [{"ports": ["99999/tcp"]}]},
        r"nft refuses .*Service out of range",
    ),
    "sysctl": ({"hardening_sysctl_settings": {"net.ipv4.ip_forward": 0}}, r"ip_forward to 0, and a K3s host needs 1"),
    "module": ({"hardening_modules_denied": ["overlay"]}, r"hardening_modules_denied names overlay"),
    "mount": ({"hardening_mount_options": {"/var/lib/kubelet": ["noexec"]}}, r"run programs from /var/lib/kubelet"),
}


@pytest.mark.usefixtures("hardened")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_changes(site: Lab, edge: Host, case: str) -> None:
    variables, reason = REFUSED[case]
    before = shell(site.hosts, edge, STATE)
    run = playbook(site.paths, PLAYBOOK, "-e", json.dumps(variables))
    assert run.returncode != 0
    assert re.search(reason, run.stdout + run.stderr), run.stdout + run.stderr
    assert recap(run.stdout)[edge.name]["changed"] == 0
    assert shell(site.hosts, edge, STATE) == before
    assert new_connection(site, edge)


@pytest.mark.usefixtures("hardened")
def test_change_that_locks_out_is_taken_back_by_the_host(site: Lab, edge: Host) -> None:
    # sshd takes it, and no rule of ours can know that nobody has a key there.
    run = playbook(
        site.paths,
        PLAYBOOK,
        "-e",
        json.dumps(
            {
                "hardening_ssh_options": {"AuthorizedKeysFile": "/nonexistent"},
                "hardening_confirm_seconds": CONFIRM_SECONDS,
            }
        ),
    )
    assert run.returncode != 0
    assert "no new ssh connection was let in within 5 s" in run.stdout + run.stderr
    assert not new_connection(site, edge), "nobody was locked out: this test would prove nothing"
    took = until("let in again", TAKEN_BACK_AFTER + 15, lambda: new_connection(site, edge))
    print(f"let in again after {took:.0f} s more")
    assert shell(site.hosts, edge, "nft list table inet edgefleet")
    play(site)
    assert play(site)["changed"] == 0


def end_with_children(pid: int) -> None:
    """kill -9, the children first: Ansible's workers have sessions of their own and would go on without it."""
    found = subprocess.run(["pgrep", "--parent", str(pid)], check=False, capture_output=True, text=True).stdout
    for child in found.split():
        end_with_children(int(child))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_when_unconfirmed(lab: Lab, host: Host) -> None:
    """Play the role and kill Ansible after the host was changed and before the change is confirmed."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(lab.paths.inventory), PLAYBOOK]
    variables = json.dumps({"hardening_confirm_seconds": CONFIRM_SECONDS})
    with subprocess.Popen(
        [*command, "-e", variables], cwd=CHECKOUT, stdout=subprocess.DEVNULL, start_new_session=True
    ) as run:
        script = f"for i in $(seq 600); do [ -d {PENDING} ] && exit 0; sleep 0.05; done; exit 1"
        shell(lab.hosts, host, script)
        end_with_children(run.pid)
    until("table loaded by the module, which goes on", 10, lambda: has_table(lab, host))
    assert shell(lab.hosts, host, f"ls {PENDING}"), "the change was confirmed before Ansible was killed"


def has_table(lab: Lab, host: Host) -> bool:
    return lab.hosts.exec(host.name, ["nft", "list", "table", "inet", "edgefleet"])[0] == 0


def without_hardening(lab: Lab, host: Host) -> bool:
    """Neither firewall nor drop-in."""
    drop_in = lab.hosts.exec(host.name, ["test", "-e", "/etc/ssh/sshd_config.d/00-edgefleet.conf"])[0] == 0
    return not has_table(lab, host) and not drop_in


def by_time(lab: Lab, host: Host) -> None:
    until("taken back", TAKEN_BACK_AFTER + 15, lambda: without_hardening(lab, host))


def by_a_power_cut(lab: Lab, host: Host) -> None:
    lab.hosts.reboot(host.name, power_cut=True)
    until("taken back at boot", 30, lambda: without_hardening(lab, host))


@pytest.mark.parametrize("way", [by_time, by_a_power_cut])
def test_unconfirmed_change_of_a_killed_run_is_taken_back(
    site: Lab, edge: Host, way: Callable[[Lab, Host], None]
) -> None:
    play(site, hardening_enabled=False)
    assert without_hardening(site, edge)
    kill_when_unconfirmed(site, edge)
    way(site, edge)
    assert new_connection(site, edge)
    # Whatever the killed run left, the next one finishes.
    play(site)
    assert has_table(site, edge)
    assert play(site)["changed"] == 0


DRIFT = {
    "/etc/ssh/sshd_config.d/00-edgefleet.conf": "echo 'MaxAuthTries 9' > /etc/ssh/sshd_config.d/00-edgefleet.conf",
    "table inet edgefleet": "nft add rule inet edgefleet input tcp dport 31337 accept",
    "sysctl net.ipv4.conf.all.accept_redirects": "sysctl -qw net.ipv4.conf.all.accept_redirects=1",
    "/etc/crontab": "chmod 0666 /etc/crontab",
    "/etc/login.defs": "sed -i 's/^UMASK.*/UMASK 000/' /etc/login.defs",
    "mount /tmp": "mount -o remount,exec /tmp",
    "unit edgefleet-takeback.service": "systemctl disable -q edgefleet-takeback.service",
    "/etc/issue.net": "echo drift > /etc/issue.net; chmod 0600 /etc/issue.net",
    "/etc/systemd/journald.conf.d/zz-edgefleet.conf": "rm /etc/systemd/journald.conf.d/zz-edgefleet.conf",
}


@pytest.mark.usefixtures("hardened")
def test_drift_is_reported_by_check_and_healed(site: Lab, edge: Host) -> None:
    for change in DRIFT.values():
        shell(site.hosts, edge, change)
    looked = playbook(site.paths, PLAYBOOK, "--check", "--diff")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    reported = set(re.findall(r"^--- before: (.+)$", looked.stdout, re.MULTILINE))
    assert reported == set(DRIFT)
    assert "31337" in shell(site.hosts, edge, "nft list table inet edgefleet"), "check mode has changed the table"
    healed = playbook(site.paths, PLAYBOOK, "--diff")
    assert set(re.findall(r"^--- before: (.+)$", healed.stdout, re.MULTILINE)) == set(DRIFT)
    assert play(site)["changed"] == 0
