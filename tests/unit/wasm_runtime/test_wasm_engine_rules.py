"""Which crun and which engine can run a site's modules, and what the host says of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.filter.wasm_engine_refusals import FilterModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sha256_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import (
    Identity,
    Places,
    bundle_folder,
    identify,
    key_of,
    refusals,
)

engine_refusals = FilterModule().filters()["wasm_engine_refusals"]
GOOD = {"crun": "1.21", "features": "+SYSTEMD +WASM:wasmedge +YAJL", "engine": "0.14.1+dfsg-3.1"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"crun": "1.8.5"}, None),
        ({"crun": "1.8.4"}, r"/usr/bin/crun is 1\.8\.4, 1\.8\.5 or later is needed"),
        ({"crun": "1.28", "features": "+SYSTEMD +YAJL"}, r"was built without WasmEdge \(no \+WASM:wasmedge in"),
        ({"features": "+WASM:wasmtime"}, r"was built without WasmEdge"),
        ({"features": "+WASM:wasmedge-not"}, r"was built without WasmEdge"),
        ({"crun": "", "features": ""}, None),
        ({"engine": ""}, None),
        ({"engine": "2:0.14.0-1"}, None),
        ({"engine": "0.15.1"}, r"WasmEdge 0\.15\.1 reads compiled modules of format 2; this site's are of format 1 .*"
                               r"\(edgefleet_aot_format, read by 0\.14\.x\): it would interpret them"),
        ({"engine": "0.16.0"}, r"reads compiled modules of format 2; this site's are of format 1"),
        ({"engine": "0.17.0"}, r"WasmEdge 0\.17\.0 interprets compiled modules under crun"),
        ({"engine": "1.0.0"}, r"interprets compiled modules under crun"),
        ({"engine": "0.13.5"}, r"WasmEdge 0\.13\.5 was never tried here; use 0\.14\.x"),
        ({"engine": "latest"}, r"'latest' is no version of WasmEdge"),
    ],
)  # fmt: skip
def test_crun_and_engine_against_modules_of_format_1(changes: dict[str, str], reason: str | None) -> None:
    found = refusals({**GOOD, **changes}, 1)
    assert len(found) == (reason is not None), found
    assert reason is None or re.search(reason, found[0]), found


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.15.1", None),
        ("0.16.2", None),
        ("0.14.1", r"reads compiled modules of format 1; this site's are of format 2 .*read by 0\.15 and 0\.16\.x"),
        ("0.17.1", r"interprets compiled modules under crun"),
    ],
)
def test_engine_against_modules_of_format_2(version: str, reason: str | None) -> None:
    found = engine_refusals(version, 2)
    assert len(found) == (reason is not None), found
    assert reason is None or re.search(reason, found[0]), found


def test_both_reasons_are_told() -> None:
    assert len(refusals({**GOOD, "features": "", "engine": "0.17.0"}, 1)) == 2


class Host:
    def __init__(self, root: Path) -> None:
        self.crun, self.library = root / "crun", root / "libwasmedge.so.0.1.0"
        self.crun.write_text("crun")
        self.library.write_text("library")
        self.places = Places(root=root / "engines", crun=str(self.crun), state=root / "state")
        self.answers: dict[str, Any] = {
            "--version": (0, "crun version 1.21\ncommit: x\nspec: 1.0.0\n+SYSTEMD +WASM:wasmedge\n"),
            "dpkg-query": (0, "installed 0.14.1+dfsg-3.1"),
            "-p": (0, f"\tlibwasmedge.so.0 (libc6,x86-64) => {self.library}\n"),
            "ldd": (0, "\tlibLLVM.so.19.1 => /usr/lib/libLLVM.so.19.1\n"),
        }

    def run(self, command: list[str]) -> tuple[int, str, str]:
        code, out = next(answer for words, answer in self.answers.items() if words in command)
        return code, out, ""

    def identify(self) -> Identity:
        return identify(self.run, self.places)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_identity_of_a_host_with_both_packages(host: Host) -> None:
    assert host.identify().as_dict() == {
        "crun": "1.21",
        "features": "+SYSTEMD +WASM:wasmedge",
        "crun_sha256": sha256_of(host.crun),
        "engine": "0.14.1+dfsg-3.1",
        "library": str(host.library),
        "library_sha256": sha256_of(host.library),
        "llvm": "yes",
        "wanted": "distro",
        "live": "distro",
        "reason": "",
    }


def test_identity_of_a_bare_host(host: Host) -> None:
    host.crun.unlink()
    host.answers |= {"dpkg-query": (1, ""), "-p": (0, "")}
    assert host.identify() == Identity()


def test_package_that_was_removed_but_not_purged_is_not_there(host: Host) -> None:
    host.answers["dpkg-query"] = (0, "config-files 0.14.1+dfsg-3.1")
    assert host.identify().engine == ""


@pytest.mark.parametrize(("live", "llvm"), [("lean", "no"), ("distro", "yes")])
def test_identity_tells_what_is_live_and_why(host: Host, live: str, llvm: str) -> None:
    host.places.state.write_text(f"wanted=lean\nlive={live}\nreason=a = b\n")
    found = host.identify()
    assert (found.wanted, found.live, found.reason, found.llvm) == ("lean", live, "a = b", llvm)


def test_bundle_is_named_after_both_hashes() -> None:
    key = key_of("a" * 64, "b" * 64)
    assert str(bundle_folder("lean", key)) == f"/usr/local/lib/edgefleet/wasm-engine/lean-{'a' * 16}-{'b' * 16}"
