"""The hosts' image: a plain Debian 13 as an operator would find it, from the machine's own mirror, made once."""

from __future__ import annotations

import hashlib
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

from lab import aptsources, locks
from lab.aptsources import RELEASE, Source
from lab.debian import Workshop
from lab.podman import Podman
from lab.process import Run, run
from lab.progress import Progress

# Part of the image's key: raise it when the recipe below changes in a way its arguments don't show.
RECIPE = 3
REPOSITORY = "localhost/edgefleet-lab"
# What Debian's installer leaves on a server with ssh, as far as a container can use it, and Python for Ansible.
PACKAGES = (
    "ca-certificates",
    "cron",
    "curl",
    "dbus",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# What a privileged container must not run, because it reaches the machine itself: binfmt would replace the machine's
# handlers; udevd, should a package bring it, would act on the machine's devices (and change the host's MAC address).
MASKED = (
    "systemd-binfmt.service",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
)
# A build needs the tar file and the unpacked image beside it.
NEEDED_BYTES = 2 * 1024**3
# Certificates of the machine's own authorities: behind an intercepting proxy the hosts need them as well.
LOCAL_CERTIFICATES = Path("/usr/local/share/ca-certificates")


@dataclass(frozen=True)
class Recipe:
    """All that decides what the image holds."""

    sources: list[Source]
    proxies: dict[str, str] = field(default_factory=dict)
    certificates: list[Path] = field(default_factory=list)
    packages: tuple[str, ...] = PACKAGES

    # How a host calls the machine that it runs on.
    machine: ClassVar[str] = "host.containers.internal"
    version: ClassVar[int] = RECIPE

    @classmethod
    def here(cls, run: Run = run) -> Self:
        """The recipe for this machine."""
        return cls(
            sources=aptsources.for_release(aptsources.read()),
            proxies=aptsources.proxies(os.environ, run),
            certificates=sorted(LOCAL_CERTIFICATES.rglob("*.crt")),
        )

    @property
    def key(self) -> str:
        """Changes exactly when the image has to be made again."""
        digest = hashlib.sha256(f"{self.version} {RELEASE} {os.uname().machine}".encode())
        for part in (*self.packages, *(s.line() for s in self.sources), *sorted(self.proxies.items())):
            digest.update(repr(part).encode())
        for path in self.certificates:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The image's name in podman."""
        return f"{REPOSITORY}:{self.key}"

    def host_apt_conf(self) -> str:
        """apt's proxies as a host sees them: its own loopback is not the machine's."""
        lines = []
        for scheme, proxy in sorted(self.proxies.items()):
            parts = urlsplit(proxy)
            if parts.hostname in ("localhost", "127.0.0.1", "::1"):
                port = f":{parts.port}" if parts.port else ""
                proxy = urlunsplit(parts._replace(netloc=f"{self.machine}{port}"))  # noqa: PLW2901
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";\n')
        return "".join(lines)

    def own_hooks(self) -> list[str]:
        """What this kind of host needs besides, each line shell with the new root as $1."""
        return [
            f'cd "$1/etc/systemd/system" && for unit in {" ".join(MASKED)}; do ln -s /dev/null "$unit"; done',
            # podman writes both for each host.
            'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
        ]

    def command(self, target: Path) -> list[str]:
        """The mmdebstrap command. What it makes, a tar file or a folder, is told by the target's name."""
        hooks = [
            # Keys and ids that every host must have for itself.
            'rm -f "$1"/etc/ssh/ssh_host_*',
            ': > "$1/etc/machine-id"',
            *self.own_hooks(),
            # mmdebstrap leaves the settings of its own run here.
            'rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        ]
        if self.proxies:
            hooks.append(f'printf %s {shlex.quote(self.host_apt_conf())} > "$1/etc/apt/apt.conf.d/90proxy"')
        for keyring in sorted({s.signed_by for s in self.sources if s.signed_by not in ("", aptsources.KEYRING)}):
            hooks.append(f'install -D -m 644 {shlex.quote(keyring)} "$1"{shlex.quote(keyring)}')
        for path in self.certificates:
            hooks.append(f'install -D -m 644 {shlex.quote(str(path))} "$1"{shlex.quote(str(path))}')
        if self.certificates:
            hooks.append('chroot "$1" update-ca-certificates')
        return [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(self.packages)}",
            *(f'--aptopt=Acquire::{scheme}::Proxy "{proxy}"' for scheme, proxy in sorted(self.proxies.items())),
            *(f"--customize-hook={hook}" for hook in hooks),
            RELEASE,
            str(target),
            "-",
        ]


def _build(recipe: Recipe, tar: Path, lock: int, podman: Podman, progress: Progress) -> None:
    """Make the root file system."""
    workshop = Workshop("host image", tar.parent, NEEDED_BYTES, podman.root(), lock, progress, podman.run)
    workshop.begin()
    part = workshop.scratch / tar.name
    workshop.bootstrap(recipe.command(part), recipe.sources)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(tar)
    workshop.clear()


def ensure(folder: Path, recipe: Recipe, podman: Podman, progress: Progress) -> str:
    """The image's name in podman; made if it isn't there, once, whoever asks at the same time."""
    if podman.image_exists(recipe.tag):
        return recipe.tag
    with locks.held(folder / "lock", progress.note) as lock:
        if podman.image_exists(recipe.tag):
            return recipe.tag
        tar = folder / f"{recipe.key}.tar"
        if not tar.exists():
            _build(recipe, tar, lock, podman, progress)
        with progress.step("host image: import into podman") as step:
            podman.import_image(tar, recipe.tag, lock=lock, log=folder / "import.log", on_line=step.update)
    return recipe.tag
