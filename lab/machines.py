"""Lab hosts as virtual machines in QEMU: a kernel of their own, and all that goes with it."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import disk as disks
from lab import locks, qemu, ssh
from lab.disk import Disk
from lab.errors import LabError
from lab.hosts import Host, mac, place
from lab.lan import Lan, name_servers
from lab.paths import LabPaths
from lab.process import SEARCH_PATH, Run, run
from lab.progress import Progress, Step
from lab.qemu import Guest, Qemu
from lab.reach import ReachedBySsh

# The shell puts its id down and becomes QEMU. Its standard input is the lock, which it gives up on the way: whoever
# gets the lock after a kill finds the id of whatever was started.
LAUNCH = 'echo $$ > "$1.part" && mv "$1.part" "$1" && shift && exec "$@" < /dev/null'
# The kernel needs that long to take a process with gigabytes of memory apart.
END_SECONDS = 30.0


# What is made once for all labs: QEMU, the disk, and which accelerator works. Asked for when a host is started.
Kit = Callable[[Step], tuple[Qemu, Disk, str]]


def machine_kit(cache: Path, root: Callable[[], list[str]], progress: Progress) -> Kit:
    """The kit of this machine, in the cache that all labs share."""

    def get(step: Step) -> tuple[Qemu, Disk, str]:
        program = qemu.ensure(cache / "qemu", root(), progress)
        known = cache / "qemu" / "accelerator.json"
        disk = disks.ensure(
            cache / "disk",
            disks.DiskRecipe.here(),
            root(),
            progress,
            lambda made: program.first_boot_command(made, program.accelerator(made, known, step)),
        )
        return program, disk, program.accelerator(disk, known, step)

    return get


def _stands_still(pid: int) -> bool:
    """Whether all threads of a process are stopped."""
    try:
        stats = [path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        # One has ended meanwhile.
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


class VirtualMachineHosts(ReachedBySsh):
    """The hosts of one lab. Each has a folder in the lab's state; `spec` in it is written when its disk is whole."""

    # Without KVM a boot takes half a minute on an idle machine, and many minutes on a busy one.
    boot_seconds = 1200.0
    connect_seconds = 15

    def __init__(
        self,
        paths: LabPaths,
        kit: Kit,
        root: Callable[[], list[str]],
        *,
        airgapped: bool = False,
        run: Run = run,
    ) -> None:
        super().__init__(paths, run)
        self.lan = Lan(paths, run, root)
        self._kit = kit
        self._airgapped = airgapped

    # One host's files

    @property
    def _folders(self) -> Path:
        return self.paths.state / "machines"

    def console(self, name: str) -> Path:
        """What the host says on its serial line, over all its boots."""
        return self._folders / name / "console.log"

    def _pid_file(self, name: str) -> Path:
        return self._folders / name / "pid"

    def _guest(self, name: str) -> Guest:
        return Guest(
            name=f"{self.paths.id}-{name}",
            disk=self._folders / name / "disk.raw",
            console=self.console(name),
            tap=self.lan.tap(name),
            mac=mac(self.paths.id, place(name)),
        )

    def _hosts(self, names: Sequence[str]) -> list[Host]:
        network = self.lan.network()
        return [Host(name, str(network[place(name)])) for name in names]

    # One host's process

    def process(self, name: str) -> int | None:
        """A handle on the host's QEMU, to be closed; None if there is none.

        The id in the file may long be somebody else's: what holds the handle is checked, and only then believed.
        """
        try:
            pid = int(self._pid_file(name).read_text(encoding="ascii"))
            handle = os.pidfd_open(pid)
        except (OSError, ValueError):
            return None
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            words = []
        if f"guest={self._guest(name).name}".encode() in words:
            return handle
        os.close(handle)
        return None

    def _end(self, name: str) -> None:
        """End the host's QEMU at once: to the host, a power cut."""
        handle = self.process(name)
        if handle is not None:
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                if not select.select([handle], [], [], END_SECONDS)[0]:
                    raise LabError(f"{name}: QEMU did not end within {END_SECONDS:.0f} s of being killed.")
            finally:
                os.close(handle)
        self._pid_file(name).unlink(missing_ok=True)

    def _start(self, name: str, command: list[str]) -> None:
        with (
            locks.held(self._folders / name / "start.lock") as lock,
            (self._folders / name / "qemu.log").open("wb") as log,
        ):
            handle = self.process(name)
            if handle is not None:
                # Started by a run that was killed before it could say so.
                os.close(handle)
                return
            started = subprocess.Popen(
                ["/bin/sh", "-c", LAUNCH, "sh", str(self._pid_file(name)), *command],
                stdin=lock,
                stdout=log,
                stderr=subprocess.STDOUT,
                # It outlives us.
                start_new_session=True,
                env={**os.environ, "PATH": SEARCH_PATH},
            )
        while self._state(name) != "running" and started.poll() is None:
            time.sleep(0.02)

    # Making

    def _spec(self, host: Host, disk: Disk) -> str:
        key = ssh.ensure_key(self.paths.key, self.paths.id, self._run)
        material = [disk.folder.name, host.name, host.address, repr(self._guest(host.name)), key]
        return hashlib.sha256(json.dumps(material).encode()).hexdigest()[:16]

    def _make(self, host: Host, disk: Disk, spec: str) -> None:
        folder = self._folders / host.name
        folder.mkdir(parents=True)
        files = ssh.identity(self.paths, host.name, self._run)
        network = self.lan.network()
        own = disks.network_files(host.name, self._guest(host.name).mac, network, host.address, name_servers())
        files.update({path: (text.encode(), 0o644) for path, text in own.items()})
        disks.copy(disk, self._guest(host.name).disk, files, self._run)
        part = folder / "spec.part"
        part.write_text(spec, encoding="ascii")
        part.rename(folder / "spec")

    def _ensure(self, host: Host, qemu: Qemu, disk: Disk, accelerator: str, progress: Progress) -> None:
        spec, folder = self._spec(host, disk), self._folders / host.name
        if folder.exists():
            found = (folder / "spec").read_text(encoding="ascii") if (folder / "spec").exists() else ""
            if found != spec:
                why = "made from another image or with other options" if found else "half made"
                progress.note(f"        {host.name} was {why}: made anew")
                self._remove(host.name)
        if not folder.exists():
            self._make(host, disk, spec)
        if self.lan.plug(host.name):
            # A QEMU whose device is gone can't be given another.
            self._end(host.name)
        if self._state(host.name) != "running":
            self._start(host.name, qemu.command(self._guest(host.name), disk, accelerator))

    def _remove(self, name: str) -> None:
        ssh.end_connections(self.paths, self._run)
        self._end(name)
        self.lan.unplug(name)
        shutil.rmtree(self._folders / name)

    # The interface of HostKind

    def up(self, names: Sequence[str], progress: Progress) -> list[Host]:
        """These hosts and no others of this lab, running and reachable by ssh."""
        with progress.step("QEMU and the disk") as step:
            qemu, disk, accelerator = self._kit(step)
        if accelerator == "tcg":
            progress.note("        KVM runs no guest on this machine: hosts are emulated, and slow")
        hosts = self._hosts(names)
        for surplus in set(self.names()) - set(names):
            progress.note(f"        {surplus} is not asked for any more: removed")
            self._remove(surplus)
        for host in hosts:
            ssh.ensure_key(ssh.host_key(self.paths, host.name), self._guest(host.name).name, self._run)
        ssh.write_known_hosts(self.paths, hosts)
        with progress.step(f"hosts: {', '.join(names)}") as step:
            self.lan.ensure(airgapped=self._airgapped)
            for host in hosts:
                step.update(f"{host.name} starts")
                self._ensure(host, qemu, disk, accelerator, progress)
            for host in hosts:
                step.update(f"{host.name} boots; its console: {self.console(host.name)}")
                self._wait(host, progress)
        return hosts

    def down(self, progress: Progress) -> None:
        """End the processes, then remove devices, rules and disks."""
        ssh.end_connections(self.paths, self._run)
        for name in self.names():
            with progress.step(f"remove {self._guest(name).name}"):
                self._end(name)
        self.lan.remove()
        shutil.rmtree(self._folders, ignore_errors=True)

    def names(self) -> list[str]:
        """The hosts that have a folder, in their order."""
        if not self._folders.is_dir():
            return []
        return sorted((path.name for path in self._folders.iterdir() if path.is_dir()), key=place)

    def reboot(self, name: str, *, power_cut: bool = False) -> None:
        """A real reboot; or the power cut, which takes what the host had not flushed, and put back."""
        host = self.find(name)
        ssh.end_connections(self.paths, self._run)
        if power_cut:
            self._end(name)
            self._boot(host)
            return
        before = self._boot_id(host)
        self._ssh(host, "systemctl", "reboot")
        deadline = time.monotonic() + self.boot_seconds
        while self._boot_id(host) in (before, ""):
            if self._state(name) != "running":
                break
            if time.monotonic() > deadline:
                raise LabError(self._diagnosis(host, ""))
            time.sleep(0.5)
        self._boot(host)

    def keep_disk(self, name: str, kept: Path) -> None:
        """Copy the disk as a power cut at this moment would leave it: what the host has not written yet is not on it.

        The host stands still meanwhile. `kept` should be in the lab's state: sparse, it takes gigabytes.
        """
        handle = self.process(name)
        if handle is None:
            raise LabError(f"{name} is off: there is no moment to be kept. Start it: python -m lab reboot {name}")
        try:
            self._halt(name, handle)
            self._run(["cp", "--reflink=auto", str(self._guest(name).disk), str(kept)])
        finally:
            signal.pidfd_send_signal(handle, signal.SIGCONT)
            os.close(handle)

    def _halt(self, name: str, handle: int) -> None:
        """Have the host stand still. Each thread of QEMU ends first what it is writing."""
        signal.pidfd_send_signal(handle, signal.SIGSTOP)
        deadline = time.monotonic() + END_SECONDS
        while not _stands_still(int(self._pid_file(name).read_text(encoding="ascii"))):
            if time.monotonic() > deadline:
                raise LabError(f"{name}: QEMU did not stand still within {END_SECONDS:.0f} s of being told so.")
            time.sleep(0.01)

    def boot_from(self, name: str, kept: Path) -> None:
        """Cut the host's power and boot it from a kept disk, which becomes its own."""
        host = self.find(name)
        ssh.end_connections(self.paths, self._run)
        self._end(name)
        kept.rename(self._guest(name).disk)
        self._boot(host)

    def _boot(self, host: Host) -> None:
        """Start the host if it is off, and wait until it is up."""
        progress = Progress()
        if self._state(host.name) != "running":
            with progress.step(f"start {host.name}") as step:
                qemu, disk, accelerator = self._kit(step)
                self.lan.plug(host.name)
                self._start(host.name, qemu.command(self._guest(host.name), disk, accelerator))
        self._wait(host, progress)

    def _boot_id(self, host: Host) -> str:
        code, out, _ = self._ssh(host, "cat", "/proc/sys/kernel/random/boot_id")
        return out if code == 0 else ""

    def exec(self, name: str, command: Sequence[str]) -> tuple[int, str]:
        """Run a command by ssh, which is the one way in."""
        options = (
            "-o",
            "BatchMode=yes",
            "-o",
            f"ConnectTimeout={self.connect_seconds}",
            "-o",
            "ServerAliveInterval=15",
        )
        done = self._run([*ssh.command(self.paths, self.find(name), *options), shlex.join(command)], check=False)
        return done.returncode, done.stdout

    def netem(self, name: str, delay: str | None) -> None:
        """Delay what the host sends. A round trip takes that much longer; a reboot ends it."""
        host = self.find(name)
        code, out, error = self._ssh(host, "ip", "-json", "-4", "address", "show", "to", host.address)
        devices = [link["ifname"] for link in json.loads(out or "[]") if link] if code == 0 else []
        if not devices:
            raise LabError(f"{name} ({host.address}) does not say which device that is: {error or out}")
        device = devices[0]
        qdiscs = json.loads(self._ssh(host, "tc", "-json", "qdisc", "show", "dev", device, "root")[1] or "[]")
        if delay:
            change = ["replace", "dev", device, "root", "netem", "delay", delay, "limit", "100000"]
        elif any(qdisc["kind"] == "netem" for qdisc in qdiscs):
            change = ["del", "dev", device, "root"]
        else:
            return
        code, _, error = self._ssh(host, "tc", "qdisc", *change)
        if code != 0:
            raise LabError(f"{name}: tc refused the delay {delay or 'off'}: {error}")

    # What ReachedBySsh asks for

    def _state(self, name: str) -> str:
        handle = self.process(name)
        if handle is None:
            return "off"
        os.close(handle)
        return "running"

    def _words(self, host: Host, state: str) -> list[str]:
        paths = [self.console(host.name)] if state == "running" else [self._folders / host.name / "qemu.log"]
        words = [path.read_text(errors="replace")[-2000:] for path in paths if path.exists()]
        return [*words, f"Look at {self.console(host.name)}."]
