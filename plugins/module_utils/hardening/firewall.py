# SPDX-License-Identifier: Apache-2.0
"""The host's own nftables table: never another one, never the whole rule set, which is kube-proxy's as well."""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Sequence

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import HardeningError, Machine
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.ssh import Connection

NFT = "/usr/sbin/nft"
TABLE = ("table", "inet", "edgefleet")
FILE = "/etc/edgefleet/firewall.nft"
UNIT = "edgefleet-firewall.service"


def text(rules: str, ssh_ports: Sequence[int]) -> str:
    """The rules with the ports of ssh, which only the host knows, as a definition before them."""
    return f"define ssh_ports = {{ {', '.join(map(str, ssh_ports))} }}\n{rules}"


def refusal(machine: Machine, content: str) -> str:
    """What nft says against the rules, on this host's own kernel; empty if it takes them."""
    code, _, errors = machine.run([NFT, "--check", "--file", "-"], data=content)
    return errors.strip() if code else ""


def live(machine: Machine) -> str:
    """The table as the kernel has it, without counters; empty if there is none."""
    code, out, _ = machine.run([NFT, "--stateless", "list", *TABLE])
    return out if code == 0 else ""


def expected(machine: Machine, content: str) -> str:
    """The table as the kernel would show it: loaded into a network of its own that ends with the command."""
    with tempfile.NamedTemporaryFile("w", prefix="edgefleet-", suffix=".nft", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        script = f'{NFT} --file "$1" && {NFT} --stateless list {" ".join(TABLE)}'
        return machine.must("unshare", "--net", "--", "sh", "-c", script, "sh", file.name)


def load(machine: Machine, content: str) -> None:
    """Replace the table in one step: packets meet the old rules or the new ones."""
    machine.must(NFT, "--file", "-", data=content)


def remove(machine: Machine) -> None:
    """Take the table away, if it is there."""
    if live(machine):
        machine.must(NFT, "delete", *TABLE)


def lock_outs(login: Connection | None, ports: Sequence[int], sources: Sequence[str]) -> list[str]:
    """One sentence for each reason why a new connection like this one would be dropped."""
    if login is None:
        return []
    found = []
    if login.local_port not in ports:
        found.append(
            f"hardening_firewall_ssh_ports ({', '.join(map(str, ports))}) would lock out Ansible, which is connected "
            f"to port {login.local_port}; add it, or leave the variable empty for the ports that sshd listens on."
        )
    if sources and not any(_within(login.address, source) for source in sources):
        found.append(
            f"hardening_firewall_ssh_sources ({', '.join(sources)}) would lock out Ansible, which is connected from "
            f"{login.address}; add that address or its network."
        )
    return found


def _within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError as error:
        raise HardeningError(f"hardening_firewall_ssh_sources: {error}.") from error
