"""The stand-in for libLLVM: made of real, small packages, and loaded as a program of the host would load it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sha256_of
from ansible_collections.edgefleet.wasm.plugins.plugin_utils import elf_binding, engine_bundle
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.engine_bundle import BundleError, Made, Source
from elftools.elf.elffile import ELFFile

PROGRAMS = ("gcc", "patchelf", "dpkg-deb", "readelf")
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)}, as the lab does"
)

LLVM = """
int llvm_object[25] = {7};
__thread int llvm_thread = 3;
int llvm_compile(void) { return 42; }
void deallocate(void *p) __asm__("_ZN4llvm17deallocate_bufferEPvmm");
void deallocate(void *p) { __builtin_trap(); }
"""
# As C++ has it: references to symbols of its own, one of which the engine has as well. The plain one is of C.
CXX = """
int own_value __asm__("_Z3own") = 5; int *own_pointer = &own_value;
int own_call(void) __asm__("_Z4callv"); int own_call(void) { return own_value; }
int shared_call(void) __asm__("_Z6sharedv"); int shared_call(void) { return 1000; }
int (*calls[])(void) __asm__("_Z5calls") = {own_call, shared_call};
int plain = 100; int *plain_pointer = &plain;
int cxx_sum(void) { return *own_pointer + own_call() + calls[0]() + calls[1]() + shared_call() + *plain_pointer; }
"""
WASMEDGE = """
int shared_call(void) __asm__("_Z6sharedv"); int shared_call(void) { return 10; }
int cxx_sum(void); int WasmEdge_Sum(void) { return cxx_sum(); }
extern int llvm_object[25]; extern __thread int llvm_thread; int llvm_compile(void);
void deallocate(void *p) __asm__("_ZN4llvm17deallocate_bufferEPvmm");
int WasmEdge_Run(void) { deallocate(0); return llvm_object[0] + llvm_thread; }
int WasmEdge_Compile(void) { return llvm_compile(); }
"""
CRUN = """
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    void *engine = dlopen("libwasmedge.so.0", RTLD_NOW);
    if (!engine) { puts(dlerror()); return 1; }
    int (*call)(void) = dlsym(engine, argc > 1 ? argv[1] : "WasmEdge_Run");
    printf("%d\\n", call());
    return 0;
}
"""


def compile_c(folder: Path, source: str, target: Path, *flags: str) -> None:
    (folder / "x.c").write_text(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O1", "-o", str(target), "x.c", *flags], cwd=folder, check=True)


def package(folder: Path, name: str) -> Path:
    control = folder / name / "DEBIAN"
    control.mkdir(parents=True, exist_ok=True)
    text = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    (control / "control").write_text(text)
    subprocess.run(["dpkg-deb", "--build", "-Znone", name, f"{name}.deb"], cwd=folder, check=True, capture_output=True)
    return folder / f"{name}.deb"


def packages(folder: Path, *, llvm: str = LLVM) -> Path:
    """An archive of packages as the mirror has it."""
    libraries = folder / "libllvm19" / "usr" / "lib"
    (folder / "v.map").write_text("LLVM_19.1 { global: *; };\n")
    shared = ["-shared", "-fPIC"]
    version = "-Wl,--version-script=v.map"
    compile_c(folder, LLVM, folder / "link" / "libLLVM.so.19.1", *shared, "-Wl,-soname=libLLVM.so.19.1", version)
    compile_c(folder, llvm, libraries / "libLLVM.so.19.1", *shared, "-Wl,-soname=libLLVM.so.19.1", version)
    cxx = folder / "libstdc++6" / "usr" / "lib" / "libstdc++.so.6.0.33"
    compile_c(folder, CXX, cxx, *shared, "-Wl,-soname=libstdc++.so.6")
    (cxx.parent / "libstdc++.so.6").symlink_to(cxx.name)
    engine = folder / "libwasmedge0" / "usr" / "lib" / "libwasmedge.so.0.1.0"
    needed = [str(folder / "link" / "libLLVM.so.19.1"), str(cxx)]
    link = [*shared, "-Wl,-soname=libwasmedge.so.0", *needed, "-Wl,-rpath,$ORIGIN"]
    compile_c(folder, WASMEDGE, engine, *link, "-Wl,--enable-new-dtags")
    (engine.parent / "libwasmedge.so.0").symlink_to(engine.name)
    compile_c(folder, CRUN, folder / "crun" / "usr" / "bin" / "crun")
    listed = []
    with tarfile.open(folder / "packages.tar", "w") as tar:
        for name in ("crun", "libwasmedge0", "libllvm19", "libstdc++6"):
            deb = package(folder, name)
            tar.add(deb, deb.name)
            listed.append({"name": name, "version": "1.0", "file": deb.name, "sha256": sha256_of(deb)})
        (folder / "packages.json").write_text(json.dumps(listed))
        tar.add(folder / "packages.json", "packages.json")
    return folder / "packages.tar"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("packages")
    (folder / "work").mkdir()
    return engine_bundle.unpack(packages(folder), "amd64", folder / "work")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundles that are found in a folder of the test's, not of the host's."""
    monkeypatch.setattr(engine_bundle, "bundle_folder", lambda *_: tmp_path / "bundle")
    return tmp_path


def run(made: Made, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(made.files["crun"]), *arguments], capture_output=True, text=True, check=False)


def test_lean_runs_what_needs_no_llvm_and_names_what_does(source: Source, here: Path) -> None:
    made = engine_bundle.make_lean(source, here)
    ran = run(made)
    # Objects are zero in the stand-in: 7 + 3 would be LLVM's own.
    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr
    refused = run(made, "WasmEdge_Compile")
    assert refused.returncode == -6
    assert refused.stderr == (
        "edgefleet lean engine: llvm_compile of LLVM was called, which running a compiled module does not need; "
        "set wasm_runtime_engine: distro\n"
    )


def test_lean_defines_exactly_what_is_taken(source: Source, here: Path) -> None:
    taken = engine_bundle.taken_from_llvm(source.library, source.llvm)
    assert (taken.library, taken.version) == ("libLLVM.so.19.1", "LLVM_19.1")
    assert sorted(taken.functions) == ["_ZN4llvm17deallocate_bufferEPvmm", "llvm_compile"]
    assert (taken.objects, taken.threads) == ({"llvm_object": 100}, {"llvm_thread": 4})
    made = engine_bundle.make_lean(source, here)
    table = subprocess.run(
        ["readelf", "--dyn-syms", "--wide", str(made.files["libLLVM.so.19.1"])],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    defined = {line.split()[7] for line in table.splitlines() if "@LLVM_19.1" in line or "@@LLVM_19.1" in line}
    wanted = ("_ZN4llvm17deallocate_bufferEPvmm", "llvm_compile", "llvm_object", "llvm_thread")
    assert defined == {f"{name}@@LLVM_19.1" for name in wanted}


def relocations(path: Path) -> list[str]:
    """The names that the loader has to look up for a library."""
    command = ["readelf", "--relocs", "--wide", str(path)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split()[4] for line in table.splitlines() if len(line.split()) > 4 and line.startswith("0")]


def test_lean_binds_what_the_cxx_library_has_alone(source: Source, here: Path) -> None:
    """The engine has a `shared` of its own: the loader takes that one, for the library, too."""
    unbound = source.root / "usr/lib/libstdc++.so.6.0.33"
    names = {"_Z3own", "_Z4callv", "_Z5calls", "_Z6sharedv", "plain"}
    assert names <= set(relocations(unbound))
    made = engine_bundle.make_lean(source, here)
    assert names & set(relocations(made.files["libstdc++.so.6"])) == {"_Z6sharedv", "plain"}
    ran = run(made, "WasmEdge_Sum")
    assert (ran.returncode, ran.stdout) == (0, f"{5 + 5 + 5 + 10 + 10 + 100}\n"), ran.stderr


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        ("chosen when loaded", 'int one(void) __asm__("_Z3onev") __attribute__((ifunc("choose")));'),
        ("one for each thread", '__thread int value __asm__("_Z3onev"); int one(void) { return value; }'),
        ("one in a process", '__asm__(".type _Z3onev, @gnu_unique_object"); int value __asm__("_Z3onev");'),
    ],
)
def test_what_only_the_loader_knows_stays_a_lookup(tmp_path: Path, kind: str, declared: str) -> None:
    choose = "int two(void) { return 2; } void *choose(void) { return two; }"
    use = "int one(void);" if "__thread" not in declared else ""
    read = "int *use(void) { return &value; }" if "value" in declared else "int use(void) { return one(); }"
    compile_c(tmp_path, f"{choose} {use} {declared} {read}", tmp_path / "l.so", "-shared", "-fPIC")
    with (tmp_path / "l.so").open("rb") as stream:
        content = elf_binding.bound(ELFFile(stream), frozenset())
    (tmp_path / "b.so").write_bytes(content)
    assert "_Z3onev" in relocations(tmp_path / "b.so") or "_Z3onev()" in relocations(tmp_path / "b.so"), kind


def test_bundle_says_what_it_was_made_of_and_is_made_the_same_again(source: Source, here: Path) -> None:
    made = engine_bundle.make_lean(source, here)
    described = json.loads(made.files["engine.json"].read_text())
    crun, library = sha256_of(source.crun), sha256_of(source.library)
    assert described["made_of"] == {
        "/usr/bin/crun": crun,
        "/usr/lib/libwasmedge.so.0.1.0": library,
        "/usr/lib/libstdc++.so.6.0.33": sha256_of(source.root / "usr/lib/libstdc++.so.6.0.33"),
    }
    assert made.key == described["key"] == f"{crun[:16]}-{library[:16]}"
    assert described["packages"] == dict.fromkeys(("crun", "libwasmedge0", "libllvm19", "libstdc++6"), "1.0")
    assert described["files"] == {name: sha256_of(path) for name, path in made.files.items() if name != "engine.json"}
    assert described["files"]["libwasmedge.so.0"] == library, "the engine itself is Debian's"
    before = {name: path.read_bytes() for name, path in made.files.items()}
    again = engine_bundle.make_lean(source, here)
    assert {name: path.read_bytes() for name, path in again.files.items()} == before


def test_archive_is_found_by_the_distributions_crun(source: Source, here: Path) -> None:
    (here / "own").mkdir()
    own = here / "own" / "libwasmedge.so.0.1.0"
    compile_c(here, "int WasmEdge_Run(void) { return 14; }", own, "-shared", "-fPIC", "-Wl,-soname=libwasmedge.so.0")
    (here / "own" / "libwasmedge.so.0").symlink_to(own.name)
    archive = here / "own.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(here / "own", "WasmEdge-0.14.1-Linux/lib64")
    made = engine_bundle.make_archive(source, archive, here)
    assert run(made).stdout == "14\n"
    assert made.key == f"{sha256_of(source.crun)[:16]}-{sha256_of(archive)[:16]}"
    assert list(json.loads(made.files["engine.json"].read_text())["made_of"]) == ["/usr/bin/crun"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be unpacked"),
        (None, "has 0 files libwasmedge.so.0\\*, one is wanted: the archive of a shared build"),
    ],
)
def test_archive_without_an_engine(source: Source, here: Path, content: bytes | None, message: str) -> None:
    archive = here / "own.tar.gz"
    if content is None:
        (here / "libwasmedge.a").touch()
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(here / "libwasmedge.a", "libwasmedge.a")
    else:
        archive.write_bytes(content)
    with pytest.raises(BundleError, match=message):
        engine_bundle.make_archive(source, archive, here)


def test_packages_of_two_releases_are_refused(tmp_path: Path, here: Path) -> None:
    folder = tmp_path / "other"
    (folder / "work").mkdir(parents=True)
    other = engine_bundle.unpack(packages(folder, llvm="int llvm_object[25];"), "amd64", folder / "work")
    with pytest.raises(
        BundleError, match=r"libLLVM\.so\.19\.1 has no .*llvm_compile, llvm_thread: are the packages of"
    ):
        engine_bundle.make_lean(other, here)


def test_engine_without_llvm_needs_no_stand_in(source: Source, here: Path) -> None:
    with pytest.raises(BundleError, match=r"crun takes symbols of 0 versions from libLLVM, one is wanted"):
        engine_bundle.taken_from_llvm(source.crun, source.llvm)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("patchelf", r"^patchelf is missing on the controller; on Debian: apt-get install patchelf$"),
        ("gcc", r"^gcc is missing on the controller; on Debian: apt-get install gcc libc6-dev$"),
    ],
)
def test_missing_programs_are_named(
    source: Source, here: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == program else found(name))
    with pytest.raises(BundleError, match=message):
        engine_bundle.make_lean(source, here)


def test_other_architecture_needs_its_compiler(source: Source, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(
        BundleError, match=r"^aarch64-linux-gnu-gcc is missing .*apt-get install gcc-aarch64-linux-gnu$"
    ):
        engine_bundle.make_lean(Source(source.root, source.versions, "arm64"), here)


def test_missing_pyelftools_is_named(source: Source, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_bundle, "ELFFile", None)
    with pytest.raises(BundleError, match=r"^pyelftools is missing on the controller: pip install pyelftools$"):
        engine_bundle.make_lean(source, here)


def test_archive_without_the_packages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "packages.tar"
    (tmp_path / "packages.json").write_text("[]")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "packages.json", "packages.json")
    with pytest.raises(BundleError, match=r"packages\.tar has no crun, libstdc\+\+6, libwasmedge0; collect it anew"):
        engine_bundle.unpack(path, "amd64", tmp_path)


def test_tar_depends_on_content_alone(tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        file = tmp_path / f"{number}"
        file.write_text("x")
        file.touch()
        engine_bundle.write_tar(tmp_path / "t.tar", {"a": file})
        digests.append(hashlib.sha256((tmp_path / "t.tar").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
