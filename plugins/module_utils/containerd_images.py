# SPDX-License-Identifier: Apache-2.0
"""Images of an archive in containerd's store, pinned, so that the kubelet never collects what nobody can pull again.

containerd itself remembers by a label which archive an image came from; the host's records add which images an archive
has, so that one that is gone is noticed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils import artifact_records
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Record, Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.files import existing_parent, free_bytes, sha256_of

CTR = Path("/usr/local/bin/ctr")
SOCKET = "/run/containerd/containerd.sock"
STORE = Path("/var/lib/containerd")
NAMESPACE = "k8s.io"
DEST = f"containerd:{NAMESPACE}"
ARCHIVE_LABEL = "edgefleet.wasm/archive"
# Known to containerd's CRI part, which tells the kubelet.
PINNED = "io.cri-containerd.pinned"

ARGUMENTS: dict[str, Any] = {
    **artifact_records.ARGUMENTS,
    "aot_format": {"type": "int", "choices": [1, 2]},
    "interpreted": {"type": "bool", "default": False},
}

_MIB = 1 << 20
# A compressed archive ends up unpacked twice: as layers, and as the file systems made of them.
_GROWTH = 4

RunCommand = Callable[[list[str]], tuple[int, str, str]]
Images = dict[str, str]
"""The digest by the image's name."""


class ImageError(Exception):
    """The images can't be imported; those that were there are as before."""


@dataclass(frozen=True)
class Outcome:
    changed: bool
    needs_file: bool
    record: Record | None
    before: str
    after: str


class Containerd:
    """containerd's images, through ctr."""

    def __init__(self, run: RunCommand, ctr: Path = CTR, socket: str = SOCKET) -> None:
        self._run = run
        self._ctr = ctr
        self._socket = socket

    @property
    def installed(self) -> bool:
        return self._ctr.exists() and Path(self._socket).exists()

    def sound(self) -> Images:
        """Images whose content is there, whole and unpacked."""
        found = {}
        for line in self._images("check").splitlines()[1:]:
            fields = line.split()
            # REF TYPE DIGEST STATUS (n/m) SIZE ... UNPACKED
            if len(fields) > 4 and fields[3] == "complete" and fields[-1] == "true":
                found[fields[0]] = fields[2]
        return found

    def labelled(self, label: str, value: str) -> set[str]:
        return set(self._images("list", "--quiet", f'labels."{label}"=={value}').split())

    def pin(self, names: list[str]) -> None:
        for name in names:
            self._images("label", name, f"{PINNED}=pinned")

    def load(self, archive: Path, digest: str) -> None:
        self._images("import", "--label", f"{ARCHIVE_LABEL}={digest}", "--label", f"{PINNED}=pinned", str(archive))

    def remove(self, names: list[str]) -> None:
        if names:
            self._images("remove", "--sync", *names)

    def _images(self, command: str, *arguments: str) -> str:
        options = ["--address", self._socket, "--namespace", NAMESPACE, "--connect-timeout", "10s"]
        code, out, err = self._run([str(self._ctr), *options, "images", command, *arguments])
        if code:
            reason = (err or out).strip().removeprefix("ctr: ")
            raise ImageError(f"`ctr images {command}` failed: {reason}. See: journalctl --unit containerd")
        return out


def ensure(
    containerd: Containerd,
    wanted: Provenance,
    source: Path | None,
    temporary: Path,
    records: Records,
    *,
    check: bool,
    store: Path = STORE,
) -> Outcome:
    """Look, and import or pin what is missing. Without the archive on the host, say whether it is needed."""
    if not containerd.installed:
        if check:
            return Outcome(True, True, None, "", f"images of {wanted}\n")
        raise ImageError(f"{wanted}: no containerd on this host ({CTR}, {SOCKET}); play the role containerd first")
    with contextlib.nullcontext() if check else records.locked():
        old = _recorded(records.find(wanted.name, DEST, wanted.version), wanted.sha256)
        sound = containerd.sound()
        before = {name: sound[name] for name in old if name in sound}
        if not old or before != old:
            if source is None:
                _check_space(wanted, temporary, store)
                return Outcome(True, True, None, _lines(before), _lines(old) or f"images of {wanted}\n")
            images = _load(containerd, wanted, source)
            changed = True
        else:
            images = old
            changed = _pin(containerd, images, check)
        record = wanted.record(DEST, images=images)
        if record != records.find(wanted.name, DEST, wanted.version):
            changed = True
            if not check:
                records.put(record, keep_other_versions=True)
        return Outcome(changed, False, record, _lines(before), _lines(images))


def remove(containerd: Containerd, name: str, version: str | None, records: Records, *, check: bool) -> Outcome:
    """Take away the images that came with this artifact, in this version or all, and are still the same."""
    with contextlib.nullcontext() if check else records.locked():
        old = [one for one in records.all() if one.get("name") == name and one.get("dest") == DEST]
        old = [one for one in old if version in (None, one.get("version"))]
        mine: set[str] = set()
        if containerd.installed:
            for record in old:
                mine |= containerd.labelled(ARCHIVE_LABEL, str(record.get("sha256")))
        if not check:
            containerd.remove(sorted(mine))
            for record in old:
                records.drop(name, DEST, record.get("version"))
    return Outcome(bool(old), False, None, "".join(f"{image}\n" for image in sorted(mine)), "")


def _recorded(record: Record | None, digest: str) -> Images:
    images = record.get("images") if record and record.get("sha256") == digest else None
    return images if isinstance(images, dict) else {}


def _load(containerd: Containerd, wanted: Provenance, source: Path) -> Images:
    actual = sha256_of(source)
    if actual != wanted.sha256:
        raise ImageError(
            f"{wanted} arrived with {source.stat().st_size} bytes and SHA-256 {actual}, sent were {wanted.size} bytes "
            f"with {wanted.sha256}: the transfer was cut off; run again"
        )
    containerd.load(source, wanted.sha256)
    names = containerd.labelled(ARCHIVE_LABEL, wanted.sha256)
    if not names:
        raise ImageError(
            f"{wanted} names no image for this host's architecture: is it an image archive for {wanted.arch}?"
        )
    sound = containerd.sound()
    broken = sorted(names - set(sound))
    if broken:
        raise ImageError(
            f"{wanted}: containerd has {', '.join(broken)} in part only. See: journalctl --unit containerd"
        )
    return {name: sound[name] for name in sorted(names)}


def _pin(containerd: Containerd, images: Images, check: bool) -> bool:
    loose = sorted(set(images) - containerd.labelled(PINNED, "pinned"))
    if not check:
        containerd.pin(loose)
    return bool(loose)


def _check_space(wanted: Provenance, temporary: Path, store: Path) -> None:
    needs: dict[int, tuple[Path, int]] = {}
    for path, size in ((temporary, wanted.size), (store, _GROWTH * wanted.size)):
        parent = existing_parent(path)
        device = parent.stat().st_dev
        needs[device] = (parent, needs.get(device, (parent, 0))[1] + size)
    for parent, size in needs.values():
        if free_bytes(parent) < size:
            raise ImageError(
                f"{wanted}: no room for it under {parent}: {size / _MIB:.0f} MiB needed, "
                f"{free_bytes(parent) / _MIB:.0f} MiB free; free some and run again"
            )


def _lines(images: Images) -> str:
    return "".join(f"{name} {digest}\n" for name, digest in sorted(images.items()))
