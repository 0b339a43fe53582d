"""What the tests of upgrades share: a mirror with a second K3s and one that does not start, and what a host says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release

from lab import workload
from lab.builders import catalogue, k3s_variables
from lab.builders.base import host_arch
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.session import Lab
from tests.integration.hosts import ask, lab_command, playbook, playbook_command, recap, shell, until, without_colours

CURRENT = "v1.30.4+k3s1"
# The same Kubernetes under another version of K3s, as K3s numbers its own fixes: its components are compiled already.
OTHER = "v1.30.4+k3s2"
BROKEN = "v1.30.5+k3s1"
# What the keeper's status says between changes.
ENDED = "no change is under way"
# Where a change is cut: before it, in it, while K3s is started anew, and before it is kept.
CUTS = [
    r"Keep what is there, and watch",
    r"edgefleet\.wasm\.containerd : Unpack",
    r"edgefleet\.wasm\.k3s : Import and pin",
    r"edgefleet\.wasm\.k3s : Wait until the node",
    r"Keep the change if the host is well",
]
# It says who it is, and does not start.
BROKEN_PROGRAM = f"""#!/bin/sh
[ "$1" != --version ] || {{ echo "k3s version {BROKEN} (00000000)"; exit 0; }}
exit 1
"""


def build(version: str) -> None:
    """Have one more K3s in the lab's mirror."""
    subprocess.run(lab_command("artifacts", "--k3s", version), cwd=CHECKOUT, check=True, timeout=3000)


def declared(mirror: Mirror, version: str) -> list[str]:
    """The variables by which an inventory asks for this version of K3s."""
    return ["--extra-vars", json.dumps(k3s_variables(mirror.root, version))]


def with_broken(lab: Lab, folder: Path) -> Mirror:
    """The lab's mirror and, beside what is in it, a K3s that does not start."""
    shutil.copytree(lab.paths.mirror, folder)
    mirror = Mirror(folder)
    for one in catalogue.k3s_of(BROKEN, host_arch()):
        file = folder.parent / one.file
        if one.name == "k3s":
            file.write_text(BROKEN_PROGRAM)
        else:
            shutil.copyfile(mirror.path(Release(one.name, CURRENT, one.arch, one.file)), file)
        mirror.add(one, file, "made for a test")
    return mirror


def started(lab: Lab, words: list[str]) -> subprocess.Popen[str]:
    """A playbook, its output to be read line by line; it and its children are a group of their own."""
    return subprocess.Popen(
        playbook_command(lab.paths, *words),
        cwd=CHECKOUT,
        env=without_colours(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def at_task(lab: Lab, words: list[str], task: str) -> Iterator[subprocess.Popen[str]]:
    """A playbook that has come to a task, the rest of its output unread."""
    seen = ""
    with started(lab, words) as run:
        assert run.stdout is not None
        for line in run.stdout:
            seen += line
            if re.search(rf"TASK \[{task}", line):
                break
        else:
            raise AssertionError(f"ended before {task}:\n{seen[-3000:]}")
        yield run


def at_each_task(
    lab: Lab, words: list[str], tasks: list[str], do: Callable[[str], object]
) -> subprocess.CompletedProcess[str]:
    """Run a playbook to its end, and do something as it comes to each of these tasks, which are in its order."""
    seen, left = "", list(tasks)
    with started(lab, words) as run:
        assert run.stdout is not None
        for line in run.stdout:
            seen += line
            if left and re.search(rf"TASK \[{left[0]}", line):
                do(left.pop(0))
    assert left == [], f"it never came to {left}:\n{seen[-3000:]}"
    return subprocess.CompletedProcess(words, run.returncode, seen)


def killed_at(lab: Lab, words: list[str], task: str) -> None:
    """Run a playbook and kill it, with all its children, when it comes to a task."""
    with at_task(lab, words, task) as run:
        os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL, f"ended before {task}"


def status(lab: Lab, host: Host) -> str:
    """What the host says of its changes."""
    return shell(lab.hosts, host, "edgefleet-keeper status")


def versions(lab: Lab, host: Host) -> set[str]:
    """What the API says that it is, and that the node is."""
    api = json.loads(shell(lab.hosts, host, "k3s kubectl get --raw=/version"))["gitVersion"]
    node = shell(lab.hosts, host, "k3s kubectl get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}'")
    return {api, *node.split()}


def pods(lab: Lab, host: Host) -> str:
    """The workload's pods with how often they were restarted."""
    columns = "-o jsonpath='{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}'"
    return shell(lab.hosts, host, f"k3s kubectl -n {workload.NAMESPACE} get pods {columns}")


def noticed(lab: Lab, host: Host) -> str:
    """What the host says of its node, its pods and its last start of K3s, for a person who has only this."""
    states = "k3s kubectl get nodes,pods,endpointslices -A -o wide --no-headers | cut -c -150"
    lines = "Node became|NodeNotReady|ready status|[Ee]vict|Predicate|unhealthy|may not have completed|Fast updating"
    journal = f"journalctl -u k3s -o short-precise --since '3 min ago' | grep -E '{lines}' | tail -n 30 | cut -c 8-250"
    return shell(lab.hosts, host, f"{states}; {journal}")


@contextmanager
def asked_throughout(lab: Lab, host: Host, result: Path) -> Iterator[dict[str, Any]]:
    """The workload is asked ten times a second from outside; filled in at the end."""
    url = workload.address(lab.hosts, host) + "x"
    command = [sys.executable, str(CHECKOUT / "tests/integration/prober.py"), str(result), url]
    found: dict[str, Any] = {}
    with subprocess.Popen(command) as prober:
        try:
            yield found
        finally:
            prober.send_signal(signal.SIGTERM)
            prober.wait(30)
            found.update(json.loads(result.read_text())[url])


def up_and_back(lab: Lab, host: Host, folder: Path) -> None:
    """Upgrade and go down again while the workload is asked: no request fails, no pod ends."""
    mirror = Mirror(lab.paths.mirror)
    assert versions(lab, host) == {CURRENT}
    running = pods(lab, host)
    for version, before in ((OTHER, CURRENT), (CURRENT, OTHER)):
        began = time.monotonic()
        with asked_throughout(lab, host, folder / f"{version}.json") as asked:
            run = playbook(lab.paths, "edgefleet.wasm.upgrade", *declared(mirror, version))
        assert run.returncode == 0, run.stdout + run.stderr
        assert f"K3s {version} is kept, before it was {before}" in " ".join(run.stdout.split())
        assert versions(lab, host) == {version}
        print(
            f"{before} to {version}: {time.monotonic() - began:.0f} s, asked {asked['requests']} times, "
            f"{len(asked['failures'])} failed, longest gap {asked['longest_gap_s']} s"
        )
        assert asked["requests"] > 50
        said = f"{asked['failures']}, longest gap {asked['longest_gap_s']} s\n{noticed(lab, host)}"
        assert asked["failures"] == [], said
        assert pods(lab, host) == running, f"a running pod was ended\n{noticed(lab, host)}"
    again = playbook(lab.paths, "edgefleet.wasm.site", "--check", *declared(mirror, CURRENT))
    changed = {name: figures["changed"] for name, figures in recap(again.stdout).items()}
    assert changed["edge1"] == 0, again.stdout
    assert not any(changed.values()), again.stdout


def boots_whole(lab: Lab, host: Host, mirror: Mirror, task: str, patience: float = 1) -> None:
    """After a power cut at a task the host boots one of the two versions, whole, serves, and comes back.

    ``patience``: how many times slower than a machine of its own the host is.
    """
    until("the change has ended", 240 * patience, lambda: ENDED in status(lab, host))
    until("one version alone", 120 * patience, lambda: versions(lab, host) in ({CURRENT}, {OTHER}))
    (version,) = versions(lab, host)
    assert version in shell(lab.hosts, host, "k3s --version")
    print(f"{task}: {status(lab, host)}")
    until("the workload answers", 120 * patience, lambda: bool(ask(lab.hosts, host)))
    back = playbook(lab.paths, "edgefleet.wasm.upgrade", *declared(mirror, CURRENT))
    assert back.returncode == 0, back.stdout + back.stderr
