"""Leaf certificates renewed by a restart of K3s, only when they end soon."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.certificates import Certificates
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.program import run_command

from tests.unit.roles.conftest import Answer


def write(path: Path, days: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
    ]
    command += ["-days", str(days), "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)


class K3s:
    """Its restart renews what ends within 90 days, if it does what it should."""

    def __init__(self, data: Path, *, renews: bool = True) -> None:
        self.data, self.renews = data, renews
        self.commands: list[str] = []

    def __call__(self, command: list[str]) -> Answer:
        if command[0] == "openssl":
            return run_command(command)
        self.commands.append(" ".join(command))
        if self.renews:
            write(self.data / "server/tls/client-admin.crt", 365)
        return 0, "", ""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "server/tls/client-admin.crt", 365)
    write(tmp_path / "server/tls/server-ca.crt", 20)
    write(tmp_path / "agent/serving-kubelet.crt", 200)
    return tmp_path


def test_nothing_is_restarted_while_they_last(data: Path) -> None:
    k3s = K3s(data)
    certificates = Certificates(k3s, data)
    assert {path.name: round(days) for path, days in certificates.days_left().items()} == {
        "client-admin.crt": 365,
        "serving-kubelet.crt": 200,
    }
    assert certificates.renew("k3s.service") == []
    assert k3s.commands == []


def test_one_that_ends_soon_is_renewed_by_a_restart(data: Path) -> None:
    write(data / "server/tls/client-admin.crt", 59)
    k3s = K3s(data)
    assert Certificates(k3s, data, sleep=lambda _: None).renew("k3s.service") == ["client-admin.crt"]
    assert k3s.commands == ["systemctl restart --no-block k3s.service"]


def test_one_that_k3s_does_not_renew_is_named(data: Path) -> None:
    write(data / "server/tls/client-admin.crt", 10)
    with pytest.raises(K3sError, match=r"client-admin\.crt ends in 10 days and K3s has not renewed it"):
        Certificates(K3s(data, renews=False), data, sleep=lambda _: None).renew("k3s.service")


def test_one_that_cannot_be_read_is_named(data: Path) -> None:
    (data / "agent/client-kubelet.crt").write_text("no certificate")
    with pytest.raises(K3sError, match=r"client-kubelet\.crt: openssl can't read"):
        Certificates(K3s(data), data).renew("k3s.service")
