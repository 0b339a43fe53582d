"""Keys and connections: every lab has a key of its own, every host a host key that is known before it starts."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from lab.hosts import Host
from lab.paths import LabPaths
from lab.process import Run, run

# The longest path that a socket address holds, less what ssh appends while it makes the socket, and Ansible's name.
_SOCKET_FOLDER_MAX = 107 - 17 - 11


def ensure_key(path: Path, comment: str, run: Run = run) -> str:
    """Make a key pair if there is none; the public half. A pair is whole once the public half is in place."""
    public = path.with_name(f"{path.name}.pub")
    if not public.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        for leftover in (part, part.with_name(f"{part.name}.pub"), path):
            leftover.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(part)])
        part.rename(path)
        part.with_name(f"{part.name}.pub").rename(public)
    return public.read_text(encoding="ascii").strip()


def host_key(paths: LabPaths, name: str) -> Path:
    """The private key that a host shows to those who log in."""
    return paths.state / "hosts" / name / "ssh_host_ed25519_key"


def identity(paths: LabPaths, name: str, run: Run = run) -> dict[str, tuple[bytes, int]]:
    """The files, with their modes, that make a host ours: its host key, and the lab's key as one that may log in."""
    authorized = ensure_key(paths.key, paths.id, run)
    public = ensure_key(host_key(paths, name), f"{paths.id}-{name}", run)
    return {
        "etc/ssh/ssh_host_ed25519_key": (host_key(paths, name).read_bytes(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (f"{public}\n".encode(), 0o644),
        "root/.ssh/authorized_keys": (f"{authorized}\n".encode(), 0o600),
    }


def identity_archive(paths: LabPaths, name: str, run: Run = run) -> bytes:
    """These files as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("root/.ssh")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(folder)
        for path, (content, mode) in identity(paths, name, run).items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write_known_hosts(paths: LabPaths, hosts: Sequence[Host]) -> None:
    """So that nobody has to trust a host key on first sight."""
    lines = []
    for host in hosts:
        kind, key, *_ = host_key(paths, host.name).with_name("ssh_host_ed25519_key.pub").read_text().split()
        lines.append(f"{host.address} {kind} {key}\n")
    part = paths.known_hosts.with_name("known_hosts.part")
    part.write_text("".join(lines), encoding="ascii")
    part.rename(paths.known_hosts)


def options(paths: LabPaths) -> list[str]:
    """What ssh and Ansible are told for every connection."""
    # Only this key: those of an agent would use up the attempts.
    return [
        "-o",
        f"UserKnownHostsFile={paths.known_hosts}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "IdentitiesOnly=yes",
    ]


def command(paths: LabPaths, host: Host, *extra: str) -> list[str]:
    """The ssh command to a host."""
    return ["ssh", *options(paths), "-i", str(paths.key), *extra, f"root@{host.address}"]


def control_folder(paths: LabPaths) -> Path | None:
    """Ansible's shared connections of this lab, apart from those of others so that `down` can end them.

    None if the path is too long for sockets: Ansible then uses its own folder.
    """
    folder = paths.state / "cp"
    return folder if len(str(folder)) <= _SOCKET_FOLDER_MAX else None


def end_connections(paths: LabPaths, run: Run = run) -> None:
    """End what Ansible keeps open: a host made anew has the same address, and the old connection would hang."""
    folder = control_folder(paths)
    if folder is None or not folder.is_dir():
        return
    for socket in folder.iterdir():
        run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], check=False, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)
