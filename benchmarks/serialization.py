"""Serializers beside each other, on the same objects, in one run.

    python benchmarks/serialization.py                    all rows, all peers
    python benchmarks/serialization.py --quick            fewer repeats
    python benchmarks/serialization.py --rows strings ints --peers pickle pyfory

Each peer is a process in an environment of its own (benchmarks/peers.sh); a row is
measured in rounds, one measurement of each peer a round in rotating order, so that
what else the machine does falls on all of them alike.  The figure is the median of
the rounds.  The cyclic garbage collector is on, and what a measurement made is freed
after its clock has stopped.  Results go to a JSON file, a table into
docs/benchmarks.md with --docs, and the targets with their verdicts to the terminal.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import select
import shlex
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import serialization_objects as objects
from environment import ROOT, PeerError, commit, interpreter, machine
from serialization_peers import PEERS
from serialization_report import print_report, write_table

RESULTS = ROOT / "benchmarks" / "results" / "serialization.json"
DOCS = ROOT / "docs" / "benchmarks.md"
ANSWER_TIMEOUT = 300
# --quick leaves out the variants of a peer and what seldom brings an object back.
NOT_QUICK = ("pyfory (no refs)", "msgspec")


class Worker:
    """The process that measures one peer."""

    def __init__(self, name: str):
        self.name = name
        peer = PEERS[name]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        if peer.environment == "project":
            environment["PYTHONPATH"] = str(ROOT)
        self.process = subprocess.Popen(
            [
                interpreter(peer.environment),
                Path(__file__).with_name("serialization_peers.py"),
                name,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        self.versions = self.answer()["versions"]

    def answer(self) -> dict:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_TIMEOUT)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise PeerError("no answer" if ready else f"no answer in {ANSWER_TIMEOUT} s")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def tell(self, **request) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            pass  # answer() will say that it is gone

    def ask(self, **request) -> dict:
        self.tell(**request)
        return self.answer()

    def stop(self) -> None:
        """End the worker, and the fork that serves a row if it hangs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait()


def document_path() -> str | None:
    """The JSON document, decompressed from botocore's data."""
    try:
        import botocore
    except ImportError:
        return None
    folder = Path(botocore.__file__).parent / "data" / "ec2"
    source = sorted(folder.glob("*/service-2.json.gz"))[-1]
    target = ROOT / "build" / "benchmarks" / "document.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.decompress(source.read_bytes()))
    return str(target)


def measure_row(name: str, workers: list[Worker], rounds: int, target: float) -> dict:
    """All peers on one object: their sizes, peaks and median times."""
    row = objects.ROWS[name]
    results: dict[str, dict] = {}
    active: list[Worker] = []
    # Making the object and comparing the copy takes longest and is not timed: all at
    # once. A small row calibrates its loops meanwhile, and has the machine to itself.
    for group in [[worker] for worker in workers] if row.small else [workers]:
        for worker in group:
            worker.tell(command="start", row=name, target=target)
        for worker in group:
            try:
                results[worker.name] = worker.answer()
                active.append(worker)
            except PeerError as error:
                results[worker.name] = {"error": str(error)}
    taken: dict[str, list[dict]] = {worker.name: [] for worker in active}
    for number in range(rounds * (2 if row.small else 1)):
        shift = number % len(active) if active else 0
        for worker in active[shift:] + active[:shift]:
            if worker.name not in taken:
                continue
            try:
                taken[worker.name].append(worker.ask(command="time"))
            except PeerError as error:
                results[worker.name] = {"error": str(error)}
                del taken[worker.name]
    for worker in active:
        if worker.name not in taken:
            continue
        worker.tell(command="end")
        for direction in ("serialize", "deserialize"):
            times = [one[direction] for one in taken[worker.name]]
            results[worker.name][direction] = statistics.median(times)
            results[worker.name][direction + "_best"] = min(times)
    return {"title": row.title, "small": row.small, "peers": results}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds, main peers")
    parser.add_argument("--rounds", type=int, help="rounds of measurement")
    parser.add_argument("--rows", nargs="+", choices=objects.ROWS, default=list(objects.ROWS))
    parser.add_argument("--peers", nargs="+", choices=PEERS)
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file")
    parser.add_argument("--docs", action="store_true", help=f"put the table into {DOCS.name}")
    arguments = parser.parse_args()
    if not arguments.peers:
        arguments.peers = [p for p in PEERS if not (arguments.quick and p in NOT_QUICK)]
    return arguments


def start_workers(names: list[str]) -> list[Worker]:
    workers = []
    for name in names:
        try:
            workers.append(Worker(name))
        except PeerError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return workers


def main() -> None:
    arguments = parse_arguments()
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    target = 0.01 if arguments.quick else 0.05  # seconds a measurement of a small row
    started = time.monotonic()
    document = document_path()
    if document:
        os.environ[objects.DOCUMENT_VARIABLE] = document
    elif "document" in arguments.rows:
        print("without the row 'document': botocore is not installed", file=sys.stderr)
        arguments.rows.remove("document")

    workers = start_workers(arguments.peers)
    results = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine(),
        "rounds": rounds,
        "versions": {worker.name: worker.versions for worker in workers},
        "rows": {},
    }
    try:
        for name in arguments.rows:
            print(f"{name} ...", end="", flush=True, file=sys.stderr)
            begun = time.monotonic()
            results["rows"][name] = measure_row(name, workers, rounds, target)
            print(f" {time.monotonic() - begun:.1f} s", file=sys.stderr)
            workers = [worker for worker in workers if worker.process.poll() is None]
        ours = next((worker for worker in workers if worker.name == "pyray"), None)
        if ours and "array-list" in arguments.rows:
            try:
                results["arrays"] = ours.ask(command="arrays", rounds=rounds)
            except PeerError as error:
                results["arrays"] = {"error": str(error)}
    finally:
        for worker in workers:
            worker.stop()

    results["seconds"] = round(time.monotonic() - started, 1)
    results["targets"] = print_report(results)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.docs:
        write_table(results, DOCS)
    print(f"\n{arguments.output} written after {results['seconds']:.0f} s")


if __name__ == "__main__":
    main()
