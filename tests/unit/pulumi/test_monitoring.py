"""What is recorded, alerted on and shown: names that exist, limits that are the declared ones."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from edgefleet_pulumi.model import load_industries
from edgefleet_pulumi.monitoring import dashboards, metrics, rules, slo
from edgefleet_pulumi.monitoring.metrics import bounds_ms, bucket

INDUSTRIES = load_industries()
EVERY = list(INDUSTRIES.values())
FILES = rules.files(EVERY)
# Prometheus makes these two itself.
OWN = {"up", "ALERTS"}
# Functions, operators and what stands in by-clauses look like names of metrics, but for their first letters.
METRIC = re.compile(
    r"\b(?:edgefleet|slo|node|container|machine|kubelet|rabbitmq|ghostunnel|prometheus|alertmanager|http)[_:][a-z0-9A-Z_:]+"
)


def every_rule() -> list[dict[str, Any]]:
    return [rule for text in FILES.values() for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


RECORDED = {rule["record"] for rule in every_rule() if "record" in rule}
KNOWN = {*metrics.kept(), *RECORDED, *OWN}


def test_rules_and_dashboards_ask_for_nothing_that_is_dropped() -> None:
    asked = {name for rule in every_rule() for name in METRIC.findall(rule["expr"])}
    shown = dashboards.files(EVERY, sends=True)
    asked |= {
        name for text in shown.values() for _, query in dashboards.queries(text, "s") for name in METRIC.findall(query)
    }
    assert len(asked) > 30
    assert asked - KNOWN == set()
    assert METRIC.findall("rate(container_fs_writes_total[5m])") == ["container_fs_writes_total"], "it would be seen"


def test_what_is_kept_or_recorded_is_used() -> None:
    text = "".join(rule["expr"] for rule in every_rule()) + "".join(dashboards.files(EVERY, sends=True).values())
    assert {name for name in (*metrics.kept(), *RECORDED) if name not in text} == set()


@pytest.mark.parametrize("system", INDUSTRIES)
def test_every_limit_is_the_end_of_a_bucket(system: str) -> None:
    industry = INDUSTRIES[system]
    ends = {bucket(bound) for bound in bounds_ms(industry)}
    asked = set(re.findall(r'le="([^"]+)"', FILES[f"{system}.rules.yml"]))
    latency = industry.slo.latency
    assert asked == {bucket(limit) for limit in (latency.p50, latency.p99, latency.p999)}
    assert asked <= ends
    assert list(bounds_ms(industry)) == sorted(bounds_ms(industry))


@pytest.mark.parametrize("system", INDUSTRIES)
def test_budgets_are_what_is_declared(system: str) -> None:
    budgets = {promise.name: promise.budget for promise in slo.of(INDUSTRIES[system])}
    assert budgets == {"availability": 0.001, "latency-p50": 0.5, "latency-p99": 0.01, "latency-p999": 0.001}


def test_an_alert_says_what_is_to_be_done() -> None:
    for alert in rules.all_alerts(EVERY):
        annotations = alert.rule()["annotations"]
        assert len(annotations["runbook"]) > 40, alert.name
        assert annotations["more"].endswith(f", {alert.name}")


def test_grafana_can_show_them() -> None:
    """Known by their own names, each query of a panel by another letter, none overlapping."""
    for name, text in dashboards.files(EVERY, sends=True).items():
        document = json.loads(text)
        assert name == f"{document['uid']}.json"
        panels = [panel for panel in document["panels"] if panel["type"] != "row"]
        assert len(panels) > 10
        for panel in panels:
            assert panel["datasource"] == {"type": "prometheus", "uid": dashboards.DATASOURCE}
            letters = [target["refId"] for target in panel["targets"]]
            assert letters == sorted(set(letters))
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in document["panels"]]
        assert len(set(places)) == len(places)
        assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in panels) <= 24


def test_what_a_site_does_not_have_is_not_shown() -> None:
    alone = dashboards.files([INDUSTRIES["examination-system"]], sends=False)
    assert "rabbitmq" not in "".join(alone.values())
    assert "remote_storage" not in "".join(alone.values())
    variable = json.loads(alone["edgefleet-system.json"])["templating"]["list"][0]
    assert variable["query"] == "examination-system"
