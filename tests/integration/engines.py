"""Looking at the engine of Wasm pods on a lab host, and changing what it depends on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import workload
from lab.builders import wasm
from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import playbook, shell, until

ENGINES = "/usr/local/lib/edgefleet/wasm-engine"
LIVE = f"{ENGINES}/bin/crun"
DEBIAN = "/usr/lib/x86_64-linux-gnu/libwasmedge.so.0.1.0"
USER_ID = wasm.USER.partition(":")[0]


def state(lab: Lab, host: Host) -> dict[str, str]:
    lines = shell(lab.hosts, host, "cat /run/edgefleet/wasm-engine").splitlines()
    return dict(line.split("=", 1) for line in lines)


def bundle(lab: Lab, host: Host) -> str:
    return shell(lab.hosts, host, f"echo {ENGINES}/lean-*").strip()


def pods(lab: Lab, host: Host) -> dict[str, tuple[str, int]]:
    """Of the workload: each pod's id and restarts."""
    out = shell(lab.hosts, host, f"k3s kubectl -n {workload.NAMESPACE} get pods -o json")
    return {
        pod["metadata"]["name"]: (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in json.loads(out)["items"]
        if "deletionTimestamp" not in pod["metadata"]
    }


def engines_of_pods(lab: Lab, host: Host) -> list[str]:
    """Each running workload's engine, by what is mapped."""
    look = "grep -oE '/[^ ]*lib(wasmedge|LLVM)[^ ]*' /proc/$p/maps | sort -u | xargs"
    script = f"for p in $(pgrep -u {USER_ID}); do {look}; done"
    mapped = [line for line in shell(lab.hosts, host, script).splitlines() if "libwasmedge" in line]
    return sorted("lean" if ENGINES in line else "distro" for line in mapped)


@contextmanager
def one_more_pod(lab: Lab, host: Host) -> Iterator[None]:
    """Ready when this is entered, gone when it is left."""
    kubectl = f"k3s kubectl -n {workload.NAMESPACE}"
    scale = f"{kubectl} scale deployment --all --replicas"
    shell(lab.hosts, host, f"{scale}=2 && {kubectl} rollout status deployment --timeout=180s")
    try:
        yield
    finally:
        shell(lab.hosts, host, f"{scale}=1")
        until("one pod", 60, lambda: len(pods(lab, host)) == 1)
        # The API forgets a pod before its process has ended.
        until("one process", 60, lambda: len(engines_of_pods(lab, host)) == 1)


@contextmanager
def altered(lab: Lab, host: Host, path: str, script: str) -> Iterator[None]:
    """A file on the host, replaced by a copy of the same age with something done to it, and put back."""
    shell(lab.hosts, host, f"cp -a {path} /root/kept && cp -a {path} /root/new && ( set -- /root/new; {script} )")
    shell(lab.hosts, host, f"[ ! -e /root/new ] && rm {path} || mv /root/new {path}")
    try:
        yield
    finally:
        shell(lab.hosts, host, f"mv /root/kept {path}")


def until_live(lab: Lab, host: Host, wanted: str) -> dict[str, str]:
    until(f"the engine is {wanted}", 20, lambda: state(lab, host)["live"] == wanted)
    target = shell(lab.hosts, host, f"readlink {LIVE}").strip()
    assert target == ("/usr/bin/crun" if wanted == "distro" else f"{bundle(lab, host)}/crun")
    return state(lab, host)


def smoke(lab: Lab, host: Host, reports: Path, *variables: str) -> dict[str, Any]:
    given = [
        word for one in (f"edgefleet_report_dir={reports}", "wasm_smoke_samples=5", *variables) for word in ("-e", one)
    ]
    run = playbook(lab.paths, "edgefleet.wasm.smoke", "--limit", f"{host.name},localhost", *given)
    assert run.returncode == 0, run.stdout + run.stderr
    document: dict[str, Any] = json.loads((reports / f"{host.name}.json").read_text(encoding="utf-8"))
    return document
