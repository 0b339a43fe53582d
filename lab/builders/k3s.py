"""The lab's double of K3s and the images that it needs: lab/k3s_double tells what it is."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.builders import containerd, golang, oci
from lab.builders.base import digest
from lab.builders.golang import MODULES, Go
from lab.errors import LabError
from lab.paths import CHECKOUT
from lab.process import Run, run

DOUBLE = CHECKOUT / "lab" / "k3s_double"
CNI = MODULES / "cni"
CNI_MODULE = "github.com/containernetworking/plugins"
CNI_PLUGINS = tuple(
    f"{CNI_MODULE}/plugins/{plugin}"
    for plugin in (
        "ipam/host-local",
        "main/bridge",
        "main/loopback",
        "meta/bandwidth",
        "meta/firewall",
        "meta/portmap",
    )
)
# Programs that go by more names than one.
LINKS = {"crictl": "k3s-kube", "kubectl": "k3s-kube", "k3s-agent": "k3s-server"}
PROGRAMS = ("./cmd/k3s-kube", "./cmd/k3s-server")
TAGS = ("netgo", "osusergo", "providerless", "sqlite_omit_load_extension", "urfave_cli_no_docs", "grpcnotrace")
COREDNS = "1.10.1"
PAUSE = "3.6"
_RECIPE = (Path(__file__), Path(golang.__file__))


def kubernetes_of(version: str) -> str:
    """The Kubernetes version in a K3s version: 1.30.4 of v1.30.4+k3s1."""
    found = re.fullmatch(r"v(1\.\d+\.\d+)\+k3s\d+", version)
    if found is None:
        raise LabError(f"k3s_version {version!r} is no K3s version such as v1.30.4+k3s1.")
    return found[1]


def version_variables(version: str) -> dict[str, str]:
    """What the Kubernetes components say of themselves, as K3s sets it; but nobody shall take it for K3s's commit."""
    major, minor, _patch = kubernetes_of(version).split(".")
    said = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    said |= {"gitCommit": "lab-double", "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in said.items()}


def copy_sources(to: Path, version: str) -> None:
    """The double's sources, with the Kubernetes version that is asked for in go.mod."""
    shutil.copytree(DOUBLE, to)
    go_mod = to / "kube" / "go.mod"
    text = go_mod.read_text(encoding="utf-8")
    found = re.search(r"k8s\.io/kubernetes v1\.(\d+\.\d+)", text)
    if found is None:
        raise LabError(f"{DOUBLE}/kube/go.mod does not require k8s.io/kubernetes.")
    wanted = kubernetes_of(version).removeprefix("1.")
    text = text.replace(f"k8s.io/kubernetes v1.{found[1]}", f"k8s.io/kubernetes v1.{wanted}")
    text = re.sub(rf"(=> k8s\.io/\S+ v0\.){re.escape(found[1])}\b", rf"\g<1>{wanted}", text)
    go_mod.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class K3sDouble:
    """The one file `k3s`."""

    go: Go
    version: str
    arch: str
    file: str
    name: str = "k3s"

    def key(self) -> str:
        recipe = (*_RECIPE, Path(containerd.__file__), containerd.SOURCES, CNI, DOUBLE)
        return digest(self.go.version, self.version, self.arch, *recipe)

    def source(self) -> str:
        return f"lab double of K3s, built from k8s.io/kubernetes@v{kubernetes_of(self.version)} with {self.go.version}"

    def prefetch(self) -> None:
        # Of the version in go.mod; another one's modules are loaded by the build.
        self.go.prefetch(DOUBLE / "kube", PROGRAMS, TAGS)
        self.go.prefetch(DOUBLE, ["./cmd/..."])
        self.go.prefetch(CNI, CNI_PLUGINS)

    def build(self, workdir: Path) -> Path:
        sources, payload = workdir / "sources", workdir / "payload"
        copy_sources(sources, self.version)
        self._build_kubernetes(sources, payload / "bin", workdir)
        self._build_cni(payload / "bin", workdir)
        self.go.build(
            "k3s double: ipset", sources, ["./cmd/ipset"], to=payload / "bin" / "aux", log=workdir / "ipset.log"
        )
        containerd.build_programs(self.go, ("ctr",), payload / "bin", workdir / "ctr.log")
        for name, program in LINKS.items():
            (payload / "bin" / name).symlink_to(program)
        packed = sources / "cmd" / "k3s" / "payload" / "data.tar.zst"
        pack(self.go, sources, payload, packed, workdir)
        (packed.parent / "sha256").write_text(hashlib.sha256(packed.read_bytes()).hexdigest() + "\n", encoding="ascii")
        self.go.build(
            "k3s double: the file that carries it all",
            sources,
            ["./cmd/k3s"],
            to=workdir / "out",
            log=workdir / "k3s.log",
            variables={"main.version": self.version, "main.commit": self.key()[:8]},
        )
        return (workdir / "out" / "k3s").rename(workdir / self.file)

    def _build_kubernetes(self, sources: Path, to: Path, workdir: Path) -> None:
        self.go.build(
            f"k3s double: Kubernetes {kubernetes_of(self.version)}, kine and crictl from their modules",
            sources / "kube",
            PROGRAMS,
            to=to,
            log=workdir / "kubernetes.log",
            tags=TAGS,
            variables={**version_variables(self.version), "main.version": self.version},
            cgo=True,
        )

    def _build_cni(self, to: Path, workdir: Path) -> None:
        self.go.build(
            "k3s double: CNI plugins from their module",
            CNI,
            CNI_PLUGINS,
            to=to,
            log=workdir / "cni.log",
        )


@dataclass(frozen=True)
class AirgapImages:
    """The images of the sandbox and of CoreDNS, under the names that K3s uses."""

    go: Go
    version: str
    arch: str
    file: str
    run: Run = run
    name: str = "k3s-airgap-images"

    def key(self) -> str:
        recipe = (*_RECIPE, Path(oci.__file__), DOUBLE / "coredns", DOUBLE / "pause", DOUBLE / "cmd" / "pack")
        return digest(self.go.version, self.version, self.arch, *recipe)

    def source(self) -> str:
        return f"lab double of K3s, built from github.com/coredns/coredns@v{COREDNS} and a pause program of its own"

    def prefetch(self) -> None:
        self.go.prefetch(DOUBLE / "coredns", ["."])

    def build(self, workdir: Path) -> Path:
        sources = workdir / "sources"
        shutil.copytree(DOUBLE, sources)
        self.go.build(
            f"k3s airgap images: CoreDNS {COREDNS} from its module",
            sources / "coredns",
            ["."],
            to=workdir,
            log=workdir / "coredns.log",
        )
        self.run(["gcc", "-static", "-Os", "-s", "-o", f"{workdir}/pause", f"{sources}/pause/pause.c"])
        images = (
            self._image(f"mirrored-pause:{PAUSE}", workdir / "pause", user="65535:65535"),
            self._image(f"mirrored-coredns-coredns:{COREDNS}", workdir / "coredns", user=""),
        )
        oci.write(workdir / "images.tar", *images)
        pack(self.go, sources, workdir / "images.tar", workdir / self.file, workdir)
        return workdir / self.file

    def _image(self, name: str, program: Path, user: str) -> oci.Image:
        return oci.Image(
            name=f"docker.io/rancher/{name}",
            arch=self.arch,
            files=[oci.ImageFile(f"/{program.name}", program.read_bytes(), 0o755)],
            entrypoint=[f"/{program.name}"],
            user=user,
        )


def pack(go: Go, sources: Path, what: Path, target: Path, workdir: Path) -> None:
    """Compress a folder or a tar by the double's own packer: the machine needs no zstd."""
    go.build(f"pack {target.name}: build the packer", sources, ["./cmd/pack"], to=workdir, log=workdir / "pack.log")
    with go.progress.step(f"pack {target.name}"):
        go.run([f"{workdir}/pack", str(what), str(target)])
