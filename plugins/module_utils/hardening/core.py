# SPDX-License-Identifier: Apache-2.0
"""One look at a host against its controls: what is refused, can't be had here, or differs; then making it so."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening import (
    firewall,
    guard,
    host,
    limits,
    plan,
    render,
    ssh,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import (
    Change,
    Control,
    File,
    HardeningError,
    Machine,
    Memory,
)

RELOAD_SSH = "systemctl try-reload-or-restart ssh.service"
LOAD_AUDIT = "augenrules --load"
AUDITCTL = "/usr/sbin/auditctl"
# What the guard puts back, by the name under which the take-back script knows it.
GUARDED = {"ssh": ssh.DROP_IN, "firewall": firewall.FILE}


@dataclass
class Look:
    """What was found and has to be done."""

    problems: list[str] = field(default_factory=list)
    not_applicable: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    missing_packages: list[str] = field(default_factory=list)
    login: ssh.Connection | None = None


class Hardening:
    """A host and the controls that are wanted; no controls at all is what takes everything back."""

    def __init__(self, machine: Machine, controls: Sequence[Control]) -> None:
        self.machine = machine
        self.declared = tuple(controls)
        self.memory = Memory.load(machine)
        units = [name for control in controls for name in control.units]
        self.facts = host.inspect(machine, [*units, *self.memory.units])
        self.look = Look(login=ssh.connection(machine))
        self._sysctl: dict[str, tuple[str, str]] = {}

    def examine(self) -> Look:
        """Look only; nothing changes."""
        look = self.look
        if not self.facts.systemd:
            look.problems.append(
                "this host does not run systemd, which the hardening needs; boot it with systemd as its init."
            )
            return look
        look.problems += limits.problems(self.declared)
        if look.problems:
            return look
        controls = self._applicable()
        packages = [name for control in controls for name in control.packages]
        look.missing_packages = sorted(set(packages) - set(plan.installed(self.machine, packages)))
        guarded = self._guarded(controls)
        if not look.problems:
            ordinary = self._ordinary(controls, packages)
            # systemd starts it only once its file is there.
            late = [change for change in ordinary if change.what == f"unit {firewall.UNIT}" and controls]
            for change in late:
                change.guarded = True
            look.changes = [*(change for change in ordinary if change not in late), *guarded, *late]
        return look

    # What this host can have

    def _applicable(self) -> list[Control]:
        found = []
        for control in self.declared:
            reasons = [self.facts.lacks[need] for need in control.needs if need in self.facts.lacks]
            if reasons:
                self.look.not_applicable.append(f"{control.id} ({reasons[0]})")
                continue
            part = self._part(control)
            if part:
                found.append(part)
        return found

    def _part(self, control: Control) -> Control | None:
        """The control without those settings and mounts that this host doesn't have; None if nothing is left."""
        part = control
        if control.sysctl:
            values, refused = plan.sysctl_values(self.machine, self.facts, control.sysctl)
            self._sysctl.update(values)
            self._note(control.id, refused)
            part = replace(part, sysctl={key: value for key, value in control.sysctl.items() if key not in refused})
        if control.mounts:
            absent = {place: "not a mount of its own" for place in control.mounts if place not in self.facts.mounts}
            self._note(control.id, absent)
            left = {place: options for place, options in control.mounts.items() if place not in absent}
            part = replace(part, mounts=left)
        emptied = (control.sysctl and not part.sysctl) or (control.mounts and not part.mounts)
        return None if emptied else part

    def _note(self, control: str, refused: dict[str, str]) -> None:
        by_reason: dict[str, list[str]] = {}
        for name, reason in refused.items():
            by_reason.setdefault(reason, []).append(name)
        self.look.not_applicable += [f"{control}: {', '.join(names)} ({why})" for why, names in by_reason.items()]

    # What differs

    def _ordinary(self, controls: Sequence[Control], packages: Sequence[str]) -> list[Change]:
        """In the order in which they are made: what is stopped, files, the running kernel, what is started."""
        machine, memory, facts = self.machine, self.memory, self.facts
        files = self._files(controls)
        kept = {*files, *(GUARDED[name] for name in self._guarded_names(controls))}
        units = {name: state for control in controls for name, state in control.units.items()}
        stopped, started = plan.unit_changes(machine, memory, facts, units, self._reload)
        return [
            *stopped,
            *plan.file_changes(machine, memory, files),
            *self._files_back(kept),
            *plan.setting_changes(machine, memory, _settings(controls)),
            *plan.permission_changes(machine, memory, [one for control in controls for one in control.permissions]),
            *plan.sysctl_changes(machine, memory, self._sysctl),
            *plan.mount_changes(machine, memory, facts, {k: v for one in controls for k, v in one.mounts.items()}),
            *plan.swap_changes(machine, memory, facts, any(one.swap_off for one in controls)),
            *plan.module_changes(machine, facts, [name for one in controls for name in one.modules]),
            *self._audit(controls),
            *started,
            *plan.package_changes(machine, memory, packages),
        ]

    def _files(self, controls: Sequence[Control]) -> dict[str, tuple[File, tuple[str, ...]]]:
        files = plan.wanted_files(controls)
        for file in render.files(controls):
            files[file.path] = (file, (LOAD_AUDIT,) if file.path == render.AUDIT else ())
        return files

    def _files_back(self, kept: set[str]) -> list[Change]:
        changes = plan.files_back(self.machine, self.memory, kept)
        for change in changes:
            if change.what == firewall.FILE:
                change.apply = self._then(change.apply, lambda: firewall.remove(self.machine))
        return changes

    @staticmethod
    def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
        def both() -> None:
            first()
            second()

        return both

    def _audit(self, controls: Sequence[Control]) -> list[Change]:
        """The kernel's rules, if somebody changed them without the files."""
        if not any(control.audit for control in controls) or not self.machine.path(AUDITCTL).exists():
            return []
        if self._audit_locked():
            self.look.not_applicable.append("audit: changes of its rules until the next boot (they are immutable)")
            return []
        if self.memory.audit.get("rules", "") == self._audit_rules():
            return []
        return [Change("audit rules", "\n", "as in /etc/audit/rules.d\n", lambda: None, todo=(LOAD_AUDIT,))]

    def _audit_locked(self) -> bool:
        return "enabled 2" in self.machine.run([AUDITCTL, "-s"])[1]

    def _audit_rules(self) -> str:
        return hashlib.sha256(self.machine.run([AUDITCTL, "-l"])[1].encode()).hexdigest()

    # What could cut Ansible off

    @staticmethod
    def _guarded_names(controls: Sequence[Control]) -> list[str]:
        names = {"ssh": any(one.sshd for one in controls), "firewall": any(one.firewall for one in controls)}
        return [name for name, wanted in names.items() if wanted]

    def _guarded(self, controls: Sequence[Control]) -> list[Change]:
        """The checks of sshd's drop-in and the firewall, and their changes."""
        text: str | None = None
        shown: ssh.Effective = {}
        changes: list[Change | None] = []
        try:
            for control in controls:
                if control.sshd:
                    text = ssh.drop_in(control.sshd, control.ssh_passwords, self.look.login)
                    shown = ssh.effective(self.machine, text, self.look.login)
                    self.look.problems += ssh.overridden(control.sshd, shown)
                    self.look.problems += ssh.lock_outs(shown, self.look.login)
                    file = File(ssh.DROP_IN, text, 0o600)
                    changes.append(plan.file_change(self.machine, self.memory, file, (RELOAD_SSH,)))
            for control in controls:
                if control.firewall:
                    changes.append(self._firewall(control, text, shown))
        except HardeningError as error:
            self.look.problems.append(str(error))
        for change in changes:
            if change:
                change.guarded = True
        return [change for change in changes if change]

    def _firewall(self, control: Control, drop_in: str | None, shown: ssh.Effective) -> Change | None:
        machine, login = self.machine, self.look.login
        ports = sorted(set(control.ssh_ports))
        if not ports:
            if not shown and "sshd" not in self.facts.lacks:
                shown = ssh.effective(machine, drop_in, login)
            ports = sorted({*ssh.ports(shown), *([login.local_port] if login else [])})
        self.look.problems += firewall.lock_outs(login, ports, control.ssh_sources)
        content = firewall.text(control.firewall, ports)
        file = File(firewall.FILE, content, 0o600)
        change = plan.file_change(machine, self.memory, file)
        if not machine.path(firewall.NFT).exists():
            return change
        refusal = firewall.refusal(machine, content)
        if refusal:
            self.look.problems.append(f"nft refuses the rules made of the hardening_firewall_* variables: {refusal}")
            return None
        now = firewall.live(machine)
        if change is None and now != firewall.expected(machine, content):
            change = Change("table inet edgefleet", now, f"as in {firewall.FILE}\n", lambda: None)
        if change:
            change.apply = self._then(change.apply, lambda: firewall.load(machine, content))
        return change

    # Making it so

    def converge(self) -> bool:
        """Make the changes that ``examine`` found; whether a new connection has to confirm them."""
        memory, changes = self.memory, self.look.changes
        if not changes and not memory.todo and not guard.pending(self.machine):
            return False
        for change in changes:
            change.remember()
            memory.todo += [command for command in change.todo if command not in memory.todo]
        memory.save(self.machine)
        for change in changes:
            if not change.guarded:
                change.apply()
        armed = self._apply_guarded([change for change in changes if change.guarded])
        self._do_rest()
        for change in changes:
            change.forget()
        plan.empty_folders(self.machine, memory)
        memory.save(self.machine)
        return armed

    def _apply_guarded(self, changes: Sequence[Change]) -> bool:
        """An earlier run's change that nobody confirmed gets its time anew."""
        armed = bool(self.look.login) and (bool(changes) or guard.pending(self.machine)) and bool(self.declared)
        if armed:
            self._reload()
            guard.arm(self.machine, GUARDED)
        elif guard.pending(self.machine):
            guard.forget(self.machine)
        for change in changes:
            change.apply()
        return armed

    def _reload(self) -> None:
        """Let systemd read its files before a unit among them is started."""
        self._do(plan.DAEMON_RELOAD)

    def _do_rest(self) -> None:
        self._reload()
        for command in list(self.memory.todo):
            self._do(command)
        if self.machine.path(AUDITCTL).exists() and any(control.audit for control in self.declared):
            self.memory.audit = {"rules": self._audit_rules()}
        elif not any(control.audit for control in self.declared):
            self.memory.audit = {}

    def _do(self, command: str) -> None:
        """Run one of the commands that changes have called for, and cross it off."""
        if command not in self.memory.todo:
            return
        # Without auditd there is nothing to load, and locked rules wait for the next boot.
        if not (command == LOAD_AUDIT and (not self.machine.path(AUDITCTL).exists() or self._audit_locked())):
            self.machine.must(*shlex.split(command))
        self.memory.todo.remove(command)
        self.memory.save(self.machine)


def _settings(controls: Sequence[Control]) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = {}
    for control in controls:
        for path, keys in control.settings.items():
            settings.setdefault(path, {}).update(keys)
    return settings
