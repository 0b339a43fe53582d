"""The tables of docs/monitoring.md: what is kept, what is promised, what is recorded, who is told of what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from edgefleet_pulumi.components import monitoring
from edgefleet_pulumi.model import Industry, load_industries
from edgefleet_pulumi.monitoring import metrics, rules, slo
from tools import text

Render = Callable[[str], str]
DOC = "docs/monitoring.md"


def outputs(root: Path) -> dict[str, Render]:
    """Path and rendering of the document; all but its tables is written by hand."""
    industries = list(load_industries(root / "industries").values())
    parts = {
        "metrics": kept(),
        "promises": promises(industries),
        "alerts": alerts(industries),
        "requests": requests(),
        "recorded": recorded(industries[0]),
    }
    return {DOC: lambda old: _replaced(old, parts)}


def _replaced(old: str, parts: Mapping[str, str]) -> str:
    for name, content in parts.items():
        old = text.between_marks(old, name, content, DOC)
    return old


def kept() -> str:
    """Every metric that a site keeps."""
    return text.markdown_table(
        ["from (`kind`)", "metric", "what it says"],
        (
            [f"`{source.kind}`: {source.says}" if number == 0 else "", f"`{metric.name}`", metric.says]
            for source in metrics.SOURCES
            for number, metric in enumerate(source.metrics)
        ),
    )


def promises(industries: list[Industry]) -> str:
    """The budget of each promise of each system."""
    return text.markdown_table(
        ["system", "`slo`", "promise", "may go wrong"],
        (
            [one.system, f"`{promise.name}`", promise.says, f"{100 * promise.budget:g} %"]
            for one in industries
            for promise in slo.of(one)
        ),
    )


def alerts(industries: list[Industry]) -> str:
    """When somebody is told, and what to do then."""
    return text.markdown_table(
        ["alert", "severity", "for", "what it says", "what to do"],
        (
            [alert.name, alert.severity, alert.lasting, _plain(alert.summary), _plain(alert.runbook)]
            for alert in rules.all_alerts(industries)
        ),
    )


def _plain(template: str) -> str:
    """Without the words around a label: what stands there is another thing each time."""
    for label in ("system", "slo", "node", "namespace", "pod", "container", "job", "instance", "eviction_signal"):
        template = template.replace(f"{{{{ $labels.{label} }}}}", f"`{label}`")
    template = template.replace("{{ $labels.rule_group }}", "`rule_group`")
    return template.replace("{{ $value | humanizePercentage }}", "`value`")


def recorded(industry: Industry) -> str:
    """What Prometheus computes, by the rules of one system and of the site."""
    found: dict[str, str] = {}
    for document in rules.files([industry]).values():
        for group in yaml.safe_load(document)["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    found.setdefault(rule["record"], group["interval"])
    return text.markdown_table(["series", "computed every"], ([f"`{name}`", every] for name, every in found.items()))


def requests() -> str:
    """What the monitoring asks of a node."""
    return text.markdown_table(
        ["pod", "CPU", "memory"],
        ([part.name, f"{part.requests.cpu}m", f"{part.requests.memory}Mi"] for part in monitoring.parts()),
    )
