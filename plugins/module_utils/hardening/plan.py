# SPDX-License-Identifier: Apache-2.0
"""What differs between a host and its controls, kind by kind, and how each difference is removed or taken back.

Every kind works the same way: what is wanted and differs becomes a change that first remembers what was there; what is
remembered and no longer wanted becomes a change that puts it back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.host import Facts, Unit
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import (
    Change,
    Control,
    File,
    HardeningError,
    Machine,
    Memory,
    Permission,
)

UNIT_FOLDER = "/etc/systemd/system/"
DAEMON_RELOAD = "systemctl daemon-reload"
# Values that are stricter than the wanted one and that a running kernel does not give up again.
STRICTER = {
    "kernel/unprivileged_bpf_disabled": {"1"},
    "kernel/yama/ptrace_scope": {"2", "3"},
    "kernel/perf_event_paranoid": {"4"},
}
_Value = TypeVar("_Value")
_OPPOSITE = {"nosuid": "suid", "nodev": "dev", "noexec": "exec"}


# Files


def file_changes(machine: Machine, memory: Memory, wanted: Mapping[str, tuple[File, tuple[str, ...]]]) -> list[Change]:
    """Each file with the commands that its change calls for."""
    found = (file_change(machine, memory, file, todo) for file, todo in wanted.values())
    return [change for change in found if change]


def files_back(machine: Machine, memory: Memory, wanted: Collection[str]) -> list[Change]:
    """Files that were written once and are not wanted any more."""
    return [_put_back(machine, memory, path) for path in memory.files if path not in wanted]


def file_change(machine: Machine, memory: Memory, file: File, todo: tuple[str, ...] = ()) -> Change | None:
    """Write one file; None if it is as it should be."""
    content, mode = machine.read(file.path), _mode(machine, file.path)
    if content == file.content and mode == file.mode:
        return None
    todo = (*((DAEMON_RELOAD,) if file.path.startswith(UNIT_FOLDER) else ()), *todo)

    def remember() -> None:
        if file.path not in memory.files:
            memory.files[file.path] = {"before": content, "mode": mode, "todo": list(todo)}
        # Later variables may call for other commands.
        memory.files[file.path]["todo"] = list(todo)
        memory.folders += [name for name in _missing_folders(machine, file.path) if name not in memory.folders]

    def apply() -> None:
        path = machine.path(file.path)
        for folder in reversed(_missing_folders(machine, file.path)):
            machine.path(folder).mkdir(mode=0o755)
            machine.path(folder).chmod(0o755)
        write_atomically(path, file.content, file.mode)

    return Change(
        what=file.path,
        before=content or "",
        after=file.content
        if content != file.content
        else f"{file.content}(mode {file.mode:04o}, was {mode or 0:04o})\n",
        apply=apply,
        remember=remember,
        todo=todo,
    )


def _put_back(machine: Machine, memory: Memory, path: str) -> Change:
    entry = memory.files[path]

    def apply() -> None:
        if entry["before"] is None:
            machine.path(path).unlink(missing_ok=True)
        else:
            write_atomically(machine.path(path), entry["before"], entry["mode"])

    return Change(
        what=path,
        before=machine.read(path) or "",
        after=entry["before"] or "",
        apply=apply,
        forget=partial(_drop, memory.files, path),
        todo=tuple(entry["todo"]),
    )


def empty_folders(machine: Machine, memory: Memory) -> None:
    """Remove the folders that were made for files that are gone."""
    for folder in sorted(memory.folders, reverse=True):
        if any(path.startswith(f"{folder}/") for path in memory.files):
            continue
        path = machine.path(folder)
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        memory.folders.remove(folder)


def _missing_folders(machine: Machine, path: str) -> list[str]:
    """The folders above a path that aren't there, the innermost first."""
    return [str(parent) for parent in Path(path).parents if not machine.path(str(parent)).exists()]


def _mode(machine: Machine, path: str) -> int | None:
    try:
        return machine.path(path).stat().st_mode & 0o7777
    except (FileNotFoundError, NotADirectoryError):
        return None


# Lines of a file that has no folder for drop-ins


def setting_changes(machine: Machine, memory: Memory, wanted: Mapping[str, Mapping[str, str]]) -> list[Change]:
    """Keys of files such as login.defs: one key and its value on a line."""
    changes = []
    for path in dict.fromkeys([*wanted, *memory.settings]):
        text = machine.read(path)
        if text is None:
            continue
        keys, remembered = wanted.get(path, {}), memory.settings.get(path, {})
        lines = {key: _line(text, key) for key in {**keys, **remembered}}
        now = {key: f"{key}\t{value}" for key, value in keys.items() if _value(lines[key]) != value}
        back = {key: line for key, line in remembered.items() if key not in keys}
        if now or back:
            changes.append(_set_lines(machine, path, text, {**now, **back}))
            changes[-1].remember = partial(_keep_lines, memory, path, {key: lines[key] for key in now})
            changes[-1].forget = partial(_forget_lines, memory, path, list(back))
    return changes


def _set_lines(machine: Machine, path: str, text: str, lines: Mapping[str, str | None]) -> Change:
    result = text
    for key, line in lines.items():
        result = _with_line(result, key, line)
    mode = _mode(machine, path) or 0o644
    return Change(path, text, result, lambda: write_atomically(machine.path(path), result, mode))


def _keep_lines(memory: Memory, path: str, lines: Mapping[str, str | None]) -> None:
    kept = memory.settings.setdefault(path, {})
    for key, line in lines.items():
        kept.setdefault(key, line)


def _forget_lines(memory: Memory, path: str, keys: Sequence[str]) -> None:
    for key in keys:
        memory.settings[path].pop(key)
    if path in memory.settings and not memory.settings[path]:
        memory.settings.pop(path)


def _line(text: str, key: str) -> str | None:
    found = re.findall(rf"^{re.escape(key)}\s.*$", text, re.MULTILINE)
    return found[-1] if found else None


def _value(line: str | None) -> str | None:
    return line.split(None, 1)[1].strip() if line and len(line.split(None, 1)) > 1 else None


def _with_line(text: str, key: str, line: str | None) -> str:
    """The text with the key's line replaced, taken away or added."""
    pattern = re.compile(rf"^{re.escape(key)}\s.*\n?", re.MULTILINE)
    places = list(pattern.finditer(text))
    if not places:
        return text if line is None else f"{text.rstrip(chr(10))}\n{line}\n"
    last = places[-1]
    return text[: last.start()] + (f"{line}\n" if line is not None else "") + text[last.end() :]


# Permissions


def permission_changes(machine: Machine, memory: Memory, wanted: Sequence[Permission]) -> list[Change]:
    """Modes are only narrowed; owner is root."""
    changes, seen = [], set()
    for permission in wanted:
        for path in sorted(machine.root.glob(permission.path.lstrip("/"))):
            name = f"/{path.relative_to(machine.root)}"
            seen.add(name)
            if path.is_symlink():
                continue
            state = path.stat()
            mode = state.st_mode & 0o7777
            group = _group_id(machine, permission.group)
            target = (mode & permission.mode, 0, group if state.st_gid not in {0, group} else state.st_gid)
            if target != (mode, state.st_uid, state.st_gid):
                changes.append(_permit(memory, path, name, (mode, state.st_uid, state.st_gid), target))
    for name in [name for name in memory.permissions if name not in seen]:
        path = machine.path(name)
        before = memory.permissions[name]
        change = _permit(memory, path, name, _permission(path), (before[0], before[1], before[2]))
        change.remember, change.forget = (lambda: None), partial(_drop, memory.permissions, name)
        changes.append(change)
    return changes


def _permission(path: Path) -> tuple[int, int, int]:
    state = path.stat() if path.exists() else None
    return (state.st_mode & 0o7777, state.st_uid, state.st_gid) if state else (0, 0, 0)


def _permit(memory: Memory, path: Path, name: str, was: tuple[int, int, int], now: tuple[int, int, int]) -> Change:
    def apply() -> None:
        if path.exists():
            os.chown(path, now[1], now[2])
            path.chmod(now[0])

    return Change(
        what=name,
        before="{:04o} {}:{}\n".format(*was),
        after="{:04o} {}:{}\n".format(*now),
        apply=apply,
        remember=partial(_keep, memory.permissions, name, list(was)),
    )


def _group_id(machine: Machine, name: str) -> int:
    found = re.search(rf"^{re.escape(name)}:[^:]*:(\d+):", machine.read("/etc/group") or "", re.MULTILINE)
    return int(found[1]) if found else 0


# Kernel settings


def sysctl_path(key: str) -> str:
    """A key as the path below /proc/sys that it stands for."""
    return key if "/" in key else key.replace(".", "/")


def sysctl_values(
    machine: Machine, facts: Facts, wanted: Mapping[str, str]
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Present and wanted value by path of what this host can set, and the reasons by key for the rest."""
    values: dict[str, tuple[str, str]] = {}
    refused: dict[str, str] = {}
    for key, value in wanted.items():
        pattern = sysctl_path(key)
        paths = sorted(machine.path("/proc/sys").glob(pattern))
        if not paths:
            refused[key] = "not in this kernel"
        elif "own_kernel" in facts.lacks and not pattern.startswith("net/"):
            refused[key] = facts.lacks["own_kernel"]
        elif not all(os.access(path, os.W_OK) for path in paths):
            refused[key] = "read-only here"
        else:
            for path in paths:
                name = str(path.relative_to(machine.path("/proc/sys")))
                values[name] = (_normal(path.read_text(encoding="ascii")), _normal(value))
    return values, refused


def sysctl_changes(machine: Machine, memory: Memory, values: Mapping[str, tuple[str, str]]) -> list[Change]:
    """The running kernel; the file that sets them at boot is a file like others."""
    changes = []
    for name, (before, wanted) in values.items():
        if before not in {wanted, *STRICTER.get(name, ())}:
            change = _set_sysctl(machine, name, before, wanted)
            change.remember = partial(_keep, memory.sysctl, name, before)
            changes.append(change)
    for name in [name for name in memory.sysctl if name not in values]:
        path = machine.path(f"/proc/sys/{name}")
        before = _normal(path.read_text(encoding="ascii")) if path.exists() else ""
        change = _set_sysctl(machine, name, before, memory.sysctl[name])
        change.forget = partial(_drop, memory.sysctl, name)
        changes.append(change)
    return changes


def _set_sysctl(machine: Machine, name: str, before: str, value: str) -> Change:
    def apply() -> None:
        path = machine.path(f"/proc/sys/{name}")
        if path.exists():
            path.write_text(f"{value}\n", encoding="ascii")

    return Change(f"sysctl {name.replace('/', '.')}", f"{before}\n", f"{value}\n", apply)


def _normal(value: str) -> str:
    return " ".join(str(value).split())


# Mounts, swap, modules


def mount_changes(machine: Machine, memory: Memory, facts: Facts, wanted: Mapping[str, Sequence[str]]) -> list[Change]:
    """Options of mounts that are there."""
    changes = []
    for place, options in wanted.items():
        missing = [option for option in options if option not in facts.mounts[place].options]
        if missing:
            change = _remount(machine, place, missing)
            change.remember = partial(_extend, memory.mounts, place, missing)
            changes.append(change)
    for place in [place for place in memory.mounts if place not in wanted]:
        change = _remount(machine, place, [_OPPOSITE[option] for option in memory.mounts[place]])
        if place not in facts.mounts:
            change.apply = lambda: None
        change.forget = partial(_drop, memory.mounts, place)
        changes.append(change)
    return changes


def _remount(machine: Machine, place: str, options: Sequence[str]) -> Change:
    words = ",".join(options)
    return Change(
        f"mount {place}", "\n", f"{words}\n", partial(_quietly, machine, "mount", "-o", f"remount,{words}", place)
    )


def swap_changes(machine: Machine, memory: Memory, facts: Facts, off: bool) -> list[Change]:
    """Swap that is in use now; that it stays off is a masked swap.target."""
    if off:
        changes = []
        for device in facts.swaps:
            change = Change(f"swap {device}", "on\n", "off\n", partial(_quietly, machine, "swapoff", device))
            change.remember = partial(_append, memory.swaps, device)
            changes.append(change)
        return changes
    return [
        Change(
            f"swap {device}",
            "off\n",
            "on\n",
            (lambda: None)
            if device in facts.swaps or not machine.path(device).exists()
            else partial(_quietly, machine, "swapon", device),
            forget=partial(memory.swaps.remove, device),
        )
        for device in list(memory.swaps)
    ]


def module_changes(machine: Machine, facts: Facts, denied: Sequence[str]) -> list[Change]:
    """Denied modules that are loaded and not in use. What uses one may need it: it stays until the next boot."""
    return [
        Change(f"module {name}", "loaded\n", "unloaded\n", partial(_quietly, machine, "modprobe", "--remove", name))
        for name in (module.replace("-", "_") for module in denied)
        if facts.modules.get(name) == 0
    ]


# Units


def unit_changes(
    machine: Machine, memory: Memory, facts: Facts, wanted: Mapping[str, str], reload: Callable[[], None]
) -> tuple[list[Change], list[Change]]:
    """What comes before the files (taken back) and what comes after them. ``reload`` tells systemd about new files."""
    before = [_unit_back(machine, memory, name) for name in memory.units if name not in wanted]
    after = []
    for name, state in wanted.items():
        unit = facts.units.get(name, Unit("not-found", "", "inactive"))
        commands = list(_unit_commands(name, state, unit))
        if not commands:
            continue

        def apply(commands: list[list[str]] = commands) -> None:
            reload()
            for command in commands:
                machine.must(*command)

        was = {"enabled": unit.enabled, "active": unit.active, "load": unit.load}
        shown = f"{unit.enabled or unit.load} {unit.active}\n"
        after.append(
            Change(f"unit {name}", shown, f"{state}\n", apply, remember=partial(_keep, memory.units, name, was))
        )
    return before, after


def _unit_commands(name: str, state: str, unit: Unit) -> Iterator[list[str]]:
    if state == "masked":
        if unit.enabled != "masked":
            yield ["systemctl", "mask", name]
    elif state == "absent":
        if unit.load != "not-found" and (unit.enabled == "enabled" or unit.active == "active"):
            yield ["systemctl", "disable", "--now", name]
    else:
        if unit.enabled not in {"enabled", "static", "alias"}:
            yield ["systemctl", "enable", name]
        if state == "started" and unit.active != "active":
            yield ["systemctl", "restart", name]


def _unit_back(machine: Machine, memory: Memory, name: str) -> Change:
    was = memory.units[name]

    def apply() -> None:
        if was["enabled"] != "masked":
            machine.run(["systemctl", "unmask", name])
        if was["load"] == "not-found" or was["enabled"] == "disabled":
            machine.run(["systemctl", "disable", name])
        elif was["enabled"] == "enabled":
            machine.run(["systemctl", "enable", name])
        if was["active"] == "active":
            machine.must("systemctl", "start", name)
        else:
            machine.run(["systemctl", "stop", name])

    shown = f"{was['enabled'] or was['load']} {was['active']}\n"
    return Change(f"unit {name}", "\n", shown, apply, forget=partial(_drop, memory.units, name))


# Packages


def package_changes(machine: Machine, memory: Memory, wanted: Sequence[str]) -> list[Change]:
    """Purge what came with a package of a control that is off again, as far as nothing else needs it."""
    dropped = [name for name in memory.packages if name not in wanted]
    kept = {name for root in memory.packages if root not in dropped for name in memory.packages[root]}
    brought = sorted({name for root in dropped for name in memory.packages[root]} - kept)
    if not dropped:
        return []

    def apply() -> None:
        there = installed(machine, brought)
        if there:
            machine.must("apt-mark", "auto", *there)
            out = machine.must("apt-get", "--simulate", "--quiet", "autoremove")
            unneeded = sorted(set(re.findall(r"^Remv (\S+)", out, re.MULTILINE)) & set(there))
            if unneeded:
                machine.must("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet", "purge", *unneeded)

    def forget() -> None:
        for name in dropped:
            memory.packages.pop(name)

    return [Change("packages", f"{' '.join(brought)}\n", "\n", apply, forget=forget)]


def note_packages(machine: Machine, memory: Memory, packages: Sequence[str]) -> None:
    """Remember what installing these will newly bring; called before they are installed."""
    for name in packages:
        brought = would_bring(machine, [name])
        if brought:
            memory.packages[name] = sorted({*memory.packages.get(name, []), *brought})


def installed(machine: Machine, packages: Sequence[str]) -> list[str]:
    """Those of the packages that dpkg has installed."""
    if not packages:
        return []
    out = machine.run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n", *packages])[1]
    return [line.split()[1] for line in out.splitlines() if line.startswith("installed ")]


def would_bring(machine: Machine, packages: Sequence[str]) -> list[str]:
    """What installing these would newly bring."""
    out = machine.must("apt-get", "--simulate", "--quiet", "--no-install-recommends", "install", *packages)
    return re.findall(r"^Inst (\S+)", out, re.MULTILINE)


# Helpers


def wanted_files(controls: Sequence[Control]) -> dict[str, tuple[File, tuple[str, ...]]]:
    """Every control's files; a file that two of them have must be the same."""
    files: dict[str, tuple[File, tuple[str, ...]]] = {}
    for control in controls:
        for file in control.files:
            if file.path in files and files[file.path][0] != file:
                raise HardeningError(f"two controls want {file.path} with different content ({control.id}).")
            files[file.path] = (file, control.after)
    return files


def _keep(store: dict[str, _Value], key: str, value: _Value) -> None:
    store.setdefault(key, value)


def _drop(store: dict[str, _Value], key: str) -> None:
    store.pop(key, None)


def _append(store: list[str], value: str) -> None:
    if value not in store:
        store.append(value)


def _extend(store: dict[str, list[str]], key: str, values: Sequence[str]) -> None:
    store[key] = [*store.get(key, []), *(value for value in values if value not in store.get(key, []))]


def _quietly(machine: Machine, *command: str) -> None:
    machine.must(*command)
