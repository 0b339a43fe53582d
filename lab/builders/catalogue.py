"""What the roles pin: the versions, files and hashes that the mirror shall hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import MirrorError, Release

from lab.errors import LabError
from lab.paths import CHECKOUT


@dataclass(frozen=True)
class Pin:
    """One artifact of a role: where its defaults say which version, and which file that is."""

    role: str
    name: str
    version: str
    releases: str


PINS = (
    Pin("containerd", "containerd", "containerd_version", "containerd_releases"),
    Pin("k3s", "k3s", "k3s_version", "k3s_releases"),
    Pin("k3s", "k3s-airgap-images", "k3s_version", "k3s_airgap_images_releases"),
)


def releases(arch: str, roles: Path = CHECKOUT / "roles") -> list[Release]:
    """The pinned releases of the default versions."""
    return [_release(pin, arch, roles / pin.role / "defaults" / "main.yml") for pin in PINS]


def k3s_of(version: str, arch: str, roles: Path = CHECKOUT / "roles") -> list[Release]:
    """K3s and its images in another version than the pinned one: without a hash, so never downloaded."""
    pinned = [one for one in releases(arch, roles) if one.name in ("k3s", "k3s-airgap-images")]
    return [replace(one, version=version, sha256=None, url=None) for one in pinned]


def _release(pin: Pin, arch: str, file: Path) -> Release:
    try:
        defaults: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"{file}: can't be read: {error}") from error
    where = f"{file}: {pin.releases}"
    try:
        version = str(defaults[pin.version])
        found: Mapping[str, Any] = defaults[pin.releases][version][arch]
        return Release(pin.name, version, arch, found["file"], found["sha256"], found["url"])
    except KeyError as error:
        raise LabError(f"{where} has no {error} for {pin.version} and {arch}.") from error
    except MirrorError as error:
        raise LabError(f"{where}: {error}") from error
