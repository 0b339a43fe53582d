"""Importing and pinning, against a ctr that is a dictionary and prints what the real one prints."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils import containerd_images as library
from ansible_collections.edgefleet.wasm.plugins.module_utils.artifact_records import Provenance, Records
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_images import (
    Containerd,
    ImageError,
    Outcome,
    ensure,
    remove,
)

ARCHIVE = b"an archive"
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
ONE, TWO = "docker.io/test/one:1", "docker.io/test/two:1"


class Image:
    def __init__(self, digest: str, labels: dict[str, str]) -> None:
        self.digest = digest
        self.labels = {"io.cri-containerd.image": "managed", **labels}
        self.status = "complete (2/2)"
        self.unpacked = "true"


class Host:
    """containerd's store, the records, and the archive that has been sent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: dict[str, Image] = {"sha256:aa": Image("sha256:aa", {})}
        self.archive = {ONE: "sha256:01", TWO: "sha256:02"}
        self.commands: list[str] = []
        self.fail: str | None = None
        self.records = Records(root / "edgefleet/artifacts.json", root / "lock")
        self.sent = root / "sent"
        self.sent.write_bytes(ARCHIVE)
        self.ctr, self.socket = root / "ctr", root / "socket"
        self.ctr.touch()
        self.socket.touch()

    def run(self, command: list[str]) -> tuple[int, str, str]:
        assert command[:7] == [
            str(self.ctr), "--address", str(self.socket), "--namespace", "k8s.io", "--connect-timeout", "10s",
        ]  # fmt: skip
        verb, arguments = command[8], command[9:]
        self.commands.append(verb)
        if self.fail == verb:
            return 1, "", "ctr: no space left on device\n"
        return 0, getattr(self, f"do_{verb}")(arguments), ""

    def do_check(self, _: list[str]) -> str:
        lines = ["REF TYPE DIGEST STATUS SIZE UNPACKED"]
        for name, image in self.images.items():
            lines.append(f"{name}  a/manifest {image.digest} {image.status} 1.0 KiB/1.0 KiB {image.unpacked}")
        return "\n".join(lines)

    def do_list(self, arguments: list[str]) -> str:
        match = re.fullmatch(r'labels\."(.+)"==(.+)', arguments[1])
        assert match
        label, value = match.groups()
        return "\n".join(name for name, image in self.images.items() if image.labels.get(label) == value)

    def do_import(self, arguments: list[str]) -> str:
        labels = dict(arguments[i + 1].split("=") for i, word in enumerate(arguments) if word == "--label")
        for name, digest in self.archive.items():
            self.images[name] = Image(digest, labels)
        return ""

    def do_label(self, arguments: list[str]) -> str:
        self.images[arguments[0]].labels.update([tuple(arguments[1].split("="))])  # type: ignore[list-item]
        return ""

    def do_remove(self, arguments: list[str]) -> str:
        for name in arguments[1:]:
            del self.images[name]
        return ""

    def containerd(self) -> Containerd:
        return Containerd(self.run, self.ctr, str(self.socket))

    def ensure(self, *, source: bool = True, check: bool = False, version: str = "1") -> Outcome:
        wanted = Provenance("images", version, "amd64", SHA256, None, "built", False, len(ARCHIVE))
        self.commands.clear()
        sent = self.sent if source else None
        return ensure(
            self.containerd(), wanted, sent, self.root / "tmp", self.records, check=check, store=self.root / "store"
        )

    def remove(self, version: str | None = None, *, check: bool = False) -> Outcome:
        return remove(self.containerd(), "images", version, self.records, check=check)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_archive_is_needed_then_imported_and_pinned_then_unchanged(host: Host) -> None:
    first = host.ensure(source=False)
    assert (first.changed, first.needs_file, host.commands) == (True, True, ["check"])
    second = host.ensure()
    assert (second.changed, second.needs_file) == (True, False)
    assert host.images[ONE].labels["io.cri-containerd.pinned"] == "pinned"
    assert second.record
    assert second.record["images"] == {ONE: "sha256:01", TWO: "sha256:02"}
    assert second.record["dest"] == "containerd:k8s.io"
    third = host.ensure(source=False)
    assert (third.changed, third.needs_file, host.commands) == (False, False, ["check", "list"])


@pytest.mark.parametrize("damage", ["gone", "other digest", "in part", "not unpacked"])
def test_image_that_is_not_as_imported_is_imported_again(host: Host, damage: str) -> None:
    host.ensure()
    if damage == "gone":
        del host.images[TWO]
    elif damage == "other digest":
        host.images[TWO].digest = "sha256:ff"
    elif damage == "in part":
        host.images[TWO].status = "incomplete (1/2)"
    else:
        host.images[TWO].unpacked = "false"
    assert host.ensure(source=False).needs_file
    assert host.ensure().changed
    assert not host.ensure(source=False).changed


def test_lost_pin_needs_no_archive(host: Host) -> None:
    host.ensure()
    del host.images[ONE].labels["io.cri-containerd.pinned"]
    assert host.ensure(source=False, check=True).changed
    assert "label" not in host.commands
    outcome = host.ensure(source=False)
    assert (outcome.changed, outcome.needs_file) == (True, False)
    assert host.images[ONE].labels["io.cri-containerd.pinned"] == "pinned"
    assert not host.ensure(source=False).changed


def test_check_mode_on_a_host_without_containerd(host: Host) -> None:
    host.ctr.unlink()
    outcome = host.ensure(source=False, check=True)
    assert (outcome.changed, outcome.needs_file, host.commands) == (True, True, [])


def test_host_without_containerd(host: Host) -> None:
    host.socket.unlink()
    with pytest.raises(
        ImageError, match=r"^images 1 amd64: no containerd on this host .*; play the role containerd first$"
    ):
        host.ensure()


def test_archive_without_names(host: Host) -> None:
    host.archive = {}
    with pytest.raises(
        ImageError, match=r"^images 1 amd64 names no image for this host's architecture: is it an image ar"
    ):
        host.ensure()
    assert host.records.all() == []


def test_import_that_is_not_whole(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "do_check", lambda _: "REF\n")
    with pytest.raises(ImageError, match=r"containerd has docker\.io/test/one:1, docker\.io/test/two:1 in part only"):
        host.ensure()
    assert host.records.all() == []


@pytest.mark.parametrize("verb", ["check", "import", "list"])
def test_failure_of_ctr_says_what_to_look_at(host: Host, verb: str) -> None:
    host.fail = verb
    with pytest.raises(
        ImageError, match=rf"^`ctr images {verb}` failed: no space left on device\. See: journalctl --unit containerd$"
    ):
        host.ensure()
    assert host.records.all() == []


def test_cut_transfer_is_not_imported(host: Host) -> None:
    host.sent.write_bytes(ARCHIVE[:-1])
    with pytest.raises(ImageError, match=r"arrived with 9 bytes .* sent were 10 bytes .* was cut off; run again"):
        host.ensure()
    assert "import" not in host.commands


def test_no_room_is_said_before_anything_is_sent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "free_bytes", lambda _: 49)
    with pytest.raises(
        ImageError, match=r"^images 1 amd64: no room for it under .*: 0 MiB needed, 0 MiB free; free some"
    ):
        host.ensure(source=False)
    monkeypatch.setattr(library, "free_bytes", lambda _: 50)
    assert host.ensure(source=False).needs_file


def test_versions_stand_side_by_side(host: Host) -> None:
    host.ensure(version="1")
    host.ensure(version="2")
    assert [record["version"] for record in host.records.all()] == ["1", "2"]


def test_remove_takes_what_was_imported_and_nothing_else(host: Host) -> None:
    host.ensure()
    host.images["other"] = Image("sha256:03", {"io.cri-containerd.pinned": "pinned"})
    assert host.remove(check=True).changed
    assert ONE in host.images
    outcome = host.remove()
    assert (outcome.changed, outcome.before) == (True, f"{ONE}\n{TWO}\n")
    assert sorted(host.images) == ["other", "sha256:aa"]
    assert host.records.all() == []
    assert not host.remove().changed


def test_remove_of_another_version_takes_nothing(host: Host) -> None:
    host.ensure(version="1")
    assert not host.remove("2").changed
    assert ONE in host.images


def test_remove_where_containerd_is_gone_forgets_the_record(host: Host) -> None:
    host.ensure()
    host.ctr.unlink()
    assert host.remove().changed
    assert host.records.all() == []
