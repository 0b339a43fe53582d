# SPDX-License-Identifier: Apache-2.0
"""Both files of a fleet's run: the JSON, then the page, which may take up the runs before it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.files import write_atomically
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet import reading, run, view
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.run import FleetError, FleetRun
from ansible_collections.edgefleet.wasm.plugins.plugin_utils.fleet.view import Past
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

PAGE = "fleet.html"
# The trend reaches so many runs back.
PAST_RUNS = 20

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "page.js")


@dataclass(frozen=True)
class Written:
    """Where both files are, and which earlier runs could not be read."""

    data: Path
    page: Path
    problems: tuple[str, ...]


def write_report(fleet: FleetRun, folder: Path) -> Written:
    """Write a run and its page into a report folder. The JSON comes first: it is what can't be made again."""
    data = run.write(fleet, folder)
    past, problems = read_past(folder, data.stem)
    page = folder / PAGE
    try:
        write_atomically(page, page_of(fleet, data.relative_to(folder).as_posix(), past))
    except OSError as error:
        raise FleetError(f"{page} can't be written: {error}") from error
    return Written(data, page, tuple(problems))


def read_past(folder: Path, name: str) -> tuple[list[Past], list[str]]:
    """The runs before the one of that name, the oldest first, and what could not be read of them."""
    past, problems = [], []
    for path in run.earlier(folder, name, PAST_RUNS):
        try:
            past.append(Past.of(path.stem, run.read(path)))
        except FleetError as error:
            problems.append(f"not in the trend: {error}")
    return past, problems


def page_of(fleet: FleetRun, data_file: str, past: Sequence[Past]) -> str:
    """The page: one file that loads nothing, whatever stands in the documents of the hosts."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [(_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    # "<" is written so that no text of a host can end the element.
    data = json.dumps(view.packed(fleet, past), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("page.html.j2").render(
        run=fleet,
        data_file=data_file,
        headline=view.headline(fleet),
        layers=view.layers(fleet),
        problems=view.problems(fleet),
        worst=view.worst(fleet),
        most_worst=view.WORST,
        tested=view.tested(fleet),
        warnings=view.warnings(fleet),
        past=past,
        reading=reading,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own files
        script_hashes=[_source_hash(script) for script in scripts],
        data=Markup(data),  # noqa: S704 - "<" is escaped above
    )


def _source_hash(script: str) -> str:
    """As a Content-Security-Policy names a script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
