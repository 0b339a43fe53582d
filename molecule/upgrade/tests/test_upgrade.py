"""What is left on a host that went up, back, up and down again."""

from __future__ import annotations

import json

from testinfra.host import Host


def test_the_program_is_the_one_that_was_declared_last(host: Host) -> None:
    assert "v1.30.3+k3s1" in host.check_output("k3s --version")


def test_no_change_is_under_way_and_the_last_is_remembered(host: Host) -> None:
    said = host.check_output("edgefleet-keeper status")
    assert "no change is under way" in said
    assert "v1.30.3+k3s1 is kept, before it was v1.30.4+k3s1" in said


def test_the_node_is_ready(host: Host) -> None:
    (node,) = json.loads(host.check_output("k3s kubectl get nodes -o json"))["items"]
    conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
