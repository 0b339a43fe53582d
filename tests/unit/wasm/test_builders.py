"""Our own artifacts: when they are built again, and what is refused. No compiler runs here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import NATIVE_SECTION

from lab import workload
from lab.builders import wasm
from lab.builders.toolchain import Toolchain
from lab.errors import LabError

PLAIN = b"\0asm\x01\0\0\0" + b"\x01\x03abc"
NATIVE = bytes([0, 1 + len(NATIVE_SECTION) + 4, len(NATIVE_SECTION)]) + NATIVE_SECTION + b"code"


class FakeToolchain:
    """Answers as the real one does; `compile` and `said` are what the tests change."""

    key = "toolchain-key"
    on_baseline = staticmethod(Toolchain.on_baseline)

    def __init__(self) -> None:
        self.versions = {"wasmedge": wasm.ENGINE_VERSION, "rustc": "1.85.1"}
        self.compile: Callable[[bytes], bytes] = lambda plain: plain + NATIVE
        self.program = PLAIN
        self.said: Callable[[Sequence[str]], tuple[int, str]] = self._said

    def version(self, program: str) -> str:
        return self.versions[program]

    def execute(self, _title: str, inside: Sequence[str], *, results: Path, **_: Any) -> None:
        if wasm.PROGRAM in inside:
            assert inside[0].startswith("qemu-"), "the compiler sees this machine's processor"
            source, target = (results / Path(name).name for name in inside[-2:])
            target.write_bytes(self.compile(source.read_bytes()))
        else:
            (results / "skeleton").write_bytes(self.program)

    def attempt(self, inside: Sequence[str], **_: Any) -> tuple[int, str]:
        return self.said(inside)

    @staticmethod
    def _said(inside: Sequence[str]) -> tuple[int, str]:
        if "fib.aot.wasm" in " ".join(inside):
            return 0, f"fib {wasm.FIB} 832040 {200_000_000 if '--force-interpreter' in inside else 4_000_000}\n"
        return 1, "skeleton: SYSTEM is not set: give the name of the system\n"


@pytest.fixture
def toolchain() -> Any:
    return FakeToolchain()


@pytest.fixture
def crate(tmp_path: Path) -> Path:
    return Path(shutil.copytree(wasm.SKELETON, tmp_path / "crate", ignore=shutil.ignore_patterns("target")))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def images(toolchain: Any, crate: Path) -> list[wasm.SkeletonImage | wasm.SkeletonNativeImage]:
    return [wasm.SkeletonImage(toolchain, "amd64", crate), wasm.SkeletonNativeImage(toolchain, "amd64", crate)]


@pytest.mark.parametrize("which", [0, 1])
def test_an_image_is_built_again_when_its_sources_change_and_only_then(toolchain: Any, crate: Path, which: int) -> None:
    image = images(toolchain, crate)[which]
    before = image.key()
    (crate / "manifests" / "skeleton.yaml").write_text("---\n")
    assert image.key() == before
    (crate / "src" / "routes.rs").write_text("// changed\n")
    after = image.key()
    assert after != before
    (crate / "src" / "routes.rs").rename(crate / "src" / "moved.rs")
    assert image.key() != after


@pytest.mark.parametrize("which", [0, 1])
def test_an_image_is_built_again_for_another_toolchain_or_architecture(toolchain: Any, crate: Path, which: int) -> None:
    image = images(toolchain, crate)[which]
    before = image.key()
    assert dataclasses.replace(image, arch="arm64").key() != before
    toolchain.key = "another"
    assert image.key() != before


def test_the_version_and_the_name_carry_the_engine(
    toolchain: Any, crate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images(toolchain, crate)[0]
    before = image.key()
    assert image.image == f"registry.example.com/edgefleet/skeleton:{image.version}"
    monkeypatch.setattr(wasm, "ENGINE_VERSION", "0.15.1")
    assert image.version == f"{wasm.crate_version(crate)}-wasmedge-0.15.1"
    assert image.key() != before


def test_the_image_holds_the_compiled_module(toolchain: Any, crate: Path, work: Path) -> None:
    image = wasm.SkeletonImage(toolchain, "amd64", crate)
    path = image.build(work)
    assert path == work / "skeleton-amd64.oci.tar"
    assert PLAIN + NATIVE in path.read_bytes()
    assert image.source() == "built from wasm/skeleton with Debian's rustc 1.85.1, wasmedge 0.14.1"


def test_the_native_image_holds_the_program(toolchain: Any, crate: Path, work: Path) -> None:
    toolchain.program = b"\x7fELF and so on"
    path = wasm.SkeletonNativeImage(toolchain, "amd64", crate).build(work)
    assert path == work / "skeleton-native-amd64.oci.tar"
    assert b"\x7fELF and so on" in path.read_bytes()


def test_another_engine_in_debian_is_refused_by_both_versions(toolchain: Any, crate: Path, work: Path) -> None:
    toolchain.versions["wasmedge"] = "0.15.1"
    for one in (wasm.SkeletonImage(toolchain, "amd64", crate), wasm.Probes(toolchain, "amd64")):
        with pytest.raises(
            LabError, match=r"wasmedge is now 0\.15\.1; these artifacts are for 0\.14\.1\. Set ENGINE_VERSION"
        ):
            one.build(work)


@pytest.mark.parametrize(
    "compiled",
    [PLAIN, PLAIN + NATIVE + NATIVE, PLAIN.replace(b"abc", b"xyz") + NATIVE],
    ids=["nothing added", "added twice", "another module"],
)
def test_a_module_without_native_code_beside_it_is_refused(
    toolchain: Any, crate: Path, work: Path, compiled: bytes
) -> None:
    toolchain.compile = lambda _: compiled
    with pytest.raises(LabError, match=r"skeleton\.aot\.wasm: `wasmedge compile` did not add native code"):
        wasm.SkeletonImage(toolchain, "amd64", crate).build(work)


@pytest.mark.parametrize(("code", "said"), [(0, ""), (1, "illegal instruction"), (0, "skeleton: SYSTEM is not set")])
def test_a_program_that_does_not_start_is_refused(
    toolchain: Any, crate: Path, tmp_path: Path, code: int, said: str
) -> None:
    toolchain.said = lambda _: (code, said)
    for number, image in enumerate(images(toolchain, crate)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(LabError, match="does not run as it should; it said"):
            image.build(folder)


def test_probes_are_laid_out_as_the_smoke_test_reads_them(toolchain: Any, work: Path) -> None:
    path = wasm.Probes(toolchain, "amd64").build(work)
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    described = json.loads(members.pop("probes.json"))
    assert {key: described[key] for key in ("engine", "engine_version", "arch")} == {
        "engine": "wasmedge",
        "engine_version": wasm.ENGINE_VERSION,
        "arch": "amd64",
    }
    assert [module["name"] for module in described["modules"]] == list(probes.AOT)
    for module in described["modules"]:
        content = members.pop(module["file"])
        assert hashlib.sha256(content).hexdigest() == module["sha256"]
        assert hashlib.sha256(probes.compile_wat(module["name"])).hexdigest() == module["plain_sha256"]
        assert content.startswith(probes.compile_wat(module["name"]))
    assert members == {}


def test_probes_are_the_same_bytes_each_time(toolchain: Any, tmp_path: Path) -> None:
    built = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        built.append(wasm.Probes(toolchain, "amd64").build(tmp_path / name).read_bytes())
    assert built[0] == built[1]


def test_probes_are_built_again_when_a_source_changes(toolchain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = wasm.Probes(toolchain, "amd64").key()
    monkeypatch.setattr(probes, "wat", lambda name: f"(module) ;; {name}")
    assert wasm.Probes(toolchain, "amd64").key() != before


def test_native_code_that_is_no_faster_is_not_live(toolchain: Any, work: Path) -> None:
    toolchain.said = lambda _: (0, f"fib {wasm.FIB} 832040 200000000\n")
    with pytest.raises(LabError, match=r"took 200\.0 ms, interpreted 200\.0 ms: .* does not use the native code"):
        wasm.Probes(toolchain, "amd64").build(work)


def test_a_wrong_result_is_refused(toolchain: Any, work: Path) -> None:
    toolchain.said = lambda _: (0, f"fib {wasm.FIB} 832041 4000000\n")
    with pytest.raises(LabError, match="does not run as it should; it said: 'fib 30 832041"):
        wasm.Probes(toolchain, "amd64").build(work)


class TestManifests:
    """The manifests beside the service fit what is built and what the lab asks for."""

    @pytest.fixture
    def objects(self) -> dict[str, Any]:
        text = (wasm.SKELETON / "manifests" / "skeleton.yaml").read_text(encoding="utf-8")
        return {one["kind"]: one for one in yaml.safe_load_all(text)}

    def test_the_pod_runs_the_image_that_is_built(self, objects: dict[str, Any], toolchain: Any) -> None:
        container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == wasm.SkeletonImage(toolchain, "amd64").image
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert container["ports"][0]["containerPort"] == wasm.PORT
        assert {"name": "PORT", "value": str(wasm.PORT)} in container["env"]

    def test_the_pod_is_a_wasm_pod_on_an_edge_node(self, objects: dict[str, Any]) -> None:
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        assert pod["runtimeClassName"] == "wasmedge"
        assert pod["nodeSelector"] == {"node-type": "edge"}
        assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == wasm.USER

    def test_the_service_finds_the_pods_in_the_namespace_the_lab_asks(self, objects: dict[str, Any]) -> None:
        labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert objects["Service"]["spec"]["selector"].items() <= labels.items()
        assert objects["Service"]["spec"]["type"] == "NodePort"
        assert objects["Namespace"]["metadata"]["name"] == workload.NAMESPACE
        assert {one["metadata"].get("namespace", workload.NAMESPACE) for one in objects.values()} == {
            workload.NAMESPACE
        }
