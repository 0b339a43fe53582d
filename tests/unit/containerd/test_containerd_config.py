"""Files of containerd's configuration, against a containerd that merges TOML as the real one does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils import containerd_config as library
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_config import (
    ConfigError,
    File,
    Outcome,
    Places,
    base_spec,
    ensure,
)

# What containerd 2 knows, as far as it matters here, with its defaults.
KNOWN: dict[str, Any] = {
    "grpc": {"address": ""},
    "timeouts": {"io.containerd.timeout.shim.load": "5s"},
    "plugins": {
        "io.containerd.cri.v1.images": {"max_concurrent_downloads": 3, "pinned_images": {"sandbox": ""}},
        "io.containerd.cri.v1.runtime": {"enable_selinux": False, "cni": {"bin_dir": "/opt/cni/bin"}},
        "io.containerd.grpc.v1.cri": {"stream_idle_timeout": "4h0m0s"},
    },
}
MAIN = """\
version = 3
imports = ["{dropins}/*.toml"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "pause:1"
"""
DOWNLOADS = """\
version = 3
[plugins.'io.containerd.cri.v1.images']
max_concurrent_downloads = {}
"""


def merged(known: Any, declared: Any) -> Any:
    if isinstance(known, dict) and isinstance(declared, dict):
        return {key: merged(value, declared.get(key, value)) for key, value in known.items()}
    if isinstance(known, str) and known.endswith("0s") and declared == "240m":
        return "4h0m0s"
    return declared


def toml(table: dict[str, Any], above: str = "") -> str:
    lines = [f"{key!r} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
             for key, value in table.items() if not isinstance(value, dict)]  # fmt: skip
    text = f"[{above}]\n" * bool(above) + "\n".join(lines) + "\n"
    for key, value in table.items():
        if isinstance(value, dict):
            text += toml(value, f"{above}.{key!r}" if above else repr(key))
    return text


class Host:
    def __init__(self, root: Path) -> None:
        etc = root / "etc"
        self.places = Places(
            program=root / "containerd",
            ctr=root / "ctr",
            config=etc / "config.toml",
            dropins=etc / "conf.d",
            registries=etc / "certs.d",
            state=root / "state",
        )
        self.places.program.touch()
        self.root = root
        self.main = MAIN.format(dropins=self.places.dropins)
        self.ran = 0

    def run(self, command: list[str]) -> tuple[int, str, str]:
        assert [command[0], command[1], *command[3:]] == [str(self.places.program), "--config", "config", "dump"]
        self.ran += 1
        main = tomllib.loads(Path(command[2]).read_text())
        made = merged(KNOWN, main)
        folder = Path(main["imports"][0]).parent
        assert folder != self.places.dropins, "the real drop-ins must not be read while others are tried"
        for path in sorted(folder.glob("*.toml")):
            text = path.read_text()
            if "syntax" in text:
                return 1, "", "containerd: toml: cannot decode\n"
            made = merged(made, tomllib.loads(text))
        return 0, toml(made), ""

    def dropin(self, name: str, content: str, mode: int = 0o644) -> File:
        return File(self.places.dropins / name, content, mode)

    def ensure(self, *files: File, owner: str = "containerd", check: bool = False, main: bool = True) -> Outcome:
        given = [File(self.places.config, self.main)] if main else []
        return ensure(self.run, owner, [*given, *files], check=check, places=self.places)

    def there(self) -> list[str]:
        return sorted(path.name for path in (self.root / "etc").rglob("*") if path.is_file())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_written_then_unchanged_then_taken_away(host: Host) -> None:
    first = host.ensure(host.dropin("60-a.toml", DOWNLOADS.format(2)))
    assert first.changed
    assert host.there() == ["60-a.toml", "config.toml"]
    assert not host.ensure(host.dropin("60-a.toml", DOWNLOADS.format(2))).changed
    gone = host.ensure()
    assert gone.files == [str(host.places.dropins / "60-a.toml")]
    assert host.there() == ["config.toml"]
    assert not host.ensure().changed
    assert host.ensure(main=False).changed
    assert host.there() == []
    assert not (host.places.state / "containerd.files").exists()


def test_check_mode_writes_nothing_but_tries_everything(host: Host) -> None:
    outcome = host.ensure(host.dropin("60-a.toml", DOWNLOADS.format(2)), check=True)
    assert (outcome.changed, host.ran, host.there()) == (True, 1, [])
    assert not host.places.state.exists()


def test_check_mode_on_a_host_without_containerd(host: Host) -> None:
    host.places.program.unlink()
    assert host.ensure(check=True).changed
    with pytest.raises(
        ConfigError, match=r"^no .*/containerd on this host: play the role edgefleet\.wasm\.containerd fir"
    ):
        host.ensure()


@pytest.mark.parametrize("change", ["content", "mode", "link", "gone"])
def test_drift_is_healed(host: Host, change: str) -> None:
    host.ensure()
    path = host.places.config
    if change == "content":
        path.write_text("version = 3\n")
    elif change == "mode":
        path.chmod(0o666)
    else:
        path.unlink()
        if change == "link":
            path.symlink_to("/dev/null")
    assert host.ensure(check=True).changed
    assert host.ensure().files == [str(path)]
    assert (path.read_text(), path.stat().st_mode & 0o777, path.is_symlink()) == (host.main, 0o644, False)


def test_files_of_others_stay_and_count(host: Host) -> None:
    host.ensure()
    host.ensure(host.dropin("50-b.toml", DOWNLOADS.format(5)), owner="other", main=False)
    host.ensure()
    assert host.there() == ["50-b.toml", "config.toml"]
    by_hand = host.places.dropins / "99-hand.toml"
    by_hand.write_text(DOWNLOADS.format(9))
    with pytest.raises(
        ConfigError, match=r"50-b\.toml: .*max_concurrent_downloads = 5 is overridden by .*/99-hand\.toml"
    ):
        host.ensure(host.dropin("50-b.toml", DOWNLOADS.format(5)), owner="other", main=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version = [", r"60-a\.toml: no TOML: "),
        ("[grpc]\naddress = 'x'\n", r"60-a\.toml: its first line has to be `version = 3`; containerd drops"),
        ("version = 2\n", r"60-a\.toml: its first line has to be `version = 3`"),
        ("version = 3\n# syntax\n", r"^containerd does not take .*60-a\.toml.*: toml: cannot decode$"),
        (
            "version = 3\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n",
            r"does not know plugins\.'io\.containerd\.grpc\.v1\.cri'\.sandbox_image and would drop it without a word: "
            r"that is where containerd 1\.x .* has it",
        ),
        (
            "version = 3\n[plugins.cri]\nx = 1\n",
            r"does not know plugins\.cri\.x .*: that is configuration version 1; use 'io\.containerd",
        ),
        (
            "version = 3\n[plugins.'io.containerd.cri.v1.images']\nmax_downloads = 1\n",
            r"does not know plugins\.'io\.containerd\.cri\.v1\.images'\.max_downloads .*`containerd config default`",
        ),
        (
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = 'other'\n",
            r"config\.toml: plugins\.'io\.containerd\.cri\.v1\.images'\.pinned_images\.sandbox = 'pause:1' is over"
            r"ridden by .*60-a\.toml; set it in one place only",
        ),
    ],
)  # fmt: skip
def test_what_containerd_would_drop_is_refused_before_anything_changes(host: Host, content: str, message: str) -> None:
    host.ensure()
    with pytest.raises(ConfigError, match=message):
        host.ensure(host.dropin("60-a.toml", content))
    assert host.there() == ["config.toml"]


@pytest.mark.parametrize(
    "content",
    [
        "version = 3\n[plugins.'io.containerd.grpc.v1.cri']\nstream_idle_timeout = '240m'\n",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_selinux = false\nnothing = ''\n",
    ],
)
def test_other_words_for_the_same_are_taken(host: Host, content: str) -> None:
    assert host.ensure(host.dropin("60-a.toml", content)).changed


def test_secret_is_in_no_diff(host: Host) -> None:
    path = host.places.registries / "r.example.com" / "hosts.toml"
    outcome = host.ensure(File(path, "password\n", 0o600, secret=True))
    assert "password" not in outcome.before + outcome.after
    assert str(path) in outcome.after
    assert path.stat().st_mode & 0o777 == 0o600
    host.ensure()
    assert not path.parent.exists(), "an empty folder of a registry stays"


def test_run_that_was_cut_is_finished(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [host.dropin(f"60-{name}.toml", DOWNLOADS.format(3)) for name in "ab"]
    written = library._put

    def cut(file: File) -> None:
        if file is files[1]:
            raise KeyboardInterrupt
        written(file)

    monkeypatch.setattr(library, "_put", cut)
    with pytest.raises(KeyboardInterrupt):
        host.ensure(*files)
    monkeypatch.undo()
    # What the cut run has put there is known as ours.
    assert host.ensure().files == [str(files[0].path)]
    assert host.there() == ["config.toml"]


def test_base_spec_keeps_what_containerd_has(tmp_path: Path) -> None:
    def run(command: list[str]) -> tuple[int, str, str]:
        assert command == [str(tmp_path / "ctr"), "oci", "spec"]
        return 0, '{"ociVersion": "1.2.0", "annotations": {"a": "b"}}', ""

    text = base_spec(run, {"c": "d"}, ctr=tmp_path / "ctr")
    assert re.sub(r"\s", "", text) == '{"annotations":{"a":"b","c":"d"},"ociVersion":"1.2.0"}'


@pytest.mark.parametrize("answer", [(1, "", "boom"), (0, "no json", ""), (0, "[]", "")])
def test_no_base_spec_without_containerds_own(answer: tuple[int, str, str]) -> None:
    with pytest.raises(ConfigError, match=r"`/usr/local/bin/ctr oci spec` tells no default spec: "):
        base_spec(lambda _: answer, {})
