"""What the host says of itself, read right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import identity
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import Engine
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

from tests.unit.smoke.fake_crun import FakeCrun

DEBIAN = """\
55d0c8a00000-55d0c8a10000 r--p 00000000 fe:00 1 /usr/bin/crun
7f0000000000-7f0000500000 r-xp 00000000 fe:00 2 /usr/lib/x86_64-linux-gnu/libwasmedge.so.0.1.0
7f0000500000-7f0000590000 rw-p 00500000 fe:00 2 /usr/lib/x86_64-linux-gnu/libwasmedge.so.0.1.0
7f1000000000-7f1007b00000 r-xp 00000000 fe:00 3 /usr/lib/x86_64-linux-gnu/libLLVM.so.19.1
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
7f2000000000-7f2000001000 rw-p 00000000 00:00 0
"""


def test_libraries_are_those_that_are_mapped() -> None:
    mapped = identity.mapped_files(DEBIAN)
    assert sorted(mapped) == [
        "/usr/bin/crun",
        "/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1",
        "/usr/lib/x86_64-linux-gnu/libwasmedge.so.0.1.0",
    ]
    engine = mapped["/usr/lib/x86_64-linux-gnu/libwasmedge.so.0.1.0"]
    assert engine.ranges[0] == "7f0000000000-7f0000500000"
    assert engine.mib == pytest.approx(5.56, abs=0.01)


@pytest.mark.parametrize(
    ("replaced", "by", "kind"),
    [
        ("nothing", "nothing", "shared"),
        # A stand-in under LLVM's name.
        ("7f1000000000-7f1007b00000", "7f1000000000-7f1000016000", "none"),
        ("libLLVM.so.19.1", "libother.so", "none"),
        (
            "7f0000000000-7f0000500000 r-xp 00000000 fe:00 2",
            "7f0000000000-7f0004000000 r-xp 00000000 fe:00 2",
            "inside",
        ),
    ],
)
def test_llvm_is_told_by_what_is_mapped(replaced: str, by: str, kind: str) -> None:
    maps = DEBIAN.replace(replaced, by)
    if kind == "inside":
        maps = maps.replace("libLLVM.so.19.1", "libother.so")
    assert identity.llvm_of(identity.mapped_files(maps)).kind == kind


def test_the_mapped_file_itself_is_hashed() -> None:
    """A process that has no engine mapped is asked by name; one that has is looked at: here, its own C library."""
    assert identity.seen_engine(FakeCrun(), os.getpid()) == Engine(library=None, version="0.14.1")
    mapped = identity.mapped_files(Path("/proc/self/maps").read_text())
    library = next(path for path in mapped if "libc" in Path(path).name)
    found = identity._sha256_of_mapped(os.getpid(), library, mapped[library].ranges[0])
    assert found is not None
    assert len(found) == 64


def test_versions_are_as_printed() -> None:
    def run(argv: object, **_: object) -> Ended:
        assert isinstance(argv, list)
        said = {
            "k3s": b"k3s version v1.30.4+k3s1 (98262b5d)\ngo version go1.22.5\n",
            "/opt/crun": b"crun version 1.21\n",
        }
        return Ended(0, said[argv[0]], "") if argv[0] in said else Ended(127, b"", "no")

    assert identity.versions(run, "/opt/crun") == {
        "crun": "crun version 1.21",
        "containerd": None,
        "k3s": "k3s version v1.30.4+k3s1 (98262b5d); go version go1.22.5",
    }


@pytest.mark.parametrize(
    ("made", "mode"), [(["cgroup.controllers"], "v2"), (["unified/", "memory/"], "v1 hybrid"), (["memory/"], "v1")]
)
def test_cgroup_mode(tmp_path: Path, made: list[str], mode: str) -> None:
    for name in made:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    assert identity.cgroup_mode(tmp_path) == mode


def test_steal_is_the_share_between_two_looks() -> None:
    before = identity.cpu_ticks("cpu  100 0 100 800 0 0 0 10 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    after = identity.cpu_ticks("cpu  150 0 100 840 0 0 0 20 99 0\n")
    assert identity.steal_percent(before, after) == 10.0
    assert identity.steal_percent(before, before) == 0.0


VERSIONS = {
    "k3s": "k3s version v1.30.4+k3s1 (98262b5d)",
    "containerd": "containerd github.com/containerd/containerd/v2 v2.0.11",
    "crun": "crun version 1.21",
}


def test_pins_past_their_support_are_warned_of() -> None:
    found = identity.warnings(VERSIONS, Engine(None, "0.14.1"), [])
    assert len(found) == 3
    assert "K3s 1.30 is past its support" in found[0]
    assert "v1.30.4+k3s1" in found[0]
    assert "containerd 2.0 is past its support" in found[1]
    assert "CVE-2025-69261" in found[2]


def test_supported_versions_are_not_warned_of() -> None:
    versions = {"k3s": "k3s version v1.33.1+k3s1", "containerd": "containerd v2.2.0", "crun": None}
    assert identity.warnings(versions, Engine(None, "0.15.1"), []) == []
    assert identity.warnings({}, Engine(None, None), []) == []


def test_rebuilt_artifacts_are_named_with_their_source() -> None:
    artifacts = [
        {"name": "containerd", "version": "2.0.11", "source": "built from containerd/v2@v2.0.11", "rebuilt": True},
        {"name": "k3s", "version": "v1.33.1", "source": "https://release", "rebuilt": False},
    ]
    found = identity.warnings({}, Engine(None, None), artifacts)
    assert found == ["containerd 2.0.11 is REBUILT, not the pinned release: built from containerd/v2@v2.0.11"]


def test_engine_that_is_not_the_wanted_one_is_a_warning() -> None:
    choice = {"wanted": "lean", "live": "distro", "reason": "/usr/bin/crun has changed"}
    engine = identity.Engine(None, "0.15.1", choice=choice)
    assert identity.warnings({}, engine, []) == [
        "Wasm pods get the engine distro, wanted is lean: /usr/bin/crun has changed"
    ]
    assert {key: engine.as_dict()[key] for key in choice} == choice
    assert identity.warnings({}, identity.Engine(None, "0.15.1", choice={**choice, "live": "lean"}), []) == []
