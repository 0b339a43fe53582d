"""The virtual machines' network: a bridge of the lab's own on this machine, with a tap device for each host."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab import firewall, locks
from lab.errors import LabError
from lab.hosts import mac, place
from lab.paths import LabPaths
from lab.process import Run

# Below podman's own (10.89.0.0 and up) and beside what K3s uses (10.42.0.0 and 10.43.0.0).
POOL = ipaddress.IPv4Network("10.71.0.0/16")
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def name_servers(files: Sequence[Path] = RESOLV_CONF) -> list[str]:
    """The machine's own, as far as a host can reach them: from the first file that has one off the loopback."""
    for path in files:
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        found = [words[1] for words in (line.split() for line in lines) if len(words) > 1 and words[0] == "nameserver"]
        reachable = [server for server in found if ":" not in server and not server.startswith("127.")]
        if reachable:
            return reachable
    return []


class Lan:
    """One lab's network. Device names are short and start alike, so that `down` finds what a killed run made."""

    def __init__(self, paths: LabPaths, run: Run, root: Callable[[], list[str]]) -> None:
        self.paths = paths
        self._run = run
        self._root = root
        self._stem = f"ef{hashlib.sha256(paths.id.encode()).hexdigest()[:8]}"

    @property
    def bridge(self) -> str:
        """The bridge's name."""
        return f"{self._stem}br"

    def tap(self, host: str) -> str:
        """The name of a host's device."""
        return f"{self._stem}t{place(host)}"

    @property
    def _memory(self) -> Path:
        return self.paths.state / "network.json"

    def _as_root(self, *command: str) -> None:
        self._run([*self._root(), *command])

    def _links(self) -> dict[str, dict[str, Any]]:
        """The devices of this lab that there are."""
        shown = json.loads(self._run(["ip", "-json", "-details", "link", "show"]).stdout or "[]")
        return {link["ifname"]: link for link in shown if link["ifname"].startswith(self._stem)}

    def network(self) -> ipaddress.IPv4Network:
        """The lab's subnet: chosen once among those that neither the machine nor another lab uses, then remembered."""
        if not self._memory.exists():
            with locks.held(self.paths.cache / "labs" / "networks.lock"):
                chosen = self._free()
                part = self._memory.with_name("network.part")
                part.write_text(f"{json.dumps(str(chosen))}\n", encoding="utf-8")
                part.rename(self._memory)
        return ipaddress.IPv4Network(json.loads(self._memory.read_text(encoding="utf-8")))

    def _free(self) -> ipaddress.IPv4Network:
        routes = json.loads(self._run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]")
        taken = [route["dst"] for route in routes if route["dst"] != "default"]
        for other in (self.paths.cache / "labs").glob(f"*/{self._memory.name}"):
            taken.append(json.loads(other.read_text(encoding="utf-8")))
        networks = [ipaddress.IPv4Network(one, strict=False) for one in taken]
        for candidate in POOL.subnets(new_prefix=24):
            if not any(candidate.overlaps(network) for network in networks):
                return candidate
        raise LabError(
            f"No free network in {POOL} for lab {self.paths.name}: remove labs that are not needed any more."
        )

    def ensure(self, *, airgapped: bool) -> None:
        """The bridge with its address, and what may pass it."""
        network, links = self.network(), self._links()
        if self.bridge not in links:
            self._as_root("ip", "link", "add", self.bridge, "address", mac(self.paths.id, 1), "type", "bridge")
        elif links[self.bridge].get("linkinfo", {}).get("info_kind") != "bridge":
            raise LabError(f"This machine has a device {self.bridge} that is no bridge. Remove it: ip link delete ...")
        self._as_root("ip", "address", "replace", f"{network[1]}/{network.prefixlen}", "dev", self.bridge)
        self._as_root("ip", "link", "set", "dev", self.bridge, "up")
        if FORWARD.read_text().strip() == "0":
            self._as_root("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        chains = firewall.closed(self.bridge) if airgapped else firewall.translated(network)
        firewall.put(self.paths.id, chains, self._run, self._root())
        firewall.pass_through(self.bridge, self.paths.id, self._run, self._root())

    def plug(self, host: str) -> bool:
        """A host's device on the bridge; True if it was not there."""
        tap = self.tap(host)
        link = self._links().get(tap)
        if link is None:
            self._as_root("ip", "tuntap", "add", "dev", tap, "mode", "tap", "user", str(os.getuid()))
        if link is None or link.get("master") != self.bridge:
            self._as_root("ip", "link", "set", "dev", tap, "master", self.bridge)
        self._as_root("ip", "link", "set", "dev", tap, "up")
        return link is None

    def unplug(self, host: str) -> None:
        """Remove a host's device."""
        if self.tap(host) in self._links():
            self._as_root("ip", "link", "delete", self.tap(host))

    def remove(self) -> None:
        """Remove all devices and rules of the lab."""
        for link in self._links():
            self._as_root("ip", "link", "delete", link)
        firewall.remove(self.paths.id, self._run, self._root())
        firewall.end_pass_through(self.paths.id, self._run, self._root())
