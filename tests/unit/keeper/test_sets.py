"""A set is the host's files at one moment: kept whole, put back whole, from wherever a cut left off."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import sets
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.sets import SetError

OLD = {
    "usr/local/bin/k3s": "k3s 1.30.3",
    "usr/local/bin/containerd": "containerd 2.0.10",
    "etc/systemd/system/k3s.service": "unit",
    "etc/containerd/config.toml": "version = 3",
    "etc/containerd/conf.d/50-wasmedge.toml": "wasm",
    "etc/rancher/k3s/config.yaml": "a: b",
    "var/lib/edgefleet/artifacts.json": "[]",
    "usr/local/bin/kubectl-of-somebody": "not ours",
}


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    put(root, **OLD)
    (root / "etc/rancher/k3s/config.yaml").chmod(0o600)
    (root / "var/lib/rancher/k3s/data/old").mkdir(parents=True)
    (root / "var/lib/rancher/k3s/data/current").symlink_to("old")
    return root


def content(root: Path) -> dict[str, tuple[str, str, int]]:
    return {entry.path: (entry.sha256, entry.target, entry.mode) for entry in sets.scan(root)}


def upgrade(root: Path) -> None:
    """New content, a new file, a file less, another mode, the link moved, and a folder where a file was."""
    put(root, **{"usr/local/bin/k3s": "k3s 1.30.4", "etc/containerd/conf.d/99-new.toml": "new"})
    (root / "etc/containerd/conf.d/50-wasmedge.toml").unlink()
    (root / "etc/containerd/conf.d/50-wasmedge.toml").mkdir()
    (root / "etc/rancher/k3s/config.yaml").chmod(0o644)
    (root / "etc/systemd/system/k3s.service.d").mkdir()
    put(root, **{"etc/systemd/system/k3s.service.d/x.conf": "x"})
    (root / "var/lib/rancher/k3s/data/current").unlink()
    (root / "var/lib/rancher/k3s/data/current").symlink_to("new")
    (root / "usr/local/bin/containerd").unlink()


def saved(tmp_path: Path, root: Path) -> sets.Set:
    return sets.save(tmp_path / "sets/set-0", "v1.30.3+k3s1", {"Deployment a/b": 1}, root)


def test_it_comes_back_as_it_was(tmp_path: Path, root: Path) -> None:
    before = content(root)
    kept = saved(tmp_path, root)
    upgrade(root)
    assert content(root) != before
    paths = sets.put_back(kept, root)
    assert content(root) == before
    assert "/usr/local/bin/k3s" in paths
    assert sets.put_back(kept, root) == []
    assert (root / "usr/local/bin/kubectl-of-somebody").read_text() == "not ours"
    assert kept.workloads == {"Deployment a/b": 1}


def test_a_put_back_that_was_cut_is_finished_by_the_next(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(root)
    kept = saved(tmp_path, root)
    upgrade(root)
    changed = len(sets.put_back(kept, root))
    assert changed > 5
    real = sets._place
    for limit in range(changed):
        upgrade(root)
        done = iter(range(limit))

        def place(*args: object, done: object = done) -> None:
            if next(done, None) is None:  # type: ignore[call-overload]
                raise KeyboardInterrupt
            real(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(sets, "_place", place)
        with contextlib.suppress(KeyboardInterrupt):
            sets.put_back(kept, root)
        monkeypatch.setattr(sets, "_place", real)
        sets.put_back(kept, root)
        assert content(root) == before, limit


def test_half_a_set_is_no_set(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sets, "write_atomically", cut)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, root)
    assert not (tmp_path / "sets/set-0").exists()
    with pytest.raises(SetError, match="no whole set"):
        sets.load(tmp_path / "sets/set-0")


def test_a_damaged_copy_is_not_put_back(tmp_path: Path, root: Path) -> None:
    kept = saved(tmp_path, root)
    upgrade(root)
    for path in (tmp_path / "sets/set-0/files").iterdir():
        path.write_text("rot")
    with pytest.raises(SetError, match="not what it was when it was noted"):
        sets.put_back(kept, root)


def test_it_is_for_root_alone(tmp_path: Path, root: Path) -> None:
    saved(tmp_path, root)
    modes = [path.stat().st_mode & 0o077 for path in (tmp_path / "sets/set-0").rglob("*")]
    assert modes
    assert not any(modes)


@pytest.mark.parametrize(
    ("path", "is_k3s"),
    [
        ("/usr/local/bin/k3s", True),
        ("/etc/rancher/k3s", True),
        ("/etc/rancher/k3s/config.yaml.d/x.yaml", True),
        ("/etc/systemd/system/k3s.service.d/x.conf", True),
        ("/var/lib/rancher/k3s/data/current", True),
        ("/usr/local/bin/containerd", False),
        ("/etc/containerd/config.toml", False),
        ("/var/lib/edgefleet/artifacts.json", False),
    ],
)
def test_what_belongs_to_k3s(path: str, is_k3s: bool) -> None:
    assert sets.of_k3s([path]) is is_k3s
