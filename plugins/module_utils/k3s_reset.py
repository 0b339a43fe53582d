# SPDX-License-Identifier: Apache-2.0
"""Take K3s off a host: its pods, service, links, firewall rules, mounts and files, and nothing that isn't its own.

Every step looks first and acts only on what it finds, so that a reset that was cut is finished by the next and a
second one changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import (
    CONTAINERD_SOCKET,
    CRICTL,
    K3S,
    UNITS,
    K3sError,
    RunCommand,
    unit_properties,
)

SHIM = "containerd-shim-runc-v2"
SERVICES = tuple(UNITS.values())
# The kubelet's: its name is the same in every Kubernetes.
SLICE = "kubepods.slice"
UNIT_FOLDER = "/etc/systemd/system"
# Beside its folders: kernel settings at boot. What they are now stays until then.
FILES = ("/etc/sysctl.d/90-k3s.conf",)
COMMAND_LINKS = ("/usr/local/bin/kubectl", "/usr/local/bin/crictl", "/usr/local/bin/ctr")
INTERFACES = ("cni0", "flannel.1", "flannel-v6.1", "kube-ipvs0", "flannel-wg", "flannel-wg-v6")
# Only these are unmounted: what else is mounted below K3s's folders is somebody's own.
MOUNT_PREFIXES = ("/run/k3s/", "/var/lib/kubelet/pods/", "/var/lib/kubelet/plugins/")
FOLDERS = (
    "/etc/rancher/k3s",
    "/etc/rancher/node",
    "/run/k3s",
    "/run/flannel",
    "/var/lib/cni",
    "/var/lib/rancher/k3s",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/usr/libexec/kubernetes/kubelet-plugins",
    # What kubectl has learnt about clusters; it learns it again.
    "/root/.kube/cache",
)
# Made on the way to these folders; removed if nothing else is in them.
PARENTS = ("/etc/rancher", "/var/lib/rancher", "/usr/libexec/kubernetes", "/root/.kube")
KUBELET_FOLDER = "/var/lib/kubelet"
NETWORK_NAMESPACES = "/run/netns"
# Last, K3s's own tools: a host without an iptables package has used those.
PROGRAMS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/var/lib/rancher/k3s/data/current/bin/aux")

_RULES = re.compile(r"KUBE-|CNI-|flannel", re.IGNORECASE)
_OWN_CHAIN = re.compile(r"(KUBE-|CNI-|FLANNEL)")
_STOP_SECONDS = 120
_END_SECONDS = 10.0


@dataclass
class Reset:
    """One run. ``done`` says what was removed (or would be, in check mode), ``kept`` what was left and why."""

    run: RunCommand
    check: bool = False
    root: Path = Path("/")
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    sleep: Callable[[float], None] = time.sleep

    def everything(self) -> None:
        # The kubelet would start the pods again, so K3s goes first. CNI's plugins are in K3s's folder: that goes last.
        self.stop_service()
        self.end_pods()
        self.stop_slice()
        self.unmount()
        self.remove_namespaces()
        self.remove_interfaces()
        for command in ("iptables", "ip6tables"):
            self.remove_rules(command)
        self.remove_unit()
        self.remove_files()

    def stop_service(self) -> None:
        for service in SERVICES:
            state = unit_properties(self.run, "ActiveState", unit=service).get("ActiveState")
            if state not in ("inactive", "failed", None):
                self._do(f"stopped {service}", ["systemctl", "stop", service])

    def end_pods(self) -> None:
        """Through CRI, which takes the network down too; what does not answer is killed with its shim."""
        pods = self._pods()
        if pods:
            crictl = [*CRICTL, "--timeout", f"{_STOP_SECONDS}s"]
            self._note(f"removed {len(pods)} pods")
            if not self.check:
                self.run([*crictl, "rmp", "--force", *pods])
        shims = [] if self.check and pods else self._shims()
        if shims:
            self._note(f"killed {len(shims)} container shims that were left")
            self._kill(shims)

    def _pods(self) -> list[str]:
        if not self._path(K3S).exists() or not self._path(CONTAINERD_SOCKET).exists():
            return []
        rc, out, _ = self.run([*CRICTL, "pods", "--output", "json"])
        if rc != 0:
            return []  # containerd does not answer: its shims are found by themselves
        return [pod["id"] for pod in json.loads(out or "{}").get("items") or []]

    def _shims(self) -> list[int]:
        """Shims of Kubernetes' containers alone: other users of containerd have other namespaces."""
        found = []
        for process in self._path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                is_shim = words[0].rsplit(b"/", 1)[-1] == SHIM.encode()
                if is_shim and b"k8s.io" in words[words.index(b"-namespace") + 1 :][:1]:
                    found.append(int(process.name))
        return found

    def _kill(self, shims: list[int]) -> None:
        if self.check:
            return
        parents = self._parents()
        doomed = list(shims)
        for process in doomed:  # grows while it is read: children of children
            doomed += [child for child, parent in parents.items() if parent == process]
        for process in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        waited = 0.0
        while waited < _END_SECONDS and any(self._path(f"/proc/{process}").exists() for process in shims):
            self.sleep(0.2)
            waited += 0.2

    def _parents(self) -> dict[int, int]:
        table = {}
        for process in self._path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # The name in brackets may hold spaces and brackets; what follows the last one does not.
                after = (process / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
                table[int(process.name)] = int(after[1])
        return table

    def stop_slice(self) -> None:
        """Where systemd keeps control groups, those of the pods are units, which the kubelet leaves behind."""
        state = unit_properties(self.run, "ActiveState", unit=SLICE).get("ActiveState")
        if state == "active":
            self._do(f"stopped {SLICE}", ["systemctl", "stop", SLICE])

    def unmount(self) -> None:
        for target in sorted(self._mounts(), reverse=True):
            if f"{target}/".startswith(MOUNT_PREFIXES):
                self._do(f"unmounted {target}", ["umount", "--force", target])
        if self._kubelet_mounted_itself():
            self._do(f"unmounted {KUBELET_FOLDER} from itself", ["umount", KUBELET_FOLDER])

    def _kubelet_mounted_itself(self) -> bool:
        """Where mounts are not shared, the kubelet mounts its folder over itself to have a shared one."""
        lines = self._path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        roots = [fields[3] for fields in (line.split() for line in lines) if fields[4] == KUBELET_FOLDER]
        return len(roots) > 1 or roots == [KUBELET_FOLDER]

    def remove_namespaces(self) -> None:
        for path in sorted(self._path(NETWORK_NAMESPACES).glob("cni-*")):
            self._do(f"removed network namespace {path.name}", ["ip", "netns", "delete", path.name])

    def remove_interfaces(self) -> None:
        rc, out, err = self.run(["ip", "-json", "link", "show"])
        if rc != 0:
            raise K3sError(f"`ip link show` ended with {rc}: {err.strip()}")
        links = json.loads(out or "[]")
        own = [link["ifname"] for link in links if link.get("master") == "cni0"]
        own += [link["ifname"] for link in links if link.get("ifname") in INTERFACES]
        for name in own:
            self._do(f"removed interface {name}", ["ip", "link", "delete", name])

    def remove_rules(self, command: str) -> None:
        """Only rules and chains of Kubernetes, CNI and flannel, each table in one step; all others stay as they are."""
        save = shutil.which(f"{command}-save", path=":".join(PROGRAMS))
        if not save:
            return
        rc, out, err = self.run([save])
        if rc != 0:
            raise K3sError(f"`{command}-save` ended with {rc}: {err.strip()}")
        for table, lines in removal(out).items():
            self._note(f"removed {len(lines)} {command} rules and chains from table {table}")
            if not self.check:
                self._restore(f"{save.removesuffix('-save')}-restore", table, lines)

    def _restore(self, restore: str, table: str, lines: list[str]) -> None:
        descriptor, script = tempfile.mkstemp(prefix="edgefleet-rules.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write("\n".join([f"*{table}", *lines, "COMMIT", ""]))
            self._run([restore, "--noflush", script])
        finally:
            Path(script).unlink()

    def remove_unit(self) -> None:
        for service in SERVICES:
            paths = [self._path(f"{UNIT_FOLDER}/{service}{ending}") for ending in ("", ".env")]
            files = [path for path in paths if path.exists()]
            if not files:
                continue
            self._do(f"disabled {service}", ["systemctl", "disable", service])
            for path in files:
                self._unlink(path)
            if not self.check:
                self.run(["systemctl", "reset-failed", service])  # says no when it had not failed
                self._run(["systemctl", "daemon-reload"])

    def remove_files(self) -> None:
        for name in COMMAND_LINKS:
            path = self._path(name)
            if path.is_symlink() and str(path.readlink()) in ("k3s", K3S):
                self._unlink(path)
        for name in FILES:
            if self._path(name).exists():
                self._unlink(self._path(name))
        for name in FOLDERS:
            self._remove_folder(name)
        for name in PARENTS:
            path = self._path(name)
            if path.is_dir() and name not in self._mounts() and not any(path.iterdir()):
                self._note(f"removed {name}")
                if not self.check:
                    path.rmdir()

    def _remove_folder(self, name: str) -> None:
        """Everything in it, but never through a mount or a link: what lies there is an operator's, with its data."""
        path = self._path(name)
        if path.is_symlink():
            self.kept.append(f"{path.readlink()} (where {name} was a link to)")
            self._unlink(path)
            return
        mounts = self._mounts()
        # Those of pods are gone by now, but for check mode.
        others = (mount for mount in sorted(mounts) if not f"{mount}/".startswith(MOUNT_PREFIXES))
        self.kept += [f"{mount} (a mount of its own)" for mount in others if mount.startswith(f"{name}/")]
        removable = list(_removable(path, {str(self._path(mount)) for mount in mounts})) if path.is_dir() else []
        if not removable:
            return
        self._note(f"removed {name}" if removable[-1] == path else f"emptied {name}")
        if not self.check:
            for one in removable:
                one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()

    def _mounts(self) -> set[str]:
        lines = self._path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        return {_unescape(line.split()[1]) for line in lines}

    def _path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def _unlink(self, path: Path) -> None:
        self._note(f"removed /{path.relative_to(self.root)}")
        if not self.check:
            path.unlink()

    def _note(self, what: str) -> None:
        self.done.append(what)

    def _do(self, what: str, command: list[str]) -> None:
        self._note(what)
        if not self.check:
            self._run(command)

    def _run(self, command: list[str]) -> None:
        rc, out, err = self.run(command)
        if rc != 0:
            raise K3sError(
                f"`{' '.join(command)}` ended with {rc}: {(err or out).strip()}; run the reset again after it is cured"
            )


def removal(saved: str) -> dict[str, list[str]]:
    """From the output of iptables-save: what takes Kubernetes' part out, as lines for iptables-restore --noflush."""
    found: dict[str, list[str]] = {}
    table = ""
    chains: list[str] = []
    rules: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chains, rules = line[1:], [], []
        elif line.startswith(":") and _OWN_CHAIN.match(line[1:]):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A ") and not _OWN_CHAIN.match(line[3:]) and _RULES.search(line):
            rules.append(f"-D {line[3:]}")
        elif line == "COMMIT" and (chains or rules):
            # Rules that lead into the chains first, then their content, then the chains, or they would be in use.
            found[table] = [*rules, *(f"-F {name}" for name in chains), *(f"-X {name}" for name in chains)]
    return found


def _removable(path: Path, mounts: set[str]) -> Iterator[Path]:
    """What can go, children before their folder. Mounts stay, and the folders that lead to them."""
    all_gone = str(path) not in mounts
    for entry in os.scandir(path):
        if entry.path in mounts:
            all_gone = False
        elif entry.is_dir(follow_symlinks=False):
            last = None
            for last in _removable(Path(entry.path), mounts):
                yield last
            all_gone = all_gone and last == Path(entry.path)
        else:
            yield Path(entry.path)
    if all_gone:
        yield path


def _unescape(text: str) -> str:
    """The kernel writes blanks in paths as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
