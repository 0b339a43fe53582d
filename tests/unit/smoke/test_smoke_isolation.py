"""What a module must not get: each of these checks is seen failing, and for its own reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import isolation, probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended, run_command

from tests.unit.smoke.fake_crun import FakeCrun
from tests.unit.smoke.test_smoke_core import by_id, document


@pytest.mark.parametrize(
    ("lacks", "check", "status", "reason"),
    [
        ("files", "files", "fail", "what a module has written is not there on the host"),
        ("files", "read_only", "not_applicable", "needs the check files to pass"),
        ("read_only", "read_only", "fail", "it has written to given/note, given/new, new, which is read-only"),
        ("escape", "escape", "fail", "it has read a file of the host by the path"),
        ("socket", "socket", "fail", "a connection to the module on 127.0.0.1 failed: wrong"),
        ("memory", "memory_limit", "fail", "the limit of 64 MiB does not hold: it got 192 MiB"),
        ("cpu", "cpu_quota", "fail", "the quota does not hold: it got 1.00 CPU"),
        ("no_cpu", "cpu_quota", "invalid", "without a quota it got 0.30 CPU only"),
    ],
)
def test_what_does_not_hold_is_named(tmp_path: Path, lacks: str, check: str, status: str, reason: str) -> None:
    lines = by_id(document(FakeCrun(lacks=lacks), tmp_path))
    assert lines[check]["status"] == status
    assert reason in lines[check]["reason"]
    others = {one["id"] for one in lines.values() if one["status"] in ("fail", "invalid")} - {check}
    assert others <= {"files"}, "only what does not hold fails"


@pytest.mark.parametrize(
    ("bundle", "ended", "check", "reason"),
    [
        ("files", Ended(1, b"", "boom"), "files", "a file of a mount can't be read: boom"),
        ("files", Ended(1, b"", "boom"), "escape", "could not be tried: boom"),
        ("grow", Ended(1, b"", "boom"), "memory_limit", "it did not come to take memory: boom"),
        ("grow", Ended(0, b"... end\n", ""), "memory_limit", "memory was refused to it at 24 MiB"),
        ("after", Ended(1, b"", "boom"), "memory_limit", "no module runs after it: boom"),
        ("spin", Ended(1, b"", "boom"), "cpu_quota", "the probe spin does not run: boom"),
        ("spin", Ended(1, b"", "boom"), "deadline", "it did not run: boom"),
        ("concurrent-2", Ended(1, b"", "boom"), "concurrent", "1 of 4 did not run: boom"),
    ],
)
def test_a_check_fails_for_its_reason(tmp_path: Path, bundle: str, ended: Ended, check: str, reason: str) -> None:
    line = by_id(document(FakeCrun(broken={bundle: ended}), tmp_path))[check]
    assert reason in line["reason"]
    assert line["status"] == ("invalid" if check == "cpu_quota" else "fail")


def test_a_loop_that_outlives_its_deadline_fails(tmp_path: Path) -> None:
    line = by_id(document(FakeCrun(ignores_kill=True), tmp_path))["deadline"]
    assert (line["status"], line["reason"]) == ("fail", "it runs on after SIGKILL was sent through the OCI runtime")


def test_a_service_of_the_host_that_is_lost_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([{(7, "containerd"), (8, "k3s")}, {(8, "k3s")}])
    monkeypatch.setattr(isolation, "_services", lambda: next(seen))
    line = by_id(document(FakeCrun(), tmp_path))["memory_limit"]
    assert (line["status"], line["reason"]) == ("fail", "processes of the host ended with it: containerd")


def test_without_control_groups_limits_are_not_judged(tmp_path: Path) -> None:
    lines = by_id(document(FakeCrun(), tmp_path, cgroup_manager="disabled"))
    assert {lines[name]["status"] for name in ("memory_limit", "cpu_quota")} == {"not_applicable"}
    assert lines["deadline"]["status"] == "pass"


def run_probe(name: str, root: Path, *args: str) -> tuple[bool, bytes]:
    """The real probe, in wasmtime with a folder as its root."""
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["probe.wasm", *args]
    out = root.parent / "out"
    wasi.stdout_file = str(out)
    wasi.preopen_dir(str(root), "/")
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    instance = linker.instantiate(store, wasmtime.Module(engine, probes.compile_wat(name)))
    start = instance.exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.Trap:
        return False, out.read_bytes()
    return True, out.read_bytes()


def test_the_files_probe_reads_writes_and_says_what_was_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("out of reach")
    (root / "note").write_text("hello")
    (root / "link").symlink_to("../secret")
    assert run_probe("files", root, "r", "note") == (True, b"ok hello")
    assert run_probe("files", root, "w", "new", "text") == (True, b"ok ")
    assert (root / "new").read_text() == "text"
    for way in ("../secret", "link", "/etc/hostname"):
        ran, said = run_probe("files", root, "r", way)
        assert not ran
        assert said in (b"errno 63\n", b"errno 76\n")
    assert run_probe("files", root, "r", "none") == (False, b"errno 44\n")


def test_the_probe_that_takes_memory_stops_by_itself(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    assert run_probe("grow", root) == (True, b"." * 24 + b" end\n")


def test_cpu_time_is_that_of_all_that_was_waited_for() -> None:
    busy = (
        "import os, time\npid = os.fork()\nif not pid:\n    while time.process_time() < 0.2: pass\nelse:\n    os.wait()"
    )
    ended = run_command(["python3", "-S", "-c", busy], timeout=20)
    assert 0.2 <= ended.cpu_seconds < 0.6
    assert ended.seconds >= ended.cpu_seconds / 2
    assert run_command(["sleep", "9"], timeout=0.1).seconds == 0.0
