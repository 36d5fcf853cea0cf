"""The object store by itself, beside Plasma and the limits of the machine, in one run.

    python benchmarks/store.py                  all rows, all peers: some minutes, 13 GB of memory
    python benchmarks/store.py --quick          a tenth of the sizes
    python benchmarks/store.py --rows readers --peers pyray copies

A row and a peer are one process in the peer's environment (benchmarks/peers.sh arrow11 makes that
of Plasma), with others beside it where the row wants some. The figure is the median of the rounds.
Results go to a JSON file, and with --docs a table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from environment import ROOT, PeerError, commit, interpreter, machine, write_between
from runtime_measure import Settings, answers

RESULTS = ROOT / "benchmarks" / "results" / "store.json"
DOCS = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- store:begin -->", "<!-- store:end -->"
HEADING = """## The store

`benchmarks/store.py`: objects in shared memory by name, between processes that have nothing else in
common, beside Plasma of pyarrow 11, the last but one that had it.

"""
LIMIT = 300  # seconds for a row

PEERS = {  # name: title, environment
    "pyray": ("pyray", "project"),
    "copies": ("pyray, readers that copy", "project"),
    "plasma": ("Plasma (pyarrow 11)", "arrow11"),
}


@dataclass(frozen=True)
class Row:
    title: str
    unit: str
    more_is_better: bool = False
    peers: tuple[str, ...] = ("pyray", "plasma")


ROWS = {
    "put-small": Row("put and delete a list of three items", "/s", True),
    "get-small": Row("get it", "/s", True),
    "put-gigabyte": Row("put an array of 1 GB into used memory, delete it", "GB/s", True),
    "get-gigabyte": Row("get it", "µs"),
    "get-to-write": Row("get it to be written, write 1 % of its pages", "ms"),
    "round-trip": Row("a value to a process that waits for it, and its answer", "µs"),
    "readers": Row(
        "memory (PSS) of 1 GB that ten read, then write 1 % of",
        "MB",
        peers=("pyray", "copies", "plasma"),
    ),
}


def measure(peer: str, name: str, settings: Settings) -> dict:
    """One row by one peer: a process that answers in lines, within a time limit."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))  # short: sockets are in it
    own = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    own.pop("PYRAY_TMPDIR", None)
    if PEERS[peer][1] != "project":
        del own["PYTHONPATH"]
    found: dict = {}
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            [
                interpreter(PEERS[peer][1]),
                str(Path(__file__).with_name("store_peers.py")),
                peer,
                name,
                json.dumps(asdict(settings)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=own,
        )
        assert process.stdout is not None
        try:
            for answer in answers(process.stdout.fileno(), begun + LIMIT):
                found.update(answer.get("result", answer))
            process.wait(30)
            if process.returncode and "error" not in found:
                found["error"] = f"ended with status {process.returncode}"
        finally:
            process.kill()
            process.communicate()
    except PeerError as error:
        found["error"] = str(error)
    except (TimeoutError, subprocess.TimeoutExpired):
        found["error"] = f"no result within {LIMIT} s"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def text_of(value: float, unit: str) -> str:
    if value >= 1000:
        return f"{value:,.0f} {unit}".replace(" /s", "/s")
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}".replace(" /s", "/s")


def cell(found: dict | None, ours: dict, row: Row) -> str:
    """A figure, and how many times better ours is."""
    if found is None:
        return "–"
    if "value" not in found:
        return "failed"
    text = text_of(found["value"], row.unit)
    if "of_limit" in found:
        text += f", {100 * found['of_limit']:.0f} % of a copy by all cores"
    if found is not ours and "value" in ours:
        ratio = found["value"] / ours["value"]
        text += f" ({1 / ratio if row.more_is_better else ratio:.3g}×)"
    return text


def table(results: dict) -> list[str]:
    titles = [PEERS[peer][0] for peer in results["peers"]]
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    for name, peers in results["rows"].items():
        row, ours = ROWS[name], peers.get("pyray", {})
        cells = [cell(peers.get(peer), ours, row) for peer in results["peers"]]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, 3 rounds")
    parser.add_argument("--rounds", type=int, help="rounds of measurement")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file")
    parser.add_argument("--docs", action="store_true", help=f"put the table into {DOCS.name}")
    arguments = parser.parse_args()
    if arguments.docs and arguments.quick:
        parser.error("--quick measures smaller objects: its figures are not for the docs")
    settings = Settings(rounds=arguments.rounds or 3)
    if not arguments.quick:
        settings = Settings(rounds=arguments.rounds or 7, seconds=1, warm=1, budget=60, quick=False)
    results: dict = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine(),
        "settings": asdict(settings),
        "peers": arguments.peers,
        "versions": {},
        "rows": {},
    }
    for name in arguments.rows:
        results["rows"][name] = {}
        for peer in arguments.peers:
            if peer not in ROWS[name].peers:
                continue
            found = measure(peer, name, settings)
            results["versions"][peer] = found.pop("versions", {})
            results["rows"][name][peer] = found
            text = found.get("error") or text_of(found["value"], ROWS[name].unit)
            print(f"{name}, {peer}: {text}", file=sys.stderr)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(table(results)))
    print(f"\n{arguments.output} written")
    if arguments.docs:
        made = results["machine"]
        measured = (
            f"Measured {results['when'][:10]} on commit {results['commit']}, {made['cpu']}, "
            f"{made['cores']} cores, {made['memory_gib']} GiB, with `{results['command']}`."
        )
        body = "\n".join([measured, "", *table(results), ""])
        write_between(DOCS, BEGIN, END, body, HEADING)


if __name__ == "__main__":
    main()
