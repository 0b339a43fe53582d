"""The project's own artifacts: images of the skeleton service, Wasm and native, and the smoke test's probes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_module import is_native, sections

from lab.builders import archive, oci
from lab.builders.base import Builder, digest, host_arch
from lab.builders.toolchain import KEPT, RESULTS, SOURCES, Toolchain
from lab.errors import LabError
from lab.paths import CHECKOUT

ENGINE = "wasmedge"
PROGRAM = "/usr/bin/wasmedge"
# The format of ahead-of-time code follows the engine's version: this must be the version on the hosts.
ENGINE_VERSION = "0.14.1"
SKELETON = CHECKOUT / "wasm" / "skeleton"
REPOSITORY = "registry.example.com/edgefleet"
WASM_TARGET = "wasm32-wasip1"
# Not root, as a number: Kubernetes takes no name as proof of that.
USER = "65532:65532"
PORT = 8080
# fib(30): some 4 ms ahead of time, some 200 ms interpreted. The gap is so wide that a busy machine does not close it.
FIB = "30"
FASTER_AT_LEAST = 4


def crate_sources(folder: Path) -> list[Path]:
    """What cargo compiles, in a fixed order; not the manifests, tests and build output beside it."""
    return [folder / "Cargo.toml", folder / "Cargo.lock", *sorted((folder / "src").rglob("*.rs"))]


def crate_version(folder: Path) -> str:
    """The version in Cargo.toml."""
    return str(tomllib.loads((folder / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"])


def check_engine(toolchain: Toolchain) -> None:
    """A compiler of another version makes code that the hosts' engine would interpret, without a word."""
    found = toolchain.version(ENGINE)
    if found != ENGINE_VERSION:
        raise LabError(
            f"Debian's {ENGINE} is now {found}; these artifacts are for {ENGINE_VERSION}. "
            "Set ENGINE_VERSION in lab/builders/wasm.py, and the versions that name it in roles and inventories."
        )


def compile_ahead(toolchain: Toolchain, folder: Path, name: str) -> Path:
    """From `<name>.wasm` in the folder to `<name>.aot.wasm`: the same module, with native code beside it."""
    plain, compiled = folder / f"{name}.wasm", folder / f"{name}.aot.wasm"
    toolchain.execute(
        f"compile {plain.name} ahead of time",
        # For any processor of the architecture. The option alone is not enough: WasmEdge 0.14.1 uses what the compiling
        # machine's processor has all the same (AVX-512, say), and code ends by an illegal instruction elsewhere.
        toolchain.on_baseline(
            [PROGRAM, "compile", "--generic-binary", f"{RESULTS}/{plain.name}", f"{RESULTS}/{compiled.name}"]
        ),
        results=folder,
    )
    made = sections(compiled.read_bytes())
    rest = [section for section in made if not is_native(section)]
    if len(made) != len(rest) + 1 or rest != sections(plain.read_bytes()):
        raise LabError(
            f"{compiled}: `{ENGINE} compile` did not add native code to {plain.name}; see {name}.compile.log there."
        )
    return compiled


@dataclass(frozen=True)
class SkeletonImage:
    """The skeleton service for the Wasm runtime class."""

    toolchain: Toolchain
    arch: str
    crate: Path = SKELETON
    name: str = "skeleton-image"

    @property
    def version(self) -> str:
        return f"{crate_version(self.crate)}-{ENGINE}-{ENGINE_VERSION}"

    @property
    def file(self) -> str:
        return f"skeleton-{self.arch}.oci.tar"

    @property
    def image(self) -> str:
        """The name under which containerd knows it."""
        return f"{REPOSITORY}/skeleton:{self.version}"

    def key(self) -> str:
        return _image_key(self.toolchain, self.image, self.arch, self.crate)

    def source(self) -> str:
        rustc = self.toolchain.version("rustc")
        return f"built from wasm/skeleton with Debian's rustc {rustc}, {ENGINE} {ENGINE_VERSION}"

    def build(self, workdir: Path) -> Path:
        check_engine(self.toolchain)
        _cargo(self.toolchain, "build the skeleton service for Wasm", self.crate, workdir, WASM_TARGET)
        (workdir / "skeleton").rename(workdir / "skeleton.wasm")
        compiled = compile_ahead(self.toolchain, workdir, "skeleton")
        _check_starts(self.toolchain, workdir, self.toolchain.on_baseline([PROGRAM, f"{RESULTS}/{compiled.name}"]))
        annotations = {"module.wasm.image/variant": "compat-smart"}
        image = _image(self.image, self.arch, "/skeleton.wasm", compiled.read_bytes(), annotations)
        oci.write(workdir / self.file, image)
        return workdir / self.file


@dataclass(frozen=True)
class SkeletonNativeImage:
    """The same service as a static Linux program: the control that the Wasm figures are measured against."""

    toolchain: Toolchain
    arch: str
    crate: Path = SKELETON
    name: str = "skeleton-native-image"

    @property
    def version(self) -> str:
        return crate_version(self.crate)

    @property
    def file(self) -> str:
        return f"skeleton-native-{self.arch}.oci.tar"

    @property
    def image(self) -> str:
        """The name under which containerd knows it."""
        return f"{REPOSITORY}/skeleton-native:{self.version}"

    def key(self) -> str:
        return _image_key(self.toolchain, self.image, self.arch, self.crate)

    def source(self) -> str:
        return f"built from wasm/skeleton with Debian's rustc {self.toolchain.version('rustc')}"

    def build(self, workdir: Path) -> Path:
        target = f"{os.uname().machine}-unknown-linux-gnu"
        _cargo(self.toolchain, "build the skeleton service for Linux", self.crate, workdir, target)
        _check_starts(self.toolchain, workdir, [f"{RESULTS}/skeleton"])
        image = _image(self.image, self.arch, "/skeleton", (workdir / "skeleton").read_bytes(), {})
        oci.write(workdir / self.file, image)
        return workdir / self.file


def _image_key(toolchain: Toolchain, image: str, arch: str, crate: Path) -> str:
    """All that decides the archive's bytes: this file and the archive's writer are part of the recipe."""
    return digest(toolchain.key, image, arch, *crate_sources(crate), Path(__file__), Path(oci.__file__))


def _image(name: str, arch: str, program: str, content: bytes, annotations: dict[str, str]) -> oci.Image:
    return oci.Image(
        name=name,
        arch=arch,
        files=[oci.ImageFile(program, content, 0o555)],
        entrypoint=[program],
        user=USER,
        ports=[PORT],
        annotations=annotations,
    )


def _cargo(toolchain: Toolchain, title: str, crate: Path, workdir: Path, target: str) -> None:
    """Build the crate for a target; the program is then `<workdir>/skeleton`."""
    wasm = target == WASM_TARGET
    # Static: the native image holds nothing but the program.
    flags = "" if wasm else "-C target-feature=+crt-static"
    script = (
        f"cd {SOURCES}\n"
        f"RUSTFLAGS='{flags}' cargo build --locked --release --target {target}\n"
        f"cp {KEPT}/target/{target}/release/skeleton{'.wasm' if wasm else ''} {RESULTS}/skeleton"
    )
    toolchain.execute(title, ["sh", "-euc", script], sources=crate, results=workdir)


def _check_starts(toolchain: Toolchain, workdir: Path, command: Sequence[str]) -> None:
    """Without settings the service says which are missing: enough to see that it is loaded and runs."""
    code, said = toolchain.attempt(command, results=workdir)
    if code == 0 or "SYSTEM is not set" not in said:
        raise LabError(f"{workdir}: `{' '.join(command)}` does not run as it should; it said: {said.strip()!r}")


@dataclass(frozen=True)
class Probes:
    """The smoke test's modules with ahead-of-time code for the hosts' engine."""

    toolchain: Toolchain
    arch: str
    name: str = "wasm-probes"

    @property
    def version(self) -> str:
        return f"{probes.VERSION}-{ENGINE}-{ENGINE_VERSION}"

    @property
    def file(self) -> str:
        return f"wasm-probes-{self.arch}.tar.gz"

    def key(self) -> str:
        return digest(
            self.toolchain.key,
            self.arch,
            self.version,
            *map(probes.wat, probes.AOT),
            Path(__file__),
            Path(archive.__file__),
        )

    def source(self) -> str:
        return f"built from plugins/module_utils/smoke/wat with {ENGINE} {ENGINE_VERSION}"

    def build(self, workdir: Path) -> Path:
        check_engine(self.toolchain)
        index, modules = workdir / "probes.json", []
        files = {index.name: index}
        for name in probes.AOT:
            plain = probes.compile_wat(name)
            (workdir / f"{name}.wasm").write_bytes(plain)
            compiled = compile_ahead(self.toolchain, workdir, name)
            files[compiled.name] = compiled
            modules.append(
                {
                    "name": name,
                    "plain_sha256": hashlib.sha256(plain).hexdigest(),
                    "file": compiled.name,
                    "sha256": hashlib.sha256(compiled.read_bytes()).hexdigest(),
                }
            )
        _check_live(self.toolchain, workdir)
        described = {"engine": ENGINE, "engine_version": ENGINE_VERSION, "arch": self.arch, "modules": modules}
        index.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        archive.write_tar_gz(workdir / self.file, files, mode=0o644)
        return workdir / self.file


def _check_live(toolchain: Toolchain, folder: Path) -> None:
    """The engine really runs the native code in the probe, not its interpreter."""
    ahead = _fib_nanoseconds(toolchain, folder, [f"{RESULTS}/fib.aot.wasm"])
    interpreted = _fib_nanoseconds(toolchain, folder, ["--force-interpreter", f"{RESULTS}/fib.aot.wasm"])
    if ahead * FASTER_AT_LEAST > interpreted:
        raise LabError(
            f"{folder}/fib.aot.wasm: fib({FIB}) took {ahead / 1e6:.1f} ms, interpreted {interpreted / 1e6:.1f} ms: "
            f"{ENGINE} {ENGINE_VERSION} does not use the native code in it."
        )


def _fib_nanoseconds(toolchain: Toolchain, folder: Path, arguments: Sequence[str]) -> int:
    """The time that the probe itself has measured."""
    code, said = toolchain.attempt([ENGINE, *arguments, FIB], results=folder)
    found = re.fullmatch(rf"fib {FIB} 832040 (\d+)", said.strip())
    if code != 0 or found is None:
        raise LabError(f"{folder}/fib.aot.wasm does not run as it should; it said: {said.strip()!r}")
    return int(found[1])


def builders(toolchain: Toolchain) -> list[Builder]:
    """All artifacts of our own, for hosts of this machine's architecture."""
    arch = host_arch()
    return [SkeletonImage(toolchain, arch), SkeletonNativeImage(toolchain, arch), Probes(toolchain, arch)]
