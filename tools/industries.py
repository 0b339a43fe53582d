"""What is made of the industries' declarations, so that the Ansible side reads no model: it needs ansible-core only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from edgefleet_pulumi.components.mosquitto import DEVICE_USER
from edgefleet_pulumi.components.mosquitto import NAME as MOSQUITTO
from edgefleet_pulumi.model import Industry, load_industries
from edgefleet_pulumi.model.units import mebibytes, millicores
from tools import text
from tools.errors import GenerateError

Render = Callable[[str], str]
DOC = "docs/industries.md"
HUB = "hub"
MINUTES_A_MONTH = 30 * 24 * 60
# Where data that stays local may go as long as an inventory does not name the site's own network.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")


def outputs(root: Path) -> dict[str, Render]:
    """Path and rendering of each file."""
    industries = load_industries(root / "industries")
    holes = default_holes(root)
    files: dict[str, Render] = {
        "industries/schema.json": lambda _: schema(),
        DOC: lambda old: table(old, list(industries.values())),
        f"inventories/{HUB}/group_vars/edge/generated.yml": lambda _: group_vars(list(industries.values()), holes),
    }
    for system, industry in industries.items():
        files |= _of_system(system, industry, holes)
    return files


def _of_system(system: str, industry: Industry, holes: list[dict[str, Any]]) -> dict[str, Render]:
    return {
        f"industries/{system}/smoke_targets.json": lambda _: smoke_targets(industry),
        f"inventories/{system}/group_vars/edge/generated.yml": lambda _: group_vars([industry], holes),
    }


def schema() -> str:
    """The JSON Schema of industry.yml, for editors and for those who have no Python."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Industry.model_json_schema()}
    return json.dumps(document, indent=2) + "\n"


def targets(industry: Industry) -> dict[str, Any]:
    """What a host that runs the system has to reach: a limit for each verdict of the smoke report."""
    slo, goals = industry.slo, industry.goals
    document: dict[str, Any] = {
        "system": industry.system,
        "industry": industry.industry,
        "qps_per_node": industry.scale.qps_per_node,
        "pods_per_node": math.ceil(industry.scale.pods / industry.scale.nodes),
        "pod_limits": {
            "cpu": millicores(industry.service.resources.limits.cpu) / 1000,
            "memory_mib": mebibytes(industry.service.resources.limits.memory),
        },
        "latency_ms": {"p50": slo.latency.p50, "p99": slo.latency.p99, "p999": slo.latency.p999},
        "cold_start_ms": slo.cold_start,
        "cold_start_layer": "oci-runtime",
        "availability_percent": slo.availability,
        "unavailable_minutes_a_month": round(MINUTES_A_MONTH * (100 - slo.availability) / 100, 1),
        "cpu_mean_percent": slo.cpu_mean,
        "memory_mean_percent": slo.memory_mean,
        "node_cost_change_percent": goals.node_cost,
        "utilisation_change_percent": goals.utilisation,
        "own": {"name": goals.own.name, "at_least_percent": goals.own.at_least, "formula": goals.own.formula},
    }
    if slo.video_latency is not None:
        document["video_latency_ms"] = slo.video_latency
    return document


def smoke_targets(industry: Industry) -> str:
    """The same as a file."""
    source = text.HEADER.format(source=f"industries/{industry.system}/industry.yml").removeprefix("# ")
    return json.dumps({"about": source, **targets(industry)}, indent=2) + "\n"


def group_vars(industries: Sequence[Industry], holes: list[dict[str, Any]]) -> str:
    """What the Ansible side has to know of the systems that run on a host: its labels, the firewall's holes, and of one
    system alone what the smoke test holds it to.

    `holes` are those that the hardening role has by default: a list in an inventory replaces the role's.
    """
    labels: dict[str, str] = {}
    for industry in industries:
        labels |= industry.service.node_selector
    variables: dict[str, Any] = {
        "k3s_node_labels": labels,
        "hardening_firewall_node_ports": [str(one.node_port) for industry in industries for one in industry.expose],
    }
    if all(industry.data.stays_local for industry in industries):
        variables["hardening_firewall_pods_only_to"] = [*PRIVATE]
    own = [{"ports": ports} for industry in industries if (ports := _host_ports(industry))]
    if own:
        variables["hardening_firewall_holes"] = [*holes, *own]
    only = len(industries) == 1
    if only:
        variables |= {"wasm_smoke_targets": targets(industries[0]), "wasm_smoke_workload": workload(industries[0])}
    source = f"industries/{industries[0].system if only else '*'}/industry.yml"
    return f"---\n{text.HEADER.format(source=source)}\n{text.as_yaml(variables)}"


def workload(industry: Industry) -> dict[str, str]:
    """Where the smoke test sends the system's rate: to its first entrance, from the host, to what changes nothing."""
    entrance = industry.expose[0]
    if entrance.to == MOSQUITTO:
        login = {"username": DEVICE_USER, "secret": MOSQUITTO, "key": f"{DEVICE_USER}_password"}
        scheme, path, more = "mqtt", "", login
    else:
        scheme, path, more = "http", "/readyz", {}
    secure = "s" if entrance.tls else ""
    url = f"{scheme}{secure}://127.0.0.1:{entrance.node_port}{path}"
    return {"url": url, "namespace": industry.namespace, **more}


def _host_ports(industry: Industry) -> list[str]:
    """Holes that are no node ports: those of a TURN server."""
    node_ports = {one.node_port for one in industry.expose}
    return [_hole(one.protocol, one.first, one.last) for one in industry.holes() if one.first not in node_ports]


def default_holes(root: Path) -> list[dict[str, Any]]:
    """What the hardening role lets in besides ssh."""
    defaults = root / "roles" / "hardening" / "defaults" / "main.yml"
    try:
        holes: list[dict[str, Any]] = yaml.safe_load(defaults.read_text(encoding="utf-8"))["hardening_firewall_holes"]
    except (OSError, KeyError) as error:
        raise GenerateError(f"{defaults}: hardening_firewall_holes can't be read: {error}") from error
    return holes


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def table(old: str, industries: list[Industry]) -> str:
    """docs/industries.md: two tables between marks, the rest is written by hand."""
    scale = text.markdown_table(
        [
            "system",
            "industry",
            "nodes / pods",
            "users and volume a day",
            "QPS, per node",
            "replicas at a hub",
            "back ends",
        ],
        (
            [
                f"[{one.system}](../industries/{one.system}/industry.yml)",
                one.industry,
                f"{_number(one.scale.nodes)}+ / {_number(one.scale.pods)}+",
                f"{_number(one.scale.users)} {one.scale.users_are}, "
                f"{_number(one.scale.events_per_day)} {one.scale.events_are}",
                f"{_number(one.scale.qps)}, {_number(one.scale.qps_per_node)}",
                one.service.replicas,
                ", ".join([*(["sqlite"] if one.back_ends.sqlite else []), *one.back_ends.declared()]),
            ]
            for one in industries
        ),
    )
    slo = text.markdown_table(
        [
            "system",
            "P50 / P99 / P999",
            "cold start",
            "availability",
            "CPU / memory mean",
            "cost, utilisation",
            "own target",
            "exposed",
            "data",
        ],
        (
            [
                one.system,
                " / ".join(_number(limit) for limit in (one.slo.latency.p50, one.slo.latency.p99, one.slo.latency.p999))
                + " ms",
                f"{_number(one.slo.cold_start)} ms",
                f"{_number(one.slo.availability)} %",
                f"{_number(one.slo.cpu_mean)} % / {_number(one.slo.memory_mean)} %",
                f"{one.goals.node_cost:+g} %, {one.goals.utilisation:+g} %",
                f"{one.goals.own.name} >= {_number(one.goals.own.at_least)} %",
                ", ".join(_hole(hole.protocol, hole.first, hole.last) for hole in one.holes()),
                ", ".join(word for word, holds in _data(one) if holds) or "-",
            ]
            for one in industries
        ),
    )
    new = text.between_marks(old, "scale", scale, DOC)
    return text.between_marks(new, "slo", slo, DOC)


def _hole(protocol: str, first: int, last: int) -> str:
    return f"{first}/{protocol}" if first == last else f"{first}-{last}/{protocol}"


def _data(industry: Industry) -> list[tuple[str, bool]]:
    data = industry.data
    return [("stays local", data.stays_local), ("encrypted", data.encrypted), ("audited", data.audited)]
