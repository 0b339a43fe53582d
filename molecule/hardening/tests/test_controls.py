"""Every row of the table of controls, against the running host."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from testinfra.host import Host

from tools.hardening import Item, items

SYNONYMS = {"prohibit-password": "without-password"}
SHARED_KERNEL = "the kernel is not this host's own"


@dataclass(frozen=True)
class Hardened:
    """A host, whether its kernel is shared, and sshd's own words for a login as root."""

    host: Host
    container: bool
    sshd: dict[str, str]


@pytest.fixture(scope="module")
def hardened(host: Host) -> Hardened:
    container = host.run("systemd-detect-virt --container --quiet").rc == 0
    lines = host.check_output("sshd -T -C user=root,host=x,addr=192.0.2.1,laddr=192.0.2.2,lport=22").splitlines()
    return Hardened(host, container, {keyword: value for keyword, _, value in (line.partition(" ") for line in lines)})


@pytest.mark.parametrize("item", items(), ids=str)
def test_control(hardened: Hardened, item: Item) -> None:
    CHECKS[item.kind](hardened, item.setting)


def check_sshd(on: Hardened, setting: dict[str, Any]) -> None:
    for keyword, value in setting.items():
        if value == []:
            assert keyword.lower() not in on.sshd
        else:
            assert on.sshd[keyword.lower()] == SYNONYMS.get(str(value), str(value))


def check_sysctl(on: Hardened, setting: dict[str, str]) -> None:
    for key, value in setting.items():
        place = key.replace("*", "all").replace(".", "/")
        if not on.host.file(f"/proc/sys/{place}").exists:
            pytest.skip(f"{key} is not in this kernel")
        if on.container and not key.startswith("net."):
            pytest.skip(SHARED_KERNEL)
        assert on.host.check_output(f"cat /proc/sys/{place}") == value
        # And at the next boot.
        assert on.host.file("/etc/sysctl.d/99-edgefleet-hardening.conf").contains(f"^-{re.escape(key)} = {value}$")


def host_rules(on: Hardened) -> str:
    """Our rules without their header."""
    return str(on.host.file("/etc/audit/rules.d/50-edgefleet.rules").content_string).partition("\n")[2]


def check_audit(on: Hardened, setting: list[str]) -> None:
    if on.container:
        assert not on.host.package("auditd").is_installed
        pytest.skip(SHARED_KERNEL)
    assert on.host.service("auditd").is_running
    loaded = on.host.check_output("auditctl -l")
    for rule in setting:
        if rule == "-c":
            assert host_rules(on).startswith("-c\n")
            continue
        found = re.search(r"(?:-k |key=)(\S+)", rule)
        assert found, rule
        what = rule.split()[1] if rule.startswith("-w") else found[1]
        assert what in loaded, rule


def check_modules(on: Hardened, setting: list[str]) -> None:
    if on.container:
        assert not on.host.file("/etc/modprobe.d/edgefleet-hardening.conf").exists
        pytest.skip(SHARED_KERNEL)
    configuration = on.host.check_output("modprobe --showconfig")
    loaded = on.host.check_output("cat /proc/modules")
    for name in (module.replace("-", "_") for module in setting):
        assert f"install {name} /bin/false" in configuration
        assert f"blacklist {name}\n" in f"{configuration}\n"
        assert not re.search(rf"^{name} ", loaded, re.MULTILINE)


def check_mounts(on: Hardened, setting: dict[str, list[str]]) -> None:
    for place, options in setting.items():
        if on.host.run(f"findmnt --noheadings {place}").rc != 0:
            pytest.skip(f"{place} is not a mount of its own")
        assert set(options) <= set(on.host.check_output(f"findmnt --noheadings --output OPTIONS {place}").split(","))


def check_permissions(on: Hardened, setting: list[dict[str, str]]) -> None:
    for entry in setting:
        found = on.host.run(f"stat --format '%a %U %n' {entry['path']}").stdout.splitlines()
        for line in found:
            mode, owner, path = line.split(maxsplit=2)
            assert int(mode, 8) & ~int(entry["mode"], 8) == 0, path
            assert owner == "root", path


def check_settings(on: Hardened, setting: dict[str, dict[str, Any]]) -> None:
    for path, keys in setting.items():
        text = on.host.file(path).content_string
        for key, value in keys.items():
            assert re.findall(rf"^{key}\s+(\S+)", text, re.MULTILINE)[-1] == str(value)


def check_ini(on: Hardened, setting: dict[str, str]) -> None:
    """What journald reads in the end, whatever other files say."""
    text = on.host.check_output("systemd-analyze cat-config systemd/journald.conf")
    for key, value in setting.items():
        assert re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)[-1] == value
    assert on.host.service("systemd-journald").is_running


def check_file(on: Hardened, setting: str) -> None:
    file = on.host.file(setting)
    assert (file.user, file.group) == ("root", "root")
    assert file.mode & 0o022 == 0


def check_unit(on: Hardened, setting: str) -> None:
    if on.container:
        pytest.skip(SHARED_KERNEL)
    assert on.host.service(setting).is_running
    assert on.host.service(setting).is_enabled


def check_nft(on: Hardened, setting: str) -> None:
    assert setting in on.host.check_output("nft list chain inet edgefleet input")


def check_swap(on: Hardened, setting: str) -> None:
    assert setting == "off"
    if on.container:
        pytest.skip(SHARED_KERNEL)
    assert on.host.check_output("swapon --show --noheadings") == ""
    assert on.host.check_output("systemctl show --property=LoadState --value swap.target") == "masked"


def check_manager(on: Hardened, setting: dict[str, Any]) -> None:
    if on.container or not on.host.file("/dev/watchdog").exists:
        pytest.skip("no watchdog of its own")
    for key, value in setting.items():
        shown = on.host.check_output(f"systemctl show --property={key} --value")
        assert shown in {f"{value}s", f"{int(value) // 60}min"}


# A kind that is not here fails: no row goes unchecked.
CHECKS: dict[str, Callable[[Hardened, Any], None]] = {
    "sshd": check_sshd,
    "sysctl": check_sysctl,
    "audit": check_audit,
    "modules": check_modules,
    "mounts": check_mounts,
    "permissions": check_permissions,
    "settings": check_settings,
    "ini": check_ini,
    "file": check_file,
    "unit": check_unit,
    "nft": check_nft,
    "swap": check_swap,
    "manager": check_manager,
}
