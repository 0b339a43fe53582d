"""Control groups that containers leave when their host goes or loses its power, on a machine with cgroup v1.

There container hosts share the machine's hierarchies, and what stands in them outlives a host's containers; a real host
loses it with its kernel. It is not harmless: cAdvisor, which a kubelet starts first, waits 6 s for the process of each
container that containerd remembers and that still has a control group. After a power cut with four of them a node was
not ready for 25 to 28 s after every start of K3s, long enough for its Services to lose their endpoints; 0.2 s without.
Under v2 a host has a hierarchy of its own, which goes with it.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# Containers, by containerd's ids, and the smoke test's.
_OURS = r".*/([0-9a-f]{64}|edgefleet-smoke-[0-9a-f]+)"


def sweep(root: Path = ROOT) -> list[str]:
    """A command that removes those in which nothing runs: the kernel refuses to remove the others.

    On the machine and in a host, where hierarchies are mounted that the machine has not.
    """
    found = ["find", str(root), "-depth", "-type", "d", "-regextype", "posix-extended", "-regex", _OURS]
    return [*found, "-exec", "rmdir", "{}", ";"]
