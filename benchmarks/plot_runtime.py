"""Plots from the JSON of benchmarks/runtime.py.

    python benchmarks/plot_runtime.py results.json --output docs/images/runtime.png

draws how many times as good as Ray each is, row by row; beside it, with ``-growth`` in its
name, how tasks a second and the time of a task change with workers, queue, dependencies and
arguments.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from runtime_report import ratio, value_of
from runtime_rows import CURVES, NO_SPIN, OURS, PEERS, POOL, PROCESSES, RAY, ROWS

# Fixed, so that a peer keeps its colour when others are missing. All are told apart by
# readers with colour blindness; ours are the dark ones.
COLOURS = {
    OURS: "#1b1b1b",
    NO_SPIN: "#8a8a8a",
    RAY: "#e69f00",
    PROCESSES: "#56b4e9",
    POOL: "#0072b2",
    "loky": "#009e73",
    "dask": "#cc79a7",
}
MARKERS = {OURS: "o", NO_SPIN: "o", RAY: "s", PROCESSES: "^", POOL: "v", "loky": "D", "dask": "P"}


def plain(value: float, _: object = None) -> str:
    return f"{value:,g}" if value < 1e6 else f"{value / 1e6:,g}M"


def bytes_text(value: float, _: object = None) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:g} {unit}"
        value /= 1000
    return f"{value:g} GB"


def relative(results: dict, name: str, base: str) -> dict[str, float]:
    """How many times as good as the base each peer is in one row."""
    theirs = value_of(results, name, base)
    found = {}
    for peer in results["peers"]:
        own = value_of(results, name, peer)
        if theirs and own:
            found[peer] = ratio(ROWS[name], own, theirs)
    return found


def bars(results: dict, path: Path) -> None:
    base = RAY if RAY in results["peers"] else OURS
    rows = {n: found for n in results["rows"] if len(found := relative(results, n, base)) > 1}
    peers = [peer for peer in results["peers"] if peer != base]
    height = 0.84 / max(1, len(peers))
    made, axes = plt.subplots(figsize=(11, 1.8 + 0.5 * max(1, len(rows))))
    for number, peer in enumerate(peers):
        places = [place for place, found in enumerate(rows.values()) if peer in found]
        values = [found[peer] for found in rows.values() if peer in found]
        axes.barh(
            [place + (number - (len(peers) - 1) / 2) * height for place in places],
            # Bars start at 1: to the right is better than the base, to the left worse.
            [value - 1 for value in values],
            height,
            left=1,
            color=COLOURS[peer],
            label=PEERS[peer].title,
        )
    axes.axvline(1, color=COLOURS[base], linewidth=1.5, label=PEERS[base].title)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_minor_formatter(NullFormatter())
    titles = [ROWS[name].title.replace("`", "").replace(", whole", ",\nwhole") for name in rows]
    axes.set_yticks(range(len(rows)), titles, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(f"times as good as {PEERS[base].title}", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    finish(made, [axes], results, path)


def curves(results: dict, path: Path) -> None:
    """For each curve tasks a second above, microseconds of a task below."""
    drawn = [name for name in CURVES if name in results["curves"]]
    made, axes = plt.subplots(2, len(drawn), figsize=(1 + 4 * len(drawn), 7.5), squeeze=False)
    for column, name in enumerate(drawn):
        curve, taken = CURVES[name], results["curves"][name]["peers"]
        for ax, key, label in (
            (axes[0][column], "value", "calls/s"),
            (axes[1][column], "us", "µs a call"),
        ):
            for peer in (peer for peer in results["peers"] if peer in taken):
                points = taken[peer].get("points", [])
                ax.plot(
                    [point["x"] for point in points],
                    [point[key] for point in points],
                    color=COLOURS[peer],
                    marker=MARKERS[peer],
                    markersize=4,
                    linewidth=2 if peer == OURS else 1.2,
                    label=PEERS[peer].title,
                )
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(FuncFormatter(plain))
            if curve.axis_unit == "B":
                ax.set_xscale("symlog", linthresh=100)
                ax.xaxis.set_major_formatter(FuncFormatter(bytes_text))
                ax.set_xlim(left=0)
            else:
                ax.set_xscale("log", base=2 if name == "by-workers" else 10)
                ax.xaxis.set_major_formatter(FuncFormatter(plain))
                ax.xaxis.set_major_locator(
                    LogLocator(base=2 if name == "by-workers" else 10, numticks=10)
                )
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel(curve.axis, fontsize=8)
            ax.tick_params(labelsize=7)
            ax.grid(alpha=0.3)
            if column == 0:
                ax.set_ylabel(label, fontsize=8)
        axes[0][column].set_title(f"{curve.title}: a call is {curve.calls}", fontsize=8)
    finish(made, axes.flat, results, path)


def finish(made, axes, results: dict, path: Path) -> None:
    entries: dict = {}
    for ax in axes:
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    made.legend(
        entries.values(),
        entries.keys(),
        loc="lower center",
        ncols=max(1, len(entries)),
        fontsize=8,
        frameon=False,
    )
    machine = results["machine"]
    made.suptitle(
        f"{machine['cpu']}, {machine['cores']} cores; commit {results['commit']}, "
        f"{results['when'][:10]}",
        fontsize=8,
    )
    made.tight_layout(rect=(0, 0.4 / made.get_figheight(), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=110)
    print(f"{path} written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    if results["rows"]:
        bars(results, arguments.output)
    if results["curves"]:
        growth = arguments.output.stem + "-growth" + arguments.output.suffix
        curves(results, arguments.output.with_name(growth))


if __name__ == "__main__":
    main()
