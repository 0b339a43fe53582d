"""The page in a browser, and the playbooks that make and use its files. Needs Chromium and no host.

Screenshots are left in reports/fleet-page: they are for looking at.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest
import yaml
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import core
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import report, run
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetRun, HostResult
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from lab.packages import BROWSER, install_command
from lab.paths import CHECKOUT
from tests.fleets import START, dice, document, fleet, spoil

SHOTS = CHECKOUT / "reports" / "fleet-page"
SCHEMA = json.loads((Path(run.__file__).parent / "schema.json").read_text(encoding="utf-8"))
# Root has no sandbox here; nothing is to be loaded, so nothing may try to.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
# Far more than it takes (docs/performance.md): this is no benchmark, but a page that hangs is none.
LOAD_SECONDS = 20
SCREENS = {"desktop": (1440, 900), "phone": (390, 844)}
# Compiled code against interpreted, five layers of cold start, three ratios to native.
PLOTS = 9
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"

Write = Callable[[FleetRun], Path]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, f"no Chromium on this machine: {' '.join(install_command(list(BROWSER)))}"
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A page with a past for 1, 50 and 500 hosts."""
    made = {}
    for count in (1, 50, 500):
        folder = tmp_path_factory.mktemp(f"fleet-{count}")
        for day in range(6):
            run.write(fleet(count, seed=day + 2, days=day, drift=1 + 0.02 * day), folder)
        made[count] = report.write_report(fleet(count, seed=20, days=7, drift=1.12), folder).page
    return made


@contextmanager
def opened(context: BrowserContext, page: Path, fragment: str = "") -> Iterator[Page]:
    """The page in a tab. Whatever the browser complains of, or loads beside it, fails the test."""
    complaints: list[str] = []
    tab = context.new_page()
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    tab.on("request", lambda request: complaints.append(request.url) if "fleet.html" not in request.url else None)
    tab.goto(f"{page.as_uri()}{fragment}", timeout=LOAD_SECONDS * 1000)
    yield tab
    assert complaints == []
    context.close()


def draw_all(tab: Page) -> None:
    """As before printing: plots that are out of sight too."""
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.wait_for_function(
        "[...document.querySelectorAll('main .plot figure')].every((one) => one.querySelector('svg'))"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("count", [1, 50, 500])
def test_it_opens_without_a_complaint(
    browser: Browser, pages: dict[int, Path], count: int, screen: str, theme: str
) -> None:
    width, height = SCREENS[screen]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
    with opened(context, pages[count]) as tab:
        expect(tab.locator("h2.headline")).to_contain_text("host")
        expect(tab.locator("#host-table tbody tr")).to_have_count(count)
        draw_all(tab)
        assert tab.locator("#plots article").count() == PLOTS
        assert tab.locator("#trends article").count() == PLOTS + 1
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the screen"
        SHOTS.mkdir(parents=True, exist_ok=True)
        # Of 500 hosts the last rows look like the ones before.
        size = tab.evaluate("document.documentElement.scrollHeight")
        tab.screenshot(
            path=SHOTS / f"{count}-{screen}-{theme}.png",
            full_page=True,
            clip={"x": 0, "y": 0, "width": width, "height": min(size, 9000)},
            timeout=120_000,
        )


def test_it_is_loaded_at_500_hosts_before_anyone_wonders(browser: Browser, pages: dict[int, Path]) -> None:
    with opened(browser.new_context(), pages[500]) as tab:
        assert tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < LOAD_SECONDS * 1000
    assert pages[500].stat().st_size < 3_000_000


def test_printed_it_is_light_and_whole(browser: Browser, pages: dict[int, Path]) -> None:
    context = browser.new_context(color_scheme="dark")
    with opened(context, pages[50]) as tab:
        SHOTS.mkdir(parents=True, exist_ok=True)
        paper = tab.pdf(path=SHOTS / "50-print.pdf", print_background=True)
        assert paper.startswith(b"%PDF")
        tab.emulate_media(media="print")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not tab.locator("nav").is_visible()
        assert tab.locator("main .plot figure:not(:has(svg))").count() == 0, "a plot is not on the paper"
        tab.screenshot(path=SHOTS / "50-print.png", full_page=True, timeout=120_000)


def test_a_row_stays_where_it_is_while_plots_above_it_are_drawn(browser: Browser, pages: dict[int, Path]) -> None:
    """Else a click that comes down on it is let go on another one, and nothing happens."""
    with opened(browser.new_context(viewport={"width": 1440, "height": 1000}), pages[50]) as tab:
        row = tab.locator("#host-table a", has_text="hall-024")
        top = "one.getBoundingClientRect().top"
        before = row.evaluate(f"one => {{ one.scrollIntoView({{block: 'center'}}); return {top} }}")
        expect(tab.locator("#trend figure").last.locator("svg").first).to_be_attached()
        assert row.evaluate(f"one => {top}") == pytest.approx(before, abs=1)


def test_a_host_is_shown_whole(browser: Browser, pages: dict[int, Path]) -> None:
    with opened(browser.new_context(viewport={"width": 1440, "height": 1000}), pages[50]) as tab:
        tab.locator("#host-table a", has_text="hall-024").click()
        panel = tab.locator("dialog")
        expect(panel.locator("h2")).to_have_text("hall-024.example.com")
        expect(panel.locator(".lines tbody tr")).to_have_count(len(core.every_check()))
        first = panel.locator(".lines tbody tr").first
        expect(first).to_contain_text("the engine interprets")
        expect(first).to_contain_text("compare the engine's version")
        expect(first.locator("td.number").nth(1)).to_have_text("10 times")
        expect(panel.locator(".plot svg").first).to_be_visible()
        expect(panel).to_contain_text("this host over the runs")
        expect(panel).to_contain_text("wasmedge 0.14.1, without LLVM")
        tab.screenshot(path=SHOTS / "host-desktop.png")
        panel.get_by_role("button", name="Next").click()
        expect(panel.locator("h2")).to_have_text("hall-025.example.com")
        tab.keyboard.press("Escape")
        expect(panel).to_be_hidden()
        # The page takes it away a moment after the panel has gone.
        expect(tab).not_to_have_url(re.compile("#host"))


def test_a_link_to_a_host_opens_it_on_a_phone(browser: Browser, pages: dict[int, Path]) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    with opened(context, pages[50], "#host=hall-012.example.com") as tab:
        expect(tab.locator("dialog h2")).to_have_text("hall-012.example.com")
        expect(tab.locator("dialog")).to_contain_text("likely cause: engine loads libLLVM (124 MiB")
        expect(tab.locator("dialog")).to_contain_text("set wasm_runtime_engine: lean")
        assert tab.evaluate("document.querySelector('dialog').scrollWidth") <= 390
        expect(tab.locator("dialog .plot svg").first).to_be_attached()
        tab.screenshot(path=SHOTS / "host-phone.png")


def test_hosts_are_found_sorted_and_chosen(browser: Browser, pages: dict[int, Path]) -> None:
    # Beside the busy hosts those whose ratio to native is too near to its limit to be judged.
    invalid = fleet(500, seed=20, days=7, drift=1.12).counts["invalid"]
    with opened(browser.new_context(), pages[500]) as tab:
        rows = tab.locator("#host-table tbody tr")
        expect(rows.first.locator(".badge")).to_have_text("unreachable")
        tab.locator("#verdicts button", has_text="invalid").click()
        expect(rows).to_have_count(invalid)
        expect(tab.locator("#found")).to_have_text(f"{invalid} of 500")
        tab.locator("#verdicts button", has_text="invalid").click()
        tab.locator("#find").fill("libllvm")
        expect(rows).to_have_count(21)
        tab.locator("#find").fill("")
        button = tab.locator("#host-table th button", has_text="cold_start_crun")
        button.click()
        figures = [float(text) for text in rows.locator("td:nth-child(5)").all_inner_texts()[:20]]
        assert figures == sorted(figures)
        button.click()
        figures = [float(text.split()[0]) for text in rows.locator("td:nth-child(5)").all_inner_texts()[:20]]
        assert figures == sorted(figures, reverse=True)


def test_the_theme_can_be_chosen(browser: Browser, pages: dict[int, Path]) -> None:
    with opened(browser.new_context(color_scheme="light"), pages[1]) as tab:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = tab.evaluate(ground)
        for name in ("light", "dark"):
            tab.locator("#theme").click()
            expect(tab.locator("#theme")).to_have_text(f"Theme: {name}")
        assert tab.evaluate(ground) != light


def test_without_javascript_the_hosts_and_their_reasons_are_there(browser: Browser, pages: dict[int, Path]) -> None:
    with opened(browser.new_context(java_script_enabled=False), pages[50]) as tab:
        expect(tab.locator("#host-table tbody tr")).to_have_count(50)
        expect(tab.locator("noscript p")).to_contain_text("The same figures are in")
        expect(tab.locator("#glance")).to_contain_text("engine loads libLLVM")


def test_nothing_that_a_host_sends_is_run(browser: Browser, tmp_path: Path) -> None:
    found = document("evil", dice(1))
    spoil(found, "nonce", "fail", EVIL, EVIL, what=EVIL)
    found["warnings"] = [EVIL]
    fleet_run = FleetRun(START, START, "smoke.yml", (HostResult("evil", found), HostResult(EVIL, reason=EVIL)))
    page = report.write_report(fleet_run, tmp_path).page
    with opened(browser.new_context(), page, "#host=evil") as tab:
        draw_all(tab)
        expect(tab.locator("dialog")).to_contain_text(EVIL)
        assert tab.locator("img").count() == 0


def test_a_run_in_which_nothing_could_be_tested_has_a_page(browser: Browser, tmp_path: Path) -> None:
    lost = tuple(HostResult(name, reason="timed out", unreachable=True) for name in ("a", "b"))
    page = report.write_report(FleetRun(START, START, "smoke.yml", lost), tmp_path).page
    with opened(browser.new_context(), page, "#host=a") as tab:
        expect(tab.locator("h2.headline")).to_have_text("None of 2 hosts could be tested.")
        expect(tab.locator("dialog")).to_contain_text("timed out")
        expect(tab.locator("#plots")).to_contain_text("Nothing was measured")


def ansible(playbook: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    return subprocess.run(
        [program, playbook, *words],
        cwd=CHECKOUT, env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def inventory(folder: Path) -> Path:
    """Two hosts that are this machine, of which one is asked for the impossible, and one that does not answer."""
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    away = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_become": False}
    hosts = {"here": here, "refused": {**here, "wasm_smoke_samples": 2}, "away": away}
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump({"edge": {"hosts": hosts}}))
    return path


def test_smoke_writes_the_page_also_of_hosts_that_could_not_be_tested(browser: Browser, tmp_path: Path) -> None:
    words = ("-i", str(inventory(tmp_path)), "-e", f"edgefleet_report_dir={tmp_path}", "-e", "wasm_smoke_runtime=/none")
    enabled = {"ANSIBLE_CALLBACKS_ENABLED": "edgefleet.wasm.fleet_report"}
    done = ansible("edgefleet.wasm.smoke", *words, **enabled)
    assert done.returncode != 0, "two hosts can't pass"
    assert f"fleet page {tmp_path}/fleet.html" in done.stdout
    (path,) = run.runs(tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(content, SCHEMA)
    found = {one["host"]: one for one in content["hosts"]}
    assert found["away"]["verdict"] == "unreachable"
    assert "Connection refused" in found["away"]["reason"]
    assert found["refused"]["verdict"] == "not_tested"
    assert "samples is 2, must be from 5 to 1000" in found["refused"]["reason"]
    if os.geteuid() == 0:
        assert (found["here"]["verdict"], found["here"]["passed"]) == ("fail", False)
    else:
        assert "needs root" in found["here"]["reason"]
    with opened(browser.new_context(), tmp_path / "fleet.html", "#host=away") as tab:
        expect(tab.locator("dialog")).to_contain_text("Connection refused")


def test_a_report_that_cant_be_written_ends_no_play(tmp_path: Path) -> None:
    words = ("-i", str(inventory(tmp_path)), "-e", f"edgefleet_report_dir={tmp_path}", "--limit", "away,localhost")
    enabled = {"ANSIBLE_CALLBACKS_ENABLED": "edgefleet.wasm.fleet_report", "EDGEFLEET_FLEET_REPORT_DIR": "/dev/null/x"}
    done = ansible("edgefleet.wasm.smoke", *words, **enabled)
    assert done.returncode == 4, "as without the callback: a host is unreachable"
    told = " ".join((done.stdout + done.stderr).split())
    assert told.count("fleet_report: no page of this run, which goes on: the report folder /dev/null/x") == 1
    assert "PLAY RECAP" in told


@pytest.mark.parametrize(
    ("slow", "fail_on", "code", "said"),
    [
        (1.0, "unproven", 0, "no difference"),
        (1.3, "none", 0, "slower"),
        (1.3, "slower", 2, "slower"),
    ],
)
def test_compare_fails_only_if_asked(tmp_path: Path, slow: float, fail_on: str, code: int, said: str) -> None:
    before = fleet(12, seed=1, trouble=False)
    after = copy.deepcopy(fleet(12, seed=2, days=1, drift=slow, trouble=False))
    names = [run.write(one, tmp_path).stem for one in (before, after)]
    words = ("-e", f"edgefleet_report_dir={tmp_path}", "-e", f"edgefleet_compare_fail_on={fail_on}")
    done = ansible("edgefleet.wasm.compare", *words)
    assert done.returncode == code, done.stdout
    told = " ".join(done.stdout.split())
    assert f"{names[1]} against {names[0]}: {said}" in told
    assert f"fleet: cold_start_crun wasm {said}" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "does not have a run: set edgefleet_report_dir"),
        (("-e", "edgefleet_compare_after=nothing"), "nothing.json (edgefleet_compare_after) does not exist"),
        (("-e", "edgefleet_compare_threshold=0"), "threshold is 0, must be from 1 to 100 percent"),
        (("-e", "edgefleet_compare_fail_on=often"), "value of fail_on must be one of: none, slower, unproven"),
    ],
)
def test_compare_names_what_is_wrong(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = ansible("edgefleet.wasm.compare", "-e", f"edgefleet_report_dir={tmp_path}", *words)
    assert done.returncode == 2
    assert said in " ".join(done.stdout.split()), done.stdout
