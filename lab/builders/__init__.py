"""Filling the mirror folder: releases where they can be reached, the same versions built here where they can't.

A built artifact's source in the manifest ends with its recipe: when sources, versions or the compiler change, it is
built anew. Whatever else is in the mirror and verified stays.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import (
    Entry,
    Mirror,
    MirrorError,
    Release,
    SourceUnreachable,
)

from lab import locks
from lab.builders import catalogue, engine, wasm
from lab.builders.base import Builder, Prefetching, host_arch
from lab.builders.containerd import Containerd
from lab.builders.golang import Go
from lab.builders.k3s import AirgapImages, K3sDouble
from lab.builders.toolchain import Toolchain
from lab.errors import LabError
from lab.progress import Progress

# A source that does not answer in this time is passed over.
TIMEOUT = 5.0
_MAKERS: dict[str, Callable[[Go, Release], Builder]] = {
    "containerd": lambda go, release: Containerd(go, release.version, release.arch, release.file),
    "k3s": lambda go, release: K3sDouble(go, release.version, release.arch, release.file),
    "k3s-airgap-images": lambda go, release: AirgapImages(go, release.version, release.arch, release.file),
}


def fill(mirror_dir: Path, progress: Progress, k3s_version: str = "") -> None:
    """Have everything in the mirror that the roles pin and that the lab makes itself; one more K3s if it is named."""
    cache = mirror_dir.parent
    # One at a time: what a killed run has left running holds the lock until it has ended.
    with locks.held(cache / "artifacts.lock", progress.note) as lock:
        wanted: list[tuple[Release, Builder]]
        go, toolchain = Go(progress, lock=lock), Toolchain(cache / "toolchain", progress)
        filler = Filler(Mirror(mirror_dir), progress, cache / "build")
        pinned = catalogue.releases(host_arch())
        more = catalogue.k3s_of(k3s_version, host_arch()) if k3s_version else []
        wanted = [(release, _MAKERS[release.name](go, release)) for release in (*pinned, *more)]
        wanted += [(Release(own.name, own.version, own.arch, own.file), own) for own in wasm.builders(toolchain)]
        filler.have(wanted)
        filler.entries += engine.have(filler.mirror, progress)
        filler.tell()


def k3s_variables(mirror_dir: Path, version: str) -> dict[str, object]:
    """The variables by which an inventory asks for a version of K3s that is in the mirror."""
    mirror = Mirror(mirror_dir)
    releases: dict[str, object] = {}
    for one in catalogue.k3s_of(version, host_arch()):
        pin = {"file": one.file, "sha256": mirror.verify(one, allow_rebuilt=True).sha256}
        releases[one.name] = {version: {one.arch: pin}}
    return {
        "k3s_version": version,
        "k3s_releases": releases["k3s"],
        "k3s_airgap_images_releases": releases["k3s-airgap-images"],
        "edgefleet_mirror_dir": str(mirror.root),
    }


class Filler:
    """Puts artifacts into one mirror; the work in between goes into a folder of its own."""

    def __init__(self, mirror: Mirror, progress: Progress, folder: Path) -> None:
        self.mirror = mirror
        self.progress = progress
        self.folder = folder
        self.entries: list[Entry] = []
        self._silent: set[str] = set()
        # What a killed run has left. The lock's holder alone comes here.
        shutil.rmtree(folder, ignore_errors=True)

    def have(self, wanted: Sequence[tuple[Release, Builder]]) -> None:
        """Have these artifacts: as they are there, else from their source, else built."""
        try:
            found = [self._present(*one) or self._fetched(one[0]) for one in wanted]
            missing = [builder for (_, builder), entry in zip(wanted, found, strict=True) if entry is None]
            _prefetch(missing[1:])
            self.entries = [entry or self._built(*one) for one, entry in zip(wanted, found, strict=True)]
        except MirrorError as error:
            raise LabError(str(error)) from error

    def tell(self) -> None:
        """Say of each artifact where it came from."""
        for entry in self.entries:
            self.progress.note(f"        {entry.name} {entry.version} {entry.arch}: {entry.source}")

    def _present(self, release: Release, builder: Builder) -> Entry | None:
        try:
            entry = self.mirror.verify(release, allow_rebuilt=True)
        except MirrorError:
            return None
        is_release = release.sha256 is not None and not entry.rebuilt
        return entry if is_release or entry.source.endswith(recipe(builder)) else None

    def _fetched(self, release: Release) -> Entry | None:
        host = urlsplit(release.url or "").netloc
        if release.sha256 is None or not host or host in self._silent:
            return None
        with self.progress.step(f"look for {release.name} {release.version} at {host}") as step:
            try:
                return self.mirror.fetch(
                    release, TIMEOUT, lambda done, total: step.update(f"{done >> 20} of {(total or 0) >> 20} MiB")
                )
            except SourceUnreachable:
                self._silent.add(host)
        self.progress.note(f"        {host} can't be reached: building its releases from source")
        return None

    def _built(self, release: Release, builder: Builder) -> Entry:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{release.name}-", dir=self.folder) as workdir:
            file = builder.build(Path(workdir))
            return self.mirror.add(release, file, f"{builder.source()}{recipe(builder)}")


def _prefetch(builders: Sequence[Builder]) -> None:
    """While the first is compiled, load what the others need. Ends with this process, however that ends."""

    def work() -> None:
        for builder in builders:
            if isinstance(builder, Prefetching):
                builder.prefetch()

    threading.Thread(target=work, daemon=True).start()


def recipe(builder: Builder) -> str:
    """How the source of what it builds ends."""
    return f", recipe {builder.key()[:12]}"
