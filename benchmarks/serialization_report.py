"""What the figures of benchmarks/serialization.py say: tables, means and targets."""

from __future__ import annotations

import math
from pathlib import Path

from environment import write_between

BEGIN = "<!-- serialization:begin -->"
END = "<!-- serialization:end -->"
OURS = "pyray"
# Our second way in: compared with, in two targets, but never a peer.
DUMPS = "pyray dumps"
DIRECTIONS = ("serialize", "deserialize")


def counts(result: dict | None) -> bool:
    """Whether a peer brought the same object back, so that its figures mean something."""
    return bool(result) and "error" not in result and result["same"]


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def time_text(seconds: float) -> str:
    """Three significant digits in ms or µs."""
    unit, value = ("ms", seconds * 1e3) if seconds >= 1e-3 else ("µs", seconds * 1e6)
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def size_text(size: float) -> str:
    if size < 1000:
        return f"{size:.0f} B"
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB"


def speedups(results: dict, against: str, direction: str) -> dict[str, float]:
    """How many times faster we are, by row that both bring back."""
    found = {}
    for name, row in results["rows"].items():
        ours, theirs = row["peers"].get(OURS), row["peers"].get(against)
        if counts(ours) and counts(theirs):
            found[name] = theirs[direction] / ours[direction]
    return found


def fastest_peer(row: dict, direction: str) -> tuple[str, float] | None:
    """The fastest of the others that brings the same object back."""
    times = [
        (result[direction], name)
        for name, result in row["peers"].items()
        if name not in (OURS, DUMPS) and counts(result)
    ]
    return (min(times)[1], min(times)[0]) if times else None


class Targets:
    """The verdicts, in the order of the list of targets."""

    def __init__(self) -> None:
        self.verdicts: list[dict] = []

    def add(self, text: str, passed: bool | None, found: str) -> None:
        """``passed`` is None where the run did not measure it."""
        self.verdicts.append({"target": text, "passed": passed, "found": found})


def judge_means(results: dict, targets: Targets) -> None:
    for direction, wanted in (("serialize", 4), ("deserialize", 5)):
        values = speedups(results, "pickle", direction)
        mean = geometric_mean(list(values.values()))
        targets.add(
            f"{direction}: at least {wanted} times as fast as pickle 5, geometric mean",
            mean >= wanted if values else None,
            f"{mean:.2f} over {len(values)} rows",
        )
    slower = [
        f"{name} {direction} {ratio:.2f}"
        for direction in DIRECTIONS
        for name, ratio in speedups(results, "pickle", direction).items()
        if ratio < 1
    ]
    any_row = bool(speedups(results, "pickle", "serialize"))
    targets.add(
        "no row slower than pickle 5", not slower if any_row else None, "; ".join(slower) or "none"
    )


def judge_fastest(results: dict, targets: Targets) -> None:
    slower, measured = [], False
    for name, row in results["rows"].items():
        ours = row["peers"].get(OURS)
        for direction in DIRECTIONS:
            best = fastest_peer(row, direction)
            if not counts(ours) or best is None:
                continue
            measured = True
            if ours[direction] > best[1]:
                slower.append(f"{name} {direction} {best[1] / ours[direction]:.2f} of {best[0]}")
    targets.add(
        "every row, both ways, at least as fast as the fastest peer that brings it back",
        not slower if measured else None,
        "; ".join(slower) or "none slower",
    )


def judge_arrays(results: dict, targets: Targets) -> None:
    arrays = results.get("arrays")
    if not arrays or "error" in arrays:
        targets.add("arrays", None, (arrays or {}).get("error", "not measured"))
        return
    for direction in reversed(DIRECTIONS):
        seconds = arrays["seconds_per_array"][direction]
        without = " (without to_buffer)" if direction == "serialize" else ""
        targets.add(f"{direction} under 1 µs an array{without}", seconds < 1e-6, time_text(seconds))
    copy = arrays["copy_seconds"]
    targets.add(
        "to_buffer at 90 % of memcpy into touched memory",
        copy["memcpy"] / copy["to_buffer"] >= 0.9,
        f"{100 * copy['memcpy'] / copy['to_buffer']:.0f} %; "
        f"write_to, into touched memory: {100 * copy['memcpy'] / copy['write_to']:.0f} %",
    )
    items = arrays["view_item_seconds"]
    targets.add(
        'view(buf)["weight-42"] under 5 µs',
        max(items.values()) < 5e-6,
        "; ".join(f"{name}: {time_text(seconds)}" for name, seconds in items.items()),
    )


def judge_small(results: dict, targets: Targets) -> None:
    # dumps is the call that marshal.dumps is: one function, bytes out.
    def seconds(row: str, peer: str) -> dict | None:
        found = results["rows"].get(row, {}).get("peers", {}).get(peer)
        return found if counts(found) else None

    ours, marshal = seconds("mixed", DUMPS), seconds("mixed", "marshal")
    more = {d: ours[d] - marshal[d] for d in DIRECTIONS} if ours and marshal else {}
    targets.add(
        "five items without the array: at most 0.5 µs more than marshal (dumps, loads)",
        max(more.values()) <= 0.5e-6 if more else None,
        "; ".join(f"{d} {1e6 * more[d]:+.2f} µs" for d in more),
    )
    ours, whole = seconds("int", DUMPS), seconds("int", OURS)
    targets.add(
        "a bare int in 150 ns (dumps, loads)",
        max(ours[d] for d in DIRECTIONS) <= 150e-9 if ours else None,
        "; ".join(f"{d} {1e9 * ours[d]:.0f} ns" for d in DIRECTIONS if ours)
        + (f"; serialize(x).to_buffer() {1e9 * whole['serialize']:.0f} ns" if whole else ""),
    )


def judge_sizes(results: dict, targets: Targets) -> None:
    ratios = {}
    for name, row in results["rows"].items():
        ours, pickle = row["peers"].get(OURS), row["peers"].get("pickle")
        if counts(ours) and counts(pickle) and pickle["size"] > 1e6:
            ratios[name] = ours["size"] / pickle["size"]
    over = [f"{name} {ratio:.2f}" for name, ratio in ratios.items() if ratio > 1.3]
    worst = f"at most {max(ratios.values()):.2f}" if ratios else ""
    targets.add(
        "message at most 1.3 times pickle's, rows over 1 MB",
        not over if ratios else None,
        "; ".join(over) or worst,
    )


def judge(results: dict) -> list[dict]:
    targets = Targets()
    judge_means(results, targets)
    judge_fastest(results, targets)
    judge_arrays(results, targets)
    judge_small(results, targets)
    judge_sizes(results, targets)
    return targets.verdicts


def peers_of(results: dict) -> list[str]:
    return list(results["versions"])


def table(results: dict, cell) -> list[str]:
    """A markdown table with a line a row and a column a peer."""
    peers = peers_of(results)
    out = ["| object | " + " | ".join(peers) + " |", "| --- |" + " --- |" * len(peers)]
    for row in results["rows"].values():
        cells = [cell(row["peers"].get(peer)) for peer in peers]
        if any(text != "–" for text in cells):
            out.append(f"| {row['title']} | " + " | ".join(cells) + " |")
    return out


def times_cell(result: dict | None) -> str:
    if not counts(result):
        return "–"
    there, back = time_text(result["serialize"]), time_text(result["deserialize"])
    if there[-2:] == back[-2:]:
        there = there[:-3]
    return f"{there} / {back}"


def size_cell(result: dict | None) -> str:
    return size_text(result["size"]) if counts(result) else "–"


def peak_cell(result: dict | None) -> str:
    if not counts(result) or "serialize_peak" not in result:
        return "–"
    return " / ".join(size_text(result[d + "_peak"]) for d in DIRECTIONS)


def verdict_text(verdict: dict) -> str:
    return {True: "met", False: "MISSED", None: "not measured"}[verdict["passed"]]


def markdown(results: dict, verdicts: list[dict]) -> str:
    machine = results["machine"]
    versions = {
        name: " ".join(
            f"{k} {v}"
            for k, v in found.items()
            if k not in ("numpy", "pandas", "torch") and (k != "pyarrow" or "pyarrow" in name)
        )
        for name, found in results["versions"].items()
    }
    parts = [
        f"Measured {results['when'][:10]} on commit {results['commit']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, with `{results['command']}`: "
        f"median of {results['rounds']} rounds, garbage collector on.",
        "",
        "Time to serialize / deserialize. “–”: the peer cannot carry the object, "
        "or brings back other types or values.",
        "",
        *table(results, times_cell),
        "",
        "Size of the message.",
        "",
        *table(results, size_cell),
        "",
        "Peak of resident memory above the object, to serialize / above the message, "
        "to deserialize.",
        "",
        *table(results, peak_cell),
        "",
        "| target | | measured |",
        "| --- | --- | --- |",
        *(f"| {v['target']} | {verdict_text(v)} | {v['found']} |" for v in verdicts),
        "",
        "Versions: " + "; ".join(f"{name}: {text}" for name, text in versions.items()) + ".",
    ]
    return "\n".join(parts) + "\n"


def write_table(results: dict, path: Path) -> None:
    """Put the tables between the markers of a page, at its end if it has none."""
    write_between(path, BEGIN, END, markdown(results, results["targets"]))


def print_report(results: dict) -> list[dict]:
    """Print times and verdicts; the verdicts are what the JSON keeps."""
    peers = peers_of(results)
    width = 21
    print("serialize / deserialize".ljust(14) + "".join(peer.rjust(width) for peer in peers))
    for name, row in results["rows"].items():
        cells = (times_cell(row["peers"].get(peer)) for peer in peers)
        print(name.ljust(14) + "".join(cell.rjust(width) for cell in cells))
    for name, row in results["rows"].items():
        for peer, result in row["peers"].items():
            if "error" in result:
                print(f"{name}, {peer}: {result['error']}")
    print("\ntimes as fast as, geometric mean (serialize, deserialize)")
    for peer in peers:
        values = [list(speedups(results, peer, d).values()) for d in DIRECTIONS]
        if peer not in (OURS, DUMPS) and values[0]:
            means = ", ".join(f"{geometric_mean(v):.2f}" for v in values)
            print(f"  {peer.ljust(18)} {means} over {len(values[0])} rows")
    verdicts = judge(results)
    print("\ntargets")
    for verdict in verdicts:
        print(f"  {verdict_text(verdict).ljust(12)} {verdict['target']}: {verdict['found']}")
    return verdicts
