"""Bundles as the runtime gets them; nothing stays behind, whoever was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Containers, workspace
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import Ended

from tests.unit.smoke.fake_crun import FakeCrun


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def left(base: Path, name: str) -> Path:
    folder = base / name
    (folder / "state" / "edgefleet-smoke-abc").mkdir(parents=True)
    (folder / "nonce" / "rootfs").mkdir(parents=True)
    return folder


def test_what_a_killed_run_left_is_removed_with_its_containers(tmp_path: Path) -> None:
    crun = FakeCrun()
    folder = left(tmp_path, f"edgefleet-smoke.{dead_pid()}-1234-aa")
    with workspace(crun, "crun", [tmp_path]):
        assert not folder.exists()
    deletion = ["crun", "--root", str(folder / "state"), "delete", "--force", "edgefleet-smoke-abc"]
    assert crun.commands == [deletion]


def test_a_pid_that_was_given_again_is_not_the_owner(tmp_path: Path) -> None:
    folder = left(tmp_path, f"edgefleet-smoke.{os.getpid()}-1-aa")
    with workspace(FakeCrun(), "crun", [tmp_path]):
        assert not folder.exists()


def test_what_a_live_run_has_is_left_alone(tmp_path: Path) -> None:
    crun = FakeCrun()
    with workspace(crun, "crun", [tmp_path]) as other, workspace(crun, "crun", [tmp_path]) as mine:
        assert other != mine
        assert other.is_dir()
        assert mine.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["edgefleet-smoke.", "edgefleet-smoke.x-1-a", "edgefleet-smoke.12"])
def test_a_folder_without_an_owner_is_removed(tmp_path: Path, name: str) -> None:
    folder = left(tmp_path, name)
    with workspace(FakeCrun(), "crun", [tmp_path]):
        assert not folder.exists()


def test_nothing_of_another_name_is_touched(tmp_path: Path) -> None:
    folder = left(tmp_path, "edgefleet-smokes.1-2-a")
    with workspace(FakeCrun(), "crun", [tmp_path]):
        pass
    assert folder.is_dir()


def test_the_folder_goes_when_a_check_breaks(tmp_path: Path) -> None:
    def check() -> None:
        with workspace(FakeCrun(), "crun", [tmp_path]) as folder:
            (folder / "file").touch()
            raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        check()
    assert list(tmp_path.iterdir()) == []


def test_a_noexec_base_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "run", tmp_path / "lib"
    first.mkdir()
    second.mkdir()
    real = os.statvfs

    class NoExec:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda path: NoExec() if path == first else real(path))
    with workspace(FakeCrun(), "crun", [first, second]) as folder:
        assert folder.parent == second
    with (
        pytest.raises(SmokeError, match=r"no folder to run probes in: .*run is missing or mounted noexec"),
        workspace(FakeCrun(), "crun", [first]),
    ):
        pass


def test_a_base_that_is_full_is_an_error_that_names_it(tmp_path: Path) -> None:
    with (
        pytest.raises(SmokeError, match=r"can't be used: .*No space left"),
        workspace(FakeCrun(), "crun", [tmp_path]),
    ):
        raise OSError(28, "No space left on device")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


def test_containers_have_no_rights_and_limits(folder: Path) -> None:
    crun = FakeCrun(broken={"b": Ended(0, b"", "")})
    containers = Containers(crun, "/usr/bin/crun", "cgroupfs", folder, 30)
    containers.start(containers.bundle("b", b"x"), ["arg"], ["A=1"])
    config = crun.configs["b"]
    assert config["process"]["args"] == ["/probe.wasm", "arg"]
    assert config["process"]["env"] == ["PATH=/", "A=1"]
    assert config["process"]["user"] == {"uid": 65534, "gid": 65534}
    assert config["process"]["noNewPrivileges"]
    assert "capabilities" not in config["process"]
    assert config["root"]["readonly"]
    assert config["linux"]["resources"] == {"memory": {"limit": 256 << 20}, "pids": {"limit": 64}}
    assert config["annotations"] == {"module.wasm.image/variant": "compat-smart"}
    assert crun.commands[0][:4] == ["/usr/bin/crun", "--root", str(folder / "state"), "--cgroup-manager=cgroupfs"]


def test_without_cgroups_there_are_no_limits_to_set(folder: Path) -> None:
    crun = FakeCrun(broken={"b": Ended(0, b"", "")})
    containers = Containers(crun, "crun", "disabled", folder, 30)
    containers.start(containers.bundle("b", b"x"))
    assert crun.configs["b"]["linux"]["resources"] == {}


def test_a_container_that_was_left_is_seen_and_removed(folder: Path) -> None:
    crun = FakeCrun(broken={"b": Ended(1, b"", "")}, leaves_behind=True)
    containers = Containers(crun, "crun", "cgroupfs", folder, 30)
    assert not containers.start(containers.bundle("b", b"x")).clean
    assert len(crun.ran("delete")) == 1
    assert list((folder / "state").iterdir()) == []


def test_a_killed_process_is_recognised_as_dead(tmp_path: Path) -> None:
    """The name that a real process gives its folder, after its kill -9."""
    program = (
        "import sys, time, pathlib\n"
        "from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import workspace\n"
        "from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command\n"
        "with workspace(run_command, 'crun', [pathlib.Path(sys.argv[1])]) as folder:\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        with workspace(FakeCrun(), "crun", [tmp_path]):
            assert folder.is_dir()
        other.kill()
        other.wait()
    with workspace(FakeCrun(), "crun", [tmp_path]):
        assert not folder.exists()
