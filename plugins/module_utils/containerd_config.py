# SPDX-License-Identifier: Apache-2.0
"""containerd's configuration as a set of files: tried as a whole beside the real one, put in place, the old taken away.

containerd drops a key that it does not know without a word. So `containerd config dump` has to show every value that
the files declare, before any of them takes its place.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically

PROGRAM = Path("/usr/local/bin/containerd")
CTR = Path("/usr/local/bin/ctr")
CONFIG = Path("/etc/containerd/config.toml")
DROPINS = Path("/etc/containerd/conf.d")
REGISTRIES = Path("/etc/containerd/certs.d")
STATE = Path("/var/lib/edgefleet")
VERSION = 3

# Where the settings of containerd 1.x are in 2.x.
_MOVED = {
    "io.containerd.grpc.v1.cri": (
        "that is where containerd 1.x (configuration version 2) has it. In version 3 runtimes and CNI are in "
        "'io.containerd.cri.v1.runtime', registries, snapshotter and the sandbox image (pinned_images.sandbox) in "
        "'io.containerd.cri.v1.images'"
    ),
    "io.containerd.runtime.v1.linux": "containerd 2 has no runtimes of version 1",
    "cri": "that is configuration version 1; use 'io.containerd.cri.v1.runtime' or 'io.containerd.cri.v1.images'",
}
_TABLES = ("version", "imports")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

RunCommand = Callable[[list[str]], tuple[int, str, str]]


class ConfigError(Exception):
    """The files can't be used; nothing was changed."""


@dataclass(frozen=True)
class File:
    """A file as it shall be, owned by root."""

    path: Path
    content: str
    mode: int = 0o644
    secret: bool = False


@dataclass(frozen=True)
class Outcome:
    changed: bool
    files: list[str]
    before: str
    after: str


@dataclass(frozen=True)
class Places:
    """Where things are on the host; tests have them elsewhere."""

    program: Path = PROGRAM
    ctr: Path = CTR
    config: Path = CONFIG
    dropins: Path = DROPINS
    registries: Path = REGISTRIES
    state: Path = STATE


def ensure(run: RunCommand, owner: str, files: Sequence[File], *, check: bool, places: Places | None = None) -> Outcome:
    """Have these files, and none that the same owner declared before and does not declare any more."""
    places = places or Places()
    record = places.state / f"{owner}.files"
    stale = sorted(_recorded(record) - {file.path for file in files})
    _validate(run, files, stale, places, check=check)
    differing = [file for file in files if not _as_wanted(file)]
    gone = [path for path in stale if path.is_file() or path.is_symlink()]
    before, after = _diff(differing, gone)
    recorded = sorted(str(file.path) for file in files)
    unrecorded = recorded != sorted(map(str, _recorded(record)))
    if not check and (differing or stale or unrecorded):
        # Before the files, so that a run that is cut forgets none of them.
        _record(record, [*recorded, *map(str, stale)])
        for file in differing:
            _put(file)
        for path in gone:
            path.unlink()
            _remove_empty(path.parent, places)
        _record(record, recorded)
    changed = [str(file.path) for file in differing] + [str(path) for path in gone]
    return Outcome(bool(changed or unrecorded), changed, before, after)


def base_spec(run: RunCommand, annotations: Mapping[str, str], *, ctr: Path = CTR) -> str:
    """The spec that containers of a runtime start from: containerd's own default, and these annotations."""
    code, out, err = run([str(ctr), "oci", "spec"])
    try:
        spec = json.loads(out) if code == 0 else None
    except ValueError:
        spec = None
    if not isinstance(spec, dict):
        raise ConfigError(f"`{ctr} oci spec` tells no default spec: {_reason(err or out)}")
    spec["annotations"] = {**spec.get("annotations", {}), **annotations}
    return json.dumps(spec, indent=4, sort_keys=True) + "\n"


def _validate(run: RunCommand, files: Sequence[File], stale: Sequence[Path], places: Places, *, check: bool) -> None:
    declared = {file.path: file.content for file in files if _is_toml(file.path, places)}
    for path, content in declared.items():
        _parse(path, content)
    if not declared:
        return
    if not places.program.is_file():
        if check:
            return
        raise ConfigError(f"no {places.program} on this host: play the role edgefleet.wasm.containerd first")
    dump = _dump(run, declared, stale, places)
    others = _others(declared, stale, places)
    for path, content in declared.items():
        for keys, value in _leaves(_parse(path, content)):
            shown = _find(dump, keys)
            if not _same(value, shown):
                raise ConfigError(_complaint(path, keys, value, shown, {**others, **declared}))


def _is_toml(path: Path, places: Places) -> bool:
    return path == places.config or (path.parent == places.dropins and path.suffix == ".toml")


def _parse(path: Path, content: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no TOML: {error}") from error
    if document.get("version") != VERSION:
        raise ConfigError(
            f"{path}: its first line has to be `version = {VERSION}`; containerd drops the settings of another "
            "version (names as containerd 1.x has them) without a word"
        )
    return document


def _others(declared: Mapping[Path, str], stale: Sequence[Path], places: Places) -> dict[Path, str]:
    """What else containerd reads: its main file, and drop-ins of other owners."""
    found = [places.config, *sorted(places.dropins.glob("*.toml"))]
    readable = [path for path in found if path not in declared and path not in stale and path.is_file()]
    return {path: path.read_text(encoding="utf-8", errors="replace") for path in readable}


def _dump(run: RunCommand, declared: Mapping[Path, str], stale: Sequence[Path], places: Places) -> dict[str, Any]:
    """What containerd makes of all files together, tried in a folder of their own."""
    everything = {**_others(declared, stale, places), **declared}
    if places.config not in everything:
        raise ConfigError(f"no {places.config} on this host: play the role edgefleet.wasm.containerd first")
    folder = Path(tempfile.mkdtemp(prefix="edgefleet-containerd-"))
    try:
        dropins = folder / "conf.d"
        dropins.mkdir()
        for path, content in everything.items():
            place = folder / "config.toml" if path == places.config else dropins / path.name
            place.write_text(content.replace(f"{places.dropins}/", f"{dropins}/"), encoding="utf-8")
        code, out, err = run([str(places.program), "--config", str(folder / "config.toml"), "config", "dump"])
        if code:
            names = ", ".join(map(str, declared))
            raise ConfigError(f"containerd does not take {names}: {_reason(err or out)}")
        return tomllib.loads(out)
    finally:
        shutil.rmtree(folder)


def _reason(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().removeprefix("containerd: ") or "it says nothing"


def _leaves(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if not above and key in _TABLES:
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        elif not isinstance(value, dict):
            yield (*above, key), value


def _find(table: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(table, dict) or key not in table:
            return None
        table = table[key]
    return table


def _same(wanted: Any, shown: Any) -> bool:
    """Empty values may be left out of a dump; durations are written in other words."""
    if wanted == shown or (shown is None and not wanted):
        return True
    return isinstance(wanted, str) and isinstance(shown, str) and None is not _seconds(wanted) == _seconds(shown)


def _seconds(text: str) -> float | None:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return round(sum(float(number) * _SECONDS[unit] for number, unit in parts), 9)


def _complaint(path: Path, keys: tuple[str, ...], wanted: Any, shown: Any, everything: Mapping[Path, str]) -> str:
    name = ".".join(f"'{key}'" if "." in key else key for key in keys)
    overriding = [
        str(other)
        for other, content in sorted(everything.items())
        if other != path and _find(_parsed(content), keys) not in (None, wanted)
    ]
    if overriding:
        return f"{path}: {name} = {wanted!r} is overridden by {', '.join(overriding)}; set it in one place only"
    if shown is not None:
        return f"{path}: {name} = {wanted!r}, but `containerd config dump` shows {shown!r}"
    plugin = keys[1] if keys[0] == "plugins" and len(keys) > 1 else ""
    why = _MOVED.get(plugin, "`containerd config default` shows the names it knows")
    return f"{path}: this containerd does not know {name} and would drop it without a word: {why}"


def _parsed(content: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError:
        return {}


def _as_wanted(file: File) -> bool:
    try:
        now = file.path.lstat()
        if not stat.S_ISREG(now.st_mode) or stat.S_IMODE(now.st_mode) != file.mode:
            return False
        return (now.st_uid, now.st_gid) == (os.geteuid(), os.getegid()) and _text(file.path) == file.content
    except FileNotFoundError:
        return False


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _diff(differing: Sequence[File], gone: Sequence[Path]) -> tuple[str, str]:
    """For a diff: the names of all, the content of what is no secret."""
    before, after = "", ""
    for file in differing:
        mode = f"{stat.S_IMODE(file.path.stat().st_mode):04o}" if file.path.is_file() else ""
        before += f"# {file.path} {mode}\n" if mode else ""
        after += f"# {file.path} {file.mode:04o}\n"
        if not file.secret:
            before += _text(file.path) if mode else ""
            after += file.content
    return before + "".join(f"# {path}\n" for path in gone), after


def _put(file: File) -> None:
    file.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if file.path.is_symlink():
        file.path.unlink()
    write_atomically(file.path, file.content, file.mode)


def _remove_empty(folder: Path, places: Places) -> None:
    """The folder of a registry that is not declared any more."""
    if folder.parent == places.registries and not any(folder.iterdir()):
        folder.rmdir()


def _recorded(record: Path) -> set[Path]:
    try:
        return {Path(line) for line in _text(record).splitlines() if line.startswith("/")}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _record(record: Path, paths: Sequence[str]) -> None:
    if not paths:
        record.unlink(missing_ok=True)
        return
    record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record, "".join(f"{path}\n" for path in paths))
