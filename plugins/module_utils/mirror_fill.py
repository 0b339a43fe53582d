# SPDX-License-Identifier: Apache-2.0
"""Filling the mirror with what roles pin: all that can be had, then one error for all that can't."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import (
    Entry,
    Mirror,
    MirrorError,
    Progress,
    Release,
)

_REPORT_SECONDS = 5.0
_MIB = 1 << 20

Report = Callable[[str], None]


@dataclass(frozen=True)
class Filled:
    changed: bool
    entries: list[Entry]


def wanted(artifacts: list[dict[str, Any]], archs: list[str]) -> list[Release]:
    """The releases that these pins mean, for each architecture."""
    return [_release(artifact, arch) for artifact in artifacts for arch in archs]


def _release(artifact: dict[str, Any], arch: str) -> Release:
    name, version = artifact["name"], artifact["version"]
    variable = f"{name.replace('-', '_')}_releases"
    by_version = {str(key): value for key, value in artifact["releases"].items()}
    if version not in by_version:
        raise MirrorError(
            f"{variable} has no version {version} (pinned: {', '.join(by_version)}); add it, or choose a pinned one"
        )
    pin = (by_version[version] or {}).get(arch)
    if not pin or "file" not in pin:
        raise MirrorError(
            f"{variable}['{version}'] has no file for {arch}; add it, or take {arch} out of edgefleet_mirror_archs"
        )
    return Release(name, version, arch, pin["file"], pin.get("sha256"), pin.get("url"))


def fill(
    mirror: Mirror, releases: list[Release], *, allow_rebuilt: bool, timeout: float, check: bool, report: Report
) -> Filled:
    """Have each release in the mirror, verified. What is there already is not fetched again."""
    entries: list[Entry] = []
    errors: list[str] = []
    changed = False
    for release in releases:
        try:
            entries.append(mirror.verify(release, allow_rebuilt))
            continue
        except MirrorError:
            changed = True
        if check:
            continue
        try:
            report(f"{release}: from {release.url}")
            entries.append(mirror.fetch(release, timeout, _reporter(release, report)))
        except MirrorError as error:
            errors.append(f"{error}{_other_way(mirror, release)}")
    if errors:
        raise MirrorError(_summary(mirror, len(releases), errors))
    return Filled(changed, entries)


def _other_way(mirror: Mirror, release: Release) -> str:
    """The mirror may have what was built from source, only that it is not accepted."""
    try:
        mirror.verify(release, allow_rebuilt=True)
    except MirrorError:
        return ""
    return "; or accept the one in the mirror, which was built from source: edgefleet_mirror_allow_rebuilt: true"


def _summary(mirror: Mirror, total: int, errors: list[str]) -> str:
    if total == 1:
        return errors[0]
    lines = "".join(f"\n- {error}" for error in errors)
    return f"{len(errors)} of {total} artifacts are not in the mirror {mirror.root}:{lines}"


def _reporter(release: Release, report: Report) -> Progress:
    """A line every few seconds, so that a long download is seen to go on."""
    last = time.monotonic()

    def progress(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _REPORT_SECONDS:
            last = time.monotonic()
            report(f"{release}: {done / _MIB:.0f} of {f'{total / _MIB:.0f}' if total else '?'} MiB")

    return progress
