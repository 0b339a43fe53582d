# SPDX-License-Identifier: Apache-2.0
"""Puts an engine for Wasm pods in place, and keeps a host able to start them whatever happens to it.

The script ``select`` points the runtime's link at a bundle only while every file that the bundle was made of or
consists of is as it was, else at the distribution's crun. It runs at boot and whenever one of these files changes:
updates of the packages take effect at once, and no pod fails.
"""

from __future__ import annotations

import json
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils import artifact
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically
from ansible_collections.edgefleet.wasm.plugins.module_utils.wasm_engine import (
    ENGINE_LIBRARY,
    INDEX,
    Places,
    RunCommand,
    read_state,
    version_number,
)

UNIT = "edgefleet-wasm-engine"

# A module that ends well at once. No kernel runs it, so a container of it that ends well has had an engine.
_PROBE = bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a040102000b")
_ASK_VERSION = (
    "import ctypes, sys\n"
    "library = ctypes.CDLL(sys.argv[1])\n"
    "library.WasmEdge_VersionGet.restype = ctypes.c_char_p\n"
    "print(library.WasmEdge_VersionGet().decode())\n"
)
_SELECT = """\
#!/bin/sh
# Points bin/crun at the wanted engine while all that it was made of and consists of is as it was, else at the
# distribution's. Written by edgefleet.wasm.wasm_engine; runs at boot and when one of those files changes.
set -u
root=@ROOT@ state=@STATE@ distro=@CRUN@
export LC_ALL=C

judge() {
    engine=distro bundle='' why=''
    [ -r "$root/wanted" ] && { read -r engine; read -r bundle; read -r why; } <"$root/wanted"
    live=distro target=$distro reason=$why
    [ -n "$bundle" ] || return 0
    if reason=$(sha256sum --check --quiet --strict "$root/SHA256SUMS" 2>&1); then
        live=$engine target=$root/$bundle/crun reason=''
    else
        reason=$(printf '%s\\n' "$reason" | sed -n 's/: FAILED open or read$/ is missing/p; s/: FAILED$/ has changed/p')
        reason=$(printf '%s' "${reason:-$root/SHA256SUMS is missing}" | tr '\\n' ',' | sed 's/,/, /g')
    fi
}

seen() {
    cut -c67- "$root/SHA256SUMS" 2>/dev/null | tr '\\n' '\\0' | xargs -0 -r stat -c '%n %i %s %z' 2>/dev/null
    true
}

tries=0
while before=$(seen); do
    judge
    if [ "$(readlink "$root/bin/crun")" != "$target" ]; then
        ln -sf "$target" "$root/bin/.crun" && mv -fT "$root/bin/.crun" "$root/bin/crun" || exit 1
    fi
    # What changed meanwhile would otherwise be missed.
    tries=$((tries + 1))
    [ "$(seen)" = "$before" ] || [ "$tries" -ge 20 ] && break
done
mkdir -p "${state%/*}"
printf 'wanted=%s\\nlive=%s\\nreason=%s\\n' "$engine" "$live" "$reason" >"$state.new"
cmp -s "$state.new" "$state" && rm "$state.new" && exit 0
mv "$state.new" "$state"
echo "the engine is $live${reason:+: $reason}"
"""
_SERVICE = """\
# Written by edgefleet.wasm.wasm_engine
[Unit]
Description=Select the engine of Wasm pods
Before=containerd.service
# Each change of a file asks for it; none may be refused.
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=@ROOT@/select

[Install]
WantedBy=multi-user.target
"""
_PATHS = """\
# Written by edgefleet.wasm.wasm_engine
[Unit]
Description=Watch what the engine of Wasm pods depends on

[Path]
@WATCHED@
TriggerLimitIntervalSec=0

[Install]
WantedBy=multi-user.target
"""


class EngineError(Exception):
    """The engine can't be used; what was live stays."""


@dataclass(frozen=True)
class Outcome:
    changed: bool
    needs_file: bool
    live: str = "distro"
    reason: str = ""


class Host:
    """Puts an engine in place."""

    def __init__(self, run: RunCommand, records: Records, *, check: bool, places: Places | None = None) -> None:
        self._run = run
        self._records = records
        self._check = check
        self._places = places or Places()
        self._changed = False

    def distro(self) -> Outcome:
        """The distribution's own engine, nothing else."""
        self._write({})
        self._systemd_off()
        for name in ("wanted", "SHA256SUMS", "select"):
            self._remove(self._places.root / name)
        self._remove(self._places.state)
        self._remove_bundles(keep=None)
        self._link(self._places.crun)
        return Outcome(self._changed, False)

    def lacking(self, engine: str, why: str) -> Outcome:
        """The mirror has no such engine for this host: the distribution's, or what is there and still right."""
        there = read_wanted(self._places.root)
        if there is None or there[0] != engine or not there[1]:
            self._remove_bundles(keep=None)
            self._put(engine, "", why, {})
        else:
            self._select()
        state = self._state(engine, why)
        return Outcome(self._changed, False, state["live"], why if state["live"] == "distro" else "")

    def bundle(self, engine: str, key: str, version: str, provenance: Provenance, passed: Mapping[str, Any]) -> Outcome:
        """A bundle of the mirror."""
        folder = self._places.root / f"{engine}-{key}"
        wanted = artifact.Wanted(provenance, folder, True, 0, (), self._places.owner, self._places.group, None)
        source = Path(passed["source"]) if passed.get("source") else None
        temporary = Path(passed["temporary"]).expanduser()
        put = artifact.ensure(wanted, source, temporary, self._records, self._check)
        self._changed |= put.changed
        if put.needs_file or (self._check and put.changed):
            return Outcome(True, put.needs_file, engine)
        sums = self._sums(folder)
        if put.changed or read_wanted(self._places.root) != (engine, folder.name):
            self._try(folder, version)
        self._put(engine, folder.name, "", sums)
        self._remove_bundles(keep=folder)
        state = self._state(engine, "")
        return Outcome(self._changed, False, state["live"], state["reason"])

    def _sums(self, folder: Path) -> dict[str, str]:
        """The SHA-256 of every file that has to be as it is, by its path."""
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            own = {str(folder / name): digest for name, digest in index["files"].items()}
            return {**index["made_of"], **own}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise EngineError(
                f"{folder / INDEX} does not describe an engine: {error}; make the mirror's anew"
            ) from error

    def _try(self, folder: Path, version: str) -> None:
        """Run a module once, before any pod does."""
        if version:
            code, out, err = self._run([sys.executable, "-c", _ASK_VERSION, str(folder / ENGINE_LIBRARY)])
            if code or version_number(out.strip()) != version_number(version):
                said = out.strip() if code == 0 else (err.strip().splitlines() or ["nothing"])[-1]
                raise EngineError(f"{folder / ENGINE_LIBRARY} is to be WasmEdge {version}, and says: {said}")
        with tempfile.TemporaryDirectory(prefix="edgefleet-engine-") as name:
            bundle = Path(name)
            crun = str(folder / "crun")
            (bundle / "rootfs").mkdir()
            (bundle / "rootfs" / "probe.wasm").write_bytes(_PROBE)
            self._run([crun, "spec", "--bundle", name])
            path = bundle / "config.json"
            try:
                spec = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise EngineError(f"{crun} does not run on this host: {error}") from error
            spec["process"].update(args=["/probe.wasm"], terminal=False)
            spec["annotations"] = {"module.wasm.image/variant": "compat-smart"}
            spec["linux"].pop("resources", None)
            path.write_text(json.dumps(spec), encoding="utf-8")
            command = [crun, "--cgroup-manager=disabled", "run", "--bundle", name, bundle.name]
            code, out, err = self._run(command)
        if code:
            said = (err or out).strip().replace("\n", "; ") or f"exit code {code}"
            raise EngineError(f"the engine in {folder} runs no module, and is not used: {said}")

    def _put(self, engine: str, bundle: str, why: str, sums: Mapping[str, str]) -> None:
        root = self._places.root
        fill = {"@ROOT@": str(root), "@STATE@": str(self._places.state), "@CRUN@": self._places.crun}
        watched = sorted({*sums, str(root / "bin"), *([str(root / bundle)] if bundle else [])})
        self._write(
            {
                root / "select": (_filled(_SELECT, fill), 0o755),
                root / "SHA256SUMS": ("".join(f"{sums[path]}  {path}\n" for path in sorted(sums)), 0o644),
                root / "wanted": (f"{engine}\n{bundle}\n{why}\n", 0o644),
            }
        )
        units = {
            self._places.units / f"{UNIT}.service": (_filled(_SERVICE, fill), 0o644),
            self._places.units / f"{UNIT}.path": (
                _PATHS.replace("@WATCHED@", "\n".join(f"PathChanged={path}" for path in watched)),
                0o644,
            ),
        }
        renewed = self._write(units)
        self._select()
        self._systemd_on(renewed)

    def _write(self, files: Mapping[Path, tuple[str, int]]) -> bool:
        differing = [path for path, (text, mode) in files.items() if not _is(path, text, mode)]
        self._changed |= bool(differing)
        if not self._check:
            (self._places.root / "bin").mkdir(parents=True, exist_ok=True)
            for path in differing:
                write_atomically(path, *files[path])
        return bool(differing)

    def _select(self) -> None:
        """Run the script. What it has to set right is a change."""
        before = _target(self._places.live)
        if self._check:
            self._changed |= before is None
            return
        code, out, err = self._run([str(self._places.root / "select")])
        if code:
            raise EngineError(f"{self._places.root / 'select'} failed: {(err or out).strip()}")
        self._changed |= _target(self._places.live) != before

    def _state(self, engine: str, why: str) -> dict[str, str]:
        state = read_state(self._places.state)
        return {"live": state.get("live", "distro" if why else engine), "reason": state.get("reason", why)}

    def _link(self, target: str) -> None:
        if _target(self._places.live) == target:
            return
        self._changed = True
        if not self._check:
            new = self._places.live.with_name(".crun")
            new.unlink(missing_ok=True)
            new.symlink_to(target)
            new.replace(self._places.live)

    def _systemd_on(self, renewed: bool) -> None:
        units = [f"{UNIT}.service", f"{UNIT}.path"]
        enabled = self._run(["systemctl", "is-enabled", "--quiet", *units])[0] == 0
        active = self._run(["systemctl", "is-active", "--quiet", units[1]])[0] == 0
        self._changed |= not (enabled and active)
        if self._check or (enabled and active and not renewed):
            return
        self._systemctl("daemon-reload")
        self._systemctl("enable", *units)
        self._systemctl("restart", units[1])

    def _systemd_off(self) -> None:
        files = [self._places.units / f"{UNIT}.{kind}" for kind in ("path", "service")]
        if not any(path.exists() for path in files):
            return
        self._changed = True
        if not self._check:
            self._run(["systemctl", "disable", "--now", *(path.name for path in files)])
            for path in files:
                path.unlink(missing_ok=True)
            self._systemctl("daemon-reload")

    def _systemctl(self, *words: str) -> None:
        code, out, err = self._run(["systemctl", *words])
        if code:
            raise EngineError(f"`systemctl {' '.join(words)}` failed: {(err or out).strip()}")

    def _remove(self, path: Path) -> None:
        if path.exists():
            self._changed = True
            if not self._check:
                path.unlink()

    def _remove_bundles(self, keep: Path | None) -> None:
        """Bundles of other packages, engines or of none. Running containers don't need them: their crun is the link."""
        found = [path for path in self._places.root.glob("*-*-*") if path.is_dir() and path != keep]
        self._changed |= bool(found)
        if self._check or not found:
            return
        for path in found:
            if _target(self._places.live) == str(path / "crun"):
                self._link(self._places.crun)
            shutil.rmtree(path)
        with self._records.locked():
            for record in self._records.all():
                if str(record.get("dest")) in {str(path) for path in found}:
                    self._records.drop(str(record.get("name")), str(record["dest"]))


def read_wanted(root: Path) -> tuple[str, str] | None:
    """Engine and bundle as `select` is told."""
    try:
        lines = (root / "wanted").read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (lines[0], lines[1]) if len(lines) > 1 else None


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _is(path: Path, text: str, mode: int) -> bool:
    try:
        return stat.S_IMODE(path.lstat().st_mode) == mode and path.read_text(encoding="utf-8") == text
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _target(link: Path) -> str | None:
    return str(link.readlink()) if link.is_symlink() else None
