"""A host is brought to its controls and back, in steps that may be cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils import files
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening import core, host, ssh
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.arguments import ARGUMENTS, CONTROL, control_of
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import Control, HardeningError, Machine
from ansible_collections.edgefleet.wasm.plugins.modules import hardening

from tests.unit.hardening.machine import Programs, make

CONF = "/etc/systemd/journald.conf.d/zz-edgefleet.conf"
RESTART = "systemctl restart systemd-journald.service"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not this machine's own connection and audit."""
    monkeypatch.setattr(ssh, "connection", lambda _: None)
    monkeypatch.setattr(host, "audit_refusal", lambda: "")


def control(**given: Any) -> Control:
    """As the module makes it."""
    empty = {name: option.get("default") for name, option in CONTROL.items()}
    return control_of({**empty, "id": "test", **given})


def converge(machine: Machine, *controls: Control) -> list[str]:
    """What was changed."""
    hardening = core.Hardening(machine, controls)
    look = hardening.examine()
    assert look.problems == []
    hardening.converge()
    return [change.what for change in look.changes]


def kernel(root: Path, **values: str) -> None:
    for key, value in values.items():
        path = root / "proc/sys" / key.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def everything(root: Path) -> dict[str, str]:
    """Content and mode of every file, to compare before and after."""
    return {
        str(path.relative_to(root)): f"{path.stat().st_mode & 0o7777:o} {path.read_text()}"
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def some_host(root: Path) -> Machine:
    machine = make(root, etc__group="root:x:0:\n", etc__login__defs="# comment\nUMASK\t022\nUID_MIN 1000\n")
    (root / "etc/login/defs").rename(root / "etc/login.defs")
    (root / "etc/crontab").write_text("x\n")
    (root / "etc/crontab").chmod(0o644)
    (root / "etc/motd").write_text("hello\n")
    kernel(root, kernel__sysrq="438", net__ipv4__tcp_syncookies="0")
    return machine


SOME = (
    control(
        files=[
            {"path": CONF, "content": "[Journal]\n", "mode": "0644"},
            {"path": "/etc/motd", "content": "", "mode": "0644"},
        ],
        after=[RESTART],
    ),
    control(id="kernel", sysctl={"kernel.sysrq": "0", "net.ipv4.tcp_syncookies": 1, "kernel.gone": "1"}),
    control(id="defs", settings={"/etc/login.defs": {"UMASK": "027", "PASS_MAX_DAYS": 365}}),
    control(id="modes", permissions=[{"path": "/etc/cron*", "mode": "0600"}], modules=["usb-storage"]),
)


def test_on_again_and_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.chown", lambda *_: None)
    machine = some_host(tmp_path)
    before = everything(tmp_path)
    assert set(converge(machine, *SOME)) >= {
        CONF,
        "/etc/motd",
        "/etc/login.defs",
        "/etc/crontab",
        "sysctl kernel.sysrq",
    }
    assert (tmp_path / "proc/sys/kernel/sysrq").read_text() == "0\n"
    assert (tmp_path / "etc/login.defs").read_text() == ("# comment\nUMASK\t027\nUID_MIN 1000\nPASS_MAX_DAYS\t365\n")
    assert (tmp_path / "etc/crontab").stat().st_mode & 0o777 == 0o600
    assert converge(machine, *SOME) == []
    converge(machine)
    assert everything(tmp_path) == before
    assert not (tmp_path / "etc/systemd/journald.conf.d").exists()
    assert converge(machine) == []


def test_one_control_off_takes_back_that_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.chown", lambda *_: None)
    machine = some_host(tmp_path)
    converge(machine, *SOME)
    assert set(converge(machine, *SOME[1:])) == {CONF, "/etc/motd"}
    assert (tmp_path / "etc/motd").read_text() == "hello\n"
    assert (tmp_path / "proc/sys/kernel/sysrq").read_text() == "0\n"


def test_command_of_a_change_is_run_once_and_after_it(tmp_path: Path) -> None:
    programs = Programs()
    machine = make(tmp_path, programs)
    converge(machine, SOME[0])
    assert programs.ran.count(RESTART) == 1
    converge(machine, SOME[0])
    assert programs.ran.count(RESTART) == 1
    (tmp_path / CONF.lstrip("/")).write_text("drift\n")
    converge(machine, SOME[0])
    assert programs.ran.count(RESTART) == 2


def test_command_that_failed_is_run_by_the_next_run(tmp_path: Path) -> None:
    programs = Programs([lambda args: (1, "", "no") if " ".join(args) == RESTART else None])
    machine = make(tmp_path, programs)
    with pytest.raises(HardeningError, match=f"`{RESTART}` ended with 1: no"):
        converge(machine, SOME[0])
    programs.answers.clear()
    assert converge(machine, SOME[0]) == []
    assert programs.ran[-1] == RESTART


def cut_after(number: int) -> Callable[..., None]:
    """The so manieth writing of a file is the last that a run does."""
    left = [number]

    def write(*args: Any, **kwargs: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        files.write_atomically(*args, **kwargs)

    return write


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("back", [False, True])
def test_cut_anywhere_the_next_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, back: bool
) -> None:
    monkeypatch.setattr("os.chown", lambda *_: None)
    machine = some_host(tmp_path)
    before = everything(tmp_path)
    wanted = () if back else SOME
    if back:
        converge(machine, *SOME)
    modules = "ansible_collections.edgefleet.wasm.plugins.module_utils.hardening"
    with monkeypatch.context() as patch:
        write = cut_after(number)
        patch.setattr(f"{modules}.plan.write_atomically", write)
        patch.setattr(f"{modules}.model.write_atomically", write)
        with suppress(KeyboardInterrupt):
            converge(machine, *wanted)
    converge(machine, *wanted)
    assert converge(machine, *wanted) == []
    converge(machine)
    assert everything(tmp_path) == before


def test_container_keeps_its_hands_off_the_kernel(tmp_path: Path) -> None:
    programs = Programs([lambda args: (0, "somekind\n", "") if args[0] == "systemd-detect-virt" else None])
    machine = make(tmp_path, programs)
    kernel(tmp_path, kernel__sysrq="438", net__ipv4__tcp_syncookies="0")
    hardening = core.Hardening(
        machine, (SOME[1], control(id="swap", needs=["own_kernel"], swap_off=True, units={"swap.target": "masked"}))
    )
    look = hardening.examine()
    hardening.converge()
    assert (tmp_path / "proc/sys/kernel/sysrq").read_text() == "438\n"
    assert (tmp_path / "proc/sys/net/ipv4/tcp_syncookies").read_text() == "1\n"
    # Nor at the next boot.
    assert "sysrq" not in (tmp_path / "etc/sysctl.d/99-edgefleet-hardening.conf").read_text()
    reason = "the kernel is shared with another machine (somekind container)"
    assert look.not_applicable == [
        f"kernel: kernel.sysrq ({reason})",
        "kernel: kernel.gone (not in this kernel)",
        f"swap ({reason})",
    ]
    assert not any("mask" in command for command in programs.ran)


def test_stricter_value_that_a_kernel_does_not_give_up_stays(tmp_path: Path) -> None:
    machine = make(tmp_path)
    kernel(tmp_path, kernel__unprivileged_bpf_disabled="1")
    assert "sysctl kernel.unprivileged_bpf_disabled" not in converge(
        machine, control(sysctl={"kernel.unprivileged_bpf_disabled": "2"})
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"sysctl": {"net.ipv4.ip_forward": 0}}, "hardening_sysctl_settings sets net.ipv4.ip_forward to 0"),
        ({"sysctl": {"net/ipv4/conf/eth0.100/rp_filter": 1}}, "strict filtering drops pods' packets"),
        ({"sysctl": {"net.ipv4.conf.*.forwarding": 0}}, "pods reach nothing without forwarding"),
        ({"sysctl": {"kernel.modules_disabled": 1}}, "K3s loads overlay"),
        ({"modules": ["br-netfilter"]}, "hardening_modules_denied names br-netfilter"),
        ({"modules": ["nf_conntrack"]}, "hardening_modules_denied names nf_conntrack"),
        ({"mounts": {"/var": ["noexec"]}}, "hardening_mount_options names /var"),
        ({"mounts": {"/var/lib/kubelet/pods": ["nodev"]}}, "run programs from /var/lib/kubelet"),
    ],
)
def test_what_breaks_k3s_is_refused(tmp_path: Path, given: dict[str, Any], reason: str) -> None:
    look = core.Hardening(make(tmp_path), [control(**given)]).examine()
    assert len(look.problems) == 1
    assert reason in look.problems[0]
    assert look.changes == []


def test_host_without_systemd_is_refused(tmp_path: Path) -> None:
    machine = make(tmp_path)
    (tmp_path / "run/systemd/system").rmdir()
    look = core.Hardening(machine, SOME).examine()
    assert look.problems == [
        "this host does not run systemd, which the hardening needs; boot it with systemd as its init."
    ]


def test_memory_that_is_no_json_is_an_error_and_stays(tmp_path: Path) -> None:
    machine = make(tmp_path)
    memory = tmp_path / "var/lib/edgefleet/hardening.json"
    memory.write_text("{")
    with pytest.raises(HardeningError, match=r"hardening\.json can't be read"):
        core.Hardening(machine, SOME)
    assert memory.read_text() == "{"


def test_memory_is_for_root_only(tmp_path: Path) -> None:
    machine = make(tmp_path)
    converge(machine, SOME[0])
    memory = tmp_path / "var/lib/edgefleet/hardening.json"
    assert memory.stat().st_mode & 0o777 == 0o600
    assert json.loads(memory.read_text())["version"] == 1


def test_swap_units_and_mounts_there_and_back(tmp_path: Path) -> None:
    state = {"swap.target": ("static", "active")}

    def systemctl(args: list[str]) -> tuple[int, str, str] | None:
        if args[:2] == ["systemctl", "show"]:
            units = [state.get(name, ("", "inactive")) for name in args[args.index("--") + 1 :]]
            return 0, "\n".join(f"LoadState=loaded\nUnitFileState={e}\nActiveState={a}\n" for e, a in units), ""
        if args[:2] == ["systemctl", "mask"]:
            state[args[2]] = ("masked", "active")
        if args[:2] == ["systemctl", "unmask"]:
            state[args[2]] = ("static", "active")
        return None

    programs = Programs([systemctl])
    machine = make(tmp_path, programs)
    swaps = tmp_path / "proc/swaps"
    swaps.write_text("Filename Type Size Used Priority\n/dev/vdb partition 100 0 -2\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vdb").write_text("")
    mounts = tmp_path / "proc/self/mountinfo"
    mounts.write_text("82 77 0:46 / /tmp rw,nosuid,nodev,relatime - tmpfs tmpfs rw\n")
    wanted = (
        control(id="swap", swap_off=True, units={"swap.target": "masked"}),
        control(id="mounts", mounts={"/tmp": ["nosuid", "noexec"], "/var/tmp": ["noexec"]}),  # noqa: S108
    )
    assert converge(machine, *wanted) == [
        "/etc/systemd/system/edgefleet-mounts.service",
        "mount /tmp",
        "swap /dev/vdb",
        "unit swap.target",
    ]
    assert {"swapoff /dev/vdb", "mount -o remount,noexec /tmp", "systemctl mask swap.target"} <= set(programs.ran)
    assert "/var/tmp" not in (tmp_path / "etc/systemd/system/edgefleet-mounts.service").read_text()  # noqa: S108
    swaps.write_text("Filename Type Size Used Priority\n")
    mounts.write_text("82 77 0:46 / /tmp rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw\n")
    assert converge(machine, *wanted) == []
    converge(machine)
    assert {"swapon /dev/vdb", "mount -o remount,exec /tmp", "systemctl unmask swap.target"} <= set(programs.ran)


def test_audit_refusal_is_a_reason_not_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "audit_refusal", lambda: "the kernel refuses audit here (EPERM)")
    look = core.Hardening(
        make(tmp_path), [control(id="audit", needs=["audit"], packages=["auditd"], audit=["-w /etc/passwd -p wa"])]
    ).examine()
    assert look.not_applicable == ["audit (the kernel refuses audit here (EPERM))"]
    assert look.missing_packages == []
    assert look.changes == []


def test_module_documents_every_argument() -> None:
    documented = yaml.safe_load(hardening.DOCUMENTATION)["options"]
    assert set(documented) == set(ARGUMENTS)
    assert set(documented["controls"]["suboptions"]) == set(CONTROL)
    for name, option in CONTROL.items():
        shown = documented["controls"]["suboptions"][name]
        assert (shown["type"], shown.get("default")) == (option["type"], option.get("default")), name
