# SPDX-License-Identifier: Apache-2.0
"""Section: what a module gets, what it must not get, and that its limits hold."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import identity, verdicts
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.bench import Bench, attempted
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.checks import COMPARE, complaint, judged, unclean
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import (
    NOBODY,
    Bundle,
    Containers,
    Limits,
    Mount,
    Running,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import (
    Check,
    Findings,
    Layer,
    Level,
    Line,
    SmokeError,
    Status,
    line,
)

NAME = "isolation"
LEAST = Level.QUICK

MEMORY_LIMIT_MIB = 64
CPU_QUOTA = 0.1
_STEP_MIB = 8
_SPIN_MS = 600
_KILL_AFTER_S = 0.2
_TRIES = 2

FILES = Check("files", Layer.FUNCTION, "a module reads files that it is given, and writes where it may")
READ_ONLY = Check("read_only", Layer.FUNCTION, "a module can't write to a read-only mount, nor to its image")
ESCAPE = Check("escape", Layer.FUNCTION, "a module can't read a file of the host outside of its root")
SOCKET = Check("socket", Layer.FUNCTION, "a module serves a TCP connection on the loopback interface")
MEMORY = Check(
    "memory_limit",
    Layer.FUNCTION,
    "a module that takes ever more memory is ended at its limit, the host unharmed",
    limit=float(MEMORY_LIMIT_MIB),
    unit="MiB",
)
CPU = Check(
    "cpu_quota",
    Layer.FUNCTION,
    f"a module that computes without end gets its quota of {CPU_QUOTA:g} CPU, not more",
    limit=verdicts.CPU_MOST,
    unit="CPU",
)
DEADLINE = Check(
    "deadline",
    Layer.FUNCTION,
    "an endless loop is ended at its deadline: from the signal to the end",
    limit=verdicts.DEADLINE_MS,
    unit="ms",
)
CONCURRENT = Check("concurrent", Layer.FUNCTION, "modules that are started at the same time all run", unit="ms")
CHECKS = (FILES, READ_ONLY, ESCAPE, SOCKET, MEMORY, CPU, DEADLINE, CONCURRENT)


def measure(bench: Bench) -> Findings:
    containers, plain = bench.containers, bench.payload.plain
    files = containers.bundle("files", plain["files"])
    spin = containers.bundle("spin", plain["spin"])
    lines = [
        *_mounts(containers, files),
        _escape(containers, files),
        _socket(containers, containers.bundle("socket", plain["socket"])),
    ]
    if containers.limited:
        lines += [_memory(bench), *attempted((CPU,), lambda: _cpu(containers, spin)).lines]
    else:
        reason = "no limits: cgroup_manager is disabled"
        lines += [line(check, Status.NOT_APPLICABLE, reason) for check in (MEMORY, CPU)]
    return Findings([*lines, _deadline(containers, spin), _concurrent(bench)])


def _mounts(containers: Containers, bundle: Bundle) -> list[Line]:
    """Both checks on the same two mounts: of what is only tried where it must fail, nobody knows why it did."""
    secret = secrets.token_hex(16)
    given, kept = containers.folder / "given", containers.folder / "kept"
    for folder in (given, kept):
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
    (given / "note").write_text(secret, encoding="utf-8")
    os.chown(given / "note", NOBODY, NOBODY)
    for name in ("given", "kept"):
        (bundle.folder / "rootfs" / name).mkdir()
    mounts = (Mount(given, "/given"), Mount(kept, "/kept", writable=True))

    def said(*args: str) -> tuple[bool, str]:
        ended = containers.start(bundle, args, mounts=mounts).ended
        out = ended.out.decode("utf-8", "replace")
        return out.startswith("ok "), out.strip()[:80] or complaint(ended)

    wrong = None
    read, text = said("r", "given/note")
    if text != f"ok {secret}":
        wrong = f"reading a file of a mount gave {text!r}" if read else f"a file of a mount can't be read: {text}"
    else:
        wrote, text = said("w", "kept/answer", secret)
        if not wrote:
            wrong = f"a writable mount can't be written: {text}"
        elif _content(kept / "answer") != secret:
            wrong = "what a module has written is not there on the host"
    found = [judged(FILES, wrong, COMPARE)]
    if wrong:
        reason = "needs the check files to pass: else all that is refused would look right"
        return [*found, line(READ_ONLY, Status.NOT_APPLICABLE, reason)]
    wrote_to = [path for path in ("given/note", "given/new", "new") if said("w", path, "harm")[0]]
    harmed = [name for name, before in (("note", secret), ("new", "")) if _content(given / name) != before]
    wrong = None
    if wrote_to or harmed:
        wrong = f"it has written to {', '.join(wrote_to or harmed)}, which is read-only"
    return [*found, judged(READ_ONLY, wrong, COMPARE)]


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _escape(containers: Containers, bundle: Bundle) -> Line:
    """Ways that have led out of a root before: up, by links, and through the processes of the host."""
    secret = secrets.token_hex(16)
    canary = containers.folder / "canary"
    canary.write_text(secret, encoding="utf-8")
    canary.chmod(0o644)
    root = bundle.folder / "rootfs"
    (root / "link").symlink_to(canary)
    (root / "up").symlink_to("../../canary")
    whole = str(canary).lstrip("/")
    ways = ("../../canary", f"../../../../../../{whole}", whole, "link", "up", f"proc/1/root/{whole}", f"/{whole}")
    for way in ways:
        ended = containers.start(bundle, ["r", way]).ended
        if secret.encode() in ended.out:
            return judged(ESCAPE, f"it has read a file of the host by the path {way}", COMPARE)
        if not ended.out.startswith((b"errno ", b"ok ")):
            return judged(ESCAPE, f"the path {way} could not be tried: {complaint(ended)}", COMPARE)
    return line(ESCAPE, Status.PASS, n=len(ways))


def _socket(containers: Containers, bundle: Bundle) -> Line:
    """Twice, if need be: a port that was free a moment ago may be taken."""
    for _ in range(_TRIES):
        sent, got = secrets.token_bytes(16), b""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def ask(_: Running, port: int = port, sent: bytes = sent) -> None:
            nonlocal got
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    connection.sendall(sent)
                    got = connection.recv(1024)
            except OSError as error:
                got = str(error).encode()

        ended = containers.start(bundle, [str(port)], while_open=ask).ended
        if got == sent:
            return line(SOCKET, Status.PASS, n=1)
    said = got.decode("utf-8", "replace") if got else complaint(ended)
    return judged(SOCKET, f"a connection to the module on 127.0.0.1 failed: {said}", COMPARE)


def _memory(bench: Bench) -> Line:
    before = _services()
    bundle = bench.containers.bundle("grow", bench.payload.plain["grow"])
    limits = Limits(memory=MEMORY_LIMIT_MIB << 20)
    ended = bench.containers.start(bundle, limits=limits).ended
    got = ended.out.count(b".") * _STEP_MIB
    lost = before - _services()
    again = bench.containers.start(bench.containers.bundle("after", bench.payload.plain["nonce"])).ended
    wrong = None
    if got > MEMORY_LIMIT_MIB:
        wrong = f"the limit of {MEMORY_LIMIT_MIB} MiB does not hold: it got {got} MiB"
    elif b" end" in ended.out or ended.rc == 0:
        wrong = f"it was not ended: memory was refused to it at {got} MiB, below its limit"
    elif ended.timed_out:
        wrong = f"{complaint(ended)}, at {got} MiB"
    elif got == 0:
        wrong = f"it did not come to take memory: {complaint(ended)}"
    elif lost:
        wrong = f"processes of the host ended with it: {', '.join(sorted(name for _, name in lost))}"
    elif bench.payload.nonce.encode() not in again.out:
        wrong = f"no module runs after it: {complaint(again)}"
    if wrong is None:
        return line(MEMORY, Status.PASS, measured=got, n=1)
    cause = "the memory controller is off, or the cgroup driver of crun is not that of the host"
    step = "grep memory /proc/cgroups; cat /sys/fs/cgroup/cgroup.controllers"
    return line(MEMORY, Status.FAIL, wrong, measured=got, n=1, cause=cause, next_step=step)


def _services() -> set[tuple[int, str]]:
    """Processes that a host can't do without, by pid and name."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        if name in ("containerd", "k3s", "k3s-server", "k3s-agent", "sshd", "systemd", "systemd-journal"):
            found.add((int(folder.name), name))
    # Of sshd only those that stay: a login of another run may end at any time.
    return {(pid, name) for pid, name in found if name != "sshd" or os.getsid(pid) == pid}


def _cpu(containers: Containers, bundle: Bundle) -> Findings:
    """With a quota, where the kernel may say that it was held back, and without one: a busy host keeps every quota."""
    held = 0.0

    def look(container: Running) -> None:
        nonlocal held
        time.sleep(_SPIN_MS / 2000)
        held = identity.throttled_seconds(container.pid()) or 0.0

    limited = _cpus(containers, bundle, CPU_QUOTA, look)
    free = _cpus(containers, bundle, None, None)
    return Findings([verdicts.cpu_quota(CPU, limited, free, held)])


def _cpus(containers: Containers, bundle: Bundle, quota: float | None, look: Callable[[Running], None] | None) -> float:
    """CPU seconds a second that a computing module gets."""
    limits = Limits(cpus=quota)
    ended = containers.start(bundle, [str(_SPIN_MS)], limits=limits, while_open=look).ended
    if ended.rc != 0:
        raise SmokeError(f"the probe spin does not run: {complaint(ended)}")
    return ended.cpu_seconds / ended.seconds


def _deadline(containers: Containers, bundle: Bundle) -> Line:
    killed = 0.0

    def kill(container: Running) -> None:
        nonlocal killed
        time.sleep(_KILL_AFTER_S)
        killed = time.monotonic()
        container.kill()

    outcome = containers.start(bundle, timeout=10 + _KILL_AFTER_S, while_open=kill)
    took = (time.monotonic() - killed) * 1000
    wrong = None
    if not killed:
        wrong = f"it did not run: {complaint(outcome.ended)}"
    elif outcome.ended.timed_out:
        wrong = "it runs on after SIGKILL was sent through the OCI runtime"
    elif unclean(outcome):
        wrong = unclean(outcome)
    elif took > verdicts.DEADLINE_MS:
        wrong = "its end took too long"
    step = "journalctl -b -p warning"
    return judged(DEADLINE, wrong, step, measured=took if killed and not outcome.ended.timed_out else None)


def _concurrent(bench: Bench) -> Line:
    """Each module says its own argument: an answer in another's place is seen."""
    containers, number = bench.containers, bench.effort.concurrent
    bundles = [containers.bundle(f"concurrent-{index}", bench.payload.plain["echo"]) for index in range(number)]

    def start(bundle: Bundle) -> str | None:
        fresh = secrets.token_hex(8)
        outcome = containers.start(bundle, [fresh])
        ran = outcome.ended.rc == 0 and fresh.encode() in outcome.ended.out.split(b"\0") and outcome.clean
        return None if ran else complaint(outcome.ended)

    began = time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        complaints = [one for one in pool.map(start, bundles) if one]
    took = (time.monotonic() - began) * 1000
    return _all_ran(complaints, number, took)


def _all_ran(complaints: Sequence[str], number: int, took: float) -> Line:
    if not complaints:
        return line(CONCURRENT, Status.PASS, measured=took, n=number)
    reason = f"{len(complaints)} of {number} did not run: {complaints[0]}"
    step = "journalctl -b -p warning; cat /proc/sys/kernel/pid_max /proc/sys/fs/file-nr"
    return line(CONCURRENT, Status.FAIL, reason, measured=took, n=number, next_step=step)
