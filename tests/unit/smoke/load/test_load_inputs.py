"""Targets, workload and kit: what is given, and what is refused with one error that names it."""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load import kit, workload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.targets import Targets
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.load.workload import Workload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

from lab.builders import oci
from lab.paths import CHECKOUT
from tests.unit.smoke.load.made import TARGETS

MQTT = {
    "url": "mqtts://127.0.0.1:31883",
    "namespace": "iot",
    "username": "device",
    "secret": "mosquitto",
    "key": "password",
}


@pytest.mark.parametrize(
    "file", sorted(CHECKOUT.glob("industries/*/smoke_targets.json")), ids=lambda one: one.parent.name
)
def test_the_targets_of_every_system_are_taken(file: Path) -> None:
    found = Targets.of(json.loads(file.read_text()))
    assert found.system == file.parent.name
    assert found.pods == 10


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"qps_per_node": None}, r"wasm_smoke_targets\) are not those of a system \(TypeError"),
        ({"qps_per_node": 0}, "qps_per_node is 0, must be more than 0"),
        ({"latency_ms": {"p50": 20}}, "KeyError: 'p99'"),
        ({"own": "satisfaction"}, "TypeError"),
    ],
)
def test_targets_that_are_none_are_one_error(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SmokeError, match=message):
        Targets.of({**TARGETS, **changed})


def test_a_workload_says_where_and_what() -> None:
    found = Workload.of({"url": "https://127.0.0.1:30081/readyz", "namespace": "examination-system"})
    assert (found.mqtt, found.tls, found.host, found.port) == (False, True, "127.0.0.1", 30081)
    devices = Workload.of(MQTT)
    assert (devices.mqtt, devices.tls, devices.port) == (True, True, 31883)
    assert devices.topics == ("edgefleet/smoke", "edgefleet/smoke")
    own = Workload.of({**MQTT, "url": "mqtt://broker/plant/in?reply=plant/out"})
    assert (own.port, own.topics) == (1883, ("plant/in", "plant/out"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"url": "127.0.0.1:30081"}, r"workload.url is '127.0.0.1:30081' \(wasm_smoke_workload\)"),
        ({"url": "ftp://x/"}, "with one of http, https, mqtt, mqtts"),
        ({"url": "mqtt://me:geheim@x"}, "has a user in it"),
        ({"secret": None}, "username, secret and key go together"),
        ({"url": "http://x/"}, "are for mqtt only"),
    ],
)
def test_a_workload_that_is_none_is_one_error_without_a_password(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SmokeError, match=message) as failed:
        Workload.of({**MQTT, **changed})
    assert "geheim" not in str(failed.value)


def fake(answers: dict[str, Ended]) -> Any:
    """Answers by the command's last words."""

    def run(argv: list[str], *, timeout: float, while_open: Any = None) -> Ended:
        return next(ended for words, ended in answers.items() if words in " ".join(argv))

    return run


def test_the_pids_are_those_of_the_namespaces_running_containers() -> None:
    tasks = b"TASK    PID    STATUS\nabc     42     RUNNING\nother   43     RUNNING\ndead    44     STOPPED\n"
    run = fake({"containers list": Ended(0, b"abc\ndead\n", ""), "tasks list": Ended(0, tasks, "")})
    assert workload.pids(run, "examination-system") == [42]
    broken = fake({"containers list": Ended(1, b"", "no socket"), "tasks list": Ended(0, tasks, "")})
    with pytest.raises(SmokeError, match="containerd does not list the workload's containers: no socket"):
        workload.pids(broken, "examination-system")


def test_the_password_comes_out_of_the_clusters_secret() -> None:
    data = {"data": {"password": base64.b64encode(b"geheim").decode()}}
    found = Workload.of(MQTT)
    assert workload.password(fake({"get secret": Ended(0, json.dumps(data).encode(), "")}), found) == "geheim"
    assert workload.password(fake({}), Workload.of({"url": "mqtt://x", "namespace": "iot"})) is None
    with pytest.raises(SmokeError, match="there is no key password of Secret iot/mosquitto"):
        workload.password(fake({"get secret": Ended(0, b'{"data": {}}', "")}), found)
    with pytest.raises(SmokeError, match="can't be read: NotFound"):
        workload.password(fake({"get secret": Ended(1, b"", "NotFound")}), found)


def image(program: str, content: bytes) -> bytes:
    return oci.archive(
        oci.Image(
            name=f"registry.example.com{program}:1",
            arch="amd64",
            files=[oci.ImageFile(program, content, 0o555)],
            entrypoint=[program],
            user="1:1",
        )
    )


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    found = Mirror(tmp_path / "mirror")
    for name, version, content in (
        ("oha", kit.OHA_VERSION, b"oha!"),
        ("oha", "1.99.0", b"another oha"),
        ("skeleton-image", "0.9.0-wasmedge-0.14.1", image("/skeleton.wasm", b"older")),
        ("skeleton-image", "0.10.0-wasmedge-0.14.1", image("/skeleton.wasm", b"wasm!")),
        ("skeleton-native-image", "0.10.0", image("/skeleton", b"native!")),
    ):
        file = tmp_path / "file"
        file.write_bytes(content)
        found.add(Release(name, version, "amd64", f"{name}-amd64"), file, f"built {version}")
    return found


def test_a_kit_holds_the_pinned_generator_and_the_newest_service(mirror: Mirror, tmp_path: Path) -> None:
    archive = kit.made_once(tmp_path, mirror, "amd64", mqtt=False)
    found = kit.unpack(archive, tmp_path / "kit")
    contents = {path.name: path.read_bytes() for path in found.folder.iterdir()}
    index = json.loads(contents.pop("kit.json"))
    assert contents == {"oha": b"oha!", "service.wasm": b"wasm!", "service": b"native!"}
    assert index["skeleton-image"] == {"version": "0.10.0-wasmedge-0.14.1", "source": "built 0.10.0-wasmedge-0.14.1"}
    assert found.missing == ""
    assert found.path(kit.OHA) == found.folder / "oha"
    assert os_executable(found.folder / "oha")
    stamp = archive.stat().st_mtime_ns
    assert kit.made_once(tmp_path, mirror, "amd64", mqtt=False).stat().st_mtime_ns == stamp


def os_executable(path: Path) -> bool:
    return path.stat().st_mode & 0o111 == 0o111


def test_what_the_mirror_lacks_is_said(mirror: Mirror, tmp_path: Path) -> None:
    found = kit.unpack(kit.made_once(tmp_path, mirror, "arm64", mqtt=False), tmp_path / "kit")
    assert found.missing == ("the mirror has no oha, skeleton-image, skeleton-native-image for this architecture")
    assert found.path(kit.OHA) is None


def test_a_file_that_was_changed_in_the_mirror_is_not_carried(mirror: Mirror, tmp_path: Path) -> None:
    (mirror.root / f"oha/{kit.OHA_VERSION}/amd64/oha-amd64").write_bytes(b"evil")
    with pytest.raises(SmokeError, match="damaged or replaced"):
        kit.made_once(tmp_path, mirror, "amd64", mqtt=False)


def test_an_image_without_its_program_is_named(mirror: Mirror, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"no tar")
    mirror.add(Release("skeleton-native-image", "0.11.0", "amd64", "skeleton-native-image-amd64"), file, "a test")
    with pytest.raises(SmokeError, match=r"skeleton-native-image in the mirror .* can't be read"):
        kit.made_once(tmp_path, mirror, "amd64", mqtt=False)


def test_the_mqtt_kit_has_a_client_that_runs_from_the_zip(mirror: Mirror, tmp_path: Path) -> None:
    found = kit.unpack(kit.made_once(tmp_path, mirror, "amd64", mqtt=True), tmp_path / "kit")
    with zipfile.ZipFile(found.folder / kit.LIBRARY) as archive:
        assert "paho/mqtt/client.py" in archive.namelist()
    assert (found.folder / kit.CLIENT).read_text().startswith("#!/usr/bin/env python3")


def test_a_controller_without_paho_says_what_to_install(mirror: Mirror, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "paho", None)
    with pytest.raises(SmokeError, match="pip install paho-mqtt"):
        kit.made_once(tmp_path, mirror, "amd64", mqtt=True)


def test_a_kit_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kit.tar.gz").write_bytes(b"no tar")
    with pytest.raises(SmokeError, match="can't be unpacked"):
        kit.unpack(tmp_path / "kit.tar.gz", tmp_path / "kit")


def test_nothing_in_a_kit_leaves_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "kit.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("../outside", "kit.json"):
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
    kit.unpack(archive, tmp_path / "kit")
    assert not (tmp_path / "outside").exists()
