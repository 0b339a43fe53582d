"""Runs on the host that is measured, with nothing but its Python: one JSON document on standard output.

python3 bench.pyz '{"what": "run", "count": 100}'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.grpc import GrpcError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import SmokeError

from tests.bench.onhost import agree, cold, cycles, idle, many, pieces, ramp, sides
from tests.bench.onhost.sides import BenchError

CTR = ["/usr/local/bin/ctr", "--namespace", "k8s.io", "images"]


def asked() -> dict[str, Any]:
    """What is to be done, of the program's one argument."""
    return dict(json.loads(sys.argv[1]))


def data(name: str) -> bytes:
    """A file that came with this program."""
    with zipfile.ZipFile(sys.argv[0]) as archive:
        return archive.read(f"data/{name}")


def import_images() -> dict[str, str]:
    """The images that came with this program, in containerd; their names by what they are for."""
    names: dict[str, str] = json.loads(data("images.json"))
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        archive.write(data("images.tar"))
        archive.flush()
        subprocess.run([*CTR, "import", archive.name], check=True, capture_output=True, timeout=120)
    return names


MEASURES: Mapping[str, Callable[[dict[str, Any], Path], Any]] = {
    "run": lambda asked, _: cold.by_runtime(data("echo.wasm"), asked["count"]),
    "cri": lambda asked, logs: cold.by_cri(import_images(), asked["count"], logs),
    "sandbox": lambda asked, logs: cold.by_sandbox(import_images(), asked["count"], logs),
    "pieces": lambda asked, logs: pieces.by_piece(import_images(), data("echo.wasm"), asked["count"], logs),
    "many": lambda asked, _: many.by_number(data("echo.wasm"), asked["numbers"], asked["count"]),
    "idle": lambda asked, logs: idle.by_number(import_images(), asked["numbers"], logs),
    "ramp": lambda asked, logs: ramp.by_rate(
        import_images(), Path(asked["program"]), asked["numbers"], asked["seconds"], logs
    ),
    "cycles": lambda asked, logs: cycles.leaks(import_images(), asked["count"], logs),
}


def main() -> None:
    wanted = asked()
    # A hardened host's root has a narrower one, and the programs in the root file systems run as nobody.
    os.umask(0o022)
    try:
        if wanted["what"] == "dropin":
            found: Any = sides.dropin(wanted["systemd"])
        elif wanted["what"] == "agree":
            found = agree.by_both(data("echo.wasm"), wanted["hyperfine"], wanted["count"])
        else:
            sides.check()
            with tempfile.TemporaryDirectory(prefix="edgefleet-bench.") as logs:
                found = MEASURES[wanted["what"]](wanted, Path(logs))
    except (BenchError, GrpcError, SmokeError, OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        sys.exit(f"bench on this host: {error} {said.decode(errors='replace').strip()}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
