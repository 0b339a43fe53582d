"""A backup of a running site, rehearsed, and restored on another host under another name."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import ask, playbook, prepared, recap, shell, until
from tests.unit.keeper.conftest import Pair, make_pair

pytestmark = [pytest.mark.lab, pytest.mark.full]

# Words that stand where no one may read them: in a Secret, and in the application's database.
SECRET, ANSWER = secrets.token_hex(16), secrets.token_hex(16)
VOLUMES = ["exam/answers", "/srv/app"]
APPLICATION = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: exam, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: key, namespace: exam}}
stringData: {{key: {SECRET}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: answers, namespace: exam}}
spec: {{accessModes: [ReadWriteOnce], storageClassName: local-path, resources: {{requests: {{storage: 10Mi}}}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: api, namespace: exam}}
spec:
  selector: {{matchLabels: {{app: api}}}}
  template:
    metadata: {{labels: {{app: api}}}}
    spec:
      runtimeClassName: wasmedge
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 2
      securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
      volumes: [{{name: answers, persistentVolumeClaim: {{claimName: answers}}}}]
      containers:
        - name: api
          image: registry.example.com/edgefleet/skeleton:0.2.0-wasmedge-0.14.1
          imagePullPolicy: IfNotPresent
          env: [{{name: SYSTEM, value: exam}}, {{name: PORT, value: "8080"}}]
          readinessProbe: {{tcpSocket: {{port: 8080}}}}
          resources: {{requests: {{cpu: 50m, memory: 64Mi}}, limits: {{cpu: 500m, memory: 256Mi}}}}
          securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
          volumeMounts: [{{name: answers, mountPath: /data}}]
"""
DATABASE = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("CREATE TABLE IF NOT EXISTS answers (text TEXT)")
if len(sys.argv) > 2:
    database.execute("INSERT INTO answers VALUES (?)", [sys.argv[2]])
    database.commit()
print(database.execute("SELECT group_concat(text) FROM answers").fetchone()[0])
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from brought_up("backup", "--count", "2")


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> tuple[Host, Host]:
    """Two sites, prepared; the application and its data on the first alone."""
    first, second = (one.host for one in lab.hosts.status())
    prepared(lab)
    shell(lab.hosts, first, f"k3s kubectl apply -f - <<'E'\n{APPLICATION}\nE")
    shell(lab.hosts, first, "k3s kubectl -n exam rollout status deployment/api --timeout=120s")
    shell(lab.hosts, first, f"mkdir -p /srv/app && echo {ANSWER} > /srv/app/note && chmod 0640 /srv/app/note")
    assert database(lab, first, ANSWER) == ANSWER
    return first, second


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


def volume(lab: Lab, host: Host) -> str:
    claims = (
        "k3s kubectl get pv -o jsonpath='{range .items[*]}{.spec.claimRef.name} {.spec.hostPath.path}{\"\\n\"}{end}'"
    )
    return dict(line.split() for line in shell(lab.hosts, host, claims).splitlines())["answers"]


def database(lab: Lab, host: Host, *words: str) -> str:
    path = f"{volume(lab, host)}/answers.db"
    return shell(lab.hosts, host, f"python3 - {path} {' '.join(words)} <<'E'\n{DATABASE}\nE").strip()


def extra(**values: object) -> list[str]:
    return ["--extra-vars", json.dumps(values)]


def cluster(lab: Lab, host: Host) -> str:
    """What a cluster is recognised by."""
    return shell(lab.hosts, host, "k3s kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'")


def newest(lab: Lab, host: Host, folder: Path) -> Path:
    """The newest backup that is on a host, brought here."""
    (name,) = shell(lab.hosts, host, "ls /var/backups/edgefleet | tail -1").split()
    code, out = lab.hosts.exec(host.name, ["base64", "-w0", f"/var/backups/edgefleet/{name}"])
    assert code == 0
    backup = folder / name
    backup.write_bytes(base64.b64decode(out))
    return backup


def restore(lab: Lab, host: Host, backup: Path, pair: Pair, *words: str) -> subprocess.CompletedProcess[str]:
    """Put a backup on a host, as who means it says it."""
    declared = {"edgefleet_restore_from": str(backup), "edgefleet_backup_key": str(pair.key)}
    confirmed = extra(**declared, edgefleet_restore_confirm=True)
    return playbook(lab.paths, "edgefleet.wasm.restore", *confirmed, "--limit", f"{host.name},localhost", *words)


def test_a_site_comes_back_on_another_host_under_another_name(
    lab: Lab, hosts: tuple[Host, Host], pair: Pair, tmp_path: Path
) -> None:
    first, second = hosts
    declared = extra(
        keeper_backup_certificate=pair.certificate.read_text(),
        keeper_volumes=VOLUMES,
        edgefleet_backup_dir=str(tmp_path),
        edgefleet_backup_key=str(pair.key),
    )
    told = playbook(lab.paths, "edgefleet.wasm.backup", *declared, "--check", "--limit", "edge1,localhost")
    assert told.returncode == 0, told.stdout + told.stderr
    assert not list(tmp_path.iterdir())

    run = playbook(lab.paths, "edgefleet.wasm.backup", *declared, "--limit", "edge1,localhost", "-v")
    assert run.returncode == 0, run.stdout + run.stderr
    (made,) = tmp_path.iterdir()
    assert SECRET not in run.stdout
    assert ANSWER.encode() not in made.read_bytes()
    timer = shell(
        lab.hosts, first, "systemctl is-enabled edgefleet-backup.timer; systemctl is-active edgefleet-backup.timer"
    )
    assert timer.split() == ["enabled", "active"]
    # As the timer does it: without Ansible.
    shell(lab.hosts, first, "systemctl start edgefleet-backup.service")
    assert len(shell(lab.hosts, first, "ls /var/backups/edgefleet").split()) == 2

    refused = playbook(
        lab.paths, "edgefleet.wasm.restore", *extra(edgefleet_restore_from=str(made)), "--limit", "edge2,localhost"
    )
    assert refused.returncode != 0
    assert "edgefleet_restore_confirm=true" in refused.stdout
    identity = cluster(lab, first)
    assert cluster(lab, second) != identity

    began = time.monotonic()
    run = restore(lab, second, made, pair, "-v")
    assert run.returncode == 0, run.stdout + run.stderr
    print(f"restore playbook: {time.monotonic() - began:.1f} s; {re.findall(r'[0-9.]+ s[)]', run.stdout)}")
    assert SECRET not in run.stdout
    assert cluster(lab, second) == identity
    assert database(lab, second) == ANSWER
    assert shell(lab.hosts, second, "stat -c %a /srv/app/note; cat /srv/app/note").split() == ["640", ANSWER]
    secret = shell(lab.hosts, second, "k3s kubectl -n exam get secret key -o jsonpath='{.data.key}' | base64 -d")
    assert secret == SECRET
    nodes = shell(lab.hosts, second, "k3s kubectl get nodes -o name").split()
    assert nodes == ["node/edge2"]
    shell(lab.hosts, second, "k3s kubectl -n exam rollout status deployment/api --timeout=60s")
    until("the workload answers", 120, lambda: bool(ask(lab.hosts, second)))
    print(f"serves again {time.monotonic() - began:.1f} s after the restore began")

    again = playbook(lab.paths, "edgefleet.wasm.site", "--limit", "edge2,localhost")
    assert again.returncode == 0, again.stdout + again.stderr
    assert recap(again.stdout)["edge2"]["changed"] == 0, again.stdout


def test_a_corrupted_datastore_is_restored(lab: Lab, hosts: tuple[Host, Host], pair: Pair, tmp_path: Path) -> None:
    first, _ = hosts
    identity = cluster(lab, first)
    backup = newest(lab, first, tmp_path)
    shell(
        lab.hosts,
        first,
        "systemctl stop k3s; cd /var/lib/rancher/k3s/server/db; "
        "dd if=/dev/urandom of=state.db bs=4096 seek=1 count=64 conv=notrunc; "
        "rm -f state.db-*; systemctl start --no-block k3s",
    )
    time.sleep(15)
    assert lab.hosts.exec(first.name, ["k3s", "kubectl", "get", "--raw=/readyz"])[0] != 0, "K3s can live with that"
    run = restore(lab, first, backup, pair)
    assert run.returncode == 0, run.stdout + run.stderr
    assert cluster(lab, first) == identity
    assert database(lab, first) == ANSWER
    assert ask(lab.hosts, first)


def test_check_mode_of_a_restore_needs_nothing_on_the_host_and_leaves_nothing(
    lab: Lab, hosts: tuple[Host, Host], pair: Pair, tmp_path: Path
) -> None:
    first, second = hosts
    backup = newest(lab, first, tmp_path)
    run = playbook(
        lab.paths, "edgefleet.wasm.reset", *extra(edgefleet_reset_confirm=True), "--limit", "edge2,localhost"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    run = restore(lab, second, backup, pair, "--check", "--diff")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "edge2 has the cluster of edge1" in " ".join(run.stdout.split())
    assert "(check mode: not restored)" in " ".join(run.stdout.split())
    assert SECRET not in run.stdout
    there = "ls -d /usr/local/bin/k3s /etc/rancher/k3s /var/lib/rancher/k3s 2>/dev/null; true"
    assert shell(lab.hosts, second, there) == ""
