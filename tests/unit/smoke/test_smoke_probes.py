"""The probes do what their checks expect of them, and get to the host whole."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Payload, same_module

from tests.unit.smoke.fake_crun import compiled, run_wasm

RELEASE = Release("wasm-probes", f"{probes.VERSION}-wasmedge-0.14.1", "amd64", "wasm-probes-amd64.tar.gz")


def archive(path: Path, compiled_modules: dict[str, bytes], **index: Any) -> Path:
    """As a builder writes it; ``index`` replaces what probes.json says."""
    files = {f"{name}.aot.wasm": content for name, content in compiled_modules.items()}
    listed = [
        {
            "name": file.partition(".")[0],
            "plain_sha256": "0" * 64,
            "file": file,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for file, content in files.items()
    ]
    described = {"engine": "wasmedge", "engine_version": "0.14.1", "arch": "amd64", "modules": listed} | index
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"probes.json": json.dumps(described).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")


def test_nonce_is_printed_and_differs_between_runs() -> None:
    one, other = probes.payload(None), probes.payload(None)
    assert run_wasm(one.plain["nonce"]) == (0, f"edgefleet-smoke {one.nonce}\n".encode())
    assert one.nonce != other.nonce


def test_echo_prints_arguments_and_environment() -> None:
    rc, out = run_wasm(probes.compile_wat("echo"), ["one", "two words", ""], ["A=1", "B=x=y"])
    assert (rc, out) == (0, b"/probe.wasm\0one\0two words\0\0A=1\0B=x=y\0")


@pytest.mark.parametrize(("n", "result"), [(0, 0), (1, 1), (10, 55), (25, 75025)])
def test_fib_prints_result_and_time(n: int, result: int) -> None:
    rc, out = run_wasm(probes.compile_wat("fib"), [str(n)])
    word, size, value, nanoseconds = out.split()
    assert (rc, word, int(size), int(value)) == (0, b"fib", n, result)
    assert 0 < int(nanoseconds) < 10**10


@pytest.mark.parametrize("args", [[], ["x"], ["1", "2"], ["-1"]])
def test_fib_takes_one_number_only(args: list[str]) -> None:
    assert run_wasm(probes.compile_wat("fib"), args) == (1, b"")


def test_trap_ends_after_its_first_line() -> None:
    assert run_wasm(probes.compile_wat("trap")) == (1, b"before\n")


def test_wait_ends_with_its_input() -> None:
    assert run_wasm(probes.compile_wat("wait")) == (0, b"ready\n")


def test_payload_survives_the_way_to_the_host(mirror: Mirror, tmp_path: Path) -> None:
    modules = {name: compiled(probes.compile_wat(name)) for name in probes.AOT}
    mirror.add(RELEASE, archive(tmp_path / "a", modules), "built")
    made = probes.payload(str(mirror.root))
    arrived = Payload.of(json.loads(json.dumps(made.as_argument())))
    assert arrived == made
    found = arrived.compiled_for("wasmedge", "0.14.1", "amd64")
    assert found is not None
    assert found.modules == modules
    assert (found.version, found.source) == (RELEASE.version, "built")


def test_a_payload_of_someone_else_is_refused() -> None:
    with pytest.raises(SmokeError, match=r"payload is not what the action plugin makes .*wasm_smoke by this name"):
        Payload.of({"nonce": "x", "plain": {"echo": "not base64!"}})


def test_no_compiled_probe_for_another_engine_version() -> None:
    assert probes.payload(None).compiled_for("wasmedge", "0.15.0", "amd64") is None


def test_without_a_mirror_the_payload_says_so(mirror: Mirror) -> None:
    assert "edgefleet_mirror_dir" in probes.payload(None).no_compiled
    assert "has no wasm-probes" in probes.payload(str(mirror.root)).no_compiled


def test_probes_of_another_version_are_not_taken(mirror: Mirror, tmp_path: Path) -> None:
    other = Release("wasm-probes", "999-wasmedge-0.14.1", "amd64", RELEASE.file)
    mirror.add(other, archive(tmp_path / "a", {}), "built")
    assert probes.compiled_probes(mirror) == ()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"modules": [{"name": "fib", "file": "fib.aot.wasm", "sha256": "0" * 64}]}, "fib.aot.wasm has SHA-256"),
        ({"modules": [{"name": "fib", "file": "gone.wasm", "sha256": "0" * 64}]}, "gone.wasm"),
        ({"engine": ["wasmedge"]}, "in probes.json is no name"),
        ({"arch": None}, "in probes.json is no name"),
    ],
)
def test_an_archive_that_contradicts_itself_is_named(
    mirror: Mirror, tmp_path: Path, index: dict[str, Any], message: str
) -> None:
    mirror.add(RELEASE, archive(tmp_path / "a", {"fib": b"\0asm"}, **index), "built")
    with pytest.raises(
        SmokeError, match=rf"{RELEASE.file} is no archive of compiled probes .*{message}.*build it again"
    ):
        probes.payload(str(mirror.root))


def test_an_archive_that_is_none_is_named(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no archive")
    mirror.add(RELEASE, tmp_path / "a", "built")
    with pytest.raises(SmokeError, match="is no archive of compiled probes"):
        probes.payload(str(mirror.root))


def test_an_archive_that_changed_in_the_mirror_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add(RELEASE, archive(tmp_path / "a", {}), "built")
    mirror.path(RELEASE).write_bytes(b"x")
    with pytest.raises(SmokeError, match="truncated or replaced"):
        probes.payload(str(mirror.root))


def test_without_wasmtime_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    with pytest.raises(SmokeError, match="pip install wasmtime"):
        probes.payload(None)


def test_same_module_leaves_out_custom_sections_only() -> None:
    fib = probes.compile_wat("fib")
    assert same_module(fib, compiled(fib))
    assert not same_module(fib, compiled(probes.compile_wat("echo")))
    changed = bytearray(compiled(fib))
    changed[fib.index(b"\x20\x00\x41\x02")] ^= 1  # in fib's code: local.get 0; i32.const 2
    assert not same_module(fib, bytes(changed))


@pytest.mark.parametrize("damaged", [b"", b"\0asm", b"\0asm\1\0\0\0\1\xff\xff\xff\xff\xff", b"\0asm\1\0\0\0\1\x7f"])
def test_what_is_no_module_is_never_the_same(damaged: bytes) -> None:
    assert not same_module(damaged, damaged)
