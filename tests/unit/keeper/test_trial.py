"""A change under guard: which of two sets a host has in the end, whatever happens meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper import databases, sets, trial
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.settings import Settings
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.state import CHANGING, RETURNING, TRIAL, Store
from ansible_collections.edgefleet.wasm.plugins.module_utils.keeper.trial import Trial, TrialError, require_step
from ansible_collections.edgefleet.wasm.plugins.modules import site_trial

from tests.unit.keeper.conftest import DEPLOYMENT, listed, make_datastore
from tests.unit.keeper.test_sets import OLD, put
from tests.unit.roles.conftest import Answer, Clock

NOW, BEFORE = "v1.30.4+k3s1", "v1.30.3+k3s1"
DATASTORE = "var/lib/rancher/k3s/server/db/state.db"


@dataclass
class Site:
    """A host whose K3s runs the version that its program file names, if that file is sound."""

    root: Path
    clock: Clock
    boot: str = "boot-1"
    running: str = BEFORE
    restarts: int = 0
    ready_pods: int = 2
    commands: list[str] = field(default_factory=list)

    @property
    def program(self) -> Path:
        return self.root / "usr/local/bin/k3s"

    def version(self) -> str:
        return self.program.read_text().strip()

    def sound(self) -> bool:
        return self.version().startswith("v1.")

    def __call__(self, command: list[str]) -> Answer:
        line = " ".join(command)
        self.commands.append(line)
        if "--version" in line:
            return (0, f"k3s version {self.version()} (98262b5d)\n", "") if self.sound() else (127, "", "no program")
        if line.startswith("systemctl"):
            return self._systemctl(line)
        return self._kubectl(line) if self.running else (1, "", "connection refused")

    def _kubectl(self, line: str) -> Answer:
        if "--raw=/version" in line:
            return 0, json.dumps({"gitVersion": self.running}), ""
        if "--raw=/readyz" in line:
            return 0, "ok", ""
        if "deployments.apps" in line:
            return 0, listed({**DEPLOYMENT, "status": {"readyReplicas": self.ready_pods}}), ""
        node = {
            "kind": "Node",
            "metadata": {"name": "hall"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "nodeInfo": {"kubeletVersion": self.running},
            },
        }
        account = {"kind": "ServiceAccount", "metadata": {"name": "default"}}
        return 0, listed(node, account) if "serviceaccounts" in line else listed(node), ""

    def _systemctl(self, line: str) -> Answer:
        if line.startswith("systemctl show"):
            state = "active" if self.running else "activating"
            return 0, f"LoadState=loaded\nActiveState={state}\nSubState=x\nJob=0\nNRestarts={self.restarts}\n", ""
        if "stop k3s.service" in line:
            self.running = ""
        if "start --no-block" in line and "k3s.service" in line:
            self.start()
        return 0, "", ""

    def start(self) -> None:
        """As systemd does it; a program that is none is started again and again."""
        self.running = self.version() if self.sound() else ""
        self.restarts = 0 if self.sound() else 9


@pytest.fixture
def site(tmp_path: Path, clock: Clock) -> Site:
    root = tmp_path / "root"
    put(root, **OLD)
    put(root, **{"usr/local/bin/k3s": BEFORE})
    make_datastore(root / DATASTORE, "/registry/pods/a/b")
    return Site(root, clock)


@pytest.fixture
def trial_of(site: Site, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(trial, "free_bytes", lambda _: 1 << 40)
    return Trial(
        site,
        Settings(node="hall", unready_seconds=120, change_seconds=3600),
        Store(tmp_path / "keeper"),
        site.root,
        tmp_path / "lock",
        lambda: site.boot,
        clock,
        clock.sleep,
    )


def swap(site: Site, program: str = NOW) -> None:
    """What the roles do."""
    put(site.root, **{"usr/local/bin/k3s": program, "etc/containerd/conf.d/99-new.toml": "new"})


def is_before(site: Site) -> bool:
    return site.version() == BEFORE and not (site.root / "etc/containerd/conf.d/99-new.toml").exists()


def test_a_change_that_does_good_is_kept(site: Site, trial_of: Trial) -> None:
    assert trial_of.begin(NOW)
    assert [line for line in site.commands if "start --no-block edgefleet-keeper.service" in line]
    swap(site)
    site.start()
    outcome = trial_of.keep(60)
    assert (outcome.outcome, outcome.k3s_before, outcome.k3s_now) == ("kept", BEFORE, NOW)
    assert trial_of.store.state() is None
    assert site.version() == NOW
    assert [folder.name for folder in trial_of.store.sets.iterdir()] == ["set-0"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"running": BEFORE}, rf"the API server says {BEFORE.replace('+', '.')}, wanted is"),
        ({"running": ""}, "k3s.service is activating"),
        ({"ready_pods": 1}, "Deployment exam/api has 1 ready pods, it had 2"),
    ],
)
def test_one_that_does_no_good_is_taken_back(site: Site, trial_of: Trial, wrong: dict[str, object], said: str) -> None:
    trial_of.begin(NOW)
    swap(site)
    site.start()
    for name, value in wrong.items():
        setattr(site, name, value)
    outcome = trial_of.keep(60)
    assert outcome.outcome == "returned"
    assert said.replace(rf"{BEFORE.replace('+', '.')}", BEFORE) in outcome.reason
    assert is_before(site)
    assert site.running == BEFORE
    assert trial_of.store.state() is None


def test_the_datastore_goes_back_with_k3s(site: Site, trial_of: Trial) -> None:
    trial_of.begin(NOW)
    swap(site)
    make_datastore(site.root / "new.db", "/registry/pods/a/b", "/registry/pods/a/by-the-new")
    (site.root / "new.db").replace(site.root / DATASTORE)
    trial_of.back("asked for")
    assert databases.objects(site.root / DATASTORE) == {"pods": 1}


def test_k3s_and_its_datastore_stay_where_only_containerd_changed(site: Site, trial_of: Trial) -> None:
    trial_of.begin(BEFORE)
    put(site.root, **{"usr/local/bin/containerd": "containerd 2.0.12"})
    before = (site.root / DATASTORE).stat().st_ino
    trial_of.back("asked for")
    assert (site.root / "usr/local/bin/containerd").read_text() == OLD["usr/local/bin/containerd"]
    assert (site.root / DATASTORE).stat().st_ino == before
    assert not [line for line in site.commands if "stop k3s" in line]
    assert [line for line in site.commands if "restart containerd.service" in line]


def test_the_host_goes_back_by_itself_when_k3s_does_not_start(site: Site, trial_of: Trial, clock: Clock) -> None:
    trial_of.begin(NOW)
    watching = iter(range(100))

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if next(watching) == 1:
            swap(site, "garbage")
            site.start()

    trial_of.sleep = sleep
    outcome = trial_of.watch()
    assert outcome is not None
    assert outcome.outcome == "returned"
    assert "does not stay up" in outcome.reason
    assert is_before(site)
    assert site.running == BEFORE
    assert clock.now < 180


def test_and_when_k3s_hangs(site: Site, trial_of: Trial, clock: Clock) -> None:
    trial_of.begin(NOW)
    swap(site)
    site.running = ""
    outcome = trial_of.watch()
    assert outcome is not None
    assert "not ready for 120 s (keeper_unready_seconds)" in outcome.reason
    assert is_before(site)
    assert clock.now < 180


def test_and_when_nobody_ends_the_change(site: Site, trial_of: Trial, clock: Clock) -> None:
    trial_of.begin(NOW)
    swap(site)
    outcome = trial_of.watch()
    assert outcome is not None
    assert "did not end within 3600 s (keeper_change_seconds)" in outcome.reason
    assert is_before(site)


def test_the_watcher_keeps_what_is_whole_when_nobody_else_does(site: Site, trial_of: Trial) -> None:
    trial_of.begin(NOW)
    swap(site)
    site.start()
    state = trial_of.store.state()
    assert state is not None
    trial_of.store.enter(state, TRIAL)
    outcome = trial_of.watch()
    assert outcome is not None
    assert outcome.outcome == "kept"
    assert site.version() == NOW


def cut(site: Site, trial_of: Trial) -> str:
    """The power goes and comes back: the boot decides before anything starts."""
    site.boot, site.running = "boot-2", ""
    decided = trial_of.boot()
    site.start()
    return decided


def test_a_power_cut_before_anything_began_changes_nothing(site: Site, trial_of: Trial) -> None:
    assert cut(site, trial_of) == "no change is under way"
    assert is_before(site)


def test_a_power_cut_while_the_set_is_saved_changes_nothing(
    site: Site, trial_of: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sets, "write_atomically", stop)
    with pytest.raises(KeyboardInterrupt):
        trial_of.begin(NOW)
    assert cut(site, trial_of) == "no change is under way"
    monkeypatch.undo()
    monkeypatch.setattr(trial, "free_bytes", lambda _: 1 << 40)
    assert trial_of.begin(NOW)


def test_a_power_cut_in_the_middle_boots_the_set_before(site: Site, trial_of: Trial) -> None:
    trial_of.begin(NOW)
    swap(site)
    assert "back to K3s v1.30.3+k3s1: the host went down" in cut(site, trial_of)
    assert is_before(site)
    assert site.running == BEFORE
    assert trial_of.store.state() is None
    assert trial_of.watch() is None


def sealed(site: Site, trial_of: Trial) -> None:
    trial_of.begin(NOW)
    swap(site)
    state = trial_of.store.state()
    assert state is not None
    after = [json.loads(json.dumps(entry.__dict__)) for entry in sets.scan(site.root)]
    trial_of.store.enter(state, TRIAL, after=after)


def test_a_power_cut_when_the_new_set_is_whole_boots_it_on_trial(site: Site, trial_of: Trial) -> None:
    sealed(site, trial_of)
    assert "the new set is whole" in cut(site, trial_of)
    assert site.running == NOW
    outcome = trial_of.watch()
    assert outcome is not None
    assert outcome.outcome == "kept"


def test_one_that_lost_a_file_to_the_power_cut_does_not(site: Site, trial_of: Trial) -> None:
    sealed(site, trial_of)
    (site.root / "etc/containerd/conf.d/99-new.toml").write_text("")
    assert "back to K3s" in cut(site, trial_of)
    assert is_before(site)


def test_and_a_new_set_that_does_not_come_up_after_it_goes_back(site: Site, trial_of: Trial, clock: Clock) -> None:
    sealed(site, trial_of)
    cut(site, trial_of)
    site.running = ""
    outcome = trial_of.watch()
    assert outcome is not None
    assert outcome.outcome == "returned"
    assert is_before(site)


def test_a_power_cut_while_going_back_goes_on_with_that(
    site: Site, trial_of: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_of.begin(NOW)
    swap(site)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sets, "put_back", stop)
        with pytest.raises(KeyboardInterrupt):
            trial_of.back("it was no good")
    state = trial_of.store.state()
    assert state is not None
    assert state.phase == RETURNING
    assert "it was no good" in cut(site, trial_of)
    assert is_before(site)


def test_a_change_that_was_cut_goes_on_with_the_set_from_its_beginning(site: Site, trial_of: Trial) -> None:
    trial_of.begin(NOW)
    swap(site)
    assert not trial_of.begin(NOW)
    state = trial_of.store.state()
    assert state is not None
    assert state.phase == CHANGING
    trial_of.back("asked for")
    assert is_before(site)


def test_a_host_that_is_not_well_is_not_changed(site: Site, trial_of: Trial) -> None:
    site.running = ""
    with pytest.raises(TrialError, match=r"not well before the change.*k3s\.service is activating"):
        trial_of.begin(NOW)
    assert trial_of.store.state() is None


def test_a_host_without_k3s_is_told_what_to_play(site: Site, trial_of: Trial) -> None:
    site.program.unlink()
    with pytest.raises(TrialError, match=r"has no K3s yet.*edgefleet\.wasm\.site"):
        trial_of.begin(NOW)


def test_a_full_disk_ends_it_before_it_begins(trial_of: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "free_bytes", lambda _: 1 << 20)
    with pytest.raises(TrialError, match=r"need \d+ MiB, 1 MiB are free"):
        trial_of.begin(NOW)


@pytest.mark.parametrize("version", [BEFORE, NOW, "v1.30.1+k3s1", "v1.31.2+k3s1"])
def test_allowed_steps(version: str) -> None:
    require_step(BEFORE, version)


@pytest.mark.parametrize(
    ("version", "way"),
    [
        ("v1.32.0+k3s1", r"go by v1\.31 first"),
        ("v1.29.9+k3s1", "restore a backup"),
        ("v2.30.1+k3s1", r"go by v1\.31 first"),
    ],
)
def test_steps_that_are_not(version: str, way: str) -> None:
    with pytest.raises(TrialError, match=way):
        require_step(BEFORE, version)


def test_a_rollback_goes_to_the_set_before_and_back_again(site: Site, trial_of: Trial) -> None:
    trial_of.begin(NOW)
    swap(site)
    site.start()
    trial_of.keep(60)
    outcome = trial_of.roll_back(60)
    assert (outcome.outcome, outcome.k3s_before, outcome.k3s_now) == ("kept", NOW, BEFORE)
    assert is_before(site)
    assert site.running == BEFORE
    assert trial_of.roll_back(60).k3s_now == NOW
    assert site.version() == NOW


def test_a_rollback_needs_a_set_before(trial_of: Trial) -> None:
    with pytest.raises(TrialError, match="keeps no earlier set"):
        trial_of.roll_back(60)


def test_check_mode_says_where_a_rollback_would_go_and_changes_nothing(site: Site, trial_of: Trial) -> None:
    with pytest.raises(TrialError, match="keeps no earlier set"):
        site_trial.foreseen(trial_of, "rolled_back", "")
    trial_of.begin(NOW)
    swap(site)
    site.start()
    trial_of.keep(60)
    said = site_trial.foreseen(trial_of, "rolled_back", "")
    assert said == {"changed": True, "msg": f"check mode: the host would go back to K3s {BEFORE}"}
    assert site.running == site.version() == NOW


def test_a_rollback_over_a_minor_is_refused(site: Site, trial_of: Trial) -> None:
    trial_of.begin("v1.31.2+k3s1")
    swap(site, "v1.31.2+k3s1")
    site.start()
    trial_of.keep(60)
    with pytest.raises(TrialError, match="a datastore goes with its own minor version only"):
        trial_of.roll_back(60)
