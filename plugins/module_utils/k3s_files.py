# SPDX-License-Identifier: Apache-2.0
"""Files, kernel settings and modes of K3s on a host, all in one go: looks first, writes only what differs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically

BEGIN = "# BEGIN edgefleet: written by the role k3s\n"
END = "# END edgefleet\n"
SECRET = 0o600


class FilesError(Exception):
    """What went wrong, in a sentence with the way out."""


@dataclass
class Files:
    """One run. ``done`` names what was changed (or would be, in check mode), ``diff`` shows what is no secret."""

    check: bool = False
    root: Path = Path("/")
    done: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)

    def settings(self, wanted: Mapping[str, str]) -> None:
        """Kernel settings, now; a file in sysctl.d sets them again at boot."""
        for name, value in wanted.items():
            path = self._path("/proc/sys") / name.replace(".", "/")
            now = path.read_text(encoding="utf-8").strip() if path.exists() else "not known to this kernel"
            if now == value:
                continue
            self._note(f"{name} (kernel)", now, value)
            if self.check:
                continue
            try:
                path.write_text(f"{value}\n", encoding="utf-8")
            except OSError as error:
                raise FilesError(
                    f"{name} is {now} and could not be set to {value} ({error.strerror}); so the kubelet does not "
                    "start. Set it on the machine that runs this host, or protect-kernel-defaults: false in k3s_config."
                ) from error

    def folder(self, name: str, mode: int) -> None:
        path = self._path(name)
        if not path.is_dir():
            self._note(name, "", "a folder")
            if not self.check:
                path.mkdir(parents=True, mode=mode)
        self._own(path, name, mode)

    def file(self, name: str, content: str, mode: int) -> None:
        self._write(name, content, mode, secret=False)

    def secret(self, name: str, content: str) -> None:
        """As ``file``; neither its content nor what was there before is ever told."""
        self._write(name, content, SECRET, secret=True)

    def block(self, name: str, lines: Sequence[str]) -> None:
        """Lines of ours in a file whose others are somebody's. Behind them, so that ours win."""
        path = self._path(name)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        kept = _without_block(before)
        if lines:
            kept += "" if not kept or kept.endswith("\n") else "\n"
            kept += BEGIN + "".join(f"{line}\n" for line in lines) + END
        self._write(name, kept, SECRET, secret=True)

    def absent(self, name: str) -> None:
        path = self._path(name)
        if path.exists():
            self._note(name, "present", "absent")
            if not self.check:
                path.unlink()

    def private(self, pattern: str) -> None:
        """For root alone, as far as they are there: files that K3s writes itself."""
        for path in sorted(self.root.glob(pattern.lstrip("/"))):
            if path.is_file() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                self._own(path, f"/{path.relative_to(self.root)}", SECRET)

    def _write(self, name: str, content: str, mode: int, secret: bool) -> None:
        path = self._path(name)
        there = path.exists()
        before = path.read_text(encoding="utf-8", errors="replace") if there else ""
        if not there or before != content:
            shown = ("something else" if there else "", "(not shown)") if secret else (before, content)
            self._note(name, *shown)
            if not self.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content, mode)
        self._own(path, name, mode)

    def _own(self, path: Path, name: str, mode: int) -> None:
        if not path.exists():
            return  # check mode
        there = path.stat()
        if stat.S_IMODE(there.st_mode) != mode:
            self._note(name, f"mode {stat.S_IMODE(there.st_mode):04o}", f"mode {mode:04o}")
            if not self.check:
                path.chmod(mode)
        if (there.st_uid, there.st_gid) != (0, 0) and os.geteuid() == 0:
            self._note(name, f"owner {there.st_uid}:{there.st_gid}", "owner 0:0")
            if not self.check:
                os.chown(path, 0, 0)

    def _note(self, name: str, before: str, after: str) -> None:
        if name not in self.done:
            self.done.append(name)
        both = {"before": before, "after": after}
        shown = {key: text if text.endswith("\n") or not text else f"{text}\n" for key, text in both.items()}
        self.diff.append({"before_header": name, "after_header": name, **shown})

    def _path(self, name: str) -> Path:
        return self.root / name.lstrip("/")


def _without_block(text: str) -> str:
    head, begin, rest = text.partition(BEGIN)
    return head + rest.partition(END)[2] if begin else text
