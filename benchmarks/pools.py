"""Pools of the standard library and joblib beside ours, on the same calls, in one run.

    python benchmarks/pools.py                  all rows; writes benchmarks/results/pools.json
    python benchmarks/pools.py --docs           and the table of docs/benchmarks.md
    python benchmarks/pools.py --rows map joblib --rounds 3

Each row runs the same program with the original and with ours, a round of one and a round of the
other, in one process; pools are made and warmed up before, and garbage is collected before each
round. The figure is the median of the rounds.
It needs joblib, and a quiet machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import Pool as OriginalPool
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from environment import ROOT, commit, machine, write_between

import pyray as ray
from pyray.util.executor import RayExecutor
from pyray.util.joblib import register_ray
from pyray.util.multiprocessing import Pool

RESULTS = ROOT / "benchmarks" / "results" / "pools.json"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- pools:begin -->", "<!-- pools:end -->"
HEADING = """## Pools, executors and joblib

`benchmarks/pools.py`: the same program with the original and with ours ([util.md](util.md)), two
processes each. Small calls are 20,000 of `abs` (2,000 with apply); arrays are 20 of 16 MB, or one
of them in 40 calls. joblib finds arrays that it has had before in its files, ours in the store.

"""
PROCESSES = 2
SMALL = range(20_000)
ARRAY_BYTES = 16_000_000
ARRAYS = 20

Run = Callable[[Any], object]


def total(array: np.ndarray, _: int = 0) -> float:
    return float(array[::4096].sum())


def twice(array: np.ndarray) -> np.ndarray:
    return array * 2


def arrays() -> list[np.ndarray]:
    return [np.full(ARRAY_BYTES // 8, float(i)) for i in range(ARRAYS)]


def consume(iterable: Any) -> None:
    for _ in iterable:
        pass


@contextmanager
def parallel(backend: str) -> Iterator[joblib.Parallel]:
    with joblib.Parallel(n_jobs=PROCESSES, backend=backend) as made:
        yield made


def calls(function: Callable[..., Any], items: Any) -> Run:
    delayed = joblib.delayed(function)
    return lambda run: run(delayed(item) for item in items)


def rows() -> dict[str, tuple[dict[str, Any], Run, float]]:
    """By name: the peers, what they run, how many times as fast as the originals we are to be."""
    pools = {"pyray": partial(Pool, PROCESSES), "multiprocessing": partial(OriginalPool, PROCESSES)}
    executors = {
        "pyray": partial(RayExecutor, PROCESSES),
        "concurrent.futures": partial(ProcessPoolExecutor, PROCESSES),
    }
    backends = {
        "pyray": partial(parallel, "ray"),
        "loky": partial(parallel, "loky"),
        "joblib multiprocessing": partial(parallel, "multiprocessing"),
    }
    many = arrays()
    one = many[1]
    same = [(one, i) for i in range(2 * ARRAYS)]
    numbers = list(SMALL)
    few = numbers[:2000]
    return {
        "apply": (pools, lambda pool: [pool.apply(abs, (i,)) for i in few], 1),
        "map": (pools, lambda pool: pool.map(abs, numbers), 1),
        "imap": (pools, lambda pool: consume(pool.imap(abs, numbers)), 1),
        "imap_unordered": (pools, lambda pool: consume(pool.imap_unordered(abs, numbers)), 1),
        "imap_unordered, chunks of 100": (
            pools,
            lambda pool: consume(pool.imap_unordered(abs, numbers, chunksize=100)),
            1,
        ),
        "submit": (
            executors,
            lambda executor: [f.result() for f in [executor.submit(abs, i) for i in numbers]],
            1,
        ),
        "joblib": (backends, calls(abs, numbers), 1),
        "map, an array each": (pools, lambda pool: pool.map(total, many), 5),
        "imap_unordered, an array each": (
            pools,
            lambda pool: consume(pool.imap_unordered(total, many)),
            5,
        ),
        "map, arrays returned": (pools, lambda pool: consume(pool.imap(twice, many)), 5),
        "starmap, the same array": (pools, lambda pool: pool.starmap(total, same, chunksize=1), 5),
        "joblib, an array each": (backends, calls(total, many), 5),
        "joblib, the same array": (backends, calls(total, [one] * 2 * ARRAYS), 5),
    }


def measure(peers: dict[str, Any], run: Run, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, by peer."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    with ExitStack() as stack:
        made = {name: stack.enter_context(make()) for name, make in peers.items()}
        for pool in made.values():
            run(pool)
        gc.freeze()  # what is there already is looked at in no round
        for _ in range(rounds):
            for name, pool in made.items():
                gc.collect()
                start = time.perf_counter()
                run(pool)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def markdown(results: dict[str, Any]) -> str:
    lines = [
        f"Measured {results['when']} on commit {results['commit']}, {results['machine']['cpu']},"
        f" {results['machine']['cores']} cores, with `{results['command']}`: median of"
        f" {results['rounds']} rounds.",
        "",
        "| calls | pyray | originals | times as fast | wanted |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in results["rows"].items():
        others = [f"{peer} {value * 1e3:.1f} ms" for peer, value in row["originals"].items()]
        wanted = f"{row['target']}" + ("" if row["ratio"] >= row["target"] else ", MISSED")
        lines.append(
            f"| {name} | {row['pyray'] * 1e3:.1f} ms | {', '.join(others)} | {row['ratio']:.3g} |"
            f" {wanted} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", help="names, or beginnings of them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--docs", action="store_true", help="write the table of the page")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    register_ray()
    ray.init(num_cpus=PROCESSES)
    found = {}
    for name, (peers, run, target) in rows().items():
        if options.rows and not any(name.startswith(given) for given in options.rows):
            continue
        seconds = measure(peers, run, options.rounds)
        medians = {peer: statistics.median(values) for peer, values in seconds.items()}
        ours = medians.pop("pyray")
        best = min(medians.values())
        found[name] = {
            "pyray": ours,
            "originals": medians,
            "ratio": best / ours,
            "target": target,
            "seconds": seconds,
        }
        others = ", ".join(f"{peer} {value * 1e3:.1f} ms" for peer, value in medians.items())
        verdict = "" if best / ours >= target else f"  MISSED {target}x"
        print(f"{name:32} pyray {ours * 1e3:8.1f} ms, {others}: {best / ours:.1f}x{verdict}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results = {
        "when": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "command": " ".join(["python", "benchmarks/pools.py", *sys.argv[1:]]),
        "rounds": options.rounds,
        "machine": machine(),
        "rows": found,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    if options.docs:
        write_between(PAGE, BEGIN, END, markdown(results), HEADING)


if __name__ == "__main__":
    main()
