# SPDX-License-Identifier: Apache-2.0
"""Several configuration files in one round trip: all are validated before the first is replaced."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import sync_folder

ARGUMENTS: dict[str, object] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
            "content": {"type": "str"},
            "secret_content": {"type": "str", "no_log": True},
            "mode": {"type": "str"},
            "replace": {"type": "bool", "default": True},
            "validate": {"type": "str"},
        },
        "mutually_exclusive": [["content", "secret_content"]],
    }
}
_MODES = {"file": 0o644, "directory": 0o755, "absent": 0}
_VALIDATION_SECONDS = 60


class ConfigFileError(Exception):
    """What is wrong with one of the files, and the way out. Nothing was changed."""


@dataclass(frozen=True)
class Entry:
    """One file as it shall be. ``content`` None leaves what is in it alone; ``secret`` keeps it out of diffs."""

    path: Path
    state: str
    content: str | None
    secret: bool
    mode: int
    replace: bool
    validate: str | None

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Entry:
        """From a module's parameters."""
        state, path = str(given["state"]), Path(str(given["path"]))
        secret = given["secret_content"] is not None
        content = given["secret_content"] if secret else given["content"]
        if not path.is_absolute():
            raise ConfigFileError(f"files: {path} is no absolute path.")
        if (state == "file") != (content is not None):
            raise ConfigFileError(f"files: {path}: content or secret_content is for state file, and needed there.")
        validate = given["validate"]
        if validate is not None and "%s" not in str(validate):
            raise ConfigFileError(f"files: {path}: validate has no %s, so it would look at the file of now.")
        try:
            mode = int(str(given["mode"]), 8) if given["mode"] is not None else _MODES[state]
        except ValueError as wrong:
            raise ConfigFileError(f"files: {path}: mode {given['mode']!r} is not octal, as in '0644'.") from wrong
        return cls(
            path, state, None if content is None else str(content), secret, mode, bool(given["replace"]),
            None if validate is None else str(validate),
        )  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A file that is not as it shall be. ``before`` and ``after`` are for diffs."""

    entry: Entry
    before: str
    after: str
    rewrite: bool


def plan(entries: Sequence[Entry]) -> list[Change]:
    """The changes that are needed, without making any."""
    return [change for entry in entries if (change := _change(entry))]


def apply(changes: Sequence[Change], *, check_mode: bool = False) -> None:
    """Make the changes: new contents are written beside and validated, all of them, and only then moved into place.

    With ``check_mode`` it stops before that; a validator that is not on the host yet is then passed over.
    """
    with ExitStack() as stack:
        staged = {c.entry.path: _stage(c, stack) for c in changes if c.rewrite}
        for path, temporary in staged.items():
            entry = next(c.entry for c in changes if c.entry.path == path)
            _validate(entry, temporary, lenient=check_mode)
        if check_mode:
            return
        for change in changes:
            _make(change.entry, staged.get(change.entry.path))


def _change(entry: Entry) -> Change | None:
    there = entry.path.exists() or entry.path.is_symlink()
    if entry.state == "absent":
        if entry.path.is_dir() and not entry.path.is_symlink():
            raise ConfigFileError(f"{entry.path} is a folder, and state absent removes files only.")
        return Change(entry, _look(entry, there=True), "", rewrite=False) if there else None
    if entry.state == "directory":
        return _change_of_folder(entry, there)
    if entry.path.is_dir():
        raise ConfigFileError(f"{entry.path} is a folder where a file shall be; move it away.")
    same = there and not entry.path.is_symlink() and (not entry.replace or _text(entry.path) == entry.content)
    if same and _owned(entry):
        return None
    after = "(hidden)" if entry.secret else str(entry.content)
    return Change(entry, _look(entry, there), _with_mode(after, entry.mode), rewrite=not same)


def _change_of_folder(entry: Entry, there: bool) -> Change | None:
    if there and not entry.path.is_dir():
        raise ConfigFileError(f"{entry.path} is a file where a folder shall be; move it away.")
    if there and _owned(entry):
        return None
    before = f"mode {entry.path.stat().st_mode & 0o7777:04o}\n" if there else ""
    return Change(entry, before, f"mode {entry.mode:04o}\n", rewrite=False)


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return None


def _owned(entry: Entry) -> bool:
    now = entry.path.stat()
    return (now.st_mode & 0o7777, now.st_uid, now.st_gid) == (entry.mode, 0, 0)


def _look(entry: Entry, there: bool) -> str:
    if not there:
        return ""
    if entry.path.is_symlink():
        return f"link to {entry.path.readlink()}\n"
    text = "(hidden)" if entry.secret else (_text(entry.path) or "(not text)")
    return _with_mode(text, entry.path.stat().st_mode & 0o7777)


def _with_mode(text: str, mode: int) -> str:
    return f"mode {mode:04o}\n{text}"


def _stage(change: Change, stack: ExitStack) -> Path:
    """The new content in a file of its own: beside the target where its folder exists, so that the move is atomic."""
    entry = change.entry
    if entry.path.parent.is_dir():
        # Always the same name: what a killed run left is overwritten by the next.
        temporary = entry.path.with_name(f".{entry.path.name}.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    else:
        descriptor, name = tempfile.mkstemp(prefix="edgefleet.")
        temporary = Path(name)
    stack.callback(temporary.unlink, missing_ok=True)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(entry.content or "")
        stream.flush()
        os.fchmod(stream.fileno(), entry.mode)
        os.fsync(stream.fileno())
    return temporary


def _validate(entry: Entry, temporary: Path, *, lenient: bool) -> None:
    if entry.validate is None:
        return
    command = [word.replace("%s", str(temporary)) for word in shlex.split(entry.validate)]
    if shutil.which(command[0]) is None and lenient:
        return
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_VALIDATION_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise ConfigFileError(
            f"{entry.path}: `{entry.validate}` could not be run: {failed}. Nothing was changed."
        ) from failed
    if done.returncode != 0:
        said = (
            "(hidden)"
            if entry.secret
            else (done.stderr or done.stdout).replace(str(temporary), str(entry.path)).strip()
        )
        raise ConfigFileError(f"{entry.path}: `{entry.validate}` refuses the new content: {said}. Nothing was changed.")


def _make(entry: Entry, temporary: Path | None) -> None:
    if entry.state == "absent":
        entry.path.unlink()
        sync_folder(entry.path.parent)
        return
    if entry.state == "directory":
        entry.path.mkdir(parents=True, exist_ok=True)
    elif temporary is not None:
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        if temporary.parent == entry.path.parent:
            temporary.replace(entry.path)
        else:
            _move(temporary, entry)
    os.chown(entry.path, 0, 0)
    entry.path.chmod(entry.mode)
    sync_folder(entry.path.parent)


def _move(temporary: Path, entry: Entry) -> None:
    """From another file system, in one step all the same."""
    near = entry.path.with_name(f".{entry.path.name}.new")
    shutil.copyfile(temporary, near)
    near.chmod(entry.mode)
    with near.open("rb") as stream:
        os.fsync(stream.fileno())
    near.replace(entry.path)
