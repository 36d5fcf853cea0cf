"""What the figures of benchmarks/runtime.py say: tables, ratios and targets."""

from __future__ import annotations

from pathlib import Path

from environment import write_between
from runtime_rows import (
    CURVES,
    MEGABYTES,
    NO_SPIN,
    OURS,
    PEERS,
    PER_SECOND,
    PERCENT,
    RATES,
    ROWS,
    SECONDS,
    Row,
    Target,
)

BEGIN = "<!-- runtime:begin -->"
END = "<!-- runtime:end -->"
HEADING = """## Runtime

`benchmarks/runtime.py`: tasks and objects, by the workloads and names of `ray microbenchmark`,
through pyray and Ray (the same code for both), and what of it there is in
`ProcessPoolExecutor`, `multiprocessing.Pool`, loky and dask.distributed. All have a process a
core, and BLAS one thread. Each row and peer is a process with a session of its own, the peers
of a row one after the other.

![Speed relative to Ray](images/runtime.png)

![How it grows](images/runtime-growth.png)

"""


def number_text(value: float) -> str:
    """Three significant digits, thousands with commas."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def value_text(value: float, unit: str) -> str:
    if unit == SECONDS and value < 1:
        return f"{number_text(1000 * value)} ms"
    if unit == PERCENT:
        return f"{value:.2f} %"
    return number_text(value) + (unit if unit == PER_SECOND else f" {unit}")


def ratio(row: Row, ours: float, theirs: float) -> float:
    """How many times better ours is."""
    if row.unit in RATES:
        return ours / theirs if theirs else float("inf")
    return theirs / ours if ours else float("inf")


def value_of(results: dict, name: str, peer: str) -> float | None:
    found = results["rows"].get(name, {}).get("peers", {}).get(peer, {})
    return None if "error" in found else found.get("value")


def cell(results: dict, name: str, peer: str) -> str:
    """A figure, and how many times better we are."""
    found = results["rows"][name]["peers"].get(peer)
    if found is None:
        return "–"
    if "error" in found:
        return "failed"
    row = ROWS[name]
    text = value_text(found["value"], row.unit)
    ours = value_of(results, name, OURS)
    if ours is not None and peer not in (OURS, NO_SPIN):
        text += f" ({number_text(ratio(row, ours, found['value']))}×)"
    if "of_limit" in found:
        text += f", {100 * found['of_limit']:.0f} % of the limit"
    for calls in ("tasks", "calls"):
        most = results["rows"][name]["peers"].get(OURS, {}).get(calls)
        if most is not None and found.get(calls, most) < most:
            text += f", of {found[calls]:,}"
    return text


def limit_cell(results: dict, name: str) -> str:
    """What was measured beside a row: in our process, if we had the row, as each has its own."""
    row, peers = ROWS[name], results["rows"][name]["peers"]
    limits = [peers[peer]["limit"] for peer in [OURS, *peers] if "limit" in peers.get(peer, {})]
    return f"{value_text(limits[0], row.unit)}: {row.limit}" if limits else "–"


# Targets


def wanted_text(row: Row, target: Target) -> str:
    number = f"{target.number:,.10g}"
    subject = "" if target.subject == OURS else f", {PEERS[target.subject].title}"
    if target.kind == "times":
        more = "times as fast as" if row.unit != MEGABYTES else "times less than"
        return f"{number} {more} {PEERS[target.peer].title}{subject}"
    if target.kind == "of_limit":
        return f"{100 * target.number:.0f} % of {row.limit}"
    if target.kind == "over":
        return f"at most {number} times {row.limit}"
    if target.kind == "at_least":
        return f"at least {number}{row.unit if row.unit == PER_SECOND else ' ' + row.unit}"
    return f"at most {value_text(target.number, row.unit)}"


def judge_one(results: dict, name: str, target: Target) -> tuple[bool | None, str]:
    row = ROWS[name]
    peers = results["rows"][name]["peers"]
    ours = peers.get(target.subject)
    if ours is None:
        return None, ""
    if "error" in ours:
        return False, "failed"
    if target.kind == "times":
        theirs = peers.get(target.peer)
        if theirs is None:
            return None, value_text(ours["value"], row.unit)
        if "error" in theirs:
            return None, f"{PEERS[target.peer].title} failed"
        times = ratio(row, ours["value"], theirs["value"])
        return times >= target.number, f"{number_text(times)}×"
    if target.kind in ("of_limit", "over"):
        if "of_limit" not in ours:
            return None, ""
        share = ours["of_limit"]
        if target.kind == "of_limit":
            return share >= target.number, f"{100 * share:.0f} %"
        return share <= target.number, f"{share:.3f} times"
    text = value_text(ours["value"], row.unit)
    if target.kind == "at_least":
        return ours["value"] >= target.number, text
    return ours["value"] <= target.number, text


def judge(results: dict) -> list[dict]:
    verdicts = []
    for name, row in ROWS.items():
        if name not in results["rows"]:
            continue
        for target in row.targets:
            passed, found = judge_one(results, name, target)
            verdicts.append(
                {
                    "row": name,
                    "target": f"{row.title}: {wanted_text(row, target)}",
                    "passed": passed,
                    "found": found,
                }
            )
    return verdicts


def verdict_text(verdict: dict) -> str:
    return {True: "met", False: "MISSED", None: "not measured"}[verdict["passed"]]


# Tables


def peers_of(results: dict) -> list[str]:
    return list(results["peers"])


def row_tables(results: dict) -> list[str]:
    """A table a section, a line a row, a column a peer."""
    peers = peers_of(results)
    lines: list[str] = []
    for section in dict.fromkeys(row.section for row in ROWS.values()):
        names = [n for n, row in ROWS.items() if row.section == section and n in results["rows"]]
        if not names:
            continue
        lines += ["", f"### {section}", ""]
        limits = any(limit_cell(results, name) != "–" for name in names)
        titles = [PEERS[peer].title for peer in peers] + ["limit"] * limits
        lines += ["| workload | " + " | ".join(titles) + " |"]
        lines += ["| --- |" + " --- |" * len(titles)]
        for name in names:
            cells = [cell(results, name, peer) for peer in peers]
            cells += [limit_cell(results, name)] * limits
            lines.append(f"| {ROWS[name].title} | " + " | ".join(cells) + " |")
    return lines


def curve_tables(results: dict) -> list[str]:
    """A table a curve: µs of a call at each place."""
    lines: list[str] = []
    for name, curve in CURVES.items():
        taken = results["curves"].get(name, {}).get("peers", {})
        places = sorted({point["x"] for one in taken.values() for point in one.get("points", [])})
        if not places:
            continue
        lines += ["", f"{curve.title}: µs of {curve.calls}, against {curve.axis}.", ""]
        lines += [f"| | {' | '.join(f'{place:,}' for place in places)} |"]
        lines += ["| --- |" + " --- |" * len(places)]
        for peer, one in taken.items():
            at = {point["x"]: number_text(point["us"]) for point in one.get("points", [])}
            cells = " | ".join(at.get(place, "–") for place in places)
            lines.append(f"| {PEERS[peer].title} | {cells} |")
    if lines:
        lines[:0] = ["", "### Growth"]
    return lines


def failures(results: dict) -> list[str]:
    """What failed, why, and what was left out of a curve or left behind by a session."""
    lines = []
    for kind in ("rows", "curves"):
        for name, row in results[kind].items():
            for peer, found in row["peers"].items():
                where = f"{name}, {PEERS[peer].title}"
                if "error" in found:
                    lines.append(f"{where}: {found['error']}")
                if "stopped" in found:
                    stop = found["stopped"]
                    lines.append(
                        f"{where}: not beyond {found['points'][-1]['x']:,}, as {stop['x']:,} "
                        f"would have taken some {stop['expected_seconds']:.0f} s"
                    )
                if "left_behind" in found and "error" not in found:
                    left = dict.fromkeys(found["left_behind"])
                    lines.append(f"{where}: had to be ended: {'; '.join(left)}")
    return lines


def markdown(results: dict) -> str:
    machine, settings = results["machine"], results["settings"]
    failed = failures(results)
    versions = "; ".join(
        f"{PEERS[peer].title}: {', '.join(f'{k} {v}' for k, v in found.items())}"
        for peer, found in results["versions"].items()
    )
    parts = [
        f"Measured {results['when'][:10]} on commit {results['commit']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, with `{results['command']}`: "
        f"median of {settings['rounds']} rounds. In brackets how many times better pyray is; "
        "“–”: a peer has nothing of the kind.",
        *(line for text in later_lines(results) for line in ("", text)),
        *row_tables(results),
        *curve_tables(results),
        "",
        "### Targets of the runtime",
        "",
        "| target | | measured |",
        "| --- | --- | --- |",
        *(f"| {v['target']} | {verdict_text(v)} | {v['found']} |" for v in results["targets"]),
        "",
        *(["Failed or left out:", "", *(f"- {line}" for line in failed), ""] if failed else []),
        f"Versions: {versions}.",
    ]
    return "\n".join(parts) + "\n"


def updated(results: dict, later: dict) -> dict:
    """The results with what was measured later instead, and a note of which that is."""
    names = [*later["rows"], *later["curves"]]
    notes = [
        {**note, "rows": [name for name in note["rows"] if name not in names]}
        for note in results.get("later", [])
    ]
    this = {key: later[key] for key in ("when", "commit", "command")}
    merged = {
        **results,
        "rows": {**results["rows"], **later["rows"]},
        "curves": {**results["curves"], **later["curves"]},
        "peers": {
            name: later["peers"].get(name) or title for name, title in results["peers"].items()
        }
        | later["peers"],
        "versions": {**results["versions"], **{k: v for k, v in later["versions"].items() if v}},
        "later": [note for note in notes if note["rows"]] + [{**this, "rows": names}],
    }
    merged["targets"] = judge(merged)
    return merged


def later_lines(results: dict) -> list[str]:
    """Which rows were measured in a run of their own."""
    titles = {name: row.title for name, row in (*ROWS.items(), *CURVES.items())}
    return [
        f"Measured {note['when'][:10]} on commit {note['commit']}, in one run of"
        f" `{note['command']}`: {'; '.join(titles[name] for name in note['rows'])}."
        for note in results.get("later", [])
    ]


def write_table(results: dict, path: Path) -> None:
    """Put the tables between the markers of the page, under a heading if it has none."""
    write_between(path, BEGIN, END, markdown(results), HEADING)


# The terminal


def print_row(name: str, results: dict) -> None:
    if name in ROWS:
        print(f"{name}: {ROWS[name].title}")
        for peer, found in results["rows"][name]["peers"].items():
            text = cell(results, name, peer)
            if "limit" in found:
                text += f": {value_text(found['limit'], ROWS[name].unit)}, {ROWS[name].limit}"
            print(f"    {PEERS[peer].title:22}{text}")
    else:
        print(f"{name}: {CURVES[name].axis}: µs of {CURVES[name].calls}")
        for peer, found in results["curves"][name]["peers"].items():
            points = (f"{point['x']:,}: {number_text(point['us'])}" for point in found["points"])
            print(f"    {PEERS[peer].title:22}{'  '.join(points)}")
    print(end="", flush=True)


def print_report(results: dict) -> list[dict]:
    """Print failures and verdicts; the verdicts are what the JSON keeps."""
    verdicts = judge(results)
    if results["settings"]["quick"]:
        print("\nquick: programs are smaller than their titles say, the JSON has their sizes")
    if lines := failures(results):
        print("\nfailed or left out", *lines, sep="\n  ")
    if verdicts:
        print("\ntargets")
    for verdict in verdicts:
        print(f"  {verdict_text(verdict).ljust(12)} {verdict['target']}: {verdict['found']}")
    return verdicts
