"""Our lookup renders what ansible-core's does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.paths import CHECKOUT

TEXTS = {
    "plain": "a line\nanother\n",
    "variables": "{{ name }} is {{ derived }}\n",
    "loop": "{% for key, value in table | dictsort %}\n{{ key }}={{ value }}\n{% endfor %}\n",
    "a number": "0644",
    "what looks like a list": "[1, 2]",
    "nothing": "{% if false %}x{% endif %}",
    "no line end": "{{ name }}",
    "lines after a block": "{% if true %}\nx\n{% endif %}\n\ny\n",
}
VARIABLES = {"name": "edge1", "derived": "{{ name | upper }}", "table": {"b": 2, "a": "{{ derived }}"}}


def rendered(folder: Path, file: str) -> subprocess.CompletedProcess[str]:
    """Both lookups of one template, each in a file of JSON."""
    tasks = [
        {"ansible.builtin.copy": {"dest": f"{folder}/{name}.json", "content": "{{ [" + lookup + "] | to_json }}"}}
        for name, lookup in (
            ("theirs", f"lookup('ansible.builtin.template', '{file}') or ''"),
            ("ours", f"lookup('edgefleet.wasm.template', '{file}')"),
        )
    ]
    return played(folder, [{"hosts": "localhost", "gather_facts": False, "vars": VARIABLES, "tasks": tasks}])


def played(folder: Path, play: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    (folder / "play.yml").write_text(json.dumps(play))
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "localhost,",
            "-c",
            "local",
            f"{folder}/play.yml",
        ],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_renders_what_ansible_core_renders(tmp_path: Path, text: str) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "file.j2").write_text(text)
    run = rendered(tmp_path, "file.j2")
    assert run.returncode == 0, run.stdout
    theirs, ours = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("theirs", "ours"))
    assert ours == [str(theirs[0])]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    lookup = "{{ lookup('edgefleet.wasm.template', 'other.j2') }}"
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {"msg": lookup}}]}]
    run = played(tmp_path, play)
    assert run.returncode != 0
    assert "there is no template other.j2" in run.stdout
