"""Which image stands for what, and how its name becomes what pods run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgefleet_pulumi.model import Industry, ModelError, PlatformConfig, StackConfig

# Servers beside the services, in the versions of the mission. A stack's `references` may put others in their place.
PRODUCT: Mapping[str, str] = {
    "redis": "docker.io/library/redis:7.2.5",
    "rabbitmq": "docker.io/library/rabbitmq:3.13.7",
    "mosquitto": "docker.io/library/eclipse-mosquitto:2.0.22",
    "turn": "docker.io/coturn/coturn:4.6.3",
    "opa": "docker.io/openpolicyagent/opa:0.70.0-static",
    "tls": "docker.io/ghostunnel/ghostunnel:v1.8.4",
    "gatekeeper": "docker.io/openpolicyagent/gatekeeper:v3.15.1",
    "prometheus": "docker.io/prom/prometheus:v2.55.1",
    "alertmanager": "docker.io/prom/alertmanager:v0.27.0",
    "node-exporter": "docker.io/prom/node-exporter:v1.8.2",
    "grafana": "docker.io/grafana/grafana:11.3.0",
}


def of_platform(site: PlatformConfig) -> dict[str, str]:
    """Every image of the platform by its short name. Grafana's is not missed where it does not run."""
    names = ["gatekeeper", "prometheus", "alertmanager", "node-exporter", *(["grafana"] if site.grafana else [])]
    return {name: PRODUCT[name] for name in names}


def needed(industry: Industry) -> dict[str, str]:
    """Every image of a system by its short name."""
    servers = ("opa", "tls", *industry.back_ends.declared())
    return {industry.system: industry.service.image, **{name: PRODUCT[name] for name in servers}}


def _check_versions(industry: Industry) -> None:
    """The version that a declaration asks for is the one that the project has."""
    back_ends = industry.back_ends
    for name, server in (("redis", back_ends.redis), ("rabbitmq", back_ends.rabbitmq)):
        tag = PRODUCT[name].rpartition(":")[2]
        if server and not f"{tag}.".startswith(f"{server.version}."):
            raise ModelError(
                f"industries/{industry.system}/industry.yml: back_ends.{name}.version: {server.version} is declared, "
                f"the project has {PRODUCT[name]}: declare {tag}, or change PRODUCT in edgefleet_pulumi/images.py"
            )


def of_system(industry: Industry, site: StackConfig) -> Images:
    """What pods of a system run on a stack."""
    _check_versions(industry)
    return resolve(needed(industry), site)


def resolve(wanted: Mapping[str, str], site: StackConfig) -> Images:
    """Names with the stack's own references, and with digests but in dev; a ModelError names all that are missing."""
    named = {name: site.references.get(name, product) for name, product in wanted.items()}
    unknown = sorted({*site.images, *site.references} - set(wanted))
    if unknown:
        raise ModelError(f"site.images, site.references: no image named {', '.join(unknown)}: here are {_list(wanted)}")
    missing = sorted(set(named) - set(site.images))
    if missing and site.environment != "dev":
        lines = [f"  pulumi config set --path 'site.images.{name}' sha256:...  # of {named[name]}" for name in missing]
        raise ModelError(
            f"site.images: {site.environment} runs images by digest, and some are missing:\n" + "\n".join(lines)
        )
    return Images({name: _pinned(reference, site.images.get(name)) for name, reference in named.items()})


def _list(names: Mapping[str, str]) -> str:
    return ", ".join(sorted(names))


def _pinned(reference: str, digest: str | None) -> str:
    if digest is None:
        return reference
    repository, colon, tag = reference.rpartition(":")
    # A colon before a slash belongs to the registry's port.
    return f"{repository if colon and '/' not in tag else reference}@{digest}"


@dataclass(frozen=True)
class Images:
    """The images of one stack by their short names."""

    references: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.references[name]
