"""QEMU as Debian 13 has it, in a folder of its own: the machine's may be too old (7.2 panics guests without KVM)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from lab import aptsources, locks
from lab.aptsources import RELEASE
from lab.clock import tsc_khz
from lab.debian import Workshop
from lab.disk import FIRST_BOOT_DONE, Disk
from lab.process import Run, run
from lab.progress import Progress, Step

PACKAGES = ("qemu-system-x86",)
# Of no use for a program that only borrows its libraries.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/bin/qemu-system-i386")
NEEDED_BYTES = 1024**3
KVM = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A guest that KVM can run is through in two seconds.
PROBE_SECONDS = 60.0
# The kernel's last words when the program that was to be init ended well: user space ran.
PROBE_PASSED = "Attempted to kill init! exitcode=0x00000000"
FIRST_BOOT_SECONDS = 1200
# Without KVM, AppArmor's compiler takes a minute over the distribution's profiles; what it made is kept on the disk and
# holds for the same kernel. The shell is init: when it has said that all went well, it turns the machine off.
FIRST_BOOT = "; ".join(
    (
        "set -e",
        "mount -t securityfs none /sys/kernel/security",
        "/lib/apparmor/apparmor.systemd reload",
        "mount -o remount,ro /",
        f"echo {FIRST_BOOT_DONE}",
        "echo o > /proc/sysrq-trigger",
        "sleep 60",
    )
)
ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    # Page tables of five levels are one more to walk through, which takes an emulated host a good part of its time.
    "tcg": ("-accel", "tcg,thread=multi", "-cpu", "max,la57=off"),
}


@dataclass(frozen=True)
class Guest:
    """One virtual machine as QEMU has to know it."""

    name: str
    disk: Path
    console: Path
    tap: str
    mac: str
    memory: int = 4096
    cpus: int = 2


def clock_words(accelerator: str) -> list[str]:
    """What the kernel must be told about its clock when it is emulated.

    It would measure the counter while the machine does other things, find it unsteady, and ask an emulated chip for the
    time ever after, which Go programs do very often. The counter that it sees is the machine's own.
    """
    khz = tsc_khz() if accelerator == "tcg" else None
    return ["tsc=reliable", f"tsc_early_khz={khz}"] if khz else []


def key() -> str:
    """Changes when the folder has to be made again."""
    return hashlib.sha256(repr((1, RELEASE, PACKAGES, LEFT_OUT)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Qemu:
    """The program in its folder."""

    root: Path
    run: Run = run

    def program(self) -> list[str]:
        """How it is started: by its own loader with its own libraries, whatever the machine has."""
        libraries = self.root / "usr" / "lib" / "x86_64-linux-gnu"
        share = self.root / "usr" / "share"
        return [
            str(self.root / "usr" / "lib64" / "ld-linux-x86-64.so.2"),
            *("--library-path", str(libraries), str(self.root / "usr" / "bin" / "qemu-system-x86_64")),
            *("-L", str(share / "qemu"), "-L", str(share / "seabios")),
        ]

    @staticmethod
    def boots(disk: Disk, *words: str) -> list[str]:
        """The arguments for Debian's kernel on our disk."""
        # Every character on the serial line takes an emulated host's time: systemd says there what failed, no more.
        line = " ".join(["root=/dev/vda", "rw", "console=ttyS0", "systemd.show_status=error", *words])
        return ["-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", line]

    def command(self, guest: Guest, disk: Disk, accelerator: str) -> list[str]:
        """The command line of a host. Its name in it tells the process from any other that got the same id."""
        return [
            *self.program(),
            *("-name", f"guest={guest.name}", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "q35", *ACCELERATORS[accelerator]),
            *("-m", f"{guest.memory}M", "-smp", str(guest.cpus)),
            *self.boots(disk, *clock_words(accelerator)),
            *("-drive", f"file={guest.disk},format=raw,if=none,id=disk,cache=writeback,discard=unmap"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", f"tap,id=lan,ifname={guest.tap},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=lan,mac={guest.mac}"),
            *("-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"),
            *("-device", "i6300esb", "-action", "watchdog=reset"),
            *("-chardev", f"file,id=console,path={guest.console},append=on", "-serial", "chardev:console"),
        ]

    def probe_command(self, disk: Disk) -> list[str]:
        """Boots the disk, without writing to it, as far as its user space."""
        return [
            *self.program(),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-machine", "q35", *ACCELERATORS["kvm"], "-m", "1024M", "-smp", "2"),
            *self.boots(disk, "init=/usr/bin/true", "panic=-1"),
            *("-drive", f"file={disk.image},format=raw,if=virtio,snapshot=on"),
        ]

    def first_boot_command(self, disk: Disk, accelerator: str) -> list[str]:
        """Boots the disk itself, once, before it is copied: what is slow there needs not be done by every host."""
        return [
            *("timeout", "--kill-after=5", str(FIRST_BOOT_SECONDS), *self.program()),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-machine", "q35", *ACCELERATORS[accelerator], "-m", "2048M", "-smp", "2"),
            *self.boots(disk, "init=/bin/sh", "panic=-1", *clock_words(accelerator), "--", "-c", f'"{FIRST_BOOT}"'),
            *("-drive", f"file={disk.image},format=raw,if=virtio"),
        ]

    def accelerator(self, disk: Disk, memory: Path, step: Step) -> str:
        """kvm where a guest boots with it, else tcg. A /dev/kvm that opens proves nothing: some run no guest.

        What was found holds until the machine is booted again, or QEMU or the disk is another.
        """
        if not os.access(KVM, os.R_OK | os.W_OK):
            return "tcg"
        asked = [BOOT_ID.read_text().strip(), self.root.name, disk.folder.name]
        with locks.held(memory.with_suffix(".lock")):
            if memory.exists():
                known = json.loads(memory.read_text(encoding="utf-8"))
                if known["asked"] == asked:
                    return str(known["accelerator"])
            step.update("tries KVM")
            done = self.run(self.probe_command(disk), check=False, timeout=PROBE_SECONDS)
            found = "kvm" if PROBE_PASSED in done.stdout else "tcg"
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            part = memory.with_name(f"{memory.name}.part")
            part.write_text(json.dumps({"asked": asked, "accelerator": found, "said": said}) + "\n", encoding="utf-8")
            part.rename(memory)
        return found


def _mmdebstrap(target: Path) -> list[str]:
    """Unpacked, not installed: nothing is run in it."""
    proxies = aptsources.proxies(os.environ)
    return [
        "mmdebstrap",
        *("--mode=root", "--format=directory", "--variant=extract", f"--include={','.join(PACKAGES)}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        *(f'--aptopt=Acquire::{scheme}::Proxy "{proxy}"' for scheme, proxy in sorted(proxies.items())),
        *(RELEASE, str(target), "-"),
    ]


def ensure(folder: Path, root: list[str], progress: Progress, run: Run = run) -> Qemu:
    """QEMU; made if it isn't there, once, whoever asks at the same time."""
    whole = folder / key()
    if not whole.is_dir():
        with locks.held(folder / "lock", progress.note) as lock:
            if not whole.is_dir():
                workshop = Workshop("QEMU", folder, NEEDED_BYTES, root, lock, progress, run)
                workshop.begin()
                workshop.bootstrap(_mmdebstrap(workshop.scratch / "root"), aptsources.for_release(aptsources.read()))
                run([*root, "mv", str(workshop.scratch / "root"), str(whole)])
                workshop.clear()
    return Qemu(whole, run)
