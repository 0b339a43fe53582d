"""After a reset the host is as it was, but for a list that is explained."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from testinfra.host import Host

LOOK = Path(__file__).parent.parent / "look.sh"
# What may differ, and why.
EXPLAINED = {
    r"/run/netns( |$)": "containerd's folder for network namespaces, a mount that is gone at the next boot",
    r"mount /proc/sys/fs/binfmt_misc ": "mounted by systemd when somebody looks into it, as `sysctl --all` does",
    r"/var/lib/containerd d ": "a volume on container hosts, so it stays; containerd has closed it to others",
}


def facts(text: str) -> list[str]:
    return sorted(line.rstrip() for line in text.splitlines() if line.strip())


def test_nothing_is_left_and_nothing_is_missing(host: Host) -> None:
    name = host.ansible.get_variables()["inventory_hostname"]
    before = facts(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], f"before-{name}").read_text())
    after = facts(host.check_output("sh -c %s", LOOK.read_text()))
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    differing = [line for line in lines if re.match(r"[-+](?![-+])", line)]
    left = [line for line in differing if not any(re.search(one, line) for one in EXPLAINED)]
    assert not left, "\n".join(left)
