"""What the generators are asked, and what is read out of their records."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import mqtt, oha
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

ASK = oha.Ask("http://127.0.0.1:8080/", qps=100, seconds=3, slowest=0.05, prefix=("nsenter", "--net=/x"))
PUBLISH = mqtt.Ask("h", 1883, False, "device", "geheim", "a", "b", qps=10, seconds=1)


class Runs:
    """Stands for the program: does what it is told, and remembers how it was called."""

    def __init__(self, act: Callable[[list[str]], Ended]) -> None:
        self.act = act
        self.argv: list[str] = []

    def __call__(self, argv: Sequence[str], *, timeout: float, while_open: Any = None) -> Ended:
        assert timeout > 0
        assert while_open is None
        self.argv = list(argv)
        return self.act(self.argv)


def writes(rows: list[tuple[float, float, int]], errors: dict[str, int] | None = None) -> Callable[[list[str]], Ended]:
    """An oha that leaves this record."""

    def act(argv: list[str]) -> Ended:
        files = dict(word.split("=", 1) for word in argv if word.startswith(("--db-url=", "--output=")))
        with sqlite3.connect(files["--db-url"]) as database:
            database.execute("CREATE TABLE oha (start_latency_correction REAL, end REAL, status INTEGER)")
            database.executemany("INSERT INTO oha VALUES (?, ?, ?)", rows)
        Path(files["--output"]).write_text(json.dumps({"errorDistribution": errors or {}}))
        return Ended(0, b"", "")

    return act


def test_oha_is_asked_for_an_open_loop_from_inside_the_copys_network(tmp_path: Path) -> None:
    run = Runs(writes([]))
    oha.run(run, Path("/kit/oha"), tmp_path, ASK)
    assert run.argv[:3] == ["nsenter", "--net=/x", "/kit/oha"]
    words = " ".join(run.argv)
    for wanted in ("-q 100 ", "-z 3s ", "--latency-correction", "--wait-ongoing-requests-after-deadline", "-c 16 "):
        assert wanted in words
    assert run.argv[-1] == ASK.url
    assert "--insecure" not in words


def test_a_sites_own_certificate_is_taken(tmp_path: Path) -> None:
    run = Runs(writes([]))
    oha.run(run, Path("oha"), tmp_path, oha.Ask("https://127.0.0.1:30081/readyz", 10, 1, 0.05))
    assert "--insecure" in run.argv


def test_connections_are_enough_for_the_slowest_answers_and_few_enough_for_one_pod() -> None:
    assert [oha.connections(qps, slowest) for qps, slowest in ((500, 0.05), (100, 0.05), (1000, 0.1), (5000, 1))] == [
        25, 16, 100, 200,
    ]  # fmt: skip


def test_the_record_tells_lag_latency_and_errors(tmp_path: Path) -> None:
    rows = [(index / 100 + 0.002, index / 100 + 0.005, 500 if index == 7 else 200) for index in range(300)]
    found = oha.run(Runs(writes(list(reversed(rows)))), Path("oha"), tmp_path, ASK)
    assert len(found.requests) == 300
    assert found.requests[3].intended == pytest.approx(0.03)
    assert found.requests[3].sent == pytest.approx(0.032)
    assert found.requests[7].done is None
    assert found.errors == {"status 500": 1}


def test_what_oha_counts_as_an_error_is_kept_by_name(tmp_path: Path) -> None:
    act = writes([(0.01, 0.02, 200)], {"Connection refused (os error 111)": 299})
    found = oha.run(Runs(act), Path("oha"), tmp_path, ASK)
    assert found.errors == {"Connection refused (os error 111)": 299}


def test_an_oha_that_fails_is_an_error_and_an_old_record_is_not_read(tmp_path: Path) -> None:
    oha.run(Runs(writes([(0.0, 0.1, 200)])), Path("oha"), tmp_path, ASK)
    with pytest.raises(SmokeError, match="oha ended with 1: no such host"):
        oha.run(Runs(lambda _: Ended(1, b"", "no such host\n")), Path("oha"), tmp_path, ASK)
    with pytest.raises(SmokeError, match="oha ended with 0"):
        oha.run(Runs(lambda _: Ended(0, b"", "")), Path("oha"), tmp_path, ASK)


def test_the_mqtt_password_is_in_a_private_file_and_gone_afterwards(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def act(argv: list[str]) -> Ended:
        settings, result = Path(argv[-2]), Path(argv[-1])
        seen.update(json.loads(settings.read_text()), mode=settings.stat().st_mode & 0o777)
        result.write_text(json.dumps({"requests": [[0.0, 0.001, 0.004], [0.1, 0.1, None]], "errors": {"lost": 1}}))
        return Ended(0, b"", "")

    run = Runs(act)
    found = mqtt.run(run, Path("/kit/client.py"), Path("/kit/paho.zip"), tmp_path, PUBLISH)
    assert (seen["password"], seen["mode"], seen["grace"]) == ("geheim", 0o600, mqtt.GRACE_SECONDS)
    assert not any("geheim" in word for word in run.argv)
    assert run.argv[:3] == ["env", "PYTHONPATH=/kit/paho.zip", sys.executable]
    assert [one.done for one in found.requests] == [0.004, None]
    assert found.errors == {"lost": 1}
    assert "geheim" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_a_client_that_fails_is_an_error_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match="MQTT client ended with 1: h:1883: Connection refused") as failed:
        mqtt.run(Runs(lambda _: Ended(1, b"", "h:1883: Connection refused")), Path("c"), Path("p"), tmp_path, PUBLISH)
    assert "geheim" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []
