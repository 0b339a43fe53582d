"""Images of servers: made once, named after what decides their content."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from lab.builders import oci, servers
from lab.builders.servers import Servers
from tests.unit.builders.test_recipes import FakeGo


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """With roots and programs that cost nothing."""
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as tar:
        tar.addfile(tarfile.TarInfo("usr/bin/redis-server"), io.BytesIO())

    def image(reference: str) -> oci.Image:
        return oci.Image(name=reference, arch="amd64", files=[], entrypoint=[], user="1", base=root)

    monkeypatch.setattr(Servers, "_debian", lambda _, reference, _lock: image(reference))
    monkeypatch.setattr(Servers, "_opa", lambda _, reference: image(reference))
    (tmp_path / "cache").mkdir()
    return Servers(tmp_path / "cache" / "servers", tmp_path / "cache", FakeGo())


def test_every_server_has_an_image_whose_name_says_that_it_is_the_labs(made: Servers) -> None:
    built = made.ensure()
    assert set(built) == {*servers.DEBIAN, "opa", "tls", "gatekeeper"}
    assert all("/lab-" in one.reference for one in built.values())
    with tarfile.open(built["redis"].file) as archive:
        content = archive.extractfile("index.json")
        assert content is not None
        (manifest,) = json.load(content)["manifests"]
    assert manifest["annotations"]["io.containerd.image.name"] == built["redis"].reference


def test_they_are_made_once_and_earlier_ones_go(made: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made.ensure()
    times = {one.file: one.file.stat().st_mtime_ns for one in first.values()}
    assert {one.file: one.file.stat().st_mtime_ns for one in made.ensure().values()} == times
    monkeypatch.setattr(servers, "RECIPE", "other")
    second = made.ensure()
    assert set(made.folder.glob("*.oci.tar")) == {one.file for one in second.values()}
    assert not {one.file for one in first.values()} & {one.file for one in second.values()}


def test_a_base_is_the_lowest_layer(tmp_path: Path) -> None:
    (tmp_path / "base.tar").write_bytes(b"base")
    files = [oci.ImageFile("/a", b"1")]
    image = oci.Image(name="n:1", arch="amd64", files=files, entrypoint=[], user="1", base=tmp_path / "base.tar")
    with tarfile.open(fileobj=io.BytesIO(oci.archive(image))) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        digest = json.load(index)["manifests"][0]["digest"].removeprefix("sha256:")
        manifest = archive.extractfile(f"blobs/sha256/{digest}")
        assert manifest is not None
        layers = json.load(manifest)["layers"]
    assert len(layers) == 2
    assert layers[0]["size"] == 4
