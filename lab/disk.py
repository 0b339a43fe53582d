"""The virtual machines' disk: Debian 13 with its own kernel, made once; and the copy that becomes one host's."""

from __future__ import annotations

import ipaddress
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lab import image, locks
from lab.debian import Workshop
from lab.errors import LabError
from lab.process import Run, run
from lab.progress import Progress

# What a server has that Debian's installer made, beyond what a container can use.
PACKAGES = (
    *image.PACKAGES,
    "apparmor",
    "e2fsprogs",
    "initramfs-tools",
    "libpam-systemd",
    "linux-image-cloud-amd64",
    "logrotate",
    "systemd-timesyncd",
    "udev",
    "zstd",
)
# Sparse: what a host has not written takes no room.
SIZE = "16G"
# The unpacked root and the disk beside it, then the disk alone.
NEEDED_BYTES = 4 * 1024**3
# What the first boot says on the console when it has gone well.
FIRST_BOOT_DONE = "first boot: done"
FSTAB = "/dev/vda / ext4 errors=remount-ro 0 1\n"
# Descriptions in other languages double what apt has to read: a minute each time without KVM.
APT_CONF = 'Acquire::Languages "none";\n'


@dataclass(frozen=True)
class DiskRecipe(image.Recipe):
    """All that decides what the disk holds."""

    packages: tuple[str, ...] = PACKAGES

    machine: ClassVar[str] = "machine.internal"
    version: ClassVar[int] = 3

    def own_hooks(self) -> list[str]:
        """A host of its own starts its own network; which one is written into each host's copy."""
        return [
            'install -d -m 700 "$1/root/.ssh"',
            'rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1/etc/hosts"',
            f'printf %s {shlex.quote(FSTAB)} > "$1/etc/fstab"',
            'chroot "$1" systemctl enable systemd-networkd.service',
            f'printf %s {shlex.quote(APT_CONF)} > "$1/etc/apt/apt.conf.d/80languages"',
        ]

    def command(self, target: Path) -> list[str]:
        """The package lists stay, as Debian's installer leaves them, and what apt reckons from them is made here."""
        *options, release, place, stdin = super().command(target)
        hook = 'chroot "$1" apt-cache gencaches && rm -f "$1"/var/cache/apt/archives/*.deb'
        return [*options, f"--customize-hook={hook}", "--skip=cleanup/apt", release, place, stdin]


@dataclass(frozen=True)
class Disk:
    """The finished disk with what boots it."""

    folder: Path

    @property
    def image(self) -> Path:
        """The file system."""
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        """Debian's kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its first file system."""
        return self.folder / "initrd.img"


def _commands(root: Path, disk: Disk) -> str:
    """From the folder that mmdebstrap filled to a disk. Inode tables are left as the hole they are, already zero."""
    return f"""
truncate --size={SIZE} {disk.image}
mkfs.ext4 -q -L root -E lazy_itable_init=0,lazy_journal_init=0 -d {root} {disk.image}
cp {root}/boot/vmlinuz-* {disk.kernel}
cp {root}/boot/initrd.img-* {disk.initrd}
chmod 0644 {disk.image} {disk.kernel} {disk.initrd}
sync -f {disk.image}
"""


def ensure(
    folder: Path,
    recipe: DiskRecipe,
    root: list[str],
    progress: Progress,
    first_boot: Callable[[Disk], list[str]],
) -> Disk:
    """The disk; made if it isn't there, once, whoever asks at the same time."""
    if os.uname().machine != "x86_64":
        raise LabError(f"This machine is {os.uname().machine}: virtual machines are made on x86_64 only.")
    disk = Disk(folder / recipe.key)
    if disk.folder.is_dir():
        return disk
    with locks.held(folder / "lock", progress.note) as lock:
        if disk.folder.is_dir():
            return disk
        workshop = Workshop("virtual machines' disk", folder, NEEDED_BYTES, root, lock, progress)
        workshop.begin()
        part = Disk(workshop.scratch / recipe.key)
        part.folder.mkdir()
        workshop.bootstrap(recipe.command(workshop.scratch / "root"), recipe.sources)
        workshop.do(["sh", "-euc", _commands(workshop.scratch / "root", part)], "mkfs")
        workshop.do(first_boot(part), "first-boot")
        if FIRST_BOOT_DONE not in (folder / "first-boot.log").read_text(encoding="utf-8"):
            raise LabError(f"The virtual machines' disk does not boot; its console: {folder / 'first-boot.log'}")
        part.folder.rename(disk.folder)
        workshop.clear()
    return disk


def network_files(name: str, mac: str, network: ipaddress.IPv4Network, address: str, dns: list[str]) -> dict[str, str]:
    """What makes the host known under its name and address."""
    gateway = network[1]
    return {
        "etc/hostname": f"{name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {name}\n{gateway} {DiskRecipe.machine}\n",
        "etc/resolv.conf": "".join(f"nameserver {server}\n" for server in dns),
        "etc/systemd/network/10-lan.network": (
            f"[Match]\nMACAddress={mac}\n\n[Network]\nAddress={address}/{network.prefixlen}\nGateway={gateway}\n"
            "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        ),
    }


def _script(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> str:
    """debugfs commands that put the files in; their contents lie in `folder`."""
    lines: list[str] = []
    for number, (path, (content, mode)) in enumerate(files.items()):
        source = folder / str(number)
        source.write_bytes(content)
        lines += [f"write {source} /{path}", f"sif /{path} mode 0100{mode:o}"]
        lines += [f"sif /{path} {field} 0" for field in ("uid", "gid")]
    return "".join(f"{line}\n" for line in lines)


def copy(disk: Disk, target: Path, files: Mapping[str, tuple[bytes, int]], run: Run = run) -> None:
    """One host's own disk: the common one with the host's files in it. No mount, no loop device, no root."""
    part = target.with_name(f"{target.name}.part")
    run(["cp", "--sparse=always", "--reflink=auto", str(disk.image), str(part)])
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        script = Path(folder) / "script"
        script.write_text(_script(Path(folder), files))
        done = run(["debugfs", "-w", "-f", str(script), str(part)])
    # It goes on after an error, and ends with 0; its first line there is its version.
    errors = [line for line in done.stderr.splitlines() if line and not line.startswith("debugfs 1.")]
    if errors:
        raise LabError(f"{part}: the host's files could not be written: {'; '.join(errors)}. Remove {disk.folder}.")
    part.rename(target)
