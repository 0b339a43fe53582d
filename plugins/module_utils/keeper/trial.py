# SPDX-License-Identifier: Apache-2.0
"""A change under guard: the set before is kept, the new one must show that it does its work, or the host goes back.

Whoever makes the change (a playbook, as a rule) says when it begins and when it is whole. Everything else happens on
the host: the service ``edgefleet-keeper`` watches meanwhile, and ``edgefleet-keeper-boot`` decides at a boot which of
the two sets is run.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import free_bytes
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import (
    K3S,
    KUBELET_KUBECONFIG,
    UNITS,
    Expectation,
    K3sError,
    Kubectl,
    Readiness,
    RunCommand,
    node_summary,
    unit_properties,
)
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import databases, sets, site
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.settings import Settings
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.state import (
    CHANGING,
    RETURNING,
    TRIAL,
    Outcome,
    State,
    Store,
)

WATCHER = "edgefleet-keeper.service"
BOOT = "edgefleet-keeper-boot.service"
CONTAINERD = "containerd.service"
_LOCK = Path("/run/edgefleet-keeper.lock")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOOK_SECONDS = 3.0
# So often in a row everything must be well.
_LOOKS = 3
# A service that systemd had to start so often since the change began does not come up by waiting.
_RESTARTS = 6
_MIB = 1 << 20


class TrialError(Exception):
    """Why a change can't begin or was not kept, and what to do."""


@dataclass
class Trial:
    """``root`` and ``store`` are elsewhere in tests only."""

    run: RunCommand
    settings: Settings
    store: Store = field(default_factory=Store)
    root: Path = Path("/")
    lock: Path = _LOCK
    boot_id: Callable[[], str] = lambda: _BOOT_ID.read_text(encoding="ascii").strip()
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def service(self) -> str:
        return UNITS[self.settings.role]

    def preflight(self, version: str) -> None:
        """TrialError unless a change to this version of K3s may begin on this host now."""
        if not (self.root / K3S.lstrip("/")).exists():
            raise TrialError("this host has no K3s yet, so there is nothing to guard: play edgefleet.wasm.site")
        require_step(site.program_version(self.run), version)
        ill = self.ill({})
        if ill:
            raise TrialError(
                f"this host is not well before the change, so nothing would show what it did: {ill}; mend it first"
            )
        self._require_room()

    def begin(self, version: str) -> bool:
        """Keep the set before and start to watch. False if a change that was cut goes on: its set before stays."""
        with self.locked():
            state = self.store.state()
            if state and state.phase == RETURNING:
                raise TrialError(
                    f"the host goes back to K3s {state.k3s} just now; wait for it: journalctl -u {WATCHER}"
                )
            if state:
                self.store.enter(state, CHANGING, boot_id=self.boot_id(), deadline=self._deadline(), after=[])
                self._watch()
                return False
            self.preflight(version)
            self._keep_set()
            return True

    def keep(self, timeout: float) -> Outcome:
        """The change is whole. Wait until the host has shown that it is well and keep it; else go back."""
        with self.locked():
            state = self.store.state()
            if state is None:
                return self._settled()
            if state.phase == CHANGING:
                after = [asdict(entry) for entry in sets.scan(self.root)]
                state = self.store.enter(state, TRIAL, after=after)
            if state.phase == RETURNING:
                return self._return(state, state.reason)
            before = sets.load(self.store.sets / state.set)
            well = self._await(lambda: self.ill(before.workloads), timeout)
            if well:
                return self._return(state, f"not well {timeout:.0f} s after the change: {well}")
            return self._kept(state)

    def back(self, reason: str) -> Outcome:
        """Go back now, whatever the state of the change is."""
        with self.locked():
            state = self.store.state()
            return self._settled() if state is None else self._return(state, state.reason or reason)

    def roll_back(self, timeout: float) -> Outcome:
        """To the set before the last change that was kept, under the same guard. The datastore stays as it is."""
        with self.locked():
            previous = self.earlier()
            state = self._keep_set()
            self._replace(previous, None)
            self._start()
            self.store.enter(state, TRIAL, after=[asdict(entry) for entry in sets.scan(self.root)])
        return self.keep(timeout)

    def earlier(self) -> sets.Set:
        """The set that a roll back goes to; an error says why there is none, or why the host can't go there now."""
        last = self.store.last()
        if self.store.state() is not None:
            raise TrialError("a change is under way on this host; let it end first: edgefleet-keeper status")
        if last is None or not last.previous:
            raise TrialError(
                "this host keeps no earlier set: none of its changes was made by edgefleet.wasm.upgrade; "
                "set the version wanted in the inventory and play edgefleet.wasm.upgrade"
            )
        previous = sets.load(self.store.sets / last.previous)
        here = site.program_version(self.run)
        if site.minor(here) != site.minor(previous.k3s):
            raise TrialError(
                f"the earlier set is K3s {previous.k3s} and the datastore by now of {here}: a datastore goes with "
                "its own minor version only; restore a backup of that version (edgefleet.wasm.restore)"
            )
        self._require_room()
        return previous

    def boot(self) -> str:
        """Before containerd and K3s start: have one of the two sets, whole. What was decided."""
        with self.locked():
            state = self.store.state()
            if state is None:
                return "no change is under way"
            if state.phase == TRIAL and not sets.differing(sets.entries_of(state.after), self.root):
                self.store.enter(state, TRIAL, boot_id=self.boot_id(), deadline=self._deadline())
                return "the new set is whole: it goes on, and must show that it is well"
            reason = state.reason or "the host went down while the change was made"
            self.store.enter(state, RETURNING, reason=reason)
            before = sets.load(self.store.sets / state.set)
            # Nothing runs yet, and nothing has to be stopped.
            self._put_back(before, before.datastore)
            self._settle_returned(state, reason)
            return f"back to K3s {state.k3s}: {reason}"

    def watch(self) -> Outcome | None:
        """Until the change has ended, by others or by this."""
        ready_at, looks, restarts = self.clock(), 0, _Restarts(self)
        while state := self.store.state():
            if state.phase == RETURNING or state.boot_id != self.boot_id():
                return self.back(state.reason or "the host went down while the change was made")
            ill = self._unready()
            ready_at = ready_at if ill else self.clock()
            if reason := self._hopeless(state, ill, self.clock() - ready_at, restarts.count()):
                return self.back(reason)
            if state.phase == TRIAL:
                before = sets.load(self.store.sets / state.set)
                looks = 0 if ill or self.ill(before.workloads) else looks + 1
                if looks >= _LOOKS:
                    return self._keep_if_still(state)
            self.sleep(_LOOK_SECONDS)
        return None

    def ill(self, workloads: dict[str, int]) -> str:
        """What is not as it should be, in words; empty if all is well. The version is that of the program on disk."""
        try:
            version = site.program_version(self.run)
            if self.settings.role == "agent":
                return self._unready(version)
            expected = Expectation(self.settings.node_name, version, tuple(self.settings.runtime_classes))
            missing = Readiness(self.run, expected).missing()
            return missing or site.lacking(workloads, site.workloads(Kubectl(self.run)))
        except K3sError as error:
            return str(error)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One at a time; ends with the process."""
        with self.lock.open("a", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _keep_set(self) -> State:
        """Save what is there, note it, and have the watcher run, now and after a boot."""
        workloads = site.workloads(Kubectl(self.run)) if self.settings.role == "server" else {}
        k3s = site.program_version(self.run)
        name = self._free_name()
        copy = sets.new_datastore(self.store.sets / name)
        datastore = self._datastore()
        if datastore.exists():
            databases.copy(datastore, copy)
        sets.save(self.store.sets / name, k3s, workloads, self.root)
        self._systemctl("enable", "--quiet", BOOT, WATCHER)
        state = self.store.write(State(CHANGING, name, k3s, self.boot_id(), self._deadline()))
        self._watch()
        return state

    def _free_name(self) -> str:
        taken = {folder.name for folder in self.store.sets.iterdir()} if self.store.sets.is_dir() else set()
        return next(name for name in (f"set-{number}" for number in range(len(taken) + 1)) if name not in taken)

    def _kept(self, state: State) -> Outcome:
        outcome = Outcome("kept", "", state.k3s, site.program_version(self.run), state.set)
        self.store.settle(outcome)
        return outcome

    def _keep_if_still(self, seen: State) -> Outcome | None:
        with self.locked():
            return self._kept(seen) if self.store.state() == seen else None

    def _return(self, state: State, reason: str) -> Outcome:
        self.store.enter(state, RETURNING, reason=reason)
        before = sets.load(self.store.sets / state.set)
        self._replace(before, before.datastore)
        self._start()
        still = self._await(lambda: self.ill({}), self.settings.unready_seconds)
        return self._settle_returned(state, f"{reason}; still not well since: {still}" if still else reason)

    def _settle_returned(self, state: State, reason: str) -> Outcome:
        last = self.store.last()
        outcome = Outcome("returned", reason, state.k3s, state.k3s, last.previous if last else "")
        self.store.settle(outcome)
        return outcome

    def _replace(self, kept: sets.Set, datastore: Path | None) -> None:
        """A set's files in their places while the host runs. What did not change is not stopped."""
        paths = sets.differing(kept.entries, self.root)
        if not paths:
            return
        if sets.of_k3s(paths):
            self._systemctl("stop", self.service)
        self._put_back(kept, datastore)
        self._systemctl("daemon-reload")
        if any("containerd" in path or "wasm-engine" in path for path in paths):
            # Pods stay: a restart ends containerd alone.
            self._systemctl("restart", CONTAINERD)

    def _put_back(self, kept: sets.Set, datastore: Path | None) -> None:
        """The datastore only where another K3s may have written into it."""
        touched = sets.of_k3s(sets.differing(kept.entries, self.root))
        if touched and datastore:
            databases.put_back(datastore, self._datastore())
        sets.put_back(kept, self.root)

    def _start(self) -> None:
        self._systemctl("reset-failed", CONTAINERD, self.service)
        self._systemctl("start", "--no-block", CONTAINERD, self.service)

    def _settled(self) -> Outcome:
        last = self.store.last()
        if last is None:
            raise TrialError("no change is under way on this host, and none has ended")
        return last

    def _await(self, ill: Callable[[], str], timeout: float) -> str:
        """Empty once all has been well several times in a row; else what was not, when the time was up."""
        end, looks, said = self.clock() + timeout, 0, "nothing was seen"
        while looks < _LOOKS:
            said = ill()
            looks = 0 if said else looks + 1
            if said and self.clock() >= end:
                return said
            self.sleep(_LOOK_SECONDS)
        return ""

    def _hopeless(self, state: State, ill: str, seconds: float, restarts: int) -> str:
        """Why to go back by oneself; empty if there is no reason."""
        if ill and restarts >= _RESTARTS:
            return f"{self.service} does not stay up ({restarts} restarts): {ill}"
        if seconds >= self.settings.unready_seconds:
            return f"not ready for {seconds:.0f} s (keeper_unready_seconds): {ill}"
        if self.clock() >= state.deadline:
            return f"the change did not end within {self.settings.change_seconds} s (keeper_change_seconds)"
        return ""

    def _unready(self, version: str = "") -> str:
        """Whether K3s serves; in whatever version, if none is named. An agent's may differ from its server's."""
        name = self.settings.node_name
        try:
            kubectl = Kubectl(self.run, "" if self.settings.role == "server" else KUBELET_KUBECONFIG)
            kubectl.text("get", "--raw=/readyz")
            nodes = [node_summary(node) for node in kubectl.objects("node", name)]
        except K3sError as error:
            return str(error)
        if not any(node["ready"] for node in nodes):
            return f"node {name} is not ready"
        if version and nodes[0]["version"] != version:
            return f"node {name} runs {nodes[0]['version']}, the program on disk is {version}"
        return ""

    def _require_room(self) -> None:
        datastore = self._datastore()
        kept = sets.size(self.root) + (3 * datastore.stat().st_size if datastore.exists() else 0)
        # The new programs come beside the old ones before they take their place.
        needed = 2 * kept + 256 * _MIB
        free = free_bytes(self.store.folder)
        if free < needed:
            raise TrialError(
                f"{self.store.folder}: the set before and the new programs need {needed // _MIB} MiB, "
                f"{free // _MIB} MiB are free; free some and run again"
            )

    def _datastore(self) -> Path:
        return self.root / str(site.DATA).lstrip("/") / "server/db/state.db"

    def _deadline(self) -> float:
        return self.clock() + self.settings.change_seconds

    def _watch(self) -> None:
        self._systemctl("start", "--no-block", WATCHER)

    def _systemctl(self, *words: str) -> None:
        rc, out, err = self.run(["systemctl", *words])
        if rc != 0 and words[0] != "reset-failed":
            raise K3sError(f"`systemctl {' '.join(words)}` ended with {rc}: {(err or out).strip()}")


class _Restarts:
    """How often systemd has started K3s again since this was made; a start by hand sets systemd's count to 0."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._last = self._now()
        self._total = 0

    def count(self) -> int:
        now = self._now()
        self._total += now - self._last if now >= self._last else now
        self._last = now
        return self._total

    def _now(self) -> int:
        return int(unit_properties(self._trial.run, "NRestarts", unit=self._trial.service).get("NRestarts") or 0)


def require_step(here: str, version: str) -> None:
    """Patches both ways, and one minor version up: K3s skips none, and a datastore does not go back."""
    major, now = site.minor(here)
    target_major, target = site.minor(version)
    if (target_major, target) not in ((major, now), (major, now + 1)):
        way = (
            f"go by v{major}.{now + 1} first"
            if (target_major, target) > (major, now)
            else "restore a backup of that version (edgefleet.wasm.restore)"
        )
        raise TrialError(f"k3s_version {version} on a host with {here}: {way}")
