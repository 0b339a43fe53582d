# SPDX-License-Identifier: Apache-2.0
"""Whether a host can carry K3s, read from /proc, /sys and /etc alone: changes nothing and needs nothing installed."""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import existing_parent, free_bytes
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import UNITS, RunCommand, unit_properties

SUPPORTED_OS = {"debian": ("13",)}
# The kubelet does not start without these.
CGROUP_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
# K3s unpacks itself into the first, containerd keeps the images in the second: often one file system, not always.
DATA_FOLDERS = ("/var/lib/rancher", "/var/lib/containerd")
UNIT_FOLDER = "etc/systemd/system"
# What K3s reads at its start: newer than its process means that a run was cut before the restart.
START_FILES = ("usr/local/bin/k3s", "etc/systemd/system/{unit}", "etc/systemd/system/{unit}.env")
CONFIG_FOLDER = "etc/rancher/k3s"
CONFIG_FILE = "config.yaml"
DROP_INS = "config.yaml.d"
OTHER_FILES = ("token", "admission.yaml", "audit-policy.yaml")
# Any of them: this host has been a K3s of that role before.
TRACES = {
    "server": ("var/lib/rancher/k3s/server/cred/passwd", "var/lib/rancher/k3s/server/db/state.db"),
    "agent": ("var/lib/rancher/k3s/agent/kubelet.kubeconfig",),
}
# Written when Secrets are encrypted from a cluster's first start on, whatever its configuration has become since.
ENCRYPTION_FILE = "var/lib/rancher/k3s/server/cred/encryption-config.json"
TOKEN_FILE = "var/lib/rancher/k3s/server/token"  # noqa: S105 - where it lies
ENVIRONMENT = ("etc/default/{name}", "etc/sysconfig/{name}", "etc/systemd/system/{unit}.env")
# Not ctr: it comes with containerd, and K3s's own talks to the socket of K3s's own containerd, which does not run.
LINKS = ("kubectl", "crictl")
# Where a shell would find a command of that name that is not K3s's.
COMMAND_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")

_MB = 1 << 20
_LISTEN = "0A"


@dataclass(frozen=True)
class Limits:
    """What the role asks for. The names in the messages are the role's variables."""

    min_memory_mb: int
    min_disk_mb: int
    port: int
    role: str = "server"


@dataclass(frozen=True)
class Host:
    """What was found. ``disks`` is free megabytes by folder, ``port_owner`` who else has K3s's port.

    ``other_role`` is what the host already is, if that is not what it is to be. ``existing`` says that its role has run
    before, ``unit_up`` that its service runs and is started at boot, ``encrypts`` that the datastore's Secrets are
    encrypted. ``config`` is the text of each configuration file by its path, ``environment`` the names that the
    service's environment files set, ``token_sha256`` that of the password in the server's token. The texts are not for
    display.
    """

    systemd: bool
    os_id: str
    os_version: str
    os_name: str
    cpus: int
    memory_mb: int
    swap_mb: int
    disks: dict[str, int]
    cgroup_version: int
    missing_controllers: list[str]
    port_owner: str
    clock_year: int
    absent_links: list[str]
    unit_present: bool
    unit_up: bool
    stale: bool
    other_role: str
    existing: bool
    encrypts: bool
    token_sha256: str
    environment: dict[str, list[str]]
    config: dict[str, str]


def problems(host: Host, limits: Limits) -> list[str]:
    """One sentence for each reason not to install here: what is wrong, and the way out."""
    if not host.systemd:
        # Without systemd the rest can't be judged, and nothing else needs saying.
        return [
            "this host does not run systemd (no /run/systemd/system), which starts containerd and K3s; "
            "boot it with systemd as its init."
        ]
    found = []
    if host.other_role:
        found.append(
            f"this host is a K3s {host.other_role} ({UNITS[host.other_role]}) and the inventory makes it a K3s "
            f"{limits.role}; put it back into the group k3s_{host.other_role}s, or take K3s off it, with its data: "
            "ansible-playbook edgefleet.wasm.reset -e edgefleet_reset_confirm=true --limit <host>."
        )
    if host.os_version not in SUPPORTED_OS.get(host.os_id, ()):
        found.append(f"this host runs {host.os_name}; supported is Debian 13, whose crun runs WasmEdge; reinstall it.")
    if host.memory_mb < limits.min_memory_mb:
        found.append(
            f"this host has {host.memory_mb} MB of memory, k3s_min_memory_mb asks for {limits.min_memory_mb}; "
            "add memory, or lower the variable if its workloads fit."
        )
    found += [
        f"{folder} has {free} MB of free disk, k3s_min_disk_mb asks for {limits.min_disk_mb}; free some or add a disk."
        for folder, free in host.disks.items()
        if free < limits.min_disk_mb
    ]
    if host.missing_controllers:
        found.append(
            f"the kernel offers no cgroup controller {', '.join(host.missing_controllers)}, without which the kubelet "
            "does not start; enable it on the kernel's command line (cgroup_enable=...) and reboot."
        )
    if host.port_owner:
        what, key = _PORTS[limits.role]
        found.append(f"port {limits.port} {what} is taken by {host.port_owner}; stop it, or set {key} in k3s_config.")
    if host.clock_year < 1980:
        found.append(f"this host's clock says {host.clock_year} and K3s does not start before 1980; set the time.")
    return found


_PORTS = {"server": ("of the API server", "https-listen-port"), "agent": ("of the way to the server", "lb-server-port")}


def notes(host: Host) -> list[str]:
    """What is allowed but worth knowing."""
    if host.swap_mb:
        return [f"this host has {host.swap_mb} MB of swap: K3s runs, but pods' memory limits are less sharp"]
    return []


def inspect(run: RunCommand, port: int, root: Path = Path("/"), role: str = "server") -> Host:
    release = _key_values((root / "etc/os-release").read_text(encoding="utf-8"), "=")
    memory = _key_values((root / "proc/meminfo").read_text(encoding="utf-8"), ":")
    systemd = (root / "run/systemd/system").is_dir()
    version, missing = _cgroup_controllers(root)
    service = UNITS[role]
    properties = ("LoadState", "UnitFileState", "ActiveState", "ExecMainStartTimestampMonotonic")
    unit = unit_properties(run, *properties, unit=service) if systemd else {}
    running = unit.get("ActiveState") in ("active", "activating")
    return Host(
        systemd=systemd,
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", "an unknown system"),
        cpus=os.cpu_count() or 1,
        memory_mb=_kilobytes(memory.get("MemTotal")) // 1024,
        swap_mb=_kilobytes(memory.get("SwapTotal")) // 1024,
        disks=_free_by_file_system(root),
        cgroup_version=version,
        missing_controllers=missing,
        port_owner=_port_owner(root, port),
        clock_year=time.gmtime().tm_year,
        absent_links=[name for name in LINKS if not any(_there(root / folder / name) for folder in COMMAND_FOLDERS)],
        unit_present=unit.get("LoadState") == "loaded",
        unit_up=running and unit.get("UnitFileState") == "enabled",
        stale=running and _changed_since(root, service, _started(unit)),
        other_role=next(
            (other for other in UNITS if other != role and (root / UNIT_FOLDER / UNITS[other]).exists()), ""
        ),
        existing=any((root / trace).exists() for trace in TRACES[role]),
        encrypts=_holds(root / ENCRYPTION_FILE),
        token_sha256=_token_sha256(root),
        environment=_environment(root, service),
        config=_config(root),
    )


def password(token: str) -> str:
    """The part of a token that the cluster is bound to: without the hash of the CA and the user."""
    text = token.strip()
    if text.startswith("K10") and "::" in text:
        text = text.split("::", 1)[1]
        return text.split(":", 1)[1] if ":" in text else text
    return text


def _holds(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _token_sha256(root: Path) -> str:
    path = root / TOKEN_FILE
    if not path.exists():
        return ""
    return hashlib.sha256(password(path.read_text(encoding="utf-8")).encode()).hexdigest()


def _environment(root: Path, service: str) -> dict[str, list[str]]:
    """Names alone: the values may be secrets."""
    found = {}
    for pattern in ENVIRONMENT:
        path = root / pattern.format(unit=service, name=service.removesuffix(".service"))
        if path.is_file():
            names = re.findall(r"^\s*([A-Za-z_][A-Za-z0-9_]*)=", path.read_text(errors="replace"), re.MULTILINE)
            found[f"/{path.relative_to(root)}"] = names
    return found


def _config(root: Path) -> dict[str, str]:
    """In the order in which K3s reads them."""
    folder = root / CONFIG_FOLDER
    files = [folder / CONFIG_FILE, *_drop_ins(folder)]
    return {f"/{path.relative_to(root)}": path.read_text(errors="replace") for path in files if path.is_file()}


def _drop_ins(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / DROP_INS).glob("*") if path.suffix.lower() in (".yaml", ".yml"))


def _key_values(text: str, separator: str) -> dict[str, str]:
    pairs = (line.split(separator, 1) for line in text.splitlines() if separator in line)
    return {key.strip(): value.strip().strip('"') for key, value in pairs}


def _kilobytes(value: str | None) -> int:
    return int(value.split()[0]) if value else 0


def _there(path: Path) -> bool:
    """Also a link that points nowhere: it is somebody's."""
    return os.path.lexists(path)


def _free_by_file_system(root: Path) -> dict[str, int]:
    """Each file system once, under the first folder that is on it."""
    seen: dict[int, str] = {}
    for folder in DATA_FOLDERS:
        seen.setdefault(existing_parent(root / folder.lstrip("/")).stat().st_dev, folder)
    return {folder: free_bytes(root / folder.lstrip("/")) // _MB for folder in seen.values()}


def _cgroup_controllers(root: Path) -> tuple[int, list[str]]:
    """The hierarchy's version, and which of the needed controllers it lacks."""
    unified = root / "sys/fs/cgroup/cgroup.controllers"
    if unified.exists():
        offered = set(unified.read_text(encoding="utf-8").split())
        return 2, [name for name in CGROUP_CONTROLLERS if name not in offered]
    table = root / "proc/cgroups"
    rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines()] if table.exists() else []
    enabled = {row[0] for row in rows if len(row) == 4 and row[3] == "1"}
    return 1, [name for name in CGROUP_CONTROLLERS if name not in enabled]


def _port_owner(root: Path, port: int) -> str:
    """Who else than K3s listens on a TCP port. Empty if nobody does."""
    inodes = set()
    for table in ("proc/net/tcp", "proc/net/tcp6"):
        path = root / table
        lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
        for fields in (line.split() for line in lines):
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return _socket_owner(root, inodes) if inodes else ""


def _socket_owner(root: Path, inodes: set[str]) -> str:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in (root / "proc").glob("[0-9]*"):
        try:
            if not any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                continue
            # Whatever K3s starts stays in its unit's cgroup, under any name.
            if any(f"/{unit}" in (process / "cgroup").read_text(encoding="utf-8") for unit in UNITS.values()):
                return ""
            name = (process / "comm").read_text(encoding="utf-8").strip()
            return f"{name} (process {process.name})"
        except OSError:
            continue  # ended meanwhile
    return "a process that can't be seen from here"


def _started(unit: dict[str, str]) -> float:
    """When the service's process began, on today's clock: a clock that was set since does not matter."""
    microseconds = int(re.sub(r"\D", "", unit.get("ExecMainStartTimestampMonotonic", "")) or 0)
    return time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - microseconds / 1e6)


def _changed_since(root: Path, service: str, moment: float) -> bool:
    """ctime, not mtime: a file moved into place keeps the mtime it was written with."""
    folder = root / CONFIG_FOLDER
    files = [root / name.format(unit=service) for name in START_FILES]
    files += [folder / CONFIG_FILE, *_drop_ins(folder), *(folder / name for name in OTHER_FILES)]
    return any(path.stat().st_ctime > moment for path in files if path.exists())
