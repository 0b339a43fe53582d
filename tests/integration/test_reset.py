"""A reset leaves the host as it was before site.yml."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

import pytest

from lab.session import Lab
from tests.integration.conftest import brought_up
from tests.integration.hosts import playbook, prepared, recap, shell

pytestmark = [pytest.mark.lab, pytest.mark.full]

# Rules without the chains that every table has, files with their content, and what runs.
LOOK = """
iptables-save | grep -E '^(-A|:(KUBE|CNI|FLANNEL))'
ip -brief link | awk '{print $1}'
awk '{print $5}' /proc/self/mountinfo
systemctl list-unit-files --no-legend --plain | sort
dpkg-query --show
find /etc /usr/local /opt /var/lib/rancher /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/lib/edgefleet \
     /run/containerd /run/k3s /run/flannel /run/netns /var/log/pods /usr/libexec \
     -printf '%p %y %m %u %l\\n' 2>/dev/null | sort
ps -e -o comm= | grep -vE '^(ps|sh|sort|awk|grep|find|systemctl|sshd.*|\\(sd-pam\\)|systemd)$' | sort -u
"""
# What may differ, and why.
EXPLAINED = {
    r"/run/netns( |$)": "containerd's folder for network namespaces, a mount that is gone at the next boot",
    r"/var/lib/containerd d ": "a volume on these hosts, so it stays; containerd has closed it to others",
}


@pytest.fixture
def lab() -> Iterator[Lab]:
    yield from brought_up("reset")


def look(lab: Lab) -> list[str]:
    (host,) = [one.host for one in lab.hosts.status()]
    return shell(lab.hosts, host, LOOK).splitlines()


def explained(line: str) -> bool:
    return any(re.search(pattern, line) for pattern in EXPLAINED)


def test_reset_leaves_the_host_as_it_was(lab: Lab) -> None:
    confirmed = ("edgefleet.wasm.reset", "--extra-vars", "edgefleet_reset_confirm=true")
    before = look(lab)
    prepared(lab)
    assert look(lab) != before

    told = playbook(lab.paths, *confirmed, "--check")
    assert told.returncode == 0, told.stdout + told.stderr
    assert recap(told.stdout)["edge1"]["changed"] > 0

    run = playbook(lab.paths, *confirmed)
    assert run.returncode == 0, run.stdout + run.stderr
    left = [
        line for line in difflib.unified_diff(before, look(lab), lineterm="", n=0) if line[:2] not in ("--", "++", "@@")
    ]
    assert not [line for line in left if not explained(line)], "\n".join(left)

    again = playbook(lab.paths, *confirmed)
    assert again.returncode == 0, again.stdout + again.stderr
    assert recap(again.stdout)["edge1"]["changed"] == 0, again.stdout
