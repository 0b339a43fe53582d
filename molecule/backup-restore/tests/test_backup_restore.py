"""What a site had when it was backed up is back on a host that had lost everything."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from pathlib import Path

import pytest
from testinfra.host import Host


@pytest.fixture
def kept() -> str:
    """The word that was the Secret's and the application's."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "kept").read_text().strip()


def test_secret_is_back(host: Host, kept: str) -> None:
    found = host.check_output("k3s kubectl -n edgefleet-skeleton get secret kept -o jsonpath={.data.word}")
    assert base64.b64decode(found).decode() == kept


def test_application_data_is_back_and_its_owner_s(host: Host, kept: str) -> None:
    answer = host.file("/srv/site/answer")
    assert (answer.content_string, answer.uid, answer.mode) == (kept, 65532, 0o640)


def test_workload_answers(host: Host) -> None:
    out = host.check_output("k3s kubectl get services -n edgefleet-skeleton -o json")
    (port,) = [port["nodePort"] for one in json.loads(out)["items"] for port in one["spec"]["ports"]]
    address = host.ansible.get_variables()["ansible_host"]
    with urllib.request.urlopen(f"http://{address}:{port}/?nonce=restored", timeout=10) as answer:
        assert json.load(answer)["nonce"] == "restored"


def test_node_is_ready(host: Host) -> None:
    (node,) = json.loads(host.check_output("k3s kubectl get nodes -o json"))["items"]
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"
