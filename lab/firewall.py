"""The machine's packet filter between a lab and the world: one nftables table of the lab's own.

A closed lab is a site whose router has no line: the hosts keep their default route, and this machine answers every
attempt to leave with "no route to host". That holds whatever a host does to its own network.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Sequence

from lab.process import Run

# What a host sends: to the lab's other hosts it may, to the machine only answers and ping, out not at all.
_CLOSED = """
  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    iifname "{bridge}" oifname != "{bridge}" reject with icmpx host-unreachable
    iifname != "{bridge}" oifname "{bridge}" reject with icmpx host-unreachable
  }}
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iifname "{bridge}" ct state established,related accept
    iifname "{bridge}" meta l4proto {{ icmp, ipv6-icmp }} accept
    iifname "{bridge}" reject with icmpx host-unreachable
  }}
"""
_TRANSLATED = """
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} ip daddr != {network} masquerade
  }}
"""


def table(lab_id: str) -> str:
    """The name of a lab's table. Lab names have no underscore, so no two labs share one."""
    return lab_id.replace("-", "_")


def closed(bridge: str) -> str:
    """Chains that let nothing out of the lab and nothing but the machine's own connections in."""
    return _CLOSED.format(bridge=bridge)


def translated(network: ipaddress.IPv4Network) -> str:
    """Chains that send what leaves the lab from the machine's own address."""
    return _TRANSLATED.format(network=network)


def _load(rules: str, run: Run, prefix: Sequence[str]) -> None:
    run([*prefix, "nft", "-f", "-"], stdin=rules.encode())


def put(lab_id: str, chains: str, run: Run, prefix: Sequence[str]) -> None:
    """The lab's table with exactly these chains, in one step."""
    name = table(lab_id)
    _load(f"table inet {name}\ndelete table inet {name}\ntable inet {name} {{{chains}}}\n", run, prefix)


def remove(lab_id: str, run: Run, prefix: Sequence[str]) -> None:
    """No table of this lab, whether there was one or not."""
    name = table(lab_id)
    _load(f"table inet {name}\ndelete table inet {name}\n", run, prefix)


def pass_through(bridge: str, lab_id: str, run: Run, prefix: Sequence[str]) -> None:
    """Where the machine forwards nothing by itself (Docker and ufw see to that), let the lab's traffic pass.

    Another table can't do that: a packet must get past every one. podman does the same for its networks.
    """
    if "-P FORWARD DROP" not in run([*prefix, "iptables", "-S", "FORWARD"]).stdout:
        return
    for direction in ("-i", "-o"):
        rule = ["FORWARD", direction, bridge, "-m", "comment", "--comment", lab_id, "-j", "ACCEPT"]
        if run([*prefix, "iptables", "-C", *rule], check=False).returncode != 0:
            run([*prefix, "iptables", "-I", *rule])


def end_pass_through(lab_id: str, run: Run, prefix: Sequence[str]) -> None:
    """Take these rules out again."""
    for line in run([*prefix, "iptables", "-S", "FORWARD"]).stdout.splitlines():
        words = shlex.split(line)
        if "--comment" in words and words[words.index("--comment") + 1] == lab_id:
            run([*prefix, "iptables", "-D", *words[1:]])
