"""What K3s does for pods beside running them: NetworkPolicies hold, volumes of the default class come and go."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import shell, until

pytestmark = pytest.mark.lab

SPACE = "services-test"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: services-test, labels: {{app: {name}}}}}
spec:
  runtimeClassName: wasmedge
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: c
      image: {image}
      imagePullPolicy: Never
      env: [{{name: SYSTEM, value: test}}, {{name: PORT, value: "8080"}}]
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
      readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
      resources: {{requests: {{cpu: 50m, memory: 32Mi}}, limits: {{cpu: "1", memory: 256Mi}}}}
      volumeMounts: {mounts}
  volumes: {volumes}
"""
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: services-test}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"""
ALLOW = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow, namespace: services-test}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 8080}]}]
  egress: [{to: [{podSelector: {matchLabels: {app: server}}}]}]
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: services-test}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"""


def kubectl(lab: Lab, host: Host, words: str, stdin: str = "") -> str:
    fed = f"k3s kubectl {words} <<'END'\n{stdin}\nEND" if stdin else f"k3s kubectl {words}"
    return shell(lab.hosts, host, fed)


def apply(lab: Lab, host: Host, manifest: str) -> None:
    kubectl(lab, host, "apply -f -", manifest)


@pytest.fixture(scope="module")
def space(lab: Lab, host: Host) -> Iterator[str]:
    """A namespace, and the image of the service that is on the host."""
    found = json.loads(kubectl(lab, host, "get deployment -n edgefleet-skeleton skeleton -o json"))
    kubectl(lab, host, f"create namespace {SPACE}")
    try:
        yield found["spec"]["template"]["spec"]["containers"][0]["image"]
    finally:
        kubectl(lab, host, f"delete namespace {SPACE} --wait --timeout=60s")


def run_pod(lab: Lab, host: Host, name: str, image: str, claim: str = "") -> str:
    """A ready pod; its address."""
    mounts = "[{name: data, mountPath: /data}]" if claim else "[]"
    volumes = f"[{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]" if claim else "[]"
    apply(lab, host, POD.format(name=name, image=image, mounts=mounts, volumes=volumes))
    kubectl(lab, host, f"wait -n {SPACE} pod/{name} --for=condition=Ready --timeout=60s")
    return kubectl(lab, host, f"get pod -n {SPACE} {name} -o jsonpath={{.status.podIP}}").strip()


def reaches(lab: Lab, host: Host, pod: str, address: str) -> bool:
    """Whether a connection from the network of a pod comes through."""
    script = f"""
    id=$(k3s crictl pods --namespace {SPACE} --label app={pod} --state ready --quiet 2>/dev/null)
    process=$(k3s crictl inspectp --output go-template --template '{{{{.info.pid}}}}' $id 2>/dev/null)
    nsenter --net=/proc/$process/ns/net curl --silent --max-time 2 --output /dev/null http://{address}:8080/ &&
        echo yes || echo no
    """
    answer = shell(lab.hosts, host, script).strip()
    assert answer in ("yes", "no"), answer
    return answer == "yes"


def test_network_policies_hold(lab: Lab, host: Host, space: str) -> None:
    server, client = run_pod(lab, host, "server", space), run_pod(lab, host, "client", space)
    until("without a policy pods talk", 20, lambda: reaches(lab, host, "client", server))
    apply(lab, host, DENY)
    until("denied by default", 20, lambda: not reaches(lab, host, "client", server))
    assert not reaches(lab, host, "server", client)
    apply(lab, host, ALLOW)
    until("opened for the client", 20, lambda: reaches(lab, host, "client", server))
    assert not reaches(lab, host, "server", client), "only in the direction that was opened"


def test_volume_of_the_default_class(lab: Lab, host: Host, space: str) -> None:
    apply(lab, host, CLAIM)
    run_pod(lab, host, "writer", space, claim="data")
    bound = kubectl(lab, host, f"get pvc -n {SPACE} data -o jsonpath={{.spec.storageClassName}},{{.spec.volumeName}}")
    kind, volume = bound.strip().split(",")
    assert kind == "local-path"
    described = json.loads(kubectl(lab, host, f"get pv {volume} -o json"))["spec"]
    folder = (described.get("hostPath") or described["local"])["path"]
    assert volume in folder
    # Any user of a pod may write, but only root comes there from the host.
    modes = shell(lab.hosts, host, f"stat -c %a {folder} {folder}/..").split()
    assert modes == ["777", "700"]
    kubectl(lab, host, f"delete -n {SPACE} pod/writer pvc/data --wait")
    until(
        "the folder goes with the claim", 60, lambda: "gone" in shell(lab.hosts, host, f"ls -d {folder} || echo gone")
    )
