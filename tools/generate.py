"""Writes every generated file, or says which ones are old: `python -m tools.generate [--check]`.

To have another file generated, add its path and a function that renders its whole text to `outputs`.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from edgefleet_pulumi.model import ModelError
from tools import bench, hardening, industries, monitoring, policies
from tools.errors import GenerateError

ROOT = Path(__file__).resolve().parent.parent
# Renders a file's whole text. Given is what the file holds now, empty if it isn't there: for files that are written by
# hand except for a part between two marks (see `between_marks`).
Render = Callable[[str], str]


def outputs(root: Path = ROOT) -> dict[str, Render]:
    """Every generated file, relative to the root, and what renders it."""
    return {
        **bench.outputs(root),
        **hardening.outputs(root),
        **industries.outputs(root),
        **monitoring.outputs(root),
        **policies.outputs(root),
    }


def rendered(root: Path, files: Mapping[str, Render]) -> dict[Path, tuple[str, str]]:
    """Each file with its text as it is and as it should be. Nothing is written before all could be rendered."""
    texts = {}
    for name, render in files.items():
        path = root / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        texts[path] = (old, render(old))
    return texts


def write(path: Path, text: str) -> None:
    """Put a file in place whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def difference(root: Path, path: Path, old: str, new: str) -> str:
    """What would change in a file."""
    name = str(path.relative_to(root))
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), name, f"{name} (generated)"
    )
    return "".join(lines)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command; 1 if a file is old and only `--check` was asked for, 2 if a source is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description="Write every generated file.")
    parser.add_argument("--check", action="store_true", help="write nothing; print what is old and end with 1")
    check = parser.parse_args(arguments).check
    try:
        texts = rendered(root, outputs(root))
    except (ModelError, GenerateError) as error:
        print(error, file=sys.stderr)
        return 2
    old_ones = {path: (old, new) for path, (old, new) in texts.items() if old != new}
    for path, (old, new) in old_ones.items():
        if check:
            print(difference(root, path, old, new), end="")
        else:
            write(path, new)
            print(f"written {path.relative_to(root)}")
    if check and old_ones:
        print(f"{len(old_ones)} generated files are old: run `make generate`", file=sys.stderr)
    return int(check and bool(old_ones))


if __name__ == "__main__":
    sys.exit(main())
