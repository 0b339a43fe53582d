"""One lab from bare machine to hosts and back: what the commands and Molecule call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lab import image, inventory, limits, locks, packages, topology
from lab.containers import ContainerHosts
from lab.errors import LabError
from lab.hosts import Host, HostKind
from lab.machines import VirtualMachineHosts, machine_kit
from lab.paths import LabPaths
from lab.podman import Podman
from lab.process import SEARCH_PATH
from lab.progress import Progress
from lab.topology import Asked, Kind


class Lab:
    """Everything that is done to one lab, one process at a time."""

    def __init__(
        self, paths: LabPaths, progress: Progress, *, asked: Asked | None = None, systemd: bool = True
    ) -> None:
        self.paths = paths
        self.progress = progress
        before = topology.remembered(paths.state)
        # Who asks for nothing gets the lab as it is, whatever the environment says of new ones.
        if before and asked is None:
            self.topology = before
        else:
            self.topology = topology.settle(asked or Asked(), before, paths.name)
        self.podman = Podman()
        self.hosts = self._kind(self.topology.kind, systemd=systemd)

    def _kind(self, kind: Kind, *, systemd: bool = True) -> HostKind:
        closed = self.topology.airgapped
        if kind is Kind.VM:
            if not systemd:
                raise LabError("--without-systemd is for containers: a virtual machine boots by systemd.")
            kit = machine_kit(self.paths.cache, self.podman.root, self.progress)
            return VirtualMachineHosts(self.paths, kit, self.podman.root, airgapped=closed)
        return ContainerHosts(
            self.paths,
            lambda: image.ensure(self.paths.image, image.Recipe.here(), self.podman, self.progress),
            systemd=systemd,
            airgapped=closed,
            podman=self.podman,
        )

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Nobody else changes this lab meanwhile."""
        with locks.held(self.paths.lock, self.progress.note) as lock:
            yield lock

    def packages(self, why: Mapping[str, str] = packages.PACKAGES) -> None:
        """The machine packages; one lab at a time installs them."""
        if packages.missing(tuple(why)):
            with locks.held(self.paths.cache / "packages.lock", self.progress.note):
                packages.ensure(self.progress, self.paths.cache / "packages.log", why=why)

    def up(self) -> list[Host]:
        """The hosts of this lab's topology. Call with the lock held."""
        if self.topology.kind is Kind.CONTAINERS:
            limits.ensure(self.progress)
        topology.remember(self.paths.state, self.topology)
        hosts = self.hosts.up(self.topology.names(), self.progress)
        inventory.write(self.paths, hosts, self.topology.kind)
        return hosts

    def down(self) -> None:
        """Remove hosts, network, inventory and state; what labs share in the cache stays. Call with the lock held."""
        # Hosts of the other kind too: a lab whose memory was lost may have either.
        if shutil.which("podman", path=SEARCH_PATH):
            for kind in Kind:
                self._kind(kind).down(self.progress)
        inventory.remove(self.paths)
        shutil.rmtree(self.paths.state, ignore_errors=True)
