"""Bar plots from the JSON of benchmarks/serialization.py.

    python benchmarks/plot.py results.json --output docs/images/serialization.png

draws the speed; beside it, with ``-size`` in its name, message sizes and memory peaks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator
from serialization_report import DUMPS, counts

# Fixed, so that a peer keeps its colour when others are missing. All are told apart
# by readers with colour blindness; ours is the dark one.
COLOURS = {
    "pyray": "#1b1b1b",
    "pickle": "#e69f00",
    "cloudpickle": "#f0e442",
    "marshal": "#56b4e9",
    "pyfory": "#009e73",
    "pyfory (no refs)": "#7fcfb9",
    "ormsgpack": "#0072b2",
    "msgspec": "#b0b0b0",
    "pyarrow 11": "#cc79a7",
}


def draw(axes, results: dict, quantity: str, title: str, speed: bool) -> None:
    """Bars by row and peer, relative to pickle (cloudpickle where pickle cannot)."""
    peers = [peer for peer in results["versions"] if peer not in (DUMPS, "pickle")]
    rows: list[dict[str, float]] = []
    for row in results["rows"].values():
        found = {
            peer: result[quantity]
            for peer, result in row["peers"].items()
            if counts(result) and result.get(quantity)
        }
        base = found.get("pickle") or found.get("cloudpickle")
        rows.append({p: base / v if speed else v / base for p, v in found.items() if base})
    height = 0.84 / max(1, len(peers))
    for number, peer in enumerate(peers):
        places = [place for place, row in enumerate(rows) if peer in row]
        axes.barh(
            [place + (number - (len(peers) - 1) / 2) * height for place in places],
            # Bars start at 1: to the right is better than pickle, to the left worse.
            [rows[place][peer] - 1 for place in places],
            height,
            left=1,
            color=COLOURS.get(peer, "#888888"),
            label=peer,
        )
    axes.axvline(1, color=COLOURS["pickle"], linewidth=1.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    if axes.get_xlim()[1] / axes.get_xlim()[0] < 100:  # less than two decades: label more
        axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.xaxis.set_minor_formatter("{x:g}")
    titles = [row["title"] for row in results["rows"].values()]
    axes.set_yticks(range(len(rows)), titles, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def figure(results: dict, panels: list[tuple[str, str]], speed: bool, path: Path) -> None:
    count = max(1, len(results["rows"]))
    made, axes = plt.subplots(
        1, len(panels), figsize=(5 + 4 * len(panels), 1.8 + 0.5 * count), squeeze=False
    )
    for number, (ax, (quantity, title)) in enumerate(zip(axes[0], panels, strict=True)):
        draw(ax, results, quantity, title, speed)
        if number:
            ax.tick_params(labelleft=False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    machine = results["machine"]
    made.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=8, frameon=False)
    made.suptitle(
        f"{machine['cpu']}, {machine['cores']} cores; commit {results['commit']}, "
        f"{results['when'][:10]}. A bar is left out where the object does not come back the same.",
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
    speed = [
        ("serialize", "serialize: times as fast as pickle"),
        ("deserialize", "deserialize: times as fast as pickle"),
    ]
    figure(results, speed, True, arguments.output)
    size = [
        ("size", "message, pickle = 1"),
        ("serialize_peak", "memory peak to serialize, pickle = 1"),
        ("deserialize_peak", "memory peak to deserialize, pickle = 1"),
    ]
    other = arguments.output.with_name(arguments.output.stem + "-size" + arguments.output.suffix)
    figure(results, size, False, other)


if __name__ == "__main__":
    main()
