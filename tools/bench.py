"""Results of `tests/bench` as tables and plots of docs/cold-start.md.

    python -m tools.bench RESULT...    # takes results of reports/bench over into docs/figures; then: make generate

The results are kept as they were measured; tables, verdicts and plots are made of them and of nothing else.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tools.errors import GenerateError
from tools.text import between_marks, markdown_table

ROOT = Path(__file__).resolve().parent.parent
DOC = "docs/cold-start.md"
FIGURES = "docs/figures"
SIDES = ("wasm lean", "wasm distro", "native crun", "native runc")
LEAN, NATIVE = "wasm lean", "native crun"
COLOURS = {"wasm lean": "#0b6e4f", "wasm distro": "#e07a1f", "native crun": "#3b5ba5", "native runc": "#8d99ae"}
WHOLE = "as in a pod"
LATENCIES = ("p50", "p99", "p999")
GENERATOR_LATE_MS = 10.0
# Text stays text, and no date and no random names get in: the same figures give the same file.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "edgefleet", "font.size": 9})

Render = Callable[[str], str]
Result = dict[str, Any]
# What is shown of the layers: layer and figure of the result, and the words for it.
LAYERS = (
    ("run", "run", "`crun run` (`runc run`): the OCI runtime alone, to the first output"),
    (
        "cri",
        "start_to_log",
        "CRI StartContainer to the first line in the log: shim, root file system, runtime, logging",
    ),
    ("cri", "create_to_log", "CRI CreateContainer to the same: and snapshot, spec, containerd's database"),
    ("sandbox", "sandbox_to_log", "CRI RunPodSandbox to the same: and shim and pause container"),
)
SHORT = ("runtime", "start → log", "create → log", "sandbox → log")
AT_ONCE_PLOT, LAYERS_PLOT = "docs/figures/concurrent-starts.svg", "docs/figures/cold-start.svg"
DENSITY_PLOT, HTTP_PLOT = "docs/figures/density.svg", "docs/figures/http-load.svg"
PARTS = {
    "program_pss": "the program's process",
    "shim_pss": "containerd's shim",
    "pause_pss": "pause",
    "kernel": "kernel",
    "all": "the whole pod",
    "in_4_gib": "pods in 4 GiB",
}


def outputs(root: Path = ROOT) -> dict[str, Render]:
    """Each file that is made of results, and what renders it."""
    return {
        DOC: lambda old: _document(root, old),
        LAYERS_PLOT: lambda _: _layers_plot(cold_starts(root)),
        AT_ONCE_PLOT: lambda _: _at_once_plot(result(root, "concurrent_starts")),
        DENSITY_PLOT: lambda _: _density_plot(result(root, "density")),
        HTTP_PLOT: lambda _: _http_plot(result(root, "http_load")),
    }


def result(root: Path, name: str) -> Result:
    """A result as it was taken over."""
    path = root / FIGURES / f"{name}.json"
    try:
        found: Result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GenerateError(f"{path}: {error}; run a bench and `python -m tools.bench` its result") from error
    return found


def cold_starts(root: Path) -> dict[str, Result]:
    """The result of each layer, which may come from a run of its own."""
    return {
        layer: result(root, f"cold_start_{layer}") for layer in (*dict.fromkeys(one[0] for one in LAYERS), "pieces")
    }


def _document(root: Path, old: str) -> str:
    cold = cold_starts(root)
    at_once, density, http = (result(root, name) for name in ("concurrent_starts", "density", "http_load"))
    parts = {
        "targets": _targets(cold, density),
        "layers": _layers(cold),
        "pieces": f"{_pieces(cold['pieces'])}\n{_taken(cold['pieces'])}",
        "concurrent": f"{_at_once(at_once)}\n{_taken(at_once)}",
        "density": f"{_density(density)}\n{_taken(density)}",
        "http": f"{_http(http)}\n{_taken(http)}",
    }
    for name, content in parts.items():
        old = between_marks(old, name, content, DOC)
    return old


def _taken(one: Result) -> str:
    """By what, when, where."""
    machine, host = one["machine"], one["host"]
    versions = "; ".join(line for line in host["versions"] if "=" not in line)
    return (
        f"`{one['command']}`, {one['date'][:16].replace('T', ' ')} UTC, commit {one['commit'][:12]}, "
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']:g} GiB, kernel {machine['kernel']}, "
        f"load {machine['load1']:g} at the end; lab host ({host['kind']}): {versions}."
    )


def _ms(one: Result) -> str:
    return f"{one['median']:.1f} ({one['p95']:.1f})"


def _layers(cold: dict[str, Result]) -> str:
    rows = []
    for layer, what, words in LAYERS:
        sides = cold[layer]["measured"][what]
        rows.append((words, *(_ms(sides[side]) for side in SIDES), f"{sides[LEAN]['ratio']:.2f}", sides[LEAN]["n"]))
    head = ("layer: median (p95) in ms", *SIDES, "lean / native crun", "n")
    runs = dict.fromkeys(_taken(cold[layer]) for layer, _, _ in LAYERS)
    return markdown_table(head, rows) + "".join(f"\n{run}\n" for run in runs)


def _pieces(one: Result) -> str:
    pieces = one["measured"]
    whole = pieces[WHOLE]
    rows = []
    for variant, sides in pieces.items():
        differences = [f"{sides[side]['median'] - whole[side]['median']:+.1f}" for side in (LEAN, NATIVE)]
        less = differences if variant != WHOLE else ["", ""]
        medians = [f"{sides[side]['median']:.1f}" for side in (LEAN, NATIVE)]
        rows.append((variant, medians[0], less[0], medians[1], less[1], f"{sides[LEAN]['ratio']:.2f}"))
    head = (f"`crun run`, median of {whole[LEAN]['n']}, ms", LEAN, "difference", NATIVE, "difference", "ratio")
    return markdown_table(head, rows)


def _at_once(one: Result) -> str:
    numbers = list(one["sides"][LEAN])
    rows = [
        (
            number,
            *(
                f"{_whole_ms(one['sides'][side][number]['each'])}; {one['sides'][side][number]['all']['median']:.0f}"
                for side in SIDES
            ),
        )
        for number in numbers
    ]
    return markdown_table(("at once", *(f"{side}: median (p95) of a start; all ended, ms" for side in SIDES)), rows)


def _whole_ms(one: Result) -> str:
    return f"{one['median']:.0f} ({one['p95']:.0f})"


def _density(one: Result) -> str:
    lean, native = (one["sides"][side]["per_pod"] for side in (LEAN, NATIVE))
    rows = [
        (words, f"{lean[key]:g}", f"{native[key]:g}", f"{one['ratio'].get(key, 0):.2f}") for key, words in PARTS.items()
    ]
    pods = one["sides"][LEAN]["steps"][-1]["pods"]
    return markdown_table((f"MiB of one pod among {pods}", LEAN, NATIVE, "ratio"), rows)


def _verdict(measured: float, limit: float) -> str:
    return "holds" if measured <= limit else "does not hold"


def _targets(cold: dict[str, Result], density: Result) -> str:
    """Each target with what was measured; without trust in the machine, its milliseconds are not judged."""
    run, cri = cold["run"]["measured"]["run"], cold["cri"]["measured"]["create_to_log"]
    milliseconds = _verdict(run[LEAN]["median"], 10)
    if not cold["run"]["trusted"]:
        milliseconds = f"not judged: the native control took {run[NATIVE]['median']:.1f} ms, trusted are 7"
    rows = [
        ("`crun run` to first output, lean", "10 ms", f"{run[LEAN]['median']:.1f} ms", milliseconds),
        *(
            (f"{words}, lean / native crun", f"{limit:g} times", f"{ratio:.2f} times", _verdict(ratio, limit))
            for words, limit, ratio in (
                ("`crun run` to first output", 1.6, run[LEAN]["ratio"]),
                ("CRI create to first log", 1.3, cri[LEAN]["ratio"]),
                ("memory of an idle pod, all of it", 2.0, density["ratio"]["all"]),
                ("memory of the program's process in it", 2.0, density["ratio"]["program_pss"]),
            )
        ),
    ]
    return markdown_table(("target", "limit", "measured", "verdict"), rows)


def _http(one: Result) -> str:
    rows = [
        (side, f"{step['qps']:g}", f"{step['achieved_qps']:.0f}", *(f"{step[at]:.2f}" for at in LATENCIES), _knee(step))
        for side, steps in one["sides"].items()
        for step in steps
    ]
    return markdown_table(("side", "due a second", "answered a second", "P50 ms", "P99", "P999", "keeps up"), rows)


def _knee(step: Result) -> str:
    """What is slow because its sender was late says nothing of the service."""
    if step["lag_p99"] > GENERATOR_LATE_MS:
        return f"not judged: the generator itself was {step['lag_p99']:.0f} ms late (P99)"
    return "no" if step["past_knee"] else "yes"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    # Its lines end in blanks.
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def _layers_plot(cold: dict[str, Result]) -> str:
    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    width = 0.2
    for place, side in enumerate(SIDES):
        found = [cold[layer]["measured"][what][side] for layer, what, _ in LAYERS]
        at = [index + (place - 1.5) * width for index in range(len(found))]
        medians = [one["median"] for one in found]
        above = [one["p95"] - one["median"] for one in found]
        axes.bar(
            at, medians, width, yerr=[[0] * len(found), above], label=side, color=COLOURS[side], error_kw={"lw": 0.8}
        )
    axes.set_xticks(range(len(LAYERS)), SHORT)
    axes.set_ylabel("ms, median and p95")
    axes.set_yscale("log")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, ncols=2, loc="upper left")
    return _svg(figure)


def _at_once_plot(one: Result) -> str:
    return _lines_plot(
        {side: [(int(number), batch["each"]["p95"]) for number, batch in one["sides"][side].items()] for side in SIDES},
        ("starts at once", "ms to first output, p95"),
        log=True,
    )


def _density_plot(one: Result) -> str:
    parts = ("program_pss", "pause_pss", "shim_pss", "kernel")
    return _lines_plot(
        {
            side: [(step["pods"], sum(step[part] for part in parts)) for step in one["sides"][side]["steps"]]
            for side in (LEAN, NATIVE)
        },
        ("idle pods", "MiB of all"),
    )


def _http_plot(one: Result) -> str:
    return _lines_plot(
        {side: [(step["qps"], step["p99"]) for step in steps] for side, steps in one["sides"].items()},
        ("requests due a second", "P99 in ms, from when due"),
        log=True,
    )


def _lines_plot(lines: dict[str, Sequence[tuple[float, float]]], labels: tuple[str, str], *, log: bool = False) -> str:
    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=name, color=COLOURS[name])
    if log:
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = sorted({point[0] for points in lines.values() for point in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    return _svg(figure)


def main(arguments: Sequence[str]) -> int:
    """Take results over."""
    for name in arguments:
        for stem, taken in parts_of(json.loads(Path(name).read_text(encoding="utf-8"))).items():
            path = ROOT / FIGURES / f"{stem}.json"
            path.write_text(json.dumps(taken, separators=(",", ":")) + "\n", encoding="utf-8")
            print(f"written {path.relative_to(ROOT)}")
    return 0


def parts_of(taken: Result) -> dict[str, Result]:
    """A result by the names of its files: of cold starts one a layer, so that each may be measured anew by itself."""
    if "layers" not in taken:
        return {taken["bench"]: taken}
    layers = taken.pop("layers")
    return {f"{taken['bench']}_{layer}": {**taken, "measured": measured} for layer, measured in layers.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
