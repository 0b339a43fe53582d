"""The page as text: what a reader without JavaScript sees, and that nothing of a host becomes markup."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import report, run, view
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetRun, HostResult

from tests.fleets import START, dice, document, fleet, spoil

VENDOR = Path(report.__file__).parent / "page" / "vendor"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028'\"&"


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


def page_of(*hosts: HostResult) -> str:
    return report.page_of(FleetRun(START, START, "smoke.yml", hosts), "fleet/x.json", [])


def data_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Elements(page).scripts[0])
    return found


def test_the_libraries_are_the_published_files() -> None:
    listed = dict(re.findall(r"\| `(.+?\.js)` \|.*\| ([0-9a-f]{64}) \|", (VENDOR / "README.md").read_text()))
    assert set(listed) == {path.name for path in VENDOR.glob("*.js")}
    assert {name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name in listed} == listed
    assert all((VENDOR / f"{name.partition('.')[0]}.LICENSE").exists() for name in listed)


def test_the_page_loads_nothing_and_runs_its_own_scripts_only() -> None:
    elements = Elements(report.page_of(fleet(3), "fleet/x.json", []))
    for tag, attributes in elements.found:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "action")}
        assert tag != "a" or str(attributes["href"]).startswith("#")
    (policy,) = (one["content"] for tag, one in elements.found if one.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none';")
    assert re.findall(r"'(sha256-[^']+)'", str(policy)) == [report._source_hash(one) for one in elements.scripts[1:]]


def test_what_a_host_sends_is_text() -> None:
    found = document("evil", dice(1))
    spoil(found, "nonce", "fail", EVIL, EVIL, what=EVIL, cause=EVIL)
    found["identity"]["os"] = EVIL
    found["warnings"] = [EVIL]
    page = page_of(HostResult("evil", found), HostResult(EVIL, reason=EVIL))
    elements = Elements(page)
    assert sum(tag == "script" for tag, _ in elements.found) == 4
    assert not any(tag == "img" for tag, _ in elements.found)
    data = data_of(page)
    assert data["hosts"][1]["host"] == EVIL
    assert EVIL in data["texts"]


def test_hosts_verdicts_and_reasons_are_there_without_javascript() -> None:
    whole = fleet(60)
    visible = re.sub(r"<script.*?</script>|<style>.*?</style>", "", report.page_of(whole, "x", []), flags=re.DOTALL)
    for host in whole.hosts:
        assert f">{host.host}</a>" in visible
    assert "engine loads libLLVM (124 MiB mapped at each start)" in visible
    assert "use an engine built without LLVM" in visible
    assert "Failed to connect to the host via ssh: timed out" in visible
    assert "<b>52</b><span>pass</span>" in visible


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([HostResult("a", document("a", dice(1)))], "The host passed."),
        ([HostResult(name, document(name, dice(1))) for name in "ab"], "All 2 hosts passed."),
        ([HostResult("a", reason="gone", unreachable=True)], "None of 1 host could be tested."),
        (
            [HostResult("a", document("a", dice(1))), HostResult("b", document("b", dice(1), slow=3))],
            "Wasm works on 2 of 2 hosts: 1 host missed a target of speed, or could not be judged by it.",
        ),
        (
            [HostResult("a", document("a", dice(1))), HostResult("b", reason="gone")],
            "Wasm works on 1 of 2 hosts: 1 host could not be tested.",
        ),
    ],
)
def test_the_headline_says_how_it_stands(hosts: list[HostResult], said: str) -> None:
    assert view.headline(FleetRun(START, START, "", tuple(hosts))) == said


def test_a_host_that_does_not_work_is_not_called_working() -> None:
    found = document("a", dice(1))
    spoil(found, "nonce", "invalid", "no figure", "look")
    said = view.headline(FleetRun(START, START, "", (HostResult("a", found),)))
    assert said == "Wasm works on 0 of 1 host: the function is not proven on 1 host."


def test_reasons_that_differ_in_figures_are_one_problem() -> None:
    hosts = []
    for index in range(3):
        found = document(str(index), dice(index))
        reason = f"the native control itself took {7 + index}.5 ms (trusted up to 7)"
        spoil(found, "cold_start_crun", "invalid", reason, "wait")
        hosts.append(HostResult(str(index), found))
    (problem,) = view.problems(FleetRun(START, START, "", tuple(hosts)))
    assert problem.hosts == ["0", "1", "2"]
    assert "7.5 ms" in problem.reason


def test_the_worst_host_is_the_one_whose_function_fails() -> None:
    slow = document("slow", dice(1), slow=3)
    spoil(slow, "env", "invalid", "odd", "look")
    broken = document("broken", dice(1))
    spoil(broken, "nonce", "fail", "silent", "look")
    hosts = (HostResult("good", document("good", dice(1))), HostResult("slow", slow), HostResult("broken", broken))
    assert [host.host for host in view.worst(FleetRun(START, START, "", hosts))] == ["broken", "slow"]


def test_the_trend_has_the_runs_before_the_oldest_first(tmp_path: Path) -> None:
    for day in range(3):
        run.write(fleet(10, days=day, drift=1 + day), tmp_path)
    written = report.write_report(fleet(10, days=5), tmp_path)
    past = data_of(written.page.read_text(encoding="utf-8"))["past"]
    assert [one["started"][:10] for one in past] == ["2026-03-02", "2026-03-03", "2026-03-04"]
    medians = [one["checks"]["cold_start_crun"][0] for one in past]
    assert medians == sorted(medians)
    assert len(past[0]["measured"]["cold_start_crun"]) == 10


def test_the_page_grows_by_little_for_each_host() -> None:
    sizes = [len(report.page_of(fleet(count, trouble=False), "x", [])) for count in (10, 20)]
    assert (sizes[1] - sizes[0]) / 10 < 4096
