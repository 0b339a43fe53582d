"""What a smoke test of a fleet costs the controller, by the number of hosts, and how that grows.

    python -m tests.bench.fleet_report [--hosts 1 10 100] [--runs 3] [--samples 20] [--no-play] [--no-browser]

Three figures for each number of hosts: CPU seconds of the page (results to JSON and page, with 5 runs before it to take
up), CPU seconds of all of ``edgefleet.wasm.smoke`` (ansible-playbook and its children, with the callback), and
milliseconds until the page has loaded in Chromium. The play's hosts are simulated: this machine by a local connection,
told to use a runtime that is not there, so that a host's own half ends at once. It is in the figure all the same. The
slope is that of the least squares line through the logarithms: 1 is proportional to the number of hosts.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import report, run
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from tests.bench.record import ROOT, save, summary
from tests.fleets import fleet

PAST = 5
PLAY_SECONDS = 3600


def slope(figures: Mapping[int, float]) -> float:
    """Of the least squares line through the logarithms of hosts and figure."""
    hosts, values = [math.log(count) for count in figures], [math.log(value) for value in figures.values()]
    return statistics.linear_regression(hosts, values).slope


def page_seconds(count: int, runs: int, samples: int, folder: Path) -> list[float]:
    """CPU seconds from the results to both files, each time with the same runs before it."""
    for day in range(PAST):
        run.write(fleet(count, seed=day + 2, days=day, samples=samples), folder)
    found = []
    for _ in range(runs):
        whole = fleet(count, seed=20, days=9, samples=samples)
        began = time.process_time()
        written = report.write_report(whole, folder)
        found.append(time.process_time() - began)
        written.data.unlink()
    return found


def play_seconds(count: int, folder: Path) -> float:
    """CPU seconds of ansible-playbook and all that it started."""
    here = {
        "ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable,
        "wasm_smoke_runtime": "/nonexistent", "wasm_smoke_fail_on": "none", "edgefleet_report_dir": str(folder),
    }  # fmt: skip
    hosts = {f"host{index}": None for index in range(count)}
    (folder / "inventory.yml").write_text(yaml.safe_dump({"edge": {"hosts": hosts, "vars": here}}))
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [program, "-i", str(folder / "inventory.yml"), "edgefleet.wasm.smoke"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=PLAY_SECONDS,
        env={**os.environ, "ANSIBLE_CALLBACKS_ENABLED": "edgefleet.wasm.fleet_report"},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0 or not (folder / report.PAGE).exists():
        sys.exit(f"fleet_report: the play ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def load_milliseconds(page: Path, runs: int) -> list[float]:
    """Until the browser says that the page has loaded, in a fresh browser each time."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("fleet_report: no chromium on this machine; install it, or leave this out with --no-browser.")
    found = []
    with sync_playwright() as driver:
        for _ in range(runs):
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            tab = browser.new_page()
            tab.goto(page.as_uri())
            found.append(float(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")))
            browser.close()
    return found


def measure(count: int, arguments: argparse.Namespace) -> dict[str, Sequence[float]]:
    with tempfile.TemporaryDirectory(prefix="edgefleet-fleet.") as name:
        folder = Path(name)
        found: dict[str, Sequence[float]] = {
            "page_cpu_s": page_seconds(count, arguments.runs, arguments.samples, folder)
        }
        if arguments.browser:
            found["load_ms"] = load_milliseconds(folder / report.PAGE, arguments.runs)
        found["page_mb"] = [(folder / report.PAGE).stat().st_size / 1e6]
        if arguments.play:
            found["play_cpu_s"] = [play_seconds(count, folder)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--runs", type=int, default=3, choices=range(1, 101), metavar="1..100")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--no-play", dest="play", action="store_false")
    parser.add_argument("--no-browser", dest="browser", action="store_false")
    arguments = parser.parse_args()
    found = {}
    for count in arguments.hosts:
        found[count] = measure(count, arguments)
        print(f"{count} hosts: {found[count]}", file=sys.stderr, flush=True)
    columns = list(found[arguments.hosts[0]])
    slopes = {
        name: slope({count: statistics.median(figures[name]) for count, figures in found.items()})
        for name in columns
        if name.endswith("cpu_s") and len(found) > 1
    }
    figures = {str(count): {name: summary(values) for name, values in one.items()} for count, one in found.items()}
    path = save("fleet_report", {"samples": arguments.samples, "hosts": figures, "slope": slopes})
    table = Table("hosts", *columns, title="median")
    for count, one in figures.items():
        table.add_row(count, *(f"{one[name]['median']:.3g}" for name in columns))
    table.add_row("slope", *(f"{slopes[name]:.2f}" if name in slopes else "" for name in columns))
    Console().print(table)
    print(path)


if __name__ == "__main__":
    main()
