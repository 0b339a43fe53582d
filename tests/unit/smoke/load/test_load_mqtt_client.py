"""The MQTT client as a program, against a broker that pauses, loses, repeats and refuses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import kit, mqtt
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.figures import Loop, figures
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command

from tests.unit.smoke.load.broker import broker

CLIENT = Path(mqtt.__file__).with_name(kit.CLIENT)


def loop(port: int, folder: Path, qps: float = 100, seconds: float = 3) -> Loop:
    """One run, the library out of the zip that hosts get."""
    library = folder / kit.LIBRARY
    library.write_bytes(kit.paho())
    ask = mqtt.Ask("127.0.0.1", port, False, None, None, "a/b", "a/b", qps, seconds)
    return mqtt.run(run_command, CLIENT, library, folder, ask)


def test_every_message_is_due_at_its_own_time_and_comes_back(tmp_path: Path) -> None:
    with broker() as port:
        found = loop(port, tmp_path)
    assert len(found.requests) == 300
    assert [one.intended for one in found.requests] == [index / 100 for index in range(300)]
    assert found.errors == {}
    assert figures(found).answered == 100
    assert all(one.done is not None and one.done >= one.sent >= one.intended for one in found.requests)


def test_a_pause_of_the_broker_does_not_stop_the_schedule(tmp_path: Path) -> None:
    with broker(pause=(120, 0.6)) as port:
        found = loop(port, tmp_path)
    late = [one for one in found.requests if one.done is not None and one.done - one.intended > 0.1]
    # 50 were due in the first half second of the pause; in a closed loop there would be one.
    assert 40 <= len(late) <= 70
    during = [one for one in found.requests if 1.25 < one.intended < 1.7]
    assert sorted(one.sent - one.intended for one in during)[len(during) // 2] < 0.1


def test_lost_and_repeated_messages_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "GRACE_SECONDS", 1.0)
    with broker(times=lambda number: {50: 0, 60: 0, 70: 2}.get(number, 1)) as port:
        found = loop(port, tmp_path, seconds=1)
    assert found.errors == {"no message came back": 2, "came back more than once": 1}
    assert [index for index, one in enumerate(found.requests) if one.done is None] == [50, 60]


def test_a_broker_that_refuses_is_one_error(tmp_path: Path) -> None:
    with broker(refuse=0x87) as port, pytest.raises(SmokeError, match=r"ended with 1: 127.0.0.1:\d+: .*Not authorized"):
        loop(port, tmp_path, seconds=1)


def test_no_broker_is_one_error(tmp_path: Path) -> None:
    # Bound, and nobody listens: a port that is given back may be the next broker's.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(SmokeError, match=r"ended with 1: 127.0.0.1:\d+: .*refused"):
            loop(held.getsockname()[1], tmp_path, seconds=1)
