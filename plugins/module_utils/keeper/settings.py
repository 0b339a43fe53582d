# SPDX-License-Identifier: Apache-2.0
"""What the role ``keeper`` has declared for this host, for the program that runs there without Ansible."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

SETTINGS = Path("/etc/edgefleet/keeper.json")


class SettingsError(Exception):
    """The file is missing or not as the role writes it."""


@dataclass(frozen=True)
class Settings:
    """``node`` is empty where K3s names the node after the host."""

    node: str = ""
    role: str = "server"
    runtime_classes: list[str] = field(default_factory=list)
    unready_seconds: int = 120
    change_seconds: int = 3600
    volumes: list[str] = field(default_factory=list)
    backups_keep: int = 7

    @property
    def node_name(self) -> str:
        return (self.node or os.uname().nodename).lower()


def load(path: Path = SETTINGS) -> Settings:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Settings(**{one.name: document[one.name] for one in fields(Settings)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path}: not as the role edgefleet.wasm.keeper writes it ({error}); play it again"
        ) from error
