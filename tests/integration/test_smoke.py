"""The smoke test on a real host: it passes, and each of its checks fails for the right reason."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import core, probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Layer
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.verdicts import NATIVE_TRUST_MS

from lab.hosts import Host
from lab.session import Lab
from tests.integration.hosts import playbook, recap, shell, until
from tests.integration.traces import left_behind

pytestmark = pytest.mark.lab
SCHEMA = json.loads((Path(core.__file__).parent / "schema.json").read_text(encoding="utf-8"))
# All that a test may leave: folders, control groups, pods in containerd and in Kubernetes, processes.
# In front of a runtime: every container is a native one, whatever its annotations say.
NO_HANDLER = """\
for word; do [ ! -f "$word/config.json" ] || sed -i s/compat-smart/none/ "$word/config.json"; done
exec crun "$@"\
"""
# Few samples: what is tested here is the verdict, not the host.
QUICK = "wasm_smoke_samples=5"
# In front of a runtime: nothing of what a module must not get is kept from it.
HOLDS_NOTHING = """\
for word; do
  config="$word/config.json"
  [ -f "$config" ] || continue
  case "$word" in
    */grow) sed -i 's/"limit": 67108864/"limit": 536870912/' "$config" ;;
    */spin) sed -i 's/"quota": [0-9]*/"quota": 100000/' "$config" ;;
    */files)
      sed -i 's/"bind", "nosuid", "nodev", "ro"/"bind", "nosuid", "nodev", "rw"/' "$config"
      canary=$(dirname "$word")/canary
      if [ -f "$canary" ]; then mkdir -p "$word/rootfs/$(dirname "$canary")"; cp "$canary" "$word/rootfs/$canary"; fi ;;
    */socket) sed -i 's/{"type": "uts"}/{"type": "uts"}, {"type": "network"}/' "$config" ;;
    */concurrent-3) exit 1 ;;
  esac
done
case "$*" in *" kill "*) exit 0 ;; esac
exec crun "$@"\
"""
# In front of a runtime: every container gets a twentieth of a CPU, as on a host that is held back.
THROTTLED = """\
less='"cpu": {"period": 20000, "quota": 1000}'
for word; do
  [ ! -f "$word/config.json" ] || sed -i 's/"resources": {"m/"resources": {'"$less"', "m/' "$word/config.json"
done
exec crun "$@"\
"""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


Smoke = Callable[..., tuple[subprocess.CompletedProcess[str], dict[str, Any]]]


@pytest.fixture
def smoke(lab: Lab, host: Host, reports: Path) -> Smoke:
    """Play smoke.yml with variables; the run, and the document that it wrote."""

    def play(*variables: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
        given = [word for one in (f"edgefleet_report_dir={reports}", QUICK, *variables) for word in ("-e", one)]
        run = playbook(lab.paths, "edgefleet.wasm.smoke", "--limit", f"{host.name},localhost", *given)
        document = json.loads((reports / f"{host.name}.json").read_text(encoding="utf-8"))
        jsonschema.validate(document, SCHEMA)
        assert left_behind(lab, host) == set()
        return run, document

    return play


def by_id(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in document["lines"]}


@contextmanager
def runtime(lab: Lab, host: Host, script: str) -> Iterator[str]:
    """A stand-in for crun on the host, for as long as it takes."""
    path = "/usr/local/sbin/edgefleet-test-crun"
    shell(lab.hosts, host, f"cat > {path} <<'END'\n#!/bin/sh\n{script}\nEND\nchmod 755 {path}")
    try:
        yield f"wasm_smoke_runtime={path}"
    finally:
        shell(lab.hosts, host, f"rm -f {path}")


def real_probes(lab: Lab) -> dict[str, bytes]:
    (found,) = probes.compiled_probes(Mirror(lab.paths.mirror))
    return dict(found.modules)


def mirror_of(folder: Path, modules: dict[str, bytes]) -> str:
    """A mirror with compiled probes that say of themselves to be what the host's engine takes."""
    folder.mkdir()
    archive = folder / "archive"
    listed = []
    with tarfile.open(archive, "w:gz") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for name, content in modules.items():
            listed.append({"name": name, "file": f"{name}.wasm", "sha256": hashlib.sha256(content).hexdigest()})
            add(f"{name}.wasm", content)
        index = {"engine": "wasmedge", "engine_version": "0.14.1", "arch": "amd64", "modules": listed}
        add("probes.json", json.dumps(index).encode())
    release = Release("wasm-probes", f"{probes.VERSION}-wasmedge-0.14.1", "amd64", "wasm-probes-amd64.tar.gz")
    Mirror(folder / "mirror").add(release, archive, "made by a test")
    return f"edgefleet_mirror_dir={folder / 'mirror'}"


def test_a_prepared_host_passes_every_function_check(smoke: Smoke, reports: Path, host: Host) -> None:
    run, document = smoke("wasm_smoke_samples=20")
    assert run.returncode == 0, run.stdout
    assert recap(run.stdout)[host.name] == {"changed": 0, "unreachable": 0, "failed": 0}
    lines = by_id(document)
    assert {name: one["reason"] for name, one in lines.items() if one["layer"] == "function"} == {
        check.id: "" for check in core.every_check() if check.layer is Layer.FUNCTION
    }
    assert lines["aot"]["measured"] >= 10
    cold = lines["cold_start_crun"]
    assert cold["n"] == 20
    # The site runs Debian's engine without LLVM; on a busy machine nothing can be said of its speed.
    assert "libLLVM" not in cold["reason"]
    engine = document["identity"]["engine"]
    assert (engine["version"], engine["llvm"]) == ("0.14.1", "none")
    report = (reports / "report.md").read_text(encoding="utf-8")
    for artifact in document["identity"]["artifacts"]:
        assert artifact["source"] in report
    assert document["identity"]["compiled_probes"]["source"] in report
    assert re.search(r"^ +edge1 +cold_start_crun ", run.stdout, re.MULTILINE), "the table is not on the terminal"


@pytest.mark.full
def test_speed_fails_the_play_when_asked_to(smoke: Smoke) -> None:
    run, document = smoke("wasm_smoke_fail_on=all")
    slow = [one["id"] for one in document["lines"] if one["status"] in ("fail", "invalid")]
    too_slow = slow[:1] == ["cold_start_crun"]
    assert run.returncode == (2 if slow else 0)
    assert ("checks did not pass: cold_start_crun: " in " ".join(run.stdout.split())) == too_slow


@pytest.mark.full
def test_a_plain_module_in_place_of_the_compiled_one_is_interpreted(lab: Lab, smoke: Smoke, tmp_path: Path) -> None:
    modules = {**real_probes(lab), "fib": probes.compile_wat("fib")}
    run, document = smoke(mirror_of(tmp_path / "plain", modules))
    line = by_id(document)["aot"]
    assert line["status"] == "fail"
    assert line["reason"].startswith("the engine interprets")
    assert 0.3 < line["measured"] < 3
    assert run.returncode == 2


@pytest.mark.full
def test_damaged_code_in_a_compiled_module_fails(lab: Lab, smoke: Smoke, tmp_path: Path) -> None:
    modules = real_probes(lab)
    fib = modules["fib"]
    at = fib.index(b"\x08wasmedge") + 9
    run, document = smoke(mirror_of(tmp_path / "damaged", {**modules, "fib": fib[:at] + b"\xff" * 64 + fib[at + 64 :]}))
    lines = by_id(document)
    assert lines["aot"]["status"] == "fail"
    assert lines["nonce"]["status"] == "pass"
    assert run.returncode == 2


@pytest.mark.full
def test_a_truncated_compiled_module_fails(lab: Lab, smoke: Smoke, tmp_path: Path) -> None:
    modules = real_probes(lab)
    cut = {name: content[: len(content) // 2] for name, content in modules.items()}
    _, document = smoke(mirror_of(tmp_path / "cut", cut))
    lines = by_id(document)
    assert (lines["aot"]["status"], lines["cold_start_crun"]["status"]) == ("fail", "fail")
    assert "it is damaged" in lines["aot"]["reason"]
    assert lines["cold_start_crun"]["reason"].startswith("the compiled probe does not run: loading failed")


@pytest.mark.full
def test_no_compiled_probe_is_not_applicable_and_no_failure(smoke: Smoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run, document = smoke(f"edgefleet_mirror_dir={tmp_path / 'empty'}")
    lines = by_id(document)
    for name in ("aot", "cold_start_crun"):
        assert lines[name]["status"] == "not_applicable"
        assert lines[name]["reason"].startswith("no AOT probe for engine wasmedge 0.14.1 amd64")
    assert run.returncode == 0


def test_a_runtime_without_wasm_is_named(lab: Lab, host: Host, smoke: Smoke) -> None:
    hidden = "case \"$*\" in *--version*) crun --version | sed 's/ +WASM:wasmedge//'; exit ;; esac"
    with runtime(lab, host, f"{hidden}\n{NO_HANDLER}") as variable:
        run, document = smoke(variable)
    lines = by_id(document)
    assert lines["handler"]["reason"].endswith("was built without +WASM:wasmedge")
    assert lines["nonce"]["status"] == "fail"
    assert lines["trap"]["status"] == "not_applicable"
    assert run.returncode == 2


def test_a_handler_that_is_not_taken_is_seen_by_the_nonce_check(lab: Lab, host: Host, smoke: Smoke) -> None:
    with runtime(lab, host, NO_HANDLER) as variable:
        _, document = smoke(variable)
    lines = by_id(document)
    assert (lines["handler"]["status"], lines["nonce"]["status"]) == ("pass", "fail")
    assert "xec format error" in lines["nonce"]["reason"]


@pytest.mark.full
def test_what_does_not_hold_fails_each_by_its_own_reason(lab: Lab, host: Host, smoke: Smoke) -> None:
    with runtime(lab, host, HOLDS_NOTHING) as variable:
        run, document = smoke(variable)
    lines = by_id(document)
    reasons = {
        "read_only": "it has written to given/note, given/new, which is read-only",
        "escape": "it has read a file of the host by the path",
        "socket": "a connection to the module on 127.0.0.1 failed",
        "memory_limit": "the limit of 64 MiB does not hold: it got 192 MiB",
        "deadline": "it runs on after SIGKILL was sent through the OCI runtime",
        "concurrent": "1 of 4 did not run",
    }
    for name, reason in reasons.items():
        assert lines[name]["status"] == "fail", lines[name]
        assert reason in lines[name]["reason"]
        assert lines[name]["next"]
    # On a machine that has no CPU to give, no quota can be seen broken.
    assert lines["cpu_quota"]["status"] in ("fail", "invalid"), lines["cpu_quota"]
    # Times are another matter: the machine may be too busy for a good one.
    failed = {name for name, one in lines.items() if one["status"] == "fail" and not name.startswith("cold_")}
    assert failed <= {*reasons, "cpu_quota"}
    assert run.returncode == 2


@pytest.mark.full
def test_a_mount_that_cant_be_written_fails_and_says_nothing_of_read_only(lab: Lab, host: Host, smoke: Smoke) -> None:
    script = 'for word; do [ ! -f "$word/config.json" ] || sed -i \'s/"rw"/"ro"/\' "$word/config.json"; done'
    with runtime(lab, host, f'{script}\nexec crun "$@"') as variable:
        _, document = smoke(variable)
    lines = by_id(document)
    assert lines["files"]["reason"].startswith("a writable mount can't be written: errno ")
    assert lines["read_only"]["status"] == "not_applicable"


@pytest.mark.full
def test_a_host_that_is_held_back_gets_no_verdict_of_time(lab: Lab, host: Host, smoke: Smoke) -> None:
    with runtime(lab, host, THROTTLED) as variable:
        _, document = smoke(variable)
    line = by_id(document)["cold_start_crun"]
    assert line["status"] == "invalid"
    assert line["details"]["native_median"] > NATIVE_TRUST_MS


@contextmanager
def changed(lab: Lab, host: Host, change: str, back: str) -> Iterator[None]:
    """Something of the host that is not as it should be, for as long as it takes."""
    try:
        shell(lab.hosts, host, change)
        yield
    finally:
        shell(lab.hosts, host, back)


def behind(lab: Lab, host: Host, script: str) -> AbstractContextManager[None]:
    """Another program behind containerd's runtime of Wasm pods."""
    program, conf = "/usr/local/lib/edgefleet-test/crun", "/etc/containerd/conf.d/50-wasmedge.toml"
    make = f"mkdir -p $(dirname {program}); cat > {program} <<'END'\n#!/bin/bash\n{script}\nEND\nchmod 755 {program}"
    restart = "systemctl restart containerd"
    change = f"{make}\nsed -i.saved 's|^BinaryName = .*|BinaryName = \"{program}\"|' {conf}; {restart}"
    return changed(lab, host, change, f"mv -f {conf}.saved {conf}; {restart}; rm -rf $(dirname {program})")


@pytest.mark.full
def test_a_wrong_program_behind_the_runtime_is_seen(lab: Lab, host: Host, smoke: Smoke) -> None:
    with behind(lab, host, NO_HANDLER.replace("exec crun", "exec /usr/bin/crun")):
        run, document = smoke()
    lines = by_id(document)
    assert lines["nonce"]["status"] == "pass", "crun itself is well"
    assert lines["sidecar"]["status"] == "fail"
    assert "the Wasm handler is not taken" in lines["sidecar"]["cause"], lines["sidecar"]
    assert run.returncode == 2


@pytest.mark.full
def test_a_missing_runtime_is_seen(lab: Lab, host: Host, smoke: Smoke) -> None:
    conf = "/etc/containerd/conf.d/50-wasmedge.toml"
    restart = "systemctl restart containerd"
    with changed(lab, host, f"mv {conf} {conf}.saved; {restart}", f"mv {conf}.saved {conf}; {restart}"):
        _, document = smoke()
    line = by_id(document)["sidecar"]
    assert 'no runtime for "wasmedge" is configured' in line["reason"]
    assert "the drop-in of the role wasm_runtime is missing" in line["cause"]


@pytest.mark.full
def test_a_missing_shim_is_seen(lab: Lab, host: Host, smoke: Smoke) -> None:
    shim = "/usr/local/bin/containerd-shim-runc-v2"
    with changed(lab, host, f"mv {shim} {shim}.saved", f"mv {shim}.saved {shim}"):
        _, document = smoke()
    line = by_id(document)["sidecar"]
    assert line["status"] == "fail"
    assert line["cause"].startswith("containerd's shim is missing"), line


@pytest.mark.full
def test_a_process_that_outlives_its_pod_is_seen(lab: Lab, host: Host, smoke: Smoke) -> None:
    """As a shim does that is not told to end: it keeps the id of its container in its command line."""
    leak = (
        'case " $* " in *" delete "*) '
        'setsid bash -c \'exec -a "containerd-shim-leaks -id $0" sleep 30\' "${*: -1}" <&- >&- 2>&- & ;; esac\n'
        'exec /usr/bin/crun "$@"'
    )
    with behind(lab, host, leak):
        _, document = smoke()
    line = by_id(document)["cycles"]
    assert line["status"] == "fail", line
    assert "process " in line["reason"]


@pytest.mark.full
def test_a_standard_test_measures_whole_pods_within_its_time(lab: Lab, host: Host, smoke: Smoke) -> None:
    run, document = smoke("wasm_smoke_level=standard")
    assert run.returncode == 0, run.stdout
    lines = by_id(document)
    assert lines["cold_start_pod"]["n"] == 8
    assert lines["cold_start_pod"]["measured"] > lines["cold_start_cri"]["measured"] > 0
    assert lines["cold_start_crun"]["measured"] > lines["cold_start_engine"]["measured"] > 0
    assert document["seconds"] < 60, "on a machine that is not busy"


@pytest.mark.full
def test_a_slow_native_control_makes_the_cold_start_invalid(lab: Lab, host: Host, smoke: Smoke) -> None:
    with runtime(lab, host, 'case "$*" in *cold-native*) sleep 0.05 ;; esac\nexec crun "$@"') as variable:
        run, document = smoke(variable)
    line = by_id(document)["cold_start_crun"]
    assert line["status"] == "invalid"
    assert line["details"]["native_median"] > 50
    assert run.returncode == 0


@pytest.mark.full
def test_a_runtime_that_hangs_is_ended(lab: Lab, host: Host, smoke: Smoke) -> None:
    with runtime(lab, host, 'case "$*" in *nonce*) sleep 300 ;; esac\nexec crun "$@"') as variable:
        run, document = smoke(variable, "wasm_smoke_timeout=2")
    assert by_id(document)["nonce"]["reason"] == "no end within the time limit"
    assert run.returncode == 2
    assert shell(lab.hosts, host, "pgrep -fc 'sleep [3]00' || true").strip() == "0"


def test_check_mode_starts_nothing_and_writes_nothing(lab: Lab, host: Host, reports: Path) -> None:
    with runtime(lab, host, 'case "$*" in *--bundle*) touch /run/test-ran ;; esac\nexec crun "$@"') as variable:
        run = playbook(
            lab.paths, "edgefleet.wasm.smoke", "--check", "-e", f"edgefleet_report_dir={reports}", "-e", variable
        )
    assert run.returncode == 0, run.stdout
    assert "check mode: no container was started" in " ".join(run.stdout.replace("- ", "").split())
    assert not reports.exists()
    assert shell(lab.hosts, host, "ls /run/test-ran 2>/dev/null || true").strip() == ""


# What a test is at when it is killed: a file that is there from then on, and what makes it take its time.
STAGES = {
    "crun": ("cold-native", ["-e", "wasm_smoke_samples=1000"]),
    "cri": ("cri", ["-e", "wasm_smoke_level=full", "-e", "wasm_smoke_samples=5"]),
    "pods": ("pods", ["-e", "wasm_smoke_level=standard", "-e", "wasm_smoke_samples=5"]),
}


@pytest.mark.parametrize(
    "stage", ["crun", pytest.param("cri", marks=pytest.mark.full), pytest.param("pods", marks=pytest.mark.full)]
)
def test_a_killed_run_is_cleaned_up_by_the_next(lab: Lab, host: Host, smoke: Smoke, reports: Path, stage: str) -> None:
    file, slow = STAGES[stage]
    words = ["-e", f"edgefleet_report_dir={reports}", *slow]
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(lab.paths.inventory), "edgefleet.wasm.smoke", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as play:
        try:
            until("a test is under way", 120, lambda: _folder_at(lab, host, file) != "")
            time.sleep(1)
            owner = _folder_at(lab, host, file).partition(".")[2].partition("-")[0]
            shell(lab.hosts, host, f"kill -9 {owner}")
        finally:
            assert play.wait(timeout=60) == 2
    assert _folder_at(lab, host, file) != "", "nothing was left: the test was not killed in the middle"
    run, _ = smoke()
    assert run.returncode == 0, run.stdout


def _folder_at(lab: Lab, host: Host, file: str) -> str:
    """The working folder of a test that has come so far."""
    found = shell(lab.hosts, host, f"ls -d /run/edgefleet-smoke.*/{file} 2>/dev/null || true").strip()
    return found.removeprefix("/run/").partition("/")[0]


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("wasm_smoke_samples=2", "samples is 2, must be from 5 to 1000 (wasm_smoke_samples"),
        ("wasm_smoke_samples=many", "'samples'"),
        ("wasm_smoke_fail_on=sometimes", "value of fail_on must be one of: none, function, all, got: sometimes"),
        (
            "edgefleet_report_dir=/dev/null/reports",
            "report_dir /dev/null/reports (edgefleet_report_dir) can't be written",
        ),
    ],
)
def test_bad_input_is_one_error_before_the_host_is_reached(lab: Lab, variable: str, message: str) -> None:
    run = playbook(lab.paths, "edgefleet.wasm.smoke", "-e", variable)
    assert run.returncode == 2
    assert message in " ".join(run.stdout.split()), run.stdout
