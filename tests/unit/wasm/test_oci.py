"""OCI archives: readable by others, and the same bytes for the same content."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.builders import oci

IMAGE = oci.Image(
    name="registry.example.com/demo/app:1.2",
    arch="arm64",
    files=[oci.ImageFile("/b.wasm", b"second", 0o555), oci.ImageFile("/a.txt", b"first")],
    entrypoint=["/b.wasm"],
    user="65532:65532",
    ports=[8080],
    env={"B": "2", "A": "1"},
    labels={"l": "1"},
    annotations={"module.wasm.image/variant": "compat-smart"},
)


def unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


class Read:
    """An archive followed from its index, each blob checked against its descriptor."""

    def __init__(self, archive: bytes) -> None:
        self.members = unpack(archive)
        self.index = json.loads(self.members["index.json"])
        self.manifest = json.loads(self.blob(self.index["manifests"][0]))
        self.config = json.loads(self.blob(self.manifest["config"]))
        self.layer = self.blob(self.manifest["layers"][0])

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        algorithm, _, digest = descriptor["digest"].partition(":")
        assert algorithm == "sha256"
        content = self.members[f"blobs/sha256/{digest}"]
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(content) == descriptor["size"]
        return content


def test_every_blob_is_described_and_none_is_left_over() -> None:
    read = Read(oci.archive(IMAGE))
    assert json.loads(read.members["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert read.index["manifests"][0]["mediaType"] == read.manifest["mediaType"] == oci.MANIFEST
    assert read.manifest["config"]["mediaType"] == oci.CONFIG
    assert [layer["mediaType"] for layer in read.manifest["layers"]] == [oci.LAYER]
    assert sorted(read.members) == sorted(["oci-layout", "index.json", *(n for n in read.members if "blobs/" in n)])
    assert len(read.members) == 2 + 3


def test_the_name_is_where_containerd_looks_for_it() -> None:
    annotations = Read(oci.archive(IMAGE)).index["manifests"][0]["annotations"]
    assert annotations["io.containerd.image.name"] == "registry.example.com/demo/app:1.2"
    assert annotations["org.opencontainers.image.ref.name"] == "1.2"


def test_a_registry_with_a_port_is_not_taken_for_a_tag() -> None:
    image = dataclasses.replace(IMAGE, name="localhost:5000/app:v1")
    annotations = Read(oci.archive(image)).index["manifests"][0]["annotations"]
    assert annotations["org.opencontainers.image.ref.name"] == "v1"


def test_the_config_says_how_to_run_it_on_which_platform() -> None:
    read = Read(oci.archive(IMAGE))
    assert (read.config["architecture"], read.config["os"]) == ("arm64", "linux")
    assert read.index["manifests"][0]["platform"] == {"architecture": "arm64", "os": "linux"}
    assert read.config["config"]["Entrypoint"] == ["/b.wasm"]
    assert read.config["config"]["User"] == "65532:65532"
    assert read.config["config"]["Env"] == ["A=1", "B=2"]
    assert read.config["config"]["ExposedPorts"] == {"8080/tcp": {}}
    assert read.config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(read.layer).hexdigest()}"]
    assert read.manifest["annotations"] == {"module.wasm.image/variant": "compat-smart"}


def test_the_layer_holds_the_files_as_root_owns_them() -> None:
    with tarfile.open(fileobj=io.BytesIO(Read(oci.archive(IMAGE)).layer)) as tar:
        assert [(m.name, oct(m.mode), m.uid, m.gid, m.mtime) for m in tar] == [
            ("a.txt", "0o444", 0, 0, 0),
            ("b.wasm", "0o555", 0, 0, 0),
        ]


def test_the_same_content_is_the_same_bytes_wherever_and_in_whatever_order() -> None:
    first = oci.archive(IMAGE)
    umask = os.umask(0o077)
    try:
        again = oci.archive(
            dataclasses.replace(IMAGE, files=list(reversed(IMAGE.files)), env=dict(reversed(list(IMAGE.env.items()))))
        )
    finally:
        os.umask(umask)
    assert again == first


@pytest.mark.parametrize(
    "changed",
    [
        {"files": [oci.ImageFile("/b.wasm", b"Second", 0o555)]},
        {"name": "registry.example.com/demo/app:1.3"},
        {"user": "1:1"},
        {"arch": "amd64"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_other_content_is_other_bytes(changed: dict[str, Any]) -> None:
    assert oci.archive(dataclasses.replace(IMAGE, **changed)) != oci.archive(IMAGE)


def test_write_makes_that_file(tmp_path: Path) -> None:
    oci.write(tmp_path / "a.tar", IMAGE)
    assert (tmp_path / "a.tar").read_bytes() == oci.archive(IMAGE)
