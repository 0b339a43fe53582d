"""An image of a few files, written as an OCI archive: no registry and no container engine is needed.

The same files give the same bytes, so that an unchanged image is never imported twice.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LAYOUT = "application/vnd.oci.image"
MANIFEST = f"{_LAYOUT}.manifest.v1+json"
CONFIG = f"{_LAYOUT}.config.v1+json"
LAYER = f"{_LAYOUT}.layer.v1.tar"
EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class ImageFile:
    """One file of the image; it belongs to root."""

    path: str
    content: bytes
    mode: int = 0o444


@dataclass(frozen=True)
class Image:
    """All that decides an image's bytes."""

    name: str
    arch: str
    files: Sequence[ImageFile]
    entrypoint: Sequence[str]
    user: str
    ports: Sequence[int] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    # For readers of the image: container engines take annotations from the pod, not from here.
    annotations: Mapping[str, str] = field(default_factory=dict)
    # A tar file below the files: a root file system that something else has made.
    base: Path | None = None


def _tar(files: Sequence[ImageFile]) -> bytes:
    """A tar of these files in their order, without time, owner or anything else that differs between machines."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in files:
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.size = len(file.content)
            info.mode = file.mode
            tar.addfile(info, io.BytesIO(file.content))
    return buffer.getvalue()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class _Blobs:
    """Blobs under their digests."""

    content: dict[str, bytes] = field(default_factory=dict)

    def add(self, media_type: str, blob: bytes) -> dict[str, Any]:
        """Keep a blob; its descriptor."""
        digest = hashlib.sha256(blob).hexdigest()
        self.content[digest] = blob
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(blob)}


def _sha256(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _layers(image: Image) -> list[bytes]:
    """The base, then the files."""
    files = [_tar(sorted(image.files, key=lambda file: file.path))] if image.files else []
    return [image.base.read_bytes(), *files] if image.base else files


def _config(image: Image, layers: Sequence[bytes]) -> bytes:
    return _json(
        {
            "architecture": image.arch,
            # Also for Wasm: the host matches the platform, and the runtime class decides what runs the entrypoint.
            "os": "linux",
            "created": EPOCH,
            "config": {
                "Entrypoint": list(image.entrypoint),
                "Env": [f"{name}={value}" for name, value in sorted(image.env.items())],
                "ExposedPorts": {f"{port}/tcp": {} for port in image.ports},
                "Labels": dict(image.labels),
                "User": image.user,
                "WorkingDir": "/",
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
            },
            "history": [{"created": EPOCH, "created_by": "edgefleet.wasm lab builder"} for _ in layers],
        }
    )


def _described(image: Image, blobs: _Blobs) -> dict[str, Any]:
    """Keep an image's blobs; its line in the archive's index."""
    layers = _layers(image)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blobs.add(CONFIG, _config(image, layers)),
        "layers": [blobs.add(LAYER, layer) for layer in layers],
        "annotations": dict(image.annotations),
    }
    return {
        **blobs.add(MANIFEST, _json(manifest)),
        "platform": {"architecture": image.arch, "os": "linux"},
        "annotations": {
            # containerd takes the name from the first, other tools the tag from the second.
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
        },
    }


def archive(*images: Image) -> bytes:
    """The whole archive."""
    blobs = _Blobs()
    described = [_described(image, blobs) for image in images]
    index = {"schemaVersion": 2, "mediaType": f"{_LAYOUT}.index.v1+json", "manifests": described}
    return _tar(
        [
            ImageFile("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
            ImageFile("index.json", _json(index)),
            *(ImageFile(f"blobs/sha256/{digest}", blob) for digest, blob in sorted(blobs.content.items())),
        ]
    )


def write(path: Path, *images: Image) -> None:
    """Write the archive to a file."""
    path.write_bytes(archive(*images))
