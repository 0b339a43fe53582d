"""What a stack of one system can set; everything else stands in its industry.yml."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from edgefleet_pulumi.model.industry import Count, Strict

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
