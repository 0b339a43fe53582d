"""The Wasm workload as the site's network and the host see it, and the crate's own tests."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import workload
from lab.builders import wasm
from lab.builders.toolchain import RESULTS, SOURCES, Toolchain
from lab.hosts import Host
from lab.progress import Progress
from lab.session import Lab
from tests.integration.hosts import shell, until

pytestmark = pytest.mark.lab
USER_ID = wasm.USER.partition(":")[0]


@pytest.fixture(scope="module")
def port(lab: Lab, host: Host) -> int:
    return workload.port(lab.hosts, host)


def get(host: Host, port: int, target: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(workload.fetch(f"http://{host.address}:{port}{target}"))
    return document


def kubectl(lab: Lab, host: Host, *words: str) -> tuple[int, str]:
    return lab.hosts.exec(host.name, ["k3s", "kubectl", "-n", workload.NAMESPACE, *words])


def pods(lab: Lab, host: Host) -> set[str]:
    """The names of the pods that are not on their way out."""
    code, out = kubectl(lab, host, "get", "pods", "-o", "json")
    assert code == 0, out
    return {p["metadata"]["name"] for p in json.loads(out)["items"] if "deletionTimestamp" not in p["metadata"]}


def test_it_answers_from_outside_for_this_request_and_as_wasm(host: Host, port: int) -> None:
    for nonce in (secrets.token_hex(8), secrets.token_hex(8)):
        document = get(host, port, f"/?nonce={nonce}")
        assert document["nonce"] == nonce
        assert document["platform"] == wasm.WASM_TARGET
        assert document["skeleton"] is True
        assert document["version"] == wasm.crate_version(wasm.SKELETON)


def test_its_process_is_the_engine_without_any_privilege(lab: Lab, host: Host) -> None:
    # The pod's other process, pause, is of the same user.
    mapped = f"for p in $(pgrep -u {USER_ID}); do grep -q libwasmedge /proc/$p/maps && echo $p; done; true"
    (process,) = shell(lab.hosts, host, mapped).split()
    lines = shell(lab.hosts, host, f"cat /proc/{process}/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"] == [USER_ID] * 4
    assert int(status["CapEff"][0], 16) == int(status["CapBnd"][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"], "2 is a filter"


def test_its_namespace_admits_nothing_more_privileged(lab: Lab, host: Host) -> None:
    run = f"k3s kubectl -n {workload.NAMESPACE} run intruder --image=any --privileged --dry-run=server 2>&1 || true"
    assert 'violates PodSecurity "restricted:v1.30"' in shell(lab.hosts, host, run)


async def one_client(host: Host, port: int, requests: int) -> list[float]:
    """Ask on one connection, one request after the other; how long each took."""
    reader, writer = await asyncio.open_connection(host.address, port)
    times = []
    for _ in range(requests):
        nonce = secrets.token_hex(8)
        began = time.monotonic()
        writer.write(f"GET /?nonce={nonce} HTTP/1.1\r\nHost: skeleton\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200 "), head
        length = next(int(line.split()[1]) for line in head.splitlines() if line.startswith("Content-Length:"))
        assert json.loads(await reader.readexactly(length))["nonce"] == nonce
        times.append(time.monotonic() - began)
    writer.close()
    return times


async def crowd(host: Host, port: int) -> list[float]:
    """Twenty clients that ask, among a hundred that never finish their request."""
    stuck = [await asyncio.open_connection(host.address, port) for _ in range(100)]
    for _, writer in stuck:
        writer.write(b"GET / HTTP/1.1\r\nHost: skel")
    try:
        async with asyncio.timeout(60):
            answered = await asyncio.gather(*(one_client(host, port, 100) for _ in range(20)))
    finally:
        for _, writer in stuck:
            writer.close()
    return sorted(seconds for times in answered for seconds in times)


def test_clients_that_are_stuck_do_not_hold_up_the_others(host: Host, port: int) -> None:
    times = asyncio.run(crowd(host, port))
    assert len(times) == 2000
    # A server that waited for a stuck client would wait until it cuts that off, after 5 s.
    assert times[-1] < 4, f"median {times[len(times) // 2]:.3f} s, longest {times[-1]:.3f} s"


@contextmanager
def asking(host: Host, port: int) -> Iterator[list[str]]:
    """Ask again and again, each time on a new connection; yields the errors so far."""
    errors: list[str] = []
    going = True

    def ask() -> int:
        count = 0
        while going:
            try:
                get(host, port, "/?nonce=1")
            except OSError as error:
                errors.append(str(error))
            count += 1
            time.sleep(0.02)
        return count

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        try:
            yield errors
        finally:
            going = False
    assert asked.result() > 10


def test_a_new_version_takes_over_without_a_lost_request(lab: Lab, host: Host, port: int) -> None:
    before = pods(lab, host)
    with asking(host, port) as errors:
        code, out = kubectl(lab, host, "rollout", "restart", "deployment/skeleton")
        assert code == 0, out
        code, out = kubectl(lab, host, "rollout", "status", "deployment/skeleton", "--timeout=60s")
        assert code == 0, out
        until("the old pod gone", 30, lambda: not before & pods(lab, host))
        time.sleep(3)
    assert errors == []


def test_the_crates_own_tests_pass(lab: Lab, tmp_path: Path) -> None:
    """With the compiler that builds the images; its version is the one that counts."""
    toolchain = Toolchain(lab.paths.cache / "toolchain", Progress())
    test = [
        "sh",
        "-euc",
        f"cd {SOURCES} && cargo test --locked > {RESULTS}/said 2>&1 || {{ cat {RESULTS}/said; exit 1; }}",
    ]
    toolchain.execute("test the skeleton service", test, sources=wasm.SKELETON, results=tmp_path)
    passed = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("test result: ok. ")]
    assert len(passed) == 4, "unit tests, main, tests/server.rs, documentation"
