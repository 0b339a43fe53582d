"""The engine of Wasm pods: without LLVM, and back to Debian's by itself when anything it depends on changes."""

from __future__ import annotations

import json
import statistics
import textwrap
from pathlib import Path
from typing import Any

import pytest

from lab.builders import wasm
from lab.hosts import Host
from lab.session import Lab
from tests.integration.engines import (
    DEBIAN,
    LIVE,
    altered,
    bundle,
    engines_of_pods,
    one_more_pod,
    pods,
    smoke,
    state,
    until_live,
)
from tests.integration.hosts import ask, playbook, recap, shell, until

pytestmark = pytest.mark.lab
# Lean and distro in turn, so that what else the machine does falls on both alike.
TIMED = textwrap.dedent(f"""
    import json, pathlib, subprocess, tempfile, time
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "rootfs").mkdir()
    probe = "0061736d01000000 0104016000000302010007 0a01065f7374617274 00000a040102000b"
    (folder / "rootfs" / "probe.wasm").write_bytes(bytes.fromhex(probe))
    subprocess.run(["crun", "spec", "--bundle", str(folder)], check=True)
    spec = json.loads((folder / "config.json").read_text())
    spec["process"].update(args=["/probe.wasm"], terminal=False)
    spec["annotations"] = {{"module.wasm.image/variant": "compat-smart"}}
    spec["linux"].pop("resources", None)
    (folder / "config.json").write_text(json.dumps(spec))
    times = {{"{LIVE}": [], "/usr/bin/crun": []}}
    for number in range(41):
        for program, taken in times.items():
            began = time.perf_counter()
            run = [program, "--cgroup-manager=disabled", "run", "--bundle", str(folder), f"t{{number}}"]
            subprocess.run(run, check=True)
            taken.append(1000 * (time.perf_counter() - began))
    print(json.dumps([taken[1:] for taken in times.values()]))
""")


@pytest.fixture(scope="module", autouse=True)
def lean(lab: Lab, host: Host) -> None:
    assert state(lab, host) == {"wanted": "lean", "live": "lean", "reason": ""}


def test_pods_run_without_llvm(lab: Lab, host: Host) -> None:
    assert engines_of_pods(lab, host) == ["lean"]
    assert ask(lab.hosts, host)


def test_every_check_passes_under_lean_and_under_distro(lab: Lab, host: Host, tmp_path: Path) -> None:
    """With Debian's crun the same look at what is mapped finds LLVM: it can fail."""
    with_lean = smoke(lab, host, tmp_path)["identity"]["engine"]
    assert (with_lean["live"], with_lean["llvm"], with_lean["version"]) == ("lean", "none", wasm.ENGINE_VERSION)
    assert with_lean["library"] == f"{bundle(lab, host)}/libwasmedge.so.0"
    with_distro = smoke(lab, host, tmp_path, "wasm_smoke_runtime=/usr/bin/crun")["identity"]["engine"]
    assert (with_distro["llvm"], with_distro["sha256"]) == ("shared", with_lean["sha256"])


def test_cold_start_against_distro_in_one_run(lab: Lab, host: Host) -> None:
    out = shell(
        lab.hosts, host, f"cat > /root/timed.py <<'END'\n{TIMED}\nEND\npython3 /root/timed.py; rm /root/timed.py"
    )
    lean, distro = map(statistics.median, json.loads(out.splitlines()[-1]))
    print(
        f"crun run, median of 40 each, interleaved: lean {lean:.1f} ms, distro {distro:.1f} ms, "
        f"ratio {lean / distro:.2f}"
    )
    assert lean < 0.75 * distro


@pytest.mark.parametrize("what", ["libwasmedge", pytest.param("stand-in missing", marks=pytest.mark.full)])
def test_running_pods_stay_and_new_ones_start_when_it_falls_back(
    lab: Lab, host: Host, tmp_path: Path, what: str
) -> None:
    before = pods(lab, host)
    path = DEBIAN if what == "libwasmedge" else f"{bundle(lab, host)}/libLLVM.so.19.1"
    script, why = ('printf x >> "$1"', "has changed") if what == "libwasmedge" else ('rm "$1"', "is missing")
    with altered(lab, host, path, script):
        assert until_live(lab, host, "distro")["reason"] == f"{path} {why}"
        with one_more_pod(lab, host):
            assert engines_of_pods(lab, host) == ["distro", "lean"]
            assert before.items() <= pods(lab, host).items()
        told = smoke(lab, host, tmp_path)
        assert f"Wasm pods get the engine distro, wanted is lean: {path} {why}" in told["warnings"]
        assert told["identity"]["engine"]["llvm"] == "shared"
    until_live(lab, host, "lean")
    with one_more_pod(lab, host):
        assert engines_of_pods(lab, host)[-1] == "lean"
    assert ask(lab.hosts, host)


@pytest.mark.full
@pytest.mark.parametrize(
    ("place", "script", "why"),
    [
        ("/usr/bin/crun", 'printf x >> "$1"', "has changed"),
        ("/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.33", 'printf x >> "$1"', "has changed"),
        ("/libstdc++.so.6", 'rm "$1"', "is missing"),
        ("/libLLVM.so.19.1", 'printf x | dd of="$1" bs=1 seek=4096 conv=notrunc 2>&1', "has changed"),
        ("/libwasmedge.so.0", 'rm "$1"', "is missing"),
        ("/crun", ': > "$1"', "has changed"),
    ],
)
def test_every_file_counts(lab: Lab, host: Host, place: str, script: str, why: str) -> None:
    path = place if place.startswith("/usr") else f"{bundle(lab, host)}{place}"
    with altered(lab, host, path, script):
        assert until_live(lab, host, "distro")["reason"] == f"{path} {why}"
    until_live(lab, host, "lean")


@pytest.mark.full
def test_fallback_holds_from_boot_on(lab: Lab, host: Host) -> None:
    """What changed while the host was down, or while nothing watched, is seen before containerd starts."""
    shell(lab.hosts, host, "systemctl stop edgefleet-wasm-engine.path")
    with altered(lab, host, "/usr/bin/crun", 'printf x >> "$1"'):
        assert state(lab, host)["live"] == "lean", "nothing should have looked"
        lab.hosts.reboot(host.name, power_cut=True)
        until("the reason is told", 60, lambda: state(lab, host)["reason"] == "/usr/bin/crun has changed")
        until("workload answers after the reboot", 180, lambda: bool(ask(lab.hosts, host)))
        assert engines_of_pods(lab, host) == ["distro"]
    until_live(lab, host, "lean")


@pytest.mark.full
def test_site_mends_a_damaged_engine(lab: Lab, host: Host) -> None:
    shell(lab.hosts, host, f"printf x >> {bundle(lab, host)}/libLLVM.so.19.1")
    until_live(lab, host, "distro")
    words = ("edgefleet.wasm.site", "--limit", f"{host.name},localhost", "--tags", "wasm_runtime")
    run = playbook(lab.paths, *words)
    assert run.returncode == 0, run.stdout + run.stderr
    assert recap(run.stdout)[host.name]["changed"] == 1, run.stdout
    until_live(lab, host, "lean")
    assert recap(playbook(lab.paths, *words).stdout)[host.name]["changed"] == 0


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (
            {"wasm_runtime_archive_version": "0.17.0"},
            "wasm_runtime_archive_version: WasmEdge 0.17.0 interprets compiled modules under crun",
        ),
        (
            {"wasm_runtime_archive_version": "0.15.1"},
            "wasm_runtime_archive_version: WasmEdge 0.15.1 reads compiled modules of format 2; this site",
        ),
        ({}, "has no file and sha256 for wasm_runtime_archive_version (not set) on amd64"),
        (
            {"wasm_runtime_engine": "distro", "edgefleet_aot_format": 2},
            "WasmEdge 0.14.1+dfsg-3.1 reads compiled modules of format 1; this site",
        ),
        (
            {"wasm_runtime_engine": "lean", "wasm_runtime_packages_version": "other"},
            "wasm-runtime-packages other amd64 (wasm-runtime-packages-amd64.tar) not in the mirror",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_changes(
    lab: Lab, host: Host, variables: dict[str, Any], reason: str
) -> None:
    pins = {version: {"amd64": {"file": "own.tar.gz", "sha256": "0" * 64}} for version in ("0.15.1", "0.17.0")}
    given = {"wasm_runtime_engine": "archive", "wasm_runtime_archive_releases": pins, **variables}
    run = playbook(lab.paths, "edgefleet.wasm.site", "--limit", f"{host.name},localhost", "-e", json.dumps(given))
    assert run.returncode != 0
    assert reason in " ".join(run.stdout.split())
    assert recap(run.stdout)[host.name]["changed"] == 0
    assert state(lab, host)["live"] == "lean"


@pytest.mark.full
def test_host_whose_packages_the_mirror_does_not_know_runs_debians_engine(lab: Lab, host: Host) -> None:
    words = ("edgefleet.wasm.site", "--limit", f"{host.name},localhost", "--tags", "wasm_runtime")
    with altered(lab, host, DEBIAN, 'printf x >> "$1"'):
        run = playbook(lab.paths, *words)
        assert run.returncode == 0, run.stdout + run.stderr
        told = " ".join(run.stdout.split())
        assert "runs Wasm with the engine distro, not lean: the mirror has no wasm-engine-lean for this host" in told
        until_live(lab, host, "distro")
    until_live(lab, host, "lean")


def test_an_image_for_another_engine_is_refused_before_any_host_gets_it(lab: Lab, host: Host) -> None:
    """To hosts that read format 2 the workload's image of format 1 would be one to interpret."""
    words = ("--limit", f"{host.name},localhost", "-e", "edgefleet_aot_format=2")
    run = playbook(lab.paths, "edgefleet.wasm.deploy", *words)
    assert run.returncode != 0
    told = " ".join(run.stdout.split())
    assert "was compiled for WasmEdge 0.14.x (format 1), and hosts read format 2 (edgefleet_aot_format)" in told
    assert recap(run.stdout)[host.name]["changed"] == 0
