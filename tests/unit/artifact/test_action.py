"""The controller's side: what is verified, what is sent, how often the host is asked."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.edgefleet.wasm.plugins.action.artifact import ActionModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release


class Action(ActionModule):
    """The action with a host that is a list of answers."""

    def __init__(self, args: dict[str, Any], answers: list[dict[str, Any]], *, check: bool = False) -> None:
        self.shell = SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        task = SimpleNamespace(args=args, check_mode=check, async_val=0, diff=True)
        connection = SimpleNamespace(_shell=self.shell, become=None)
        super().__init__(task, connection, None, None, None, None)
        self.answers = answers
        self.asked: list[dict[str, Any]] = []
        self.sent: list[tuple[str, str]] = []
        self.removed: list[str | None] = []
        self.refuse: str | None = None

    def get_shell_option(self, option: str, default: Any = None) -> Any:
        return {"remote_tmp": "~/.ansible/tmp"}.get(option, default)

    def _get_remote_user(self) -> str:
        return "admin"

    def _make_tmp_path(self) -> str:
        self.shell.tmpdir = "/home/admin/.ansible/tmp/1"
        return "/home/admin/.ansible/tmp/1"

    def _transfer_file(self, local_path: str, remote_path: str) -> str:
        if self.refuse:
            raise AnsibleError(self.refuse)
        self.sent.append((local_path, remote_path))
        return remote_path

    def _fixup_perms2(self, remote_paths: Any) -> None:
        assert self.shell.tmpdir in remote_paths

    def _remove_tmp_path(self, tmp_path: str | None) -> None:
        self.removed.append(tmp_path)

    def _execute_module(self, **call: Any) -> dict[str, Any]:
        self.asked.append(call["module_args"])
        return self.answers.pop(0)


@pytest.fixture
def args(tmp_path: Path) -> dict[str, Any]:
    made = tmp_path / "made"
    made.write_bytes(b"body")
    release = Release("tool", "1", "amd64", "tool.bin")
    Mirror(tmp_path / "mirror").add(release, made, "built from source")
    return {
        "name": "tool",
        "version": "1",
        "arch": "amd64",
        "file": "tool.bin",
        "mirror": str(tmp_path / "mirror"),
        "dest": "/usr/local/bin/tool",
    }


def test_verified_asks_no_host(args: dict[str, Any]) -> None:
    action = Action({**args, "state": "verified"}, [])
    result = action.run(task_vars={})
    assert (result["changed"], action.asked, action.sent) == (False, [], [])
    assert result["artifact"]["source"] == "built from source"
    assert result["artifact"]["size"] == 4


@pytest.mark.parametrize("state", ["verified", "present"])
def test_bad_mirror_is_one_error_and_asks_no_host(args: dict[str, Any], state: str) -> None:
    action = Action({**args, "state": state, "version": "2"}, [])
    result = action.run(task_vars={})
    assert result["failed"] is True
    assert result["msg"].startswith("tool 2 amd64 (tool.bin) is not in the mirror ")
    assert (action.asked, action.sent) == ([], [])


def test_unchanged_is_one_round_trip(args: dict[str, Any]) -> None:
    action = Action(args, [{"changed": False, "needs_file": False, "artifact": {}}])
    assert action.run(task_vars={}) == {"changed": False, "artifact": {}}
    assert len(action.asked) == 1
    assert action.asked[0]["passed"]["temporary"] == "~admin/.ansible/tmp"
    assert action.asked[0]["passed"]["artifact"]["sha256"]
    assert "source" not in action.asked[0]["passed"]
    assert action.sent == []


def test_file_is_sent_once_and_removed(args: dict[str, Any]) -> None:
    answers = [
        {"changed": True, "needs_file": True, "diff": {"before": "old", "after": "new"}},
        {"changed": True, "needs_file": False, "diff": {"before": "", "after": "new"}},
    ]
    action = Action(args, answers)
    result = action.run(task_vars={})
    target = "/home/admin/.ansible/tmp/1/artifact"
    assert action.sent == [(f"{args['mirror']}/tool/1/amd64/tool.bin", target)]
    assert action.asked[1]["passed"]["source"] == target
    assert result == {"changed": True, "diff": {"before": "old", "after": "new"}}
    assert action.removed == ["/home/admin/.ansible/tmp/1"]


def test_check_mode_sends_nothing(args: dict[str, Any]) -> None:
    action = Action(args, [{"changed": True, "needs_file": True}], check=True)
    assert action.run(task_vars={}) == {"changed": True}
    assert action.sent == []


def test_failed_look_sends_nothing(args: dict[str, Any]) -> None:
    action = Action(args, [{"failed": True, "msg": "no room for it"}])
    assert action.run(task_vars={}) == {"failed": True, "msg": "no room for it"}
    assert action.sent == []


def test_failed_transfer_is_one_error(args: dict[str, Any]) -> None:
    action = Action(args, [{"changed": True, "needs_file": True}])
    action.refuse = "failed to transfer file\nwrite remote: Failure"
    result = action.run(task_vars={})
    assert result["msg"] == (
        "tool 1 amd64 could not be sent to the host: failed to transfer file write remote: Failure; nothing was changed"
    )
    assert (len(action.asked), action.removed) == (1, ["/home/admin/.ansible/tmp/1"])


def test_absent_reads_no_mirror(args: dict[str, Any]) -> None:
    action = Action({"state": "absent", "name": "tool", "dest": "/x"}, [{"changed": False}])
    assert action.run(task_vars={}) == {"changed": False}
    assert "artifact" not in action.asked[0]["passed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "present", "dest": None}, "state is present but all of the following are missing: dest"),
        ({"arch": "x86_64"}, "value of arch must be one of: amd64, arm64, got: x86_64"),
        ({"colour": "red"}, "Unsupported parameters .*colour"),
        ({"sha256": "abc"}, "'abc' is no SHA-256"),
    ],
)
def test_bad_arguments(args: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    args.update(changes)
    action = Action({key: value for key, value in args.items() if value is not None}, [])
    try:
        text = action.run(task_vars={})["msg"]
    except AnsibleError as error:
        text = str(error)
    assert re.search(message, text), text
    assert action.asked == []
