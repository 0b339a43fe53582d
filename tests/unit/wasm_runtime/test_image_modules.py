"""Images are looked into before any host gets them: what an engine would interpret without a word is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import Native, native, sections
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import image_modules
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.image_modules import ImageModuleError, Program

from lab.builders import oci

PLAIN = b"\0asm\x01\0\0\0" + b"\x01\x03abc"
IMAGE = "registry.example.com/till:1"


def compiled(format_: int = 1, system: int = 1, arch: int = 1) -> bytes:
    content = b"\x08wasmedge" + bytes([format_, system, arch]) + b"code"
    return PLAIN + bytes([0, len(content)]) + content


def image(*files: oci.ImageFile, entrypoint: Sequence[str] = ("/till.wasm",), **more: Any) -> bytes:
    return oci.archive(
        oci.Image(name=IMAGE, arch="amd64", files=files, entrypoint=entrypoint, user="1:1", **more),
    )


def found(tmp_path: Path, archive: bytes) -> list[Program]:
    path = tmp_path / "images.tar"
    path.write_bytes(archive)
    return image_modules.programs(path)


def checked(tmp_path: Path, archive: bytes, aot_format: int = 1, *, interpreted: bool = False) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    image_modules.check("till 1 amd64", path, digest, aot_format, "amd64", interpreted=interpreted)


def test_native_code_says_for_whom_it_is() -> None:
    assert native(PLAIN) is None
    assert native(compiled()) == Native(1, "linux", "amd64")
    assert native(compiled(2, 2, 2)) == Native(2, "macos", "arm64")
    assert native(compiled(3, 9, 9)) == Native(3, "system 9", "architecture 9")


def test_sections_are_read_with_long_sizes() -> None:
    content = bytes(300)
    assert sections(PLAIN + b"\x0b\xac\x02" + content) == [(1, b"abc"), (11, content)]


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (b"\x7fELF", "not a WebAssembly module"),
        (b"\0asm\x0d\0\1\0", "not a WebAssembly module of version 1"),
        (PLAIN + b"\x01\x09a", "a section of 9 bytes does not end within the module"),
        (PLAIN + b"\x01\xff", "a number is cut or too long"),
        (PLAIN + b"\x00\x09\x08wasmedge", "a number is cut"),
        (PLAIN + b"\x00\x0b\x08wasmedge\x01\x01", "its native code is cut"),
    ],
)
def test_what_is_damaged_is_said(module: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        native(module)


def test_a_program_compiled_for_the_hosts_engine_passes(tmp_path: Path) -> None:
    archive = image(oci.ImageFile("/till.wasm", compiled(), 0o555))
    assert found(tmp_path, archive) == [Program(IMAGE, "/till.wasm", Native(1, "linux", "amd64"))]
    checked(tmp_path, archive)


@pytest.mark.parametrize(
    ("module", "aot_format", "interpreted", "why"),
    [
        (PLAIN, 1, False, "/till.wasm of registry.example.com/till:1 is not compiled ahead of time"),
        (compiled(2), 1, False, "was compiled for WasmEdge 0.15.x and 0.16.x (format 2), and hosts read format 1"),
        (compiled(1), 2, False, "was compiled for WasmEdge 0.14.x (format 1), and hosts read format 2"),
        (compiled(7), 1, False, "compiled for WasmEdge of a version that was never tried here (format 7)"),
        (compiled(arch=2), 1, False, "was compiled for linux arm64, and would be interpreted"),
        (compiled(2), 1, True, "was compiled for WasmEdge 0.15.x and 0.16.x (format 2)"),
        (compiled()[:-3], 1, True, "is damaged: a section of 16 bytes does not end within the module"),
    ],
)
def test_a_program_that_would_be_interpreted_is_refused(
    tmp_path: Path, module: bytes, aot_format: int, interpreted: bool, why: str
) -> None:
    archive = image(oci.ImageFile("/till.wasm", module, 0o555))
    with pytest.raises(ImageModuleError, match=re.escape(why)) as raised:
        checked(tmp_path, archive, aot_format, interpreted=interpreted)
    assert str(raised.value).startswith("till 1 amd64: ")
    assert "damaged" in why or "wasmedge compile --generic-binary" in str(raised.value)


def test_plain_programs_pass_where_that_is_accepted(tmp_path: Path) -> None:
    checked(tmp_path, image(oci.ImageFile("/till.wasm", PLAIN, 0o555)), interpreted=True)


def test_programs_are_what_a_container_can_be_started_with(tmp_path: Path) -> None:
    files = [
        oci.ImageFile("/app/till.wasm", PLAIN, 0o444),
        oci.ImageFile("/app/other.wasm", PLAIN, 0o555),
        oci.ImageFile("/models/model.wasm", PLAIN, 0o444),
        oci.ImageFile("/bin/native", b"\x7fELF", 0o555),
    ]
    by_entrypoint = image(*files, entrypoint=("/app/till.wasm", "--fast"))
    assert [one.path for one in found(tmp_path, by_entrypoint)] == ["/app/other.wasm", "/app/till.wasm"]
    assert [one.path for one in found(tmp_path, image(*files, entrypoint=("/bin/native",)))] == ["/app/other.wasm"]


def layered(*layers: bytes) -> bytes:
    """A Docker archive of these layers."""
    config = json.dumps({"config": {"Cmd": ["till.wasm"], "WorkingDir": "/app"}}).encode()
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": names}]).encode()
    members = {"manifest.json": manifest, "config.json": config, **dict(zip(names, layers, strict=True))}
    return tar_of([(tarfile.TarInfo(name), content) for name, content in members.items()])


def tar_of(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def file(name: str, content: bytes, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info, content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info, b""


def test_later_layers_hide_and_replace_what_is_below(tmp_path: Path) -> None:
    below = tar_of([file("app/till.wasm", PLAIN), file("app/old.wasm", PLAIN), file("lib/deep/gone.wasm", PLAIN)])
    above = tar_of(
        [file("./app/till.wasm", compiled(), 0o644), file("app/.wh.old.wasm", b""), link("b.wasm", "app/till.wasm")]
    )
    top = tar_of([file("lib/.wh..wh..opq", b"")])
    assert [one.path for one in found(tmp_path, layered(below))] == [
        "/app/old.wasm", "/app/till.wasm", "/lib/deep/gone.wasm",
    ]  # fmt: skip
    assert found(tmp_path, layered(below, above, top)) == [
        Program(IMAGE, "/app/till.wasm", Native(1, "linux", "amd64"))
    ]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_layers_and_archives_are_read(tmp_path: Path, pack: Any) -> None:
    layer = tar_of([file("app/till.wasm", PLAIN)])
    for archive in (layered(pack(layer)), pack(layered(layer))):
        assert [one.path for one in found(tmp_path, archive)] == ["/app/till.wasm"]


def test_without_zstandard_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_modules, "zstandard", None)
    with pytest.raises(ImageModuleError, match="pip install zstandard"):
        found(tmp_path, zstandard.ZstdCompressor().compress(layered(b"")))


@pytest.mark.parametrize("archive", [b"", b"no tar at all" * 100, tar_of([file("readme", b"x")]), layered(b"x" * 2000)])
def test_what_is_no_archive_of_images_is_said(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(ImageModuleError, match=r"images\.tar is no readable archive of images"):
        found(tmp_path, archive)


def test_an_index_of_several_platforms_may_lack_the_others(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    path.write_bytes(image(oci.ImageFile("/till.wasm", compiled(), 0o555)))
    with tarfile.open(path) as tar:
        blobs = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]
    whole = json.loads(blobs["index.json"])
    (described,) = whole["manifests"]
    inner = {"manifests": [described, {**described, "digest": "sha256:" + "0" * 64}]}
    content = json.dumps(inner).encode()
    digest = hashlib.sha256(content).hexdigest()
    outer = {"manifests": [{"digest": f"sha256:{digest}", "annotations": {"io.containerd.image.name": "outer"}}]}
    blobs |= {f"blobs/sha256/{digest}": content, "index.json": json.dumps(outer).encode()}
    archive = tar_of([file(name, blob, 0o644) for name, blob in blobs.items()])
    assert [(one.image, one.path) for one in found(tmp_path, archive)] == [(IMAGE, "/till.wasm")]


def test_an_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = image(oci.ImageFile("/till.wasm", compiled(2), 0o555))
    for _ in range(2):
        with pytest.raises(ImageModuleError, match="format 2"):
            checked(tmp_path, archive)
        monkeypatch.setattr(image_modules, "programs", lambda _path: pytest.fail("read again"))
    monkeypatch.undo()
    checked(tmp_path, image(oci.ImageFile("/till.wasm", compiled(), 0o555)))


@pytest.mark.parametrize("memory", ["", "{}", "[]", '{"sha256": 1}', '{"sha256": "x", "programs": [1]}'])
def test_a_damaged_memory_is_made_anew(tmp_path: Path, memory: str) -> None:
    archive = image(oci.ImageFile("/till.wasm", PLAIN, 0o555))
    (tmp_path / ".modules.json").write_text(memory.replace('"x"', f'"{hashlib.sha256(archive).hexdigest()}"'))
    with pytest.raises(ImageModuleError, match="not compiled"):
        checked(tmp_path, archive)
