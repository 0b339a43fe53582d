"""What the mirror module does with its pins."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import (
    Entry,
    Mirror,
    MirrorError,
    Progress,
    Release,
    SourceUnreachable,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror_fill import Filled, fill, wanted

PIN = hashlib.sha256(b"body").hexdigest()


def pins(**by_arch: str) -> dict[str, Any]:
    return {arch: {"file": f"{arch}.tgz", "sha256": pin, "url": f"https://s/{arch}"} for arch, pin in by_arch.items()}


class Sources(Mirror):
    """A mirror whose downloads come from a dictionary."""

    def __init__(self, path: Path, bodies: dict[str, bytes]) -> None:
        super().__init__(path)
        self.bodies = bodies
        self.asked: list[str] = []

    def fetch(self, release: Release, timeout: float = 5.0, progress: Progress | None = None) -> Entry:
        self.asked.append(f"{release.name} {release.arch} {timeout:g}")
        if release.file not in self.bodies:
            raise SourceUnreachable(f"{release}: {release.url} can't be reached")
        made = self.root.parent / "made"
        made.write_bytes(self.bodies[release.file])
        assert progress
        progress(1, 2)
        return self.add(release, made, release.url or "")


def run(mirror: Mirror, releases: list[Release], *, allow_rebuilt: bool = False, check: bool = False) -> Filled:
    return fill(mirror, releases, allow_rebuilt=allow_rebuilt, timeout=7, check=check, report=lambda _: None)


@pytest.fixture
def mirror(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "mirror", {"amd64.tgz": b"body", "arm64.tgz": b"body"})


BOTH = [{"name": "some-tool", "version": "2.0", "releases": {"2.0": pins(amd64=PIN, arm64=PIN)}}]


def test_wanted_is_each_artifact_for_each_architecture() -> None:
    assert wanted(BOTH, ["amd64", "arm64"]) == [
        Release("some-tool", "2.0", "amd64", "amd64.tgz", PIN, "https://s/amd64"),
        Release("some-tool", "2.0", "arm64", "arm64.tgz", PIN, "https://s/arm64"),
    ]


def test_version_written_as_a_number_is_found() -> None:
    artifact = {"name": "tool", "version": "2.0", "releases": {2.0: pins(amd64=PIN)}}
    assert wanted([artifact], ["amd64"])[0].version == "2.0"


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        (
            {"version": "3.0"},
            r"^some_tool_releases has no version 3\.0 \(pinned: 2\.0\); add it, or choose a pinned one$",
        ),
        (
            {"releases": {"2.0": pins(arm64=PIN)}},
            r"^some_tool_releases\['2\.0'\] has no file for amd64; .*edgefleet_mirror_archs$",
        ),
        ({"releases": {"2.0": {"amd64": {"sha256": PIN}}}}, "has no file for amd64"),
        ({"releases": {"2.0": None}}, "has no file for amd64"),
        ({"releases": {"2.0": pins(amd64="short")}}, "'short' is no SHA-256"),
    ],
)
def test_bad_pins_name_the_variable(artifact: dict[str, Any], message: str) -> None:
    with pytest.raises(MirrorError, match=message):
        wanted([{**BOTH[0], **artifact}], ["amd64"])


def test_fill_then_unchanged(mirror: Sources) -> None:
    releases = wanted(BOTH, ["amd64", "arm64"])
    first = run(mirror, releases)
    assert (first.changed, [entry.arch for entry in first.entries]) == (True, ["amd64", "arm64"])
    second = run(mirror, releases)
    assert (second.changed, second.entries) == (False, first.entries)
    assert mirror.asked == ["some-tool amd64 7", "some-tool arm64 7"]


def test_check_mode_asks_no_source(mirror: Sources) -> None:
    assert run(mirror, wanted(BOTH, ["amd64"]), check=True).changed
    assert mirror.asked == []
    assert not mirror.root.exists()


def test_one_error_names_all_that_is_missing_and_the_rest_is_there(mirror: Sources) -> None:
    mirror.bodies = {"arm64.tgz": b"body"}
    other = {
        "name": "other",
        "version": "1",
        "releases": {"1": {"amd64": {"file": "o", "sha256": PIN, "url": "https://s/o"}}},
    }
    releases = wanted([*BOTH, other], ["amd64"]) + wanted(BOTH, ["arm64"])
    with pytest.raises(
        MirrorError,
        match=r"^2 of 3 artifacts are not in the mirror .*:\n- some-tool .* can't be reached\n- other .* can't be",
    ):
        run(mirror, releases)
    assert [entry.arch for entry in mirror.entries()] == ["arm64"]


def test_single_error_stands_alone(mirror: Sources) -> None:
    mirror.bodies = {}
    with pytest.raises(MirrorError, match=r"^some-tool 2\.0 amd64 \(amd64\.tgz\): https://s/amd64 can't be reached$"):
        run(mirror, wanted(BOTH, ["amd64"]))


def test_rebuilt_that_could_be_accepted_is_named(mirror: Sources, tmp_path: Path) -> None:
    releases = wanted(BOTH, ["amd64"])
    made = tmp_path / "made"
    made.write_bytes(b"rebuilt")
    mirror.add(releases[0], made, "built from source")
    mirror.bodies = {}
    with pytest.raises(
        MirrorError, match=r"can't be reached; or accept the one .* edgefleet_mirror_allow_rebuilt: true$"
    ):
        run(mirror, releases)


@pytest.mark.parametrize("allow", [True, False])
def test_rebuilt_is_kept_only_where_it_is_allowed(mirror: Sources, tmp_path: Path, allow: bool) -> None:
    releases = wanted(BOTH, ["amd64"])
    made = tmp_path / "made"
    made.write_bytes(b"rebuilt")
    mirror.add(releases[0], made, "built from source")
    filled = run(mirror, releases, allow_rebuilt=allow)
    assert filled.changed is not allow
    assert filled.entries[0].rebuilt is allow
