"""Runtimes beside each other, on the same workloads, in one run.

    python benchmarks/runtime.py                       all rows, all peers: about an hour
    python benchmarks/runtime.py --rounds 3            the same in some 40 minutes
    python benchmarks/runtime.py --quick               fewer rounds, smaller programs
    python benchmarks/runtime.py --rows tasks-sync start --peers pyray ray
    python benchmarks/runtime.py --quick --peers pyray    while developing

The workloads are those of `ray microbenchmark`, by its names, and some programs beside them.
A row and a peer are one process in the peer's environment (benchmarks/peers.sh) that makes a
session, warms it up and measures rounds; the figure is the median of the rounds, of which a slow
peer has fewer (`settings_for`), or fewer calls in each, which the table says.  The peers of
a row follow each other at once, in an order that rotates from row to row, and no session is up
while another is measured.  What serves as a limit of the machine is measured in the row's own
process, a round of the one and a round of the other.

A process that hangs or dies has failed its row and nothing else; whatever it started is
ended with it.  BLAS has one thread everywhere.  Results go to a JSON file, a table into
docs/benchmarks.md with --docs, and the targets with their verdicts to the terminal;
benchmarks/plot_runtime.py draws them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import runtime_executors
import runtime_ray
from environment import ROOT, PeerError, commit, interpreter, machine
from runtime_measure import Settings, answers, descendants, name_of
from runtime_report import print_report, print_row, updated, write_table
from runtime_rows import CURVES, NAMES, PEERS, ROWS

RESULTS = ROOT / "benchmarks" / "results" / "runtime.json"
DOCS = ROOT / "docs" / "benchmarks.md"
LOGS = ROOT / "build" / "benchmarks" / "runtime-logs"
GRACE = 30  # seconds in which a session may end by itself
PR_SET_CHILD_SUBREAPER = 36


def offers(peer: str, name: str) -> bool:
    """Whether a peer has a row; where not, it has nothing that the row could be made of."""
    if PEERS[peer].only and name not in PEERS[peer].only:
        return False
    if PEERS[peer].script == "runtime_ray.py":
        return name in runtime_ray.ROWS
    return runtime_executors.offers(PEERS[peer].argument, name)


def environment_of(peer: str, folder: Path) -> dict[str, str]:
    """The environment of a peer's process: its scratch files are in a folder that goes."""
    own = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "TMPDIR": str(folder),
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "DASK_TEMPORARY_DIRECTORY": str(folder),
        **dict(PEERS[peer].settings),
    }
    own.pop("PYTHONPATH", None)
    if PEERS[peer].environment == "project":
        own["PYTHONPATH"] = str(ROOT)
    return own


def end_all() -> list[str]:
    """End what is left of a session; the names of what had to be ended."""
    names: list[str] = []
    while left := descendants(os.getpid()):
        for pid in left:
            names.append(name_of(pid))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)
        reap()
    reap()
    return names


def reap() -> None:
    """Collect the children that came to this process when their own parent ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def wait_for_end(process: subprocess.Popen, seconds: float) -> list[str]:
    """Let a session end by itself; the names of the processes that were left behind."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return [f"the driver did not end within {seconds:.0f} s", *end_all()]
    end = time.monotonic() + 5
    while descendants(os.getpid()) and time.monotonic() < end:
        time.sleep(0.05)
    return end_all()


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def measure(peer: str, name: str, settings: Settings, limit: float) -> dict:
    """One row by one peer: a process that answers in lines, within a time limit."""
    log = LOGS / f"{peer}-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))  # short: sockets are in it
    found: dict = {"points": []} if name in CURVES else {}
    started = time.monotonic()
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    interpreter(PEERS[peer].environment),
                    str(Path(__file__).with_name(PEERS[peer].script)),
                    PEERS[peer].argument,
                    name,
                    json.dumps(asdict(settings)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=folder,
                env=environment_of(peer, folder),
                start_new_session=True,
            )
        assert process.stdout is not None
        try:
            done = False
            for answer in answers(process.stdout.fileno(), started + limit):
                if "point" in answer:
                    found["points"].append(answer["point"])
                elif "result" in answer:
                    found.update(answer["result"])
                else:
                    found.update(answer)  # versions, error, stopped
                done = "result" in answer or "error" in answer
            if not done:
                status = process.wait()
                found["error"] = f"ended with status {status}: {last_words(log)}"
        except TimeoutError:
            found["error"] = f"no result within {limit:.0f} s"
        if left := wait_for_end(process, 1 if found.get("error") else GRACE):
            found["left_behind"] = left
        process.stdout.close()
    except PeerError as error:
        found["error"] = str(error)
    finally:
        end_all()
        shutil.rmtree(folder, ignore_errors=True)
    found["seconds"] = round(time.monotonic() - started, 1)
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds, smaller programs")
    parser.add_argument("--rounds", type=int, help="rounds of measurement")
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=NAMES, metavar="ROW")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    parser.add_argument("--limit", type=float, help="seconds a row may take, for all rows")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file")
    parser.add_argument(
        "--update", action="store_true", help="keep the other rows that the JSON file has"
    )
    parser.add_argument("--docs", action="store_true", help=f"put the table into {DOCS.name}")
    parser.add_argument("--list", action="store_true", help="list rows and peers")
    arguments = parser.parse_args()
    if arguments.docs and arguments.quick:
        parser.error("--quick measures smaller programs: its figures are not for the docs")
    return arguments


def list_rows() -> None:
    for name in NAMES:
        title = ROWS[name].title if name in ROWS else f"{CURVES[name].title}, a curve"
        print(f"{name:22}{title}")
        print(f"{'':22}{', '.join(peer for peer in PEERS if offers(peer, name))}")


def settings_of(arguments: argparse.Namespace) -> Settings:
    if arguments.quick:
        return Settings(rounds=arguments.rounds or 3, parent=os.getpid())
    return Settings(
        rounds=arguments.rounds or 7,
        seconds=1,
        warm=1,
        budget=60,
        idle=5,
        quick=False,
        parent=os.getpid(),
    )


def settings_for(peer: str, settings: Settings) -> Settings:
    """Others than pyray are orders of magnitude slower in many rows: fewer of their rounds do."""
    if PEERS[peer].environment == "project":
        return settings
    return replace(settings, budget=settings.budget / 3)


def limit_of(name: str, arguments: argparse.Namespace) -> float:
    full = (ROWS.get(name) or CURVES[name]).seconds
    return arguments.limit or (max(120, full / 4) if arguments.quick else full)


def main() -> None:
    arguments = parse_arguments()
    if arguments.list:
        list_rows()
        return
    # Whatever loses its parent in a session becomes a child of this process, to be found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    settings = settings_of(arguments)
    started = time.monotonic()
    results: dict = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine(),
        "settings": {k: v for k, v in asdict(settings).items() if k != "parent"},
        "peers": {name: PEERS[name].title for name in arguments.peers},
        "versions": {},
        "rows": {},
        "curves": {},
    }
    try:
        for number, name in enumerate(arguments.rows):
            kind = "rows" if name in ROWS else "curves"
            peers = [peer for peer in arguments.peers if offers(peer, name)]
            shift = number % max(1, len(peers))
            taken = {}
            for peer in peers[shift:] + peers[:shift]:
                print(f"{name}, {peer} ...", end="", flush=True, file=sys.stderr)
                taken[peer] = measure(
                    peer, name, settings_for(peer, settings), limit_of(name, arguments)
                )
                versions = taken[peer].pop("versions", None)
                results["versions"].setdefault(peer, versions or {})
                if versions:
                    results["versions"][peer] = versions
                print(f" {taken[peer]['seconds']} s", file=sys.stderr)
            results[kind][name] = {"peers": {peer: taken[peer] for peer in peers}}
            print_row(name, results)
    finally:  # what was measured is kept when the run is broken off
        end_all()
        results["seconds"] = round(time.monotonic() - started, 1)
        results["targets"] = print_report(results)
        if arguments.update:
            results = updated(json.loads(arguments.output.read_text()), results)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\n{arguments.output} written after {results['seconds']:.0f} s")
    if arguments.docs:
        write_table(results, DOCS)


if __name__ == "__main__":
    main()
