"""What a smoke test leaves on its host: nothing."""

from __future__ import annotations

import time

from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import shell

TRACES = """\
find /run /var/lib /tmp -maxdepth 1 -name 'edgefleet-smoke*'; find /sys/fs/cgroup -name '*edgefleet-smoke*'
ctr -n k8s.io containers ls -q 'labels."edgefleet.wasm/smoke-owner"'
k3s kubectl get pods -n kube-system -l edgefleet.wasm/smoke-owner -o name
grep -l edgefleet-smoke /proc/[0-9]*/cmdline || true\
"""


def left_behind(lab: Lab, host: Host) -> set[str]:
    """Traces that stay. Hosts of other labs share the kernel's control groups: what is theirs lives a moment only."""

    def look() -> set[str]:
        return set(shell(lab.hosts, host, TRACES).split())

    seen = look()
    if seen:
        time.sleep(5)
        seen &= look()
    return seen
