"""Lab hosts as systemd containers in podman: native speed, on the machine's own kernel."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab import cgroups, firewall, ssh
from lab.errors import LabError
from lab.hosts import Host, mac, place
from lab.paths import LabPaths
from lab.podman import LABEL, Podman
from lab.process import Run, run
from lab.progress import Progress
from lab.reach import ReachedBySsh

# What a host was made from: with another image or other options it is made anew.
SPEC_LABEL = "edgefleet.spec"
# These can't lie on the container's own overlay: there is no overlay on overlay.
VOLUMES = {"containerd": "/var/lib/containerd", "rancher": "/var/lib/rancher", "kubelet": "/var/lib/kubelet"}
SYSTEMD = ("/sbin/init",)
# systemd 256 and later refuse cgroup v1 unless the kernel's command line, which in a container is init's own, says so.
CGROUP_V1_ARGUMENT = "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
NO_SYSTEMD = ("/bin/sh", "-c", "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e")


def _limit(kind: int, enough: int) -> int:
    """No more than the machine's own hard limit: where it is lower than podman's built-in one, a start is refused."""
    hard = resource.getrlimit(kind)[1]
    return enough if hard == resource.RLIM_INFINITY else min(hard, enough)


class ContainerHosts(ReachedBySsh):
    """The hosts of one lab. `image` is asked for only when a host has to be made or compared."""

    boot_seconds = 120.0
    connect_seconds = 3

    def __init__(
        self,
        paths: LabPaths,
        image: Callable[[], str],
        *,
        systemd: bool = True,
        airgapped: bool = False,
        podman: Podman | None = None,
        run: Run = run,
    ) -> None:
        super().__init__(paths, run, systemd=systemd)
        self.podman = podman or Podman(run)
        self._image = image
        self._airgapped = airgapped

    # The network

    def network(self) -> ipaddress.IPv4Network:
        """This lab's network; podman picks a subnet that is free on the machine."""
        if self.podman("network", "exists", self.paths.id, check=False)[0] != 0:
            self.podman("network", "create", "--label", f"{LABEL}={self.paths.id}", self.paths.id)
        described = self.podman.json("network", "inspect", self.paths.id)[0]
        if (described.get("labels") or {}).get(LABEL) != self.paths.id:
            raise LabError(
                f"podman has a network {self.paths.id} that this lab did not make. "
                f"Remove it: podman network rm {self.paths.id}"
            )
        return ipaddress.IPv4Network(described["subnets"][0]["subnet"])

    def _hosts(self, names: Sequence[str]) -> list[Host]:
        subnet = self.network()
        return [Host(name, str(subnet[place(name)])) for name in names]

    # Making

    def container(self, name: str) -> str:
        """The name of a host's container."""
        return f"{self.paths.id}-{name}"

    def create_arguments(self, host: Host, image: str, cgroup_version: str) -> list[str]:
        """The arguments of `podman create`, without the label that is a hash over them."""
        nofile = _limit(resource.RLIMIT_NOFILE, 1048576)
        # podman lowers its own to 32768 on the way, and what is above that is refused.
        nproc = _limit(resource.RLIMIT_NPROC, 30000)
        arguments = [
            *("--name", self.container(host.name), "--hostname", host.name, "--label", f"{LABEL}={self.paths.id}"),
            *("--network", self.paths.id, "--ip", host.address, "--mac-address", mac(self.paths.id, place(host.name))),
            # A proxy of the machine's environment is for its programs, not for a host's services.
            *("--dns-search", ".", "--http-proxy=false"),
            *("--privileged", "--ulimit", f"nofile={nofile}:{nofile}", "--ulimit", f"nproc={nproc}:{nproc}"),
        ]
        if Path("/lib/modules").is_dir():
            # A host may load what its kernel, which is the machine's, has as modules.
            arguments += ["--volume", "/lib/modules:/lib/modules:ro"]
        for volume, path in VOLUMES.items():
            arguments += ["--volume", f"{self.container(host.name)}-{volume}:{path}"]
        if not self._systemd:
            return [*arguments, "--systemd=false", image, *NO_SYSTEMD]
        arguments.append("--systemd=always")
        if cgroup_version == "v1":
            arguments += ["--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
            return [*arguments, image, *SYSTEMD, CGROUP_V1_ARGUMENT]
        return [*arguments, "--cgroupns=private", image, *SYSTEMD]

    def _make(self, host: Host, arguments: list[str], spec: str) -> None:
        """A new host. Only `start` makes it count: whatever was killed before that is thrown away by the next run."""
        for volume in VOLUMES:
            name = f"{self.container(host.name)}-{volume}"
            self.podman("volume", "create", "--label", f"{LABEL}={self.paths.id}", name)
        # --replace: the podman of a killed run may have been creating it until just now.
        self.podman("create", "--replace", "--label", f"{SPEC_LABEL}={spec}", *arguments)
        archive = ssh.identity_archive(self.paths, host.name, self._run)
        self.podman("cp", "-", f"{self.container(host.name)}:/", stdin=archive)
        self._start(host.name)

    def _bridge(self) -> str:
        return str(self.podman.json("network", "inspect", self.paths.id)[0]["network_interface"])

    def _start(self, name: str) -> None:
        self.podman("start", self.container(name))
        # The bridge is made by the first host that starts, and otherwise takes its address from whoever is there.
        self.podman.as_root("ip", "link", "set", "dev", self._bridge(), "address", mac(self.paths.id, 1))

    def _filter(self) -> None:
        """Close the lab, or open it. Before a host starts: what it sends at once must not get out."""
        if self._airgapped:
            firewall.put(self.paths.id, firewall.closed(self._bridge()), self._run, self.podman.root())
        else:
            firewall.remove(self.paths.id, self._run, self.podman.root())

    def _ensure(self, host: Host, image: str, cgroup_version: str, progress: Progress) -> None:
        arguments = self.create_arguments(host, image, cgroup_version)
        material = [self.podman.image_id(image), *arguments, ssh.ensure_key(self.paths.key, self.paths.id, self._run)]
        spec = hashlib.sha256(json.dumps(material).encode()).hexdigest()[:16]
        found = self._inspect(host.name)
        if found:
            state = found["State"]
            same = found["Config"]["Labels"].get(SPEC_LABEL) == spec
            # Go's zero time: created, but never started.
            whole = not state["StartedAt"].startswith("0001-")
            if same and whole and state["Status"] == "running":
                return
            if same and whole and state["Status"] in ("created", "exited", "stopped"):
                self._start(host.name)
                return
            why = "made from another image or with other options" if not same else f"half made ({state['Status']})"
            progress.note(f"        {host.name} was {why}: made anew")
        self._remove(host.name)
        self._make(host, arguments, spec)

    def _inspect(self, name: str) -> dict[str, Any]:
        """What podman knows about a host's container; empty if there is none."""
        code, out = self.podman("container", "inspect", self.container(name), check=False)
        found: list[dict[str, Any]] = json.loads(out or "[]") if code == 0 else []
        if found and found[0]["Config"]["Labels"].get(LABEL) != self.paths.id:
            raise LabError(
                f"podman has a container {self.container(name)} that this lab did not make: remove or rename it."
            )
        return found[0] if found else {}

    def _remove(self, name: str) -> None:
        """Remove what there is of a host; its ssh connections would hang on a successor with the same address."""
        ssh.end_connections(self.paths, self._run)
        found = self.podman.labelled(self.paths.id)
        if self.container(name) in found["container"]:
            self.podman("rm", "--force", "--time", "0", "--volumes", self.container(name))
        for volume in found["volume"]:
            if volume.startswith(f"{self.container(name)}-"):
                self.podman("volume", "rm", "--force", volume)

    # The interface of HostKind

    def up(self, names: Sequence[str], progress: Progress) -> list[Host]:
        """These hosts and no others of this lab, running and reachable by ssh."""
        image = self._image()
        cgroup_version = self._cgroup_version()
        hosts = self._hosts(names)
        for surplus in set(self.names()) - set(names):
            progress.note(f"        {surplus} is not asked for any more: removed")
            self._remove(surplus)
        for host in hosts:
            ssh.ensure_key(ssh.host_key(self.paths, host.name), self.container(host.name), self._run)
        ssh.write_known_hosts(self.paths, hosts)
        self._filter()
        with progress.step(f"hosts: {', '.join(names)}") as step:
            for host in hosts:
                step.update(f"{host.name} starts")
                self._ensure(host, image, cgroup_version, progress)
            for host in hosts:
                step.update(f"{host.name} boots")
                self._wait(host, progress)
        if hosts and cgroup_version == "v1":
            self.exec(hosts[0].name, cgroups.sweep())
        return hosts

    def down(self, progress: Progress) -> None:
        """Remove what carries this lab's label: containers first, they hold the rest."""
        ssh.end_connections(self.paths, self._run)
        found = self.podman.labelled(self.paths.id)
        for name in found["container"]:
            with progress.step(f"remove {name}"):
                self.podman("rm", "--force", "--time", "0", "--volumes", name)
        for name in found["volume"]:
            self.podman("volume", "rm", "--force", name)
        for name in found["network"]:
            self.podman("network", "rm", "--force", name)
        firewall.remove(self.paths.id, self._run, self.podman.root())

    def names(self) -> list[str]:
        """The hosts that have a container, in their order."""
        prefix = f"{self.paths.id}-"
        found = [name.removeprefix(prefix) for name in self.podman.labelled(self.paths.id)["container"]]
        return sorted(found, key=place)

    def reboot(self, name: str, *, power_cut: bool = False) -> None:
        """Stop and start. A killed container loses its processes at once, but not what the kernel has yet to write."""
        host = self.find(name)
        ssh.end_connections(self.paths, self._run)
        if power_cut:
            self.podman("kill", self.container(name), check=False)
            self.podman("wait", self.container(name))
        else:
            self.podman("stop", "--time", "60", self.container(name))
        # Before K3s looks: what its containers had is gone with a real host's kernel.
        if self._cgroup_version() == "v1":
            self._run([*self.podman.root(), *cgroups.sweep()], check=False)
        self._start(name)
        self._wait(host, Progress())

    def exec(self, name: str, command: Sequence[str]) -> tuple[int, str]:
        """Run a command without ssh."""
        return self.podman("exec", self.container(name), *command, check=False)

    def netem(self, name: str, delay: str | None) -> None:
        """Not here."""
        raise LabError(
            f"{name} is a container: its kernel is this machine's, which need not have netem and is not the lab's to "
            f"slow down. Delay ({delay or 'off'}) is for virtual machines: python -m lab up --name NAME --hosts vm"
        )

    def _cgroup_version(self) -> str:
        return self.podman("info", "--format", "{{.Host.CgroupsVersion}}")[1].strip()

    # What ReachedBySsh asks for

    def _state(self, name: str) -> str:
        return str(self._inspect(name).get("State", {}).get("Status", "gone"))

    def _words(self, host: Host, state: str) -> list[str]:
        container = self.container(host.name)
        if state == "running":
            words = [
                self.exec(host.name, ["systemctl", "list-jobs", "--no-pager"])[1],
                self.exec(host.name, ["systemctl", "--failed", "--no-pager"])[1],
            ]
        else:
            words = [self.podman("logs", "--tail", "20", container, check=False)[1]]
        return [*words, f"Look at `podman logs {container}`."]
