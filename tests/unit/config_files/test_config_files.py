"""Files as declared: what is written, what is left, what is refused before anything changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.config_files import ConfigFileError, Entry, apply, plan

BARE = {
    "state": "file", "content": None, "secret_content": None, "mode": None, "replace": True, "validate": None
}  # fmt: skip


def entry(path: Path, **given: Any) -> Entry:
    return Entry.of({**BARE, "path": str(path), **given})


def converge(*entries: Entry, check_mode: bool = False) -> list[str]:
    changes = plan(entries)
    apply(changes, check_mode=check_mode)
    return [str(change.entry.path) for change in changes]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_writes_what_is_missing_with_its_folders_and_then_leaves_it(tmp_path: Path) -> None:
    wanted = [
        entry(tmp_path / "etc/a.conf", content="a\n"),
        entry(tmp_path / "etc/token", secret_content="s3cret", mode="0600"),
        entry(tmp_path / "drop.d", state="directory", mode="0700"),
    ]
    assert len(converge(*wanted)) == 3
    assert (tmp_path / "etc/a.conf").read_text() == "a\n"
    assert [mode(tmp_path / name) for name in ("etc/a.conf", "etc/token", "drop.d")] == [0o644, 0o600, 0o700]
    assert converge(*wanted) == []
    assert sorted(path.name for path in (tmp_path / "etc").iterdir()) == ["a.conf", "token"]


def test_heals_content_mode_and_a_link_in_its_place(tmp_path: Path) -> None:
    wanted = [entry(tmp_path / name, content=f"{name}\n") for name in ("content", "mode", "link")]
    converge(*wanted)
    (tmp_path / "content").write_text("drift\n")
    (tmp_path / "mode").chmod(0o666)
    (tmp_path / "link").unlink()
    (tmp_path / "elsewhere").write_text("link\n")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert len(converge(*wanted)) == 3
    assert (tmp_path / "content").read_text() == "content\n"
    assert mode(tmp_path / "mode") == 0o644
    assert not (tmp_path / "link").is_symlink()
    assert converge(*wanted) == []


def test_check_mode_tells_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1")
    before = sorted(tmp_path.iterdir())
    wanted = [
        entry(tmp_path / "old", content="2"),
        entry(tmp_path / "x/new", content="3", validate="/no/such/program %s"),
    ]
    assert len(converge(*wanted, check_mode=True)) == 2
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old").read_text() == "1"


def test_no_file_is_replaced_when_one_does_not_validate(tmp_path: Path) -> None:
    wanted = [
        entry(tmp_path / "good", content="good\n", validate="grep -q good %s"),
        entry(tmp_path / "bad", content="bad\n", validate="grep good %s"),
    ]
    with pytest.raises(ConfigFileError, match=r"bad: `grep good %s` refuses .* Nothing was changed"):
        converge(*wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_validator_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="could not be run"):
        converge(entry(tmp_path / "a", content="a", validate="/no/such/program %s"))


def test_what_a_validator_says_of_a_secret_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError) as refused:
        converge(entry(tmp_path / "a", secret_content="s3cret", validate="sh -c 'cat %s; exit 1'"))
    assert "s3cret" not in str(refused.value)


def test_secrets_stay_out_of_the_diff(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old-secret")
    (change,) = plan([entry(tmp_path / "token", secret_content="new-secret")])
    assert "secret" not in change.before + change.after


def test_replace_false_keeps_what_an_operator_wrote_but_not_its_mode(tmp_path: Path) -> None:
    wanted = entry(tmp_path / "env", content="", mode="0600", replace=False)
    (tmp_path / "env").write_text("HTTPS_PROXY=x\n")
    (tmp_path / "env").chmod(0o644)
    assert len(converge(wanted)) == 1
    assert (tmp_path / "env").read_text() == "HTTPS_PROXY=x\n"
    assert mode(tmp_path / "env") == 0o600
    assert converge(wanted) == []


def test_absent_removes_a_file_and_is_then_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    assert len(converge(entry(tmp_path / "a", state="absent"))) == 1
    assert converge(entry(tmp_path / "a", state="absent")) == []


def test_what_a_killed_run_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".a.new").write_text("half")
    converge(entry(tmp_path / "a", content="whole"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "whole"


def test_a_write_that_is_cut_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")

    def cut(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="No space left"):
        converge(entry(tmp_path / "a", content="new"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"content": None}, "content or secret_content is for state file"),
        ({"content": "x", "state": "absent"}, "content or secret_content is for state file"),
        ({"content": "x", "mode": "rw"}, "not octal"),
        ({"content": "x", "validate": "true"}, "no %s"),
    ],
)
def test_refuses(tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigFileError, match=why):
        entry(tmp_path / "a", **given)


def test_refuses_a_relative_path_and_a_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="no absolute path"):
        entry(Path("a"), content="x")
    for given in ({"content": "x"}, {"state": "absent"}):
        with pytest.raises(ConfigFileError, match="is a folder"):
            converge(entry(tmp_path, **given))
