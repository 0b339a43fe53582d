"""Secrets by name: what a site shall make for itself, with no value anywhere in a program, a bundle or a state."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Self

import pulumi
from pulumi_kubernetes import core
from pydantic import Field, model_validator

from edgefleet_pulumi.components import pods
from edgefleet_pulumi.components.args import Args
from edgefleet_pulumi.components.component import Component
from edgefleet_pulumi.model.industry import Name

CONFIG_MAP = "site-secrets"
FILE = "secrets.json"
LABEL = "edgefleet.io/site-secrets"
_PLACE = re.compile(r"\{([a-z_]+)\}")


class SiteSecret(Args):
    """One Secret: random values, and texts made of them."""

    name: Name
    random: dict[str, int] = Field(default={}, description="key and how many random letters and digits")
    text: dict[str, str] = Field(default={}, description="key and a text with {key} for a random value")
    mosquitto_users: dict[str, str] = Field(
        default={}, description="user and the key of the password, hashed into the key `passwords`"
    )
    also_in: list[Name] = Field(default=[], description="further namespaces that get the same Secret")
    certificate: list[str] = Field(
        default=[], description="names in a server certificate by the site's CA, beside the nodes' addresses"
    )
    filled_by: str = Field(default="", description="a program of the site that fills it: made empty, then left alone")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if [bool(self.certificate), bool(self.random), bool(self.filled_by)].count(True) != 1:
            raise ValueError(f"{self.name}: give either random keys or a certificate's names or who fills it")
        used = {key for text in self.text.values() for key in _PLACE.findall(text)} | {*self.mosquitto_users.values()}
        if used - set(self.random):
            raise ValueError(f"{self.name}: no random key {', '.join(sorted(used - set(self.random)))}: add it")
        short = sorted(key for key, length in self.random.items() if length < 16)
        if short:
            raise ValueError(f"{self.name}: {', '.join(short)} has fewer than 16 letters: lengthen it")
        return self

    @classmethod
    def of(cls, name: str, *, password: int, text: Mapping[str, str] | None = None) -> Self:
        """A password, and texts with it."""
        return cls(name=name, random={"password": password}, text=dict(text or {}))


class SiteSecretsArgs(Args):
    """The secrets of one namespace."""

    namespace: Name
    system: Name
    secrets: list[SiteSecret] = Field(min_length=1)

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [secret.name for secret in self.secrets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is declared twice: remove one")
        return self


def declaration(secrets: Sequence[SiteSecret]) -> str:
    """The list as the site reads it; the same list gives the same text."""
    found = [secret.model_dump(exclude_defaults=True) for secret in sorted(secrets, key=lambda one: one.name)]
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


class SiteSecrets(Component):
    """The list of secrets, as a ConfigMap that says what the site has to make where it is absent.

    It never holds a value. Who makes them: docs/pulumi.md.
    """

    def __init__(self, name: str, args: SiteSecretsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        labelled = {**pods.labels(CONFIG_MAP, args.system), LABEL: "declared"}
        self.config_map = core.v1.ConfigMap(
            f"{args.namespace}-{CONFIG_MAP}",
            metadata=pods.metadata(CONFIG_MAP, args.namespace, labelled),
            data={FILE: declaration(args.secrets)},
            opts=self.own(),
        )
        self.register_outputs({"names": sorted(secret.name for secret in args.secrets)})
