"""Debian's Prometheus and promtool, for this machine: out of the servers' image, so in the version that the lab runs.

They are run by the image's own loader: what they need of a C library is in the image too, and this machine may have
another.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.builders.servers import Servers
from lab.errors import LabError

LOADER = "ld-linux-x86-64.so.2"
# Files of the image and the folders that they are in.
WANTED = {
    "prometheus": "/bin/",
    "promtool": "/bin/",
    LOADER: "/lib/",
    "libc.so.6": "/lib/",
    "libresolv.so.2": "/lib/",
}


@dataclass(frozen=True)
class Promtool:
    """Both programs in a folder; `ensure` takes them out of the image when they are not there."""

    folder: Path
    servers: Servers

    def ensure(self) -> Promtool:
        """The programs are there, in the version of the newest image."""
        image = self.servers.ensure()["prometheus"]
        mark = self.folder / "from"
        if not mark.exists() or mark.read_text(encoding="utf-8") != image.reference:
            self.folder.mkdir(parents=True, exist_ok=True)
            mark.unlink(missing_ok=True)
            with tarfile.open(image.file) as archive, tarfile.open(fileobj=_base(archive)) as root:
                missing = set(WANTED) - self._take(root)
            if missing:
                raise LabError(f"{image.file}: no {', '.join(sorted(missing))} in it: has Debian moved them?")
            mark.write_text(image.reference, encoding="utf-8")
        return self

    def _take(self, root: tarfile.TarFile) -> set[str]:
        found = set()
        for member in root:
            folder, _, name = f"/{member.name}".rpartition("/")
            if member.isfile() and WANTED.get(name, "") in f"{folder}/" and name in WANTED:
                (self.folder / name).write_bytes(_read(root, member))
                (self.folder / name).chmod(0o755)
                found.add(name)
        return found

    def command(self, program: str, *words: str) -> Sequence[str]:
        """A command line that runs one of the programs on this machine."""
        loader = [str(self.folder / LOADER), "--library-path", str(self.folder)]
        return [*loader, str(self.folder / program), *words]


def _base(archive: tarfile.TarFile) -> io.BytesIO:
    """The lowest layer of the one image in an archive."""

    def blob(described: Mapping[str, str]) -> bytes:
        return _read(archive, f"blobs/sha256/{described['digest'].removeprefix('sha256:')}")

    (image,) = json.loads(_read(archive, "index.json"))["manifests"]
    return io.BytesIO(blob(json.loads(blob(image))["layers"][0]))


def _read(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    if content is None:
        raise LabError(f"{archive.name!r}: {member} is no file: remove it, the next run makes it again")
    return content.read()


def promtool(cache: Path, servers: Servers) -> Promtool:
    """The programs in a cache."""
    return Promtool(cache / "promtool", servers)
