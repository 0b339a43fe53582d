"""Ids and paths: labs of other names and other checkouts share nothing that is theirs alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.paths import LabPaths, cache_root, lab_id


def test_id_is_stable_and_says_the_name() -> None:
    assert lab_id("default", Path("/srv/a")) == lab_id("default", Path("/srv/a"))
    assert lab_id("molecule-default", Path("/srv/a")).endswith("-molecule-default")


def test_other_checkout_or_name_is_another_lab() -> None:
    ids = {lab_id(name, Path(checkout)) for name in ("one", "two") for checkout in ("/srv/a", "/srv/b")}
    assert len(ids) == 4


@pytest.mark.parametrize("name", ["", "Big", "a_b", "-a", "a-", "a/b", "x" * 31, "ä"])
def test_bad_name_is_refused_by_its_option(name: str) -> None:
    with pytest.raises(LabError, match=r"--name .*: use 1 to 30 lower-case letters"):
        lab_id(name)


def test_host_name_of_the_longest_lab_fits_into_63_characters() -> None:
    assert len(f"{lab_id('x' * 30)}-edge200") <= 63


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"EDGEFLEET_CACHE": "/big", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/a"}, "/big"),
        ({"XDG_CACHE_HOME": "/xdg", "HOME": "/home/a"}, "/xdg/edgefleet"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/a"}, "/home/a/.cache/edgefleet"),
    ],
)
def test_cache_root_follows_the_environment(environ: dict[str, str], root: str) -> None:
    assert cache_root(environ) == Path(root)


def test_path_that_podman_and_ssh_cannot_take_is_refused() -> None:
    with pytest.raises(LabError, match="Set EDGEFLEET_CACHE to one without spaces"):
        cache_root({"HOME": "/home/a b"})


def test_default_lab_uses_the_inventory_of_the_checkout(tmp_path: Path) -> None:
    default = LabPaths.of("default", checkout=tmp_path / "co", cache=tmp_path)
    other = LabPaths.of("other", checkout=tmp_path / "co", cache=tmp_path)
    assert default.inventory == tmp_path / "co" / "inventories" / "lab"
    assert other.inventory == other.state / "inventory"
    assert default.reports != other.reports
    assert default.mirror == other.mirror
    assert other.lock.parent == other.state.parent
