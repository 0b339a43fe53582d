"""What the documents say of K3s is there: each CIS item with its check, each wish with its test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ITEMS: list[dict[str, Any]] = yaml.safe_load((ROOT / "roles/k3s/vars/cis_items.yml").read_text())["k3s_cis_items"]
WISHES = (ROOT / "docs/wishes.md").read_text()


def test_every_item_has_an_id_of_its_own_and_one_check() -> None:
    ids = [item["id"] for item in ITEMS]
    assert len(set(ids)) == len(ids)
    for item in ITEMS:
        assert len({"arg", "kubelet", "private", "seen"} & set(item)) == 1, item
        assert item["on"] in ("server", "both")
        assert item["by"] in ("role", "k3s")


def test_the_readme_has_every_item_in_the_same_order() -> None:
    where = {"server": "server", "both": "server, agent"}
    by = {"role": "role", "k3s": "K3s"}
    rows = [f"| {item['id']} | {item['title']} | {where[item['on']]} | {by[item['by']]} |" for item in ITEMS]
    assert "\n".join(rows) in (ROOT / "roles/k3s/README.md").read_text()


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`((?:tests|molecule|\.config)/[^`]+)`", WISHES))))
def test_every_test_that_a_wish_names_exists(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).is_file(), path
    if function:
        assert f"def {function}(" in (ROOT / path).read_text(), named


def test_few_wishes_are_declined() -> None:
    declined = WISHES.split("No, because:")[1]
    assert len(re.findall(r"^\| #", declined, re.MULTILINE)) <= 3
