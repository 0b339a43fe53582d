"""What is written on a host, what is left alone, and what is never told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_files import BEGIN, END, Files, FilesError


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(root=tmp_path)


def test_a_file_is_written_once(files: Files, tmp_path: Path) -> None:
    files.file("/etc/a/b.yaml", "x: 1\n", 0o640)
    assert (tmp_path / "etc/a/b.yaml").read_text() == "x: 1\n"
    assert mode(tmp_path / "etc/a/b.yaml") == 0o640
    assert files.done == ["/etc/a/b.yaml"]
    again = Files(root=tmp_path)
    again.file("/etc/a/b.yaml", "x: 1\n", 0o640)
    assert again.done == []


def test_a_mode_alone_is_a_change(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    path.chmod(0o666)
    files.file("/a", "x", 0o644)
    assert mode(path) == 0o644
    assert files.done == ["/a"]
    assert files.diff[0]["before"] == "mode 0666\n"


def test_a_secret_is_not_told(files: Files, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter1")
    files.secret("/token", "hunter2")
    assert mode(tmp_path / "token") == 0o600
    assert files.done == ["/token"]
    assert "hunter" not in json.dumps(files.diff)


def test_check_mode_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    (tmp_path / "gone").write_text("x")
    (tmp_path / "c.crt").write_text("x")
    files = Files(root=tmp_path, check=True)
    files.folder("/new", 0o700)
    files.file("/there", "y", 0o600)
    files.secret("/secret", "y")
    files.block("/env", ["A=1"])
    files.absent("/gone")
    files.private("/*.crt")
    assert len(files.done) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.crt", "gone", "there"]
    assert (tmp_path / "there").read_text() == "x"
    assert mode(tmp_path / "c.crt") == 0o644


def test_lines_of_the_operator_stay(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "k3s.service.env"
    path.write_text("HTTP_PROXY=http://mine\n# a word\nA=1")
    files.block("/k3s.service.env", ['HTTP_PROXY="http://ours"'])
    assert path.read_text() == f'HTTP_PROXY=http://mine\n# a word\nA=1\n{BEGIN}HTTP_PROXY="http://ours"\n{END}'
    assert mode(path) == 0o600
    path.write_text(path.read_text() + "B=2\n")
    files.block("/k3s.service.env", ["NO_PROXY=a"])
    assert path.read_text() == f"HTTP_PROXY=http://mine\n# a word\nA=1\nB=2\n{BEGIN}NO_PROXY=a\n{END}"
    files.block("/k3s.service.env", [])
    assert path.read_text() == "HTTP_PROXY=http://mine\n# a word\nA=1\nB=2\n"


def test_a_file_without_lines_is_there(files: Files, tmp_path: Path) -> None:
    files.block("/env", [])
    assert (tmp_path / "env").read_text() == ""
    again = Files(root=tmp_path)
    again.block("/env", [])
    assert again.done == []


def test_private_takes_rights_away_only(files: Files, tmp_path: Path) -> None:
    for name, rights in (("a.crt", 0o644), ("b.crt", 0o600), ("c.crt", 0o400)):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(rights)
    (tmp_path / "d.crt").symlink_to("a.crt")
    (tmp_path / "e.crt").mkdir()
    files.private("/*.crt")
    assert files.done == ["/a.crt"]
    assert [mode(tmp_path / name) for name in ("a.crt", "b.crt", "c.crt")] == [0o600, 0o600, 0o400]
    assert mode(tmp_path / "e.crt") == 0o755


def test_what_must_not_be_there_goes(files: Files, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    files.absent("/old")
    files.absent("/never")
    assert files.done == ["/old"]
    assert not (tmp_path / "old").exists()


def test_kernel_settings(files: Files, tmp_path: Path) -> None:
    for name, value in (("kernel/panic", "0"), ("vm/panic_on_oom", "0")):
        path = tmp_path / "proc/sys" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{value}\n")
    files.settings({"kernel.panic": "10", "vm.panic_on_oom": "0"})
    assert files.done == ["kernel.panic (kernel)"]
    assert (tmp_path / "proc/sys/kernel/panic").read_text() == "10\n"


def test_a_kernel_setting_that_can_not_be_set(files: Files) -> None:
    with pytest.raises(FilesError, match=r"kernel\.panic is not known .* protect-kernel-defaults: false in k3s_config"):
        files.settings({"kernel.panic": "10"})


def test_a_folder_keeps_its_mode(files: Files, tmp_path: Path) -> None:
    files.folder("/var/logs", 0o700)
    assert mode(tmp_path / "var/logs") == 0o700
    (tmp_path / "var/logs").chmod(0o755)
    files.folder("/var/logs", 0o700)
    assert mode(tmp_path / "var/logs") == 0o700
    assert files.done == ["/var/logs"]
