"""Images of the servers beside the services, for hosts that reach no registry: Debian's own packages, and Go modules.

They are the real programs, in Debian's versions and not in the mission's: the image's name says that it is the lab's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import aptsources, locks
from lab.aptsources import RELEASE
from lab.builders import oci, opa
from lab.builders.base import digest, host_arch
from lab.builders.golang import MODULES, Go
from lab.builders.pulumi import required
from lab.debian import Workshop
from lab.errors import LabError
from lab.packages import root_prefix
from lab.paths import cache_root
from lab.process import run
from lab.progress import Progress

# Part of the images' names: raise it when something below changes that the keys don't show.
RECIPE = "2"
REPOSITORY = "registry.example.com/edgefleet"
GHOSTUNNEL = MODULES / "ghostunnel"
GHOSTUNNEL_PATH = "github.com/ghostunnel/ghostunnel"
# 3.15's manager does not build from its module; its successor serves the same templates and constraints.
GATEKEEPER = MODULES / "gatekeeper"
GATEKEEPER_PATH = "github.com/open-policy-agent/gatekeeper/v3"
# Server and its package. All are in one image: it is made once, carried once, and its layers are kept once.
DEBIAN = {
    "alertmanager": "prometheus-alertmanager",
    "mosquitto": "mosquitto",
    "node-exporter": "prometheus-node-exporter",
    "prometheus": "prometheus",
    "rabbitmq": "rabbitmq-server",
    "redis": "redis-server",
    "turn": "coturn",
}
# Debian's name of a program in place of its own, which is what pods call.
RENAMED = {"alertmanager": "prometheus-alertmanager", "node_exporter": "prometheus-node-exporter"}
# The packages are unpacked, not installed: this is what their start scripts need besides what they depend on.
SCRIPTS = ("base-files", "coreutils", "dash", "grep", "mawk", "sed")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
# RabbitMQ's own programs come before Debian's, which run them for root and for a user that the image does not have.
SEARCH = "/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Built:
    """An archive, and the name of the image in it."""

    reference: str
    file: Path


@dataclass(frozen=True)
class Servers:
    """The archives in a folder of the cache; `ensure` makes those that are missing."""

    folder: Path
    cache: Path
    go: Go

    def ensure(self) -> dict[str, Built]:
        """Every server's image by its short name."""
        with locks.held(self.folder / "lock", self.go.progress.note) as lock:
            debian = self._have("lab-debian-servers", self._debian_key(), lambda to: self._debian(to, lock))
            decisions = self._have("lab-opa", digest(RECIPE, opa.OPA), self._opa)
            self.go.lock = lock
            tls = self._have("lab-ghostunnel", digest(RECIPE, GHOSTUNNEL, self.go.version), self._ghostunnel)
            admission = self._have("lab-gatekeeper", digest(RECIPE, GATEKEEPER, self.go.version), self._gatekeeper)
        return {**dict.fromkeys(DEBIAN, debian), "opa": decisions, "tls": tls, "gatekeeper": admission}

    def _have(self, name: str, key: str, make: Callable[[str], oci.Image]) -> Built:
        built = Built(f"{REPOSITORY}/{name}:{key[:12]}", self.folder / f"{name}-{key[:12]}.oci.tar")
        if not built.file.exists():
            # Earlier ones are of no use any more.
            for earlier in self.folder.glob(f"{name}-*.oci.tar"):
                earlier.unlink()
            part = built.file.with_suffix(".part")
            oci.write(part, make(built.reference))
            part.rename(built.file)
        return built

    def _debian_key(self) -> str:
        return digest(RECIPE, RELEASE, host_arch(), *sorted(DEBIAN.values()), *sorted(RENAMED), *SCRIPTS, *LEFT_OUT)

    def _debian(self, reference: str, lock: int) -> oci.Image:
        """Debian's servers in one root file system, which is the image's only layer."""
        root = root_prefix(run)
        if root is None:
            raise LabError("The servers' image is made by mmdebstrap: run as root, or allow sudo without a password.")
        workshop = Workshop("servers' image", self.folder, NEEDED_BYTES, root, lock, self.go.progress)
        workshop.begin()
        layer = workshop.scratch / "root.tar"
        workshop.bootstrap(_mmdebstrap(layer), aptsources.for_release(aptsources.read()))
        return oci.Image(
            name=reference,
            arch=host_arch(),
            files=[oci.ImageFile(f"/usr/bin/{own}", _calls(debians), 0o755) for own, debians in RENAMED.items()],
            entrypoint=[],
            user="65532:65532",
            env={"PATH": SEARCH},
            base=layer,
        )

    def _opa(self, reference: str) -> oci.Image:
        return _program(reference, opa.tools(self.cache, self.go.progress).ensure().opa)

    def _ghostunnel(self, reference: str) -> oci.Image:
        version = required(GHOSTUNNEL, GHOSTUNNEL_PATH)
        self.go.build(
            f"ghostunnel {version} from its module",
            GHOSTUNNEL,
            [GHOSTUNNEL_PATH],
            to=self.folder / "bin",
            log=self.folder / "ghostunnel.log",
            variables={"main.version": version},
            # Without C this version's own substitute for PKCS#11 does not compile.
            cgo=True,
        )
        return _program(reference, self.folder / "bin" / "ghostunnel")

    def _gatekeeper(self, reference: str) -> oci.Image:
        version = required(GATEKEEPER, GATEKEEPER_PATH)
        self.go.build(
            f"Gatekeeper's manager {version} from its module",
            GATEKEEPER,
            [GATEKEEPER_PATH],
            to=self.folder / "bin",
            log=self.folder / "gatekeeper.log",
            variables={f"{GATEKEEPER_PATH}/pkg/version.Version": version},
        )
        # Go names a program after its module.
        return _program(reference, self.folder / "bin" / "gatekeeper", "manager")


def _program(reference: str, program: Path, name: str = "") -> oci.Image:
    """An image of one static program, under its own name or another."""
    path = f"/{name or program.name}"
    return oci.Image(
        name=reference,
        arch=host_arch(),
        files=[oci.ImageFile(path, program.read_bytes(), 0o755)],
        entrypoint=[path],
        user="65532:65532",
    )


def _calls(program: str) -> bytes:
    return f'#!/bin/sh\nexec /usr/bin/{program} "$@"\n'.encode()


def _mmdebstrap(target: Path) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=extract",
        f"--include={','.join([*SCRIPTS, *sorted(DEBIAN.values())])}",
        *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
        RELEASE,
        str(target),
        "-",
    ]


def servers(cache: Path, progress: Progress) -> Servers:
    """The images in a cache."""
    return Servers(cache / "servers", cache, Go(progress))


def main() -> None:
    """Make them with their progress shown: `python -m lab.builders.servers`."""
    progress = Progress()
    for name, built in servers(cache_root(), progress).ensure().items():
        progress.note(f"{name}: {built.reference} in {built.file}")


if __name__ == "__main__":
    main()
