"""The same `crun run`, timed by the smoke test's own stopwatch and by hyperfine, in turn."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.containers import Containers, workspace
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.identity import cgroup_manager, runtime
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command

from tests.bench.onhost.sides import BenchError

ROUNDS = 5
CONTAINER = "edgefleet-smoke-agree"


def by_both(module: bytes, hyperfine: str, count: int) -> dict[str, list[float]]:
    """Milliseconds from the start of `crun run` to its end, ``count`` by each, in five rounds A B.

    ``hyperfine`` is where the program is. ``first_output`` is what the smoke test reports, of the same starts.
    """
    each = count // ROUNDS
    found: dict[str, list[float]] = {"smoke": [], "hyperfine": [], "first_output": []}
    with workspace(run_command, runtime()) as folder, tempfile.NamedTemporaryFile(suffix=".json") as report:
        manager = cgroup_manager("auto")
        containers = Containers(run_command, runtime(), manager, folder, 60)
        bundle = containers.bundle("agree", module)
        # The first run writes the container's configuration, and warms what can be warm.
        if containers.start(bundle, ["ready"]).ended.rc != 0:
            raise BenchError("the compiled probe does not run on this host")
        command = [runtime(), "--root", str(folder / "state"), f"--cgroup-manager={manager}", "run"]
        command += ["--bundle", str(bundle.folder), CONTAINER]
        for _ in range(ROUNDS):
            for _ in range(each):
                ended = run_command(command, timeout=60)
                if ended.rc != 0 or ended.first_output is None:
                    raise BenchError(f"`crun run` failed: {ended.complaint}")
                found["smoke"].append(1000 * ended.seconds)
                found["first_output"].append(1000 * ended.first_output)
            words = [hyperfine, "--shell=none", f"--runs={each}", "--style=none", f"--export-json={report.name}"]
            subprocess.run([*words, " ".join(command)], check=True, capture_output=True, timeout=600)
            times = json.loads(Path(report.name).read_text())["results"][0]["times"]
            found["hyperfine"] += [1000 * seconds for seconds in times]
    return {name: [round(value, 3) for value in values] for name, values in found.items()}
