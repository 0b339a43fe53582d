"""Who would be let in again, and what sshd is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening import ssh
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import HardeningError
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.ssh import Connection

from tests.unit.hardening.machine import Programs, make

KEY = Connection("root", "10.0.0.5", "10.0.0.9", 22, "publickey")
PASSWORD = Connection("ops", "10.0.0.5", "10.0.0.9", 22, "password")
OPEN = {
    "port": ["22"],
    "permitrootlogin": ["without-password"],
    "pubkeyauthentication": ["yes"],
    "passwordauthentication": ["yes"],
    "kbdinteractiveauthentication": ["no"],
    "authenticationmethods": ["any"],
}


@pytest.mark.parametrize(
    ("login", "change", "reason"),
    [
        (KEY, {"allowusers": ["deploy"]}, "AllowUsers deploy would lock out root, .* hardening_ssh_allow_users"),
        (KEY, {"allowusers": ["root@192.0.2.*"]}, "AllowUsers root@192.0.2.* would lock out"),
        (KEY, {"allowusers": ["root", "!root"]}, "AllowUsers root !root would lock out"),
        (KEY, {"denyusers": ["ro*"]}, r"DenyUsers ro\* would lock out root"),
        (KEY, {"allowgroups": ["wheel"]}, "AllowGroups wheel would lock out root, .* in root, adm; "),
        (KEY, {"denygroups": ["adm"]}, "DenyGroups adm would lock out root"),
        (KEY, {"permitrootlogin": ["no"]}, "PermitRootLogin no would lock out root"),
        (KEY, {"permitrootlogin": ["forced-commands-only"]}, "PermitRootLogin forced-commands-only would lock out"),
        (KEY, {"pubkeyauthentication": ["no"]}, "PubkeyAuthentication no would lock out"),
        (KEY, {"authenticationmethods": ["publickey,password"]}, "AuthenticationMethods publickey,password would lock"),
        (KEY, {"port": ["2222"]}, "sshd would listen on 2222 only, and this connection uses port 22"),
        (PASSWORD, {"passwordauthentication": ["no"]}, "without passwords this connection.* would be locked out"),
        (PASSWORD, {"authenticationmethods": ["publickey"]}, "AuthenticationMethods publickey would lock out"),
    ],
)
def test_refused(login: Connection, change: dict[str, list[str]], reason: str) -> None:
    (problem,) = ssh.lock_outs({**OPEN, **change}, login, ["root", "adm"])
    assert re.search(reason, problem), problem


def test_root_by_password_is_refused_where_root_needs_a_key() -> None:
    login = Connection("root", "10.0.0.5", "10.0.0.9", 22, "password")
    (problem,) = ssh.lock_outs(OPEN, login, ["root"])
    assert "PermitRootLogin without-password would lock out root" in problem
    assert "with a key" in problem


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"allowusers": ["deploy", "root@10.0.0.0/24"]},
        {"allowusers": ["r?ot"]},
        {"denyusers": ["root@192.0.2.*"]},
        {"allowgroups": ["a*"]},
        {"authenticationmethods": ["password publickey"]},
        {"port": ["2222", "22"]},
        {"passwordauthentication": ["no"]},
    ],
)
def test_let_in(change: dict[str, list[str]]) -> None:
    assert ssh.lock_outs({**OPEN, **change}, KEY, ["root", "adm"]) == []


def test_no_connection_nothing_to_lose() -> None:
    assert ssh.lock_outs({**OPEN, "permitrootlogin": ["no"]}, None, []) == []


def test_passwords_go_only_where_the_connection_uses_a_key() -> None:
    assert "PasswordAuthentication no" in ssh.drop_in({}, "auto", KEY)
    assert "PasswordAuthentication" not in ssh.drop_in({}, "auto", PASSWORD)
    assert "PasswordAuthentication" not in ssh.drop_in({}, "auto", Connection("root", "a", "b", 22, ""))
    assert "PasswordAuthentication" not in ssh.drop_in({}, "auto", None)
    assert "PasswordAuthentication yes" in ssh.drop_in({}, "enabled", KEY)


def test_drop_in_says_booleans_lists_and_repeated_keywords_as_sshd_reads_them() -> None:
    text = ssh.drop_in(
        {"X11Forwarding": False, "AllowUsers": ["a", "b"], "Port": [22, 2222], "AllowGroups": []}, "unchanged", None
    )
    assert text.splitlines()[1:] == ["AllowUsers a b", "Port 22", "Port 2222", "X11Forwarding no"]


def test_what_the_main_file_says_first_is_named() -> None:
    shown = {"x11forwarding": ["yes"], "permitrootlogin": ["without-password"], "maxauthtries": ["4"]}
    wanted = {"X11Forwarding": "no", "PermitRootLogin": "prohibit-password", "MaxAuthTries": "4"}
    (problem,) = ssh.overridden(wanted, shown)
    assert "X11Forwarding no but keep yes" in problem


def proc(root: Path, pid: int, parent: int, **environment: str) -> None:
    folder = root / f"proc/{pid}"
    folder.mkdir(parents=True)
    (folder / "environ").write_text("".join(f"{key}={value}\0" for key, value in environment.items()))
    (folder / "status").write_text(f"Name:\tx\nPPid:\t{parent}\n")


def accepted(args: list[str]) -> tuple[int, str, str] | None:
    if args[0] != "journalctl":
        return None
    assert r"--grep=^Accepted [^ ]+ for ops from 10\.0\.0\.5 port 40000 " in args
    return 0, "Accepted publickey for ops from 10.0.0.5 port 40000 ssh2: ED25519 SHA256:x\n", ""


def test_connection_is_found_behind_sudo(tmp_path: Path) -> None:
    machine = make(tmp_path, Programs([accepted]))
    login = "10.0.0.5 40000 10.0.0.9 2222"
    proc(tmp_path, 40, 30, USER="root", SUDO_USER="ops")
    # Some sudoers keep the variable, and USER is then somebody else's.
    proc(tmp_path, 30, 20, USER="root", SSH_CONNECTION=login)
    proc(tmp_path, 20, 10, USER="ops", SSH_CONNECTION=login)
    proc(tmp_path, 10, 1, PATH="/bin")
    assert ssh.connection(machine, 40) == Connection("ops", "10.0.0.5", "10.0.0.9", 2222, "publickey")


def test_no_ssh_no_connection(tmp_path: Path) -> None:
    machine = make(tmp_path)
    proc(tmp_path, 40, 1, USER="root")
    assert ssh.connection(machine, 40) is None


def test_main_file_without_include_is_refused(tmp_path: Path) -> None:
    machine = make(tmp_path, etc__ssh__sshd_config="UsePAM yes\n")
    with pytest.raises(HardeningError, match=r"does not include /etc/ssh/sshd_config\.d"):
        ssh.effective(machine, "MaxAuthTries 4\n", KEY)


def test_sshd_reads_the_new_file_and_not_the_old_one(tmp_path: Path) -> None:
    seen: list[str] = []

    def sshd(args: list[str]) -> tuple[int, str, str] | None:
        if not args[0].endswith("sshd"):
            return None
        main = Path(args[args.index("-f") + 1])
        seen.append(main.read_text())
        seen.extend(path.read_text() for path in sorted((main.parent / "sshd_config.d").glob("*")))
        return 1, "", f"{main.parent}/sshd_config.d/00-edgefleet.conf: line 1: Bad configuration option: Foo"

    machine = make(tmp_path, Programs([sshd]))
    drop_ins = tmp_path / "etc/ssh/sshd_config.d"
    drop_ins.mkdir(parents=True)
    (tmp_path / "etc/ssh/sshd_config").write_text("Include /etc/ssh/sshd_config.d/*.conf\n")
    (drop_ins / "00-edgefleet.conf").write_text("AllowUsers old\n")
    (drop_ins / "50-own.conf").write_text("MaxSessions 3\n")
    with pytest.raises(HardeningError, match=r"/etc/ssh/sshd_config\.d/00-edgefleet\.conf: line 1: Bad config.* Foo"):
        ssh.effective(machine, "Foo bar\n", KEY)
    assert seen[1:] == ["Foo bar\n", "MaxSessions 3\n"]
    assert "/etc/ssh/sshd_config.d" not in seen[0]
