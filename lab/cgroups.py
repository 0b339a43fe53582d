"""Control groups that hosts leave when they go, on a machine with cgroup v1.

There container hosts share the machine's hierarchies. A container that ends with its host leaves its folders behind,
and the kubelet of any other host takes 3 s for each when it starts: its statistics ask containerd, which has no such
container, five times (cAdvisor's containerd handler). With eight of them a node is not ready for 25 s after every
restart of K3s, and its Services lose their endpoints. Under v2 a host has a hierarchy of its own, which goes with it.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# Containers, pods and the smoke test's; never the folders above them, which kubelets of other hosts use as well.
_OURS = r".*/([0-9a-f]{64}|pod[0-9a-f]{8}-[0-9a-f-]{27}|edgefleet-smoke-[0-9a-f]+)"


def sweep(root: Path = ROOT) -> list[str]:
    """A command that removes what is older than a minute and in which nothing runs: the kernel refuses the others.

    For a host: some hierarchies are mounted there and not on the machine. A container of another host that is just
    being made has no process yet, hence the minute.
    """
    found = ["find", str(root), "-depth", "-type", "d", "-regextype", "posix-extended", "-regex", _OURS, "-mmin", "+1"]
    return [*found, "-exec", "rmdir", "{}", ";"]
