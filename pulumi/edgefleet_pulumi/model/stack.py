"""What a stack of one system can set; everything else stands in its industry.yml."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from edgefleet_pulumi.model.industry import Count, Name, Strict

Url = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"write a network such as 192.168.10.0/24, not {text!r} ({error})") from error
    return text


class StackConfig(Strict):
    """The configuration of one stack of a system's project: `pulumi config set-all --path site...`."""

    environment: Literal["dev", "staging", "prod"]
    topology: Literal["site", "hub"] = Field(description="site: one node, autonomous; hub: a server and its agents")
    bundle: bool = Field(default=False, description="render YAML for sites that can't be reached, instead of applying")
    site_network: Annotated[str, AfterValidator(_network)] = Field(
        description="who may reach the exposed ports, and where data that stays local may go"
    )
    measured_qps_per_pod: Count | None = Field(default=None, description="from the smoke report of this hardware")
    images: dict[str, Digest] = Field(default={}, description="digest of each image; dev alone does without")
    references: dict[str, str] = Field(
        default={}, description="another name for an image, such as in the site's own registry"
    )


class Hub(Strict):
    """What takes a site's metrics and alerts whenever the site is online. The token for both is no part of a stack."""

    remote_write: Url | None = Field(default=None, description="takes metrics, by Prometheus's remote write")
    alerts: Url | None = Field(default=None, description="takes alerts, by Alertmanager's webhook")


class PlatformConfig(StackConfig):
    """The configuration of one stack of the platform's project."""

    systems: list[Name] = Field(min_length=1, description="the systems that run here: if one is gone, it is an alarm")
    grafana: bool = Field(default=False, description="whether Grafana runs here; a site does without")
    hub: Hub = Hub()

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        for name in ("remote_write", "alerts"):
            url = getattr(self.hub, name)
            if url and self.environment != "dev" and not url.startswith("https://"):
                raise ValueError(f"hub.{name}: {url} is not encrypted, and a token goes with it: use https")
        return self
