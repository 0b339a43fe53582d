"""One lab from bare machine to hosts and back: what the commands and Molecule call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from lab import image, inventory, limits, locks, packages
from lab.containers import ContainerHosts
from lab.hosts import Host, HostKind
from lab.paths import LabPaths
from lab.podman import Podman
from lab.process import SEARCH_PATH
from lab.progress import Progress


class Lab:
    """Everything that is done to one lab, one process at a time."""

    def __init__(self, paths: LabPaths, progress: Progress, *, systemd: bool = True) -> None:
        self.paths = paths
        self.progress = progress
        podman = Podman()
        self.hosts: HostKind = ContainerHosts(
            paths,
            lambda: image.ensure(paths.image, image.machine_recipe(), podman, progress),
            systemd=systemd,
            podman=podman,
        )

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Nobody else changes this lab meanwhile."""
        with locks.held(self.paths.lock, self.progress.note) as lock:
            yield lock

    def packages(self) -> None:
        """The machine packages; one lab at a time installs them."""
        if packages.missing():
            with locks.held(self.paths.cache / "packages.lock", self.progress.note):
                packages.ensure(self.progress, self.paths.cache / "packages.log")

    def up(self, count: int | None) -> list[Host]:
        """That many hosts; without a number those there are, or one. Call with the lock held."""
        limits.ensure(self.progress)
        self.paths.state.mkdir(parents=True, exist_ok=True)
        number = count or len(self.hosts.names()) or 1
        hosts = self.hosts.up([f"edge{i}" for i in range(1, number + 1)], self.progress)
        inventory.write(self.paths, hosts)
        return hosts

    def down(self) -> None:
        """Remove hosts, network, inventory and state; what labs share in the cache stays. Call with the lock held."""
        if shutil.which("podman", path=SEARCH_PATH):
            self.hosts.down(self.progress)
        inventory.remove(self.paths)
        shutil.rmtree(self.paths.state, ignore_errors=True)
