"""The recipes: versions, keys, and what is packed."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, MirrorError
from rich.console import Console

from lab.builders import archive, catalogue, containerd, k3s, k3s_variables
from lab.builders.base import digest, host_arch, source_files
from lab.builders.containerd import Containerd
from lab.builders.golang import Go
from lab.builders.k3s import AirgapImages, K3sDouble
from lab.errors import LabError
from lab.progress import Progress

PINNED = "v1.30.4+k3s1"


class FakeGo(Go):
    """Each "program" is a file with its name."""

    def __init__(self, version: str = "go1.26.8") -> None:
        super().__init__(Progress(Console(file=io.StringIO())), environ={})
        self._version = version
        self.variables: list[dict[str, str]] = []

    def build(self, title: str, module: Path, packages: Sequence[str], *, to: Path, log: Path, **options: Any) -> None:
        assert module.is_dir(), title
        assert log.parent in (to, to.parent)
        self.variables.append(dict(options.get("variables") or {}))
        to.mkdir(parents=True, exist_ok=True)
        for package in packages:
            # As Go does it: a module's major version is no part of a program's name.
            (to / re.sub(r"/v\d+$", "", package).rpartition("/")[2]).write_text(package, encoding="utf-8")


def test_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1", encoding="utf-8")
    first = digest(tmp_path)
    assert digest(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    second = digest(tmp_path)
    (tmp_path / "b").write_text("2", encoding="utf-8")
    assert len({first, second, digest(tmp_path), digest("1"), digest("", "1"), digest("1", "")}) == 6


def test_tests_and_readme_are_no_part_of_a_program() -> None:
    names = {file.name for file in source_files(k3s.DOUBLE)}
    assert "main.go" in names
    assert "go.sum" in names
    assert not any(name.endswith(("_test.go", ".md")) for name in names)


def test_machine_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        machine = "riscv64"

    monkeypatch.setattr("lab.builders.base.os.uname", Machine)
    with pytest.raises(LabError, match="This machine is riscv64"):
        host_arch()


def test_the_roles_pins_are_read() -> None:
    for arch in ("amd64", "arm64"):
        found = {release.name: release for release in catalogue.releases(arch)}
        assert set(found) == {"containerd", "k3s", "k3s-airgap-images"}
        assert all(release.sha256 and release.url and release.arch == arch for release in found.values())


def test_what_the_roles_pin_is_what_is_built() -> None:
    pinned = {release.name: release.version for release in catalogue.releases("amd64")}
    assert containerd.built_version() == f"v{pinned['containerd']}"
    text = (k3s.DOUBLE / "kube" / "go.mod").read_text(encoding="utf-8")
    assert f"k8s.io/kubernetes v{k3s.kubernetes_of(pinned['k3s'])}\n" in text


def test_another_k3s_has_no_hash_and_no_source_so_it_is_built() -> None:
    found = catalogue.k3s_of("v1.30.4+k3s2", "amd64")
    assert [(one.name, one.version, one.sha256, one.url) for one in found] == [
        ("k3s", "v1.30.4+k3s2", None, None),
        ("k3s-airgap-images", "v1.30.4+k3s2", None, None),
    ]


def test_another_k3s_is_declared_by_what_the_mirror_has(tmp_path: Path) -> None:
    mirror, sums = Mirror(tmp_path / "mirror"), {}
    for one in catalogue.k3s_of("v1.30.3+k3s1", host_arch()):
        file = tmp_path / "built"
        file.write_text(one.name)
        sums[one.name] = mirror.add(one, file, "made for a test").sha256
    declared = k3s_variables(mirror.root, "v1.30.3+k3s1")
    assert declared["k3s_version"] == "v1.30.3+k3s1"
    assert declared["k3s_releases"] == {"v1.30.3+k3s1": {host_arch(): {"file": "k3s", "sha256": sums["k3s"]}}}
    with pytest.raises(MirrorError):
        k3s_variables(tmp_path / "empty", "v1.30.3+k3s1")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x: [", r"containerd/defaults/main.yml: can't be read"),
        (
            "containerd_version: 1\n",
            r"containerd_releases has no 'containerd_releases' for containerd_version and amd64",
        ),
        ("containerd_version: '1'\ncontainerd_releases: {}\n", r"has no '1' for containerd_version"),
        (
            "containerd_version: '1'\ncontainerd_releases: {'1': {amd64: {file: f, sha256: x, url: 'https://x'}}}\n",
            r"'x' is no SHA-256",
        ),
    ],
)
def test_bad_pins_name_file_and_variable(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "containerd" / "defaults" / "main.yml"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LabError, match=error):
        catalogue.releases("amd64", tmp_path)


def test_archives_do_not_depend_on_order_or_time(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name, encoding="utf-8")
    one, two = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"
    archive.write_tar_gz(one, {"bin/a": tmp_path / "a", "bin/b": tmp_path / "b"})
    (tmp_path / "a").touch()
    archive.write_tar_gz(two, {"bin/b": tmp_path / "b", "bin/a": tmp_path / "a"})
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        assert [(info.name, info.mode, info.mtime) for info in tar] == [
            ("bin", 0o755, 0),
            ("bin/a", 0o755, 0),
            ("bin/b", 0o755, 0),
        ]
    assert gzip.decompress(one.read_bytes())


def test_containerd_has_the_releases_layout(tmp_path: Path) -> None:
    go = FakeGo()
    version = containerd.built_version().removeprefix("v")
    file = Containerd(go, version, "amd64", "c.tar.gz").build(tmp_path)
    with tarfile.open(file) as tar:
        assert tar.getnames() == ["bin", "bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"]
    assert go.variables[0][f"{containerd.MODULE}/version.Version"] == f"v{version}"


def test_containerd_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"containerd 2\.0\.4 can't be downloaded.*go get .*@v2\.0\.4"):
        Containerd(FakeGo(), "2.0.4", "amd64", "c.tar.gz").build(tmp_path)


def test_a_new_compiler_builds_anew() -> None:
    keys = {Containerd(FakeGo(version), "2.0.11", "amd64", "f").key() for version in ("go1.26.8", "go1.26.9")}
    assert len(keys) == 2


@pytest.mark.parametrize("bad", ["1.30.4", "v1.30.4", "v1.30.4+rke2r1", "latest"])
def test_no_version_of_k3s(bad: str) -> None:
    with pytest.raises(LabError, match="is no K3s version such as"):
        k3s.kubernetes_of(bad)


def test_the_double_says_its_version() -> None:
    said = k3s.version_variables(PINNED)
    assert said["k8s.io/component-base/version.gitVersion"] == PINNED
    assert said["k8s.io/client-go/pkg/version.gitMinor"] == "30"
    assert said["k8s.io/component-base/version.gitCommit"] == "lab-double"


@pytest.mark.parametrize("patch", ["3", "4"])
def test_another_kubernetes_by_parameter(tmp_path: Path, patch: str) -> None:
    k3s.copy_sources(tmp_path / "sources", f"v1.30.{patch}+k3s1")
    go_mod = (tmp_path / "sources" / "kube" / "go.mod").read_text(encoding="utf-8")
    staged = set(re.findall(r"=> k8s\.io/\S+ (v0\.\S+)", go_mod))
    assert f"k8s.io/kubernetes v1.30.{patch}\n" in go_mod
    assert staged == {f"v0.30.{patch}"}
    go_sum = (k3s.DOUBLE / "kube" / "go.sum").read_text(encoding="utf-8")
    for module in ("kubernetes v1", "apiserver v0", "kubelet v0", "client-go v0"):
        assert f"k8s.io/{module}.30.{patch} h1:" in go_sum


def test_the_double_is_keyed_by_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> str:
        return K3sDouble(FakeGo(), PINNED, "amd64", "k3s").key()

    before = key()
    copy = tmp_path / "double"
    k3s.copy_sources(copy, PINNED)
    monkeypatch.setattr(k3s, "DOUBLE", copy)
    assert key() == before
    (copy / "control" / "options.go").write_text("package control", encoding="utf-8")
    assert key() != before
    assert K3sDouble(FakeGo(), "v1.30.3+k3s1", "amd64", "k3s").key() != key()


def test_programs_by_the_names_that_k3s_has(tmp_path: Path) -> None:
    packed: dict[str, str] = {}

    class Packing(FakeGo):
        """Lists what is handed to the packer."""

        def build(
            self, title: str, module: Path, packages: Sequence[str], *, to: Path, log: Path, **options: Any
        ) -> None:
            super().build(title, module, packages, to=to, log=to / log.name, **options)

    def pack(command: Sequence[str], **_options: Any) -> None:
        _packer, folder, target = command
        for path in sorted(Path(folder).rglob("*")):
            packed[str(path.relative_to(folder))] = str(path.readlink()) if path.is_symlink() else ""
        Path(target).write_bytes(b"packed")

    go = Packing()
    go.run = pack  # type: ignore[assignment]
    K3sDouble(go, PINNED, "amd64", "k3s").build(tmp_path)
    links = {name: target for name, target in packed.items() if target}
    assert links == {"bin/crictl": "k3s-kube", "bin/kubectl": "k3s-kube", "bin/k3s-agent": "k3s-server"}
    # Not beside the others: a host's own ipset comes first on PATH.
    assert {"bin/aux/ipset", "bin/k3s-server", "bin/k3s-kube", "bin/host-local", "bin/ctr"} <= packed.keys()


def test_sources_say_that_it_is_a_double() -> None:
    go = FakeGo()
    assert (
        K3sDouble(go, PINNED, "amd64", "k3s")
        .source()
        .startswith("lab double of K3s, built from k8s.io/kubernetes@v1.30.4")
    )
    assert AirgapImages(go, PINNED, "amd64", "i").source().startswith("lab double of K3s")
