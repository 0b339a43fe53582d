"""Runs on a host, as root: looks for the site's secrets where nobody may see them. Python's own library only.

``watcher.py watch RESULT`` reads the command line of every process, over and over, until it is told to stop (SIGTERM);
``watcher.py search RESULT`` looks once at the journal and at every file that an unprivileged user could read.
Both write what they found as a JSON list to RESULT, naming secrets by where they are kept, never by what they are.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SERVER = Path("/var/lib/rancher/k3s/server")
CONFIG = Path("/etc/rancher")
# Where the kernel makes files up.
SKIPPED = {"/proc", "/sys", "/dev"}
LARGEST = 8 << 20
# Ansible's modules and what they start live longer; reading faster slows down what is watched.
PAUSE_SECONDS = 0.04


def secrets() -> dict[str, bytes]:
    """Each by a name that says where it is kept. Too short a one would be found everywhere."""
    found = {"token": (SERVER / "token").read_text().strip().rpartition(":")[2]}
    found["node password"] = (CONFIG / "node/password").read_text().strip()
    for number, row in enumerate((SERVER / "cred/passwd").read_text().split()):
        found[f"passwd {number}"] = row.split(",")[0]
    keys = re.findall(r'"secret":"([^"]+)"', (SERVER / "cred/encryption-config.json").read_text())
    found |= {f"encryption key {number}": key for number, key in enumerate(keys)}
    (key,) = re.findall(r"client-key-data: *(\S+)", (CONFIG / "k3s/k3s.yaml").read_text())
    # The middle of it: its beginning and end are the same for every key.
    found["administrator's key"] = key[60:120]
    found["administrator's key, decoded"] = base64.b64decode(key).decode().splitlines()[2]
    return {name: text.encode() for name, text in found.items() if len(text) >= 16}


def command_lines(own: int) -> Iterator[tuple[str, bytes]]:
    """The program's name and the command line of every process but this one."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != own:
            try:
                yield Path(entry.path, "comm").read_text().strip(), Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue


def watch(result: Path) -> None:
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    seen: set[str] = set()
    looks, known = 0, secrets()
    while not stopped:
        # A rotation makes new ones.
        if looks % 50 == 0:
            known |= {f"{name} ({looks})": text for name, text in secrets().items() if text not in known.values()}
        for pid, line in command_lines(os.getpid()):
            seen |= {
                f"{name} on the command line of {line.split(b'/')[-1][:20]!r} {pid}" for name in among(line, known)
            }
        looks += 1
        time.sleep(PAUSE_SECONDS)
    result.write_text(json.dumps({"looks": looks, "secrets": len(known), "found": sorted(seen)}))


def among(text: bytes, known: dict[str, bytes]) -> list[str]:
    return [name for name, secret in known.items() if secret in text]


def readable(folder: str = "/") -> Iterator[str]:
    """Files that an unprivileged user can come to and read."""
    for entry in os.scandir(folder):
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode) and mode & stat.S_IXOTH and entry.path not in SKIPPED:
            yield from readable(entry.path)
        elif stat.S_ISREG(mode) and mode & stat.S_IROTH and entry.stat(follow_symlinks=False).st_size <= LARGEST:
            yield entry.path


def search(result: Path) -> None:
    known = secrets()
    journal = subprocess.run(["journalctl", "--no-pager", "--quiet"], capture_output=True, check=True).stdout
    found = [f"{name} in the journal" for name in among(journal, known)]
    looks = 0
    for path in readable():
        try:
            found += [f"{name} in {path}" for name in among(Path(path).read_bytes(), known)]
        except OSError:
            continue
        looks += 1
    result.write_text(json.dumps({"looks": looks, "secrets": len(known), "found": found}))


if __name__ == "__main__":
    os.umask(0o077)
    {"watch": watch, "search": search}[sys.argv[1]](Path(sys.argv[2]))
