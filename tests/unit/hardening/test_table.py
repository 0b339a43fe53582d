"""The table of controls: what the role applies, what is documented, what is checked on a running host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.filter.hardening_controls import hardening_controls
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening import limits
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.arguments import CONTROL, control_of

from tools import hardening
from tools.errors import GenerateError

ROOT = Path(__file__).resolve().parents[3]
TABLE = hardening.table(ROOT)


def test_names_are_unique_and_variables_are_the_role_s() -> None:
    names = [f"{control['id']}/{item['id']}" for control in TABLE for item in control["items"]]
    assert len(names) == len(set(names))
    specs = yaml.safe_load((ROOT / "roles/hardening/meta/argument_specs.yml").read_text())["argument_specs"]
    assert {control["variable"] for control in TABLE} <= set(specs["main"]["options"])


def test_variable_is_what_turns_the_control_on() -> None:
    for control in TABLE:
        assert control["variable"] in control["enabled"], control["id"]


def test_every_kind_of_setting_is_checked_on_a_running_host() -> None:
    checks = (ROOT / "molecule/hardening/tests/test_controls.py").read_text()
    for kind in {item.kind for item in hardening.items(ROOT)}:
        assert f'    "{kind}": check_{kind},' in checks


def test_defaults_break_nothing_of_k3s() -> None:
    empty = {name: option.get("default") for name, option in CONTROL.items()}
    plain = [{**row, "enabled": True, "files": []} for row in TABLE if row["id"] not in {"sysctl-own", "ssh"}]
    for row in plain:
        row["items"] = [item for item in row["items"] if item["id"] != "own"]
    controls = [control_of({**empty, **one}) for one in hardening_controls(plain) if one["id"] not in {"firewall"}]
    assert sum(len(one.sysctl) for one in controls) > 30
    assert limits.problems(controls) == []


def row(**given: Any) -> dict[str, Any]:
    return {"id": "one", "enabled": True, "items": [], **given}


def test_filter_leaves_out_what_is_off_also_said_on_a_command_line() -> None:
    assert hardening_controls([row(enabled=False), row(enabled="false")]) == []
    assert [one["id"] for one in hardening_controls([row(enabled="true")])] == ["one"]


def test_filter_puts_items_together_and_later_ones_win() -> None:
    (one,) = hardening_controls(
        [
            row(
                items=[
                    {"id": "a", "sshd": {"PermitRootLogin": "no", "MaxAuthTries": 4}, "sysctl": {"a.b": "1"}},
                    {"id": "b", "sshd": {"permitrootlogin": "yes"}, "settings": {"/etc/x": {"K": "v"}}},
                ],
                files=[{"path": "/etc/a"}, {"path": "/etc/b", "content": "", "mode": "0644"}],
            )
        ]
    )
    assert one["sshd"] == {"MaxAuthTries": 4, "permitrootlogin": "yes"}
    assert one["sysctl"] == {"a.b": "1"}
    assert one["settings"] == {"/etc/x": {"K": "v"}}
    # What the module renders by itself stands in the table for the reader only.
    assert [file["path"] for file in one["files"]] == ["/etc/b"]


def test_filter_takes_out_allowed_modules_however_they_are_written() -> None:
    (one,) = hardening_controls([row(items=[{"id": "a", "modules": ["usb-storage", "dccp"]}])], ["usb_storage"])
    assert one["modules"] == ["dccp"]


def test_filter_locks_audit_rules_last() -> None:
    (one,) = hardening_controls([row(audit_locked=True, items=[{"id": "a", "audit": ["-w /etc/passwd"]}])])
    assert one["audit"] == ["-w /etc/passwd", "-e 2"]


def test_documentation_names_every_item() -> None:
    page = hardening.render(ROOT)
    for control in TABLE:
        assert f"\n## {control['id']}\n\nVariable `{control['variable']}`." in page
        for item in control["items"]:
            assert re.search(rf"^\| {re.escape(item['id'])} \| {re.escape(item['cis'])} \|", page, re.MULTILINE), item


def test_item_without_reason_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "roles/hardening/vars/main"
    folder.mkdir(parents=True)
    item = {"id": "x", "cis": "-", "anssi": "-", "sysctl": {"a": "1"}}
    (folder / "controls.yml").write_text(yaml.safe_dump({"_hardening_controls": [{"id": "c", "items": [item]}]}))
    with pytest.raises(GenerateError, match=r"c/x needs id, cis, anssi, why and a setting"):
        hardening.table(tmp_path)
