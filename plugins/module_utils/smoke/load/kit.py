# SPDX-License-Identifier: Apache-2.0
"""What a load needs on the host, and the host does not have: the generators, and the same service as Wasm and native.

One tar, made by the controller out of the mirror, carried over beside the module, unpacked into its working folder:

    kit.json           name, version and source of what the others come from
    oha                load over HTTP, a static program
    service.wasm       the reference service with ahead-of-time code
    service            the same sources, a static program
    mqtt_client.py     load over MQTT, with
    paho.zip           the library that it needs
"""

from __future__ import annotations

import fcntl
import gzip
import importlib.util
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Entry, Mirror, MirrorError, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError

OHA = "oha"
# No other is taken: what is read out of its record is as this version writes it.
OHA_VERSION = "1.16.0"
WASM, NATIVE = "skeleton-image", "skeleton-native-image"
INDEX, CLIENT, LIBRARY = "kit.json", "mqtt_client.py", "paho.zip"
_PROGRAMS = {OHA: OHA, WASM: "service.wasm", NATIVE: "service"}
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Kit:
    """An unpacked kit. What the mirror did not have is None; ``missing`` says so."""

    folder: Path
    index: Mapping[str, Mapping[str, str]]
    missing: str = ""

    def path(self, artifact: str) -> Path | None:
        """The program that came out of an artifact."""
        return self.folder / _PROGRAMS[artifact] if artifact in self.index else None

    def version(self, artifact: str) -> str:
        """The artifact's version, as the mirror has it."""
        return self.index[artifact]["version"]


def pack(mirror: Mirror, arch: str, mqtt: bool) -> bytes:
    """The kit for hosts of one architecture; of each artifact the newest version that the mirror has."""
    files: dict[str, bytes] = {}
    index: dict[str, dict[str, str]] = {}
    try:
        for name, file in _PROGRAMS.items():
            entry = _newest(mirror, name, arch)
            if entry is None:
                continue
            release = Release(entry.name, entry.version, entry.arch, entry.file)
            mirror.verify(release)
            content = mirror.path(release).read_bytes()
            files[file] = content if name == OHA else entrypoint(content)
            index[name] = {"version": entry.version, "source": entry.source}
    except MirrorError as error:
        raise SmokeError(str(error)) from error
    except (OSError, tarfile.TarError, ValueError, LookupError) as error:
        raise SmokeError(f"{name} in the mirror {mirror.root} can't be read ({error!r}): make it anew") from error
    if mqtt:
        files[CLIENT] = Path(__file__).with_name(CLIENT).read_bytes()
        files[LIBRARY] = paho()
    files[INDEX] = json.dumps(index).encode()
    return _tar(files)


def made_once(folder: Path, mirror: Mirror, arch: str, mqtt: bool) -> Path:
    """The kit as a file in a folder of one run of Ansible, whose workers share it: all hosts get the same one."""
    archive = folder / f"edgefleet-load-{arch}{'-mqtt' if mqtt else ''}.tar.gz"
    try:
        with (folder / f"{archive.name}.lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.exists():
                part = archive.with_suffix(".part")
                part.write_bytes(pack(mirror, arch, mqtt))
                part.replace(archive)
    except OSError as error:
        raise SmokeError(f"the load kit can't be written to {archive}: {error}") from error
    return archive


def unpack(archive: Path, folder: Path) -> Kit:
    """Unpack a kit into a new folder."""
    folder.mkdir()
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                target = folder / Path(member.name).name
                stream = tar.extractfile(member)
                if stream is not None:
                    target.write_bytes(stream.read())
                    target.chmod(0o755)
        index: Mapping[str, Mapping[str, str]] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, tarfile.TarError, ValueError) as error:
        raise SmokeError(f"the load kit {archive} can't be unpacked: {error!r}") from error
    absent = [name for name in _PROGRAMS if name not in index]
    return Kit(folder, index, f"the mirror has no {', '.join(absent)} for this architecture" if absent else "")


def _newest(mirror: Mirror, name: str, arch: str) -> Entry | None:
    found = [entry for entry in mirror.entries() if (entry.name, entry.arch) == (name, arch)]
    if name == OHA:
        found = [entry for entry in found if entry.version == OHA_VERSION]
    return max(found, key=lambda entry: [int(number) for number in re.findall(r"\d+", entry.version)], default=None)


def entrypoint(archive: bytes) -> bytes:
    """The program that an image's archive (OCI layout, one image) starts."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:

        def blob(digest: str) -> bytes:
            stream = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
            if stream is None:
                raise ValueError(f"{digest} is no file")
            return stream.read()

        top = tar.extractfile("index.json")
        if top is None:
            raise ValueError("index.json is no file")
        manifest = json.loads(blob(json.loads(top.read())["manifests"][0]["digest"]))
        program = json.loads(blob(manifest["config"]["digest"]))["config"]["Entrypoint"][0]
        layers = [blob(layer["digest"]) for layer in reversed(manifest["layers"])]
    return _in_layers(layers, program)


def _in_layers(layers: Iterable[bytes], path: str) -> bytes:
    """A file of the topmost layer that has it."""
    for layer in layers:
        content = gzip.decompress(layer) if layer.startswith(_GZIP) else layer
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.name.lstrip("./") == path.lstrip("/") else None
                if stream is not None:
                    return stream.read()
    raise LookupError(f"no layer has {path}")


def paho() -> bytes:
    """The library as the controller has it: plain Python, which any host's Python reads out of a zip."""
    found = importlib.util.find_spec("paho") and importlib.util.find_spec("paho.mqtt")
    if not found or not found.submodule_search_locations:
        raise SmokeError(
            "a load over MQTT needs the Python package paho-mqtt on the controller, for the Python that runs Ansible: "
            "pip install paho-mqtt"
        )
    root = Path(next(iter(found.submodule_search_locations)))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("paho/__init__.py", "")
        for file in sorted(root.glob("*.py")):
            archive.write(file, f"paho/mqtt/{file.name}")
    return data.getvalue()


def _tar(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    # The programs compress to a third, and many sites have a slow link.
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=6) as tar:
        for name, content in sorted(files.items()):
            member: Any = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()
