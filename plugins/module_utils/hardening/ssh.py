# SPDX-License-Identifier: Apache-2.0
"""sshd: the drop-in, what sshd itself says to it, and whether the connection that Ansible uses is still let in."""

from __future__ import annotations

import fnmatch
import grp
import ipaddress
import os
import pwd
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.host import SSHD
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import HardeningError, Machine

CONFIG = "/etc/ssh/sshd_config"
DROP_INS = "/etc/ssh/sshd_config.d"
# sshd keeps the first value that it reads, so this one has to come first.
DROP_IN = f"{DROP_INS}/00-edgefleet.conf"
HEADER = "# Written by the role edgefleet.wasm.hardening: change hardening_ssh_options in the inventory instead.\n"
# Keywords that are said once for each value; the values of others stand on one line.
_REPEATED = {"port", "listenaddress", "hostkey", "acceptenv", "setenv"}
# How sshd shows what it was told under another name.
_SYNONYMS = {"prohibit-password": "without-password"}
_PASSWORD_METHODS = {"password", "keyboard-interactive/pam", "keyboard-interactive"}

Effective = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Connection:
    """The ssh connection that this runs over. ``method`` is publickey, password, ... or empty if it isn't known."""

    user: str
    address: str
    local_address: str
    local_port: int
    method: str = ""

    @property
    def by_password(self) -> bool:
        """Whether it needs passwords to be allowed."""
        return self.method in _PASSWORD_METHODS


def connection(machine: Machine, pid: int | None = None) -> Connection | None:
    """Found among the processes above this one: sudo hides it from the environment. None if there is no ssh."""
    found: dict[str, str] = {}
    pid = os.getpid() if pid is None else pid
    while pid > 1:
        environment = _environment(machine, pid)
        # The one nearest to sshd is the login's own; those below may have changed USER.
        found = environment if "SSH_CONNECTION" in environment else found
        pid = _parent(machine, pid)
    words = found.get("SSH_CONNECTION", "").split()
    if len(words) != 4:
        return None
    address, port, local_address, local_port = words
    user = found.get("USER") or found.get("LOGNAME") or "root"
    method = _method(machine, user, address, port)
    return Connection(user, address, local_address, int(local_port), method)


def _environment(machine: Machine, pid: int) -> dict[str, str]:
    try:
        text = machine.read(f"/proc/{pid}/environ") or ""
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _parent(machine: Machine, pid: int) -> int:
    found = re.search(r"^PPid:\s*(\d+)", machine.read(f"/proc/{pid}/status") or "", re.MULTILINE)
    return int(found[1]) if found else 0


def _method(machine: Machine, user: str, address: str, port: str) -> str:
    """How the connection was let in, from sshd's own words in the journal."""
    pattern = f"^Accepted [^ ]+ for {re.escape(user)} from {re.escape(address)} port {port} "
    command = ["journalctl", "--quiet", "--boot", "--output=cat", "--lines=1", f"--grep={pattern}"]
    code, out, _ = machine.run([*command, "--identifier=sshd-session", "--identifier=sshd"])
    return out.split()[1] if code == 0 and out.startswith("Accepted ") else ""


def drop_in(options: Mapping[str, Any], passwords: str, login: Connection | None) -> str:
    """The drop-in's text. ``passwords`` is disabled, enabled, unchanged, or auto: off where this login used a key."""
    chosen = dict(options)
    if passwords == "auto":
        passwords = "disabled" if login and login.method == "publickey" else "unchanged"
    if passwords != "unchanged":
        word = "yes" if passwords == "enabled" else "no"
        chosen = {"PasswordAuthentication": word, "KbdInteractiveAuthentication": word, **chosen}
    return HEADER + "".join(f"{line}\n" for keyword, value in sorted(chosen.items()) for line in _lines(keyword, value))


def _lines(keyword: str, value: Any) -> list[str]:
    values = [_word(item) for item in value] if isinstance(value, (list, tuple)) else [_word(value)]
    if not values:
        return []
    if keyword.lower() in _REPEATED:
        return [f"{keyword} {item}" for item in values]
    return [f"{keyword} {' '.join(values)}"]


def _word(value: Any) -> str:
    """YAML has made booleans of yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


@contextmanager
def _candidate(machine: Machine, text: str | None) -> Iterator[Path]:
    """sshd's configuration as it would be with this drop-in (or none), in a folder of its own."""
    main = machine.read(CONFIG)
    if main is None:
        raise HardeningError(f"{CONFIG} is missing: reinstall openssh-server.")
    if not re.search(rf"^\s*Include\s.*{re.escape(DROP_INS)}/", main, re.MULTILINE | re.IGNORECASE):
        raise HardeningError(
            f"{CONFIG} does not include {DROP_INS}/*.conf, so that a file there has no effect; add the line "
            f"`Include {DROP_INS}/*.conf` at its beginning, or set hardening_ssh: false."
        )
    with tempfile.TemporaryDirectory(prefix="edgefleet-sshd-") as name:
        folder = Path(name)
        parts = folder / "sshd_config.d"
        parts.mkdir()
        there = machine.path(DROP_INS)
        for path in sorted(there.glob("*")) if there.is_dir() else []:
            if path.is_file() and path.name != Path(DROP_IN).name:
                (parts / path.name).write_bytes(path.read_bytes())
        if text is not None:
            (parts / Path(DROP_IN).name).write_text(text, encoding="utf-8")
        (folder / "sshd_config").write_text(main.replace(f"{DROP_INS}/", f"{parts}/"), encoding="utf-8")
        yield folder


def effective(machine: Machine, text: str | None, login: Connection | None) -> Effective:
    """What sshd would do for this login with that drop-in, in its own words; an error if it refuses the file."""
    who = login or Connection("root", "127.0.0.1", "127.0.0.1", 22)
    with _candidate(machine, text) as folder:
        criteria = (
            f"user={who.user},host={who.address},addr={who.address},laddr={who.local_address},lport={who.local_port}"
        )
        code, out, errors = machine.run([SSHD, "-T", "-f", str(folder / "sshd_config"), "-C", criteria])
        if code != 0:
            said = errors.replace(f"{folder}/", "/etc/ssh/").strip()
            raise HardeningError(f"sshd refuses its configuration with hardening_ssh_options: {said}")
    shown: dict[str, list[str]] = {}
    for line in out.splitlines():
        keyword, _, value = line.partition(" ")
        shown.setdefault(keyword, []).append(value)
    return shown


def overridden(options: Mapping[str, Any], shown: Effective) -> list[str]:
    """Settings that sshd does not take over, since the main file says something else before it includes ours."""
    found = []
    for keyword, value in options.items():
        key = keyword.lower()
        wanted = [line.partition(" ")[2] for line in _lines(key, value)]
        wanted = [_SYNONYMS.get(one, one).lower() for one in wanted]
        there = [one.lower() for one in shown.get(key, [])]
        if not wanted or key in _REPEATED or key in {"allowusers", "allowgroups", "denyusers", "denygroups"}:
            continue
        if there and there != wanted:
            found.append(
                f"sshd would not take over {keyword} {wanted[0]} but keep {there[0]}: {CONFIG} says so before it "
                f"includes {DROP_INS}; remove it there."
            )
    return found


def ports(shown: Effective) -> list[int]:
    """Where sshd listens."""
    return sorted({int(port) for port in shown.get("port", [])})


def lock_outs(shown: Effective, login: Connection | None, groups: Sequence[str] | None = None) -> list[str]:
    """One sentence for each reason why this login would not be let in again."""
    if login is None:
        return []
    groups = _groups(login.user) if groups is None else groups
    return [*_refused_user(shown, login, groups), *_refused_method(shown, login), *_refused_port(shown, login)]


def _refused_user(shown: Effective, login: Connection, groups: Sequence[str]) -> Iterator[str]:
    user, address = login.user, login.address
    allowed, denied = _patterns(shown, "allowusers"), _patterns(shown, "denyusers")
    if allowed and not _user_matches(allowed, user, address):
        yield (
            f"AllowUsers {' '.join(allowed)} would lock out {user}, as whom Ansible is connected from {address}; add "
            "it to hardening_ssh_allow_users."
        )
    if denied and _user_matches(denied, user, address):
        yield f"DenyUsers {' '.join(denied)} would lock out {user}, as whom Ansible is connected; take it out."
    allowed, denied = _patterns(shown, "allowgroups"), _patterns(shown, "denygroups")
    if allowed and not any(_name_matches(allowed, group) for group in groups):
        yield (
            f"AllowGroups {' '.join(allowed)} would lock out {user}, as whom Ansible is connected and who is in "
            f"{', '.join(groups)}; add one of these to hardening_ssh_allow_groups."
        )
    if denied and any(_name_matches(denied, group) for group in groups):
        yield (
            f"DenyGroups {' '.join(denied)} would lock out {user}, as whom Ansible is connected and who is in "
            f"{', '.join(groups)}; take it out."
        )
    root = _one(shown, "permitrootlogin")
    if user == "root" and (
        root in {"no", "forced-commands-only"} or (root == "without-password" and login.by_password)
    ):
        yield (
            f"PermitRootLogin {root} would lock out root, as whom Ansible is connected by "
            f"{login.method or 'an unknown method'}; connect as another user with sudo"
            f"{' or with a key' if root == 'without-password' else ''}, or change hardening_ssh_root_login."
        )


def _refused_method(shown: Effective, login: Connection) -> Iterator[str]:
    if login.method == "publickey" and _one(shown, "pubkeyauthentication") == "no":
        yield "PubkeyAuthentication no would lock out this connection, which uses a key; take it out."
    by_password = {_one(shown, "passwordauthentication"), _one(shown, "kbdinteractiveauthentication")}
    if login.by_password and "yes" not in by_password:
        yield (
            "without passwords this connection, which used one, would be locked out; install a key and connect with "
            "it, or set hardening_ssh_password_authentication: enabled."
        )
    methods = _one(shown, "authenticationmethods").split()
    if login.method and methods not in ([], ["any"]):
        used = "publickey" if login.method == "publickey" else "password"
        same = {"password", "keyboard-interactive", "keyboard-interactive:pam"} if used == "password" else {used}
        if not any(method in same for method in methods):
            listed = " ".join(methods)
            yield f"AuthenticationMethods {listed} would lock out this connection, which used {used}; take it out."


def _refused_port(shown: Effective, login: Connection) -> Iterator[str]:
    if login.local_port not in ports(shown):
        yield (
            f"sshd would listen on {', '.join(map(str, ports(shown)))} only, and this connection uses port "
            f"{login.local_port}; give Port both, connect to the new one, then take the old one away."
        )


def _one(shown: Effective, keyword: str) -> str:
    values = shown.get(keyword, [])
    return values[0] if values else ""


def _patterns(shown: Effective, keyword: str) -> list[str]:
    return [word for value in shown.get(keyword, []) for word in value.split()]


def _groups(user: str) -> list[str]:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return []
    names = []
    for number in os.getgrouplist(user, entry.pw_gid):
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return names


def _name_matches(patterns: Sequence[str], name: str) -> bool:
    """As sshd: a pattern with ! that matches decides against."""
    if any(fnmatch.fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns if not pattern.startswith("!"))


def _user_matches(patterns: Sequence[str], user: str, address: str) -> bool:
    def matches(pattern: str) -> bool:
        name, at, host = pattern.partition("@")
        return fnmatch.fnmatchcase(user, name) and (not at or _address_matches(host, address))

    if any(matches(pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(matches(pattern) for pattern in patterns if not pattern.startswith("!"))


def _address_matches(pattern: str, address: str) -> bool:
    if "/" in pattern:
        try:
            return ipaddress.ip_address(address) in ipaddress.ip_network(pattern, strict=False)
        except ValueError:
            return False
    return fnmatch.fnmatchcase(address, pattern)
