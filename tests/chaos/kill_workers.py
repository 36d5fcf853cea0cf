"""Kill workers at random instants while tasks of all kinds run, and check every result.

    python tests/chaos/kill_workers.py --kills 3000

Prints what there was. Tasks that are tried without end must give what they give without kills;
others may raise WorkerCrashedError, and nothing else. What the session has in use at the end,
memory, objects, resources, must be what it was at the beginning.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from killing import Killer, at_rest, get

import pyray as ray
from pyray.runtime import session

SIZES = (10, 1000, 20_000, 1_000_000)

again = ray.remote(max_retries=-1)


# -- tasks -----------------------------------------------------------------------------------


@again
def short(i):
    return 2 * i


@again
def long(i):
    """Some milliseconds of work."""
    total = 0
    for k in range(100_000):
        total += k
    return total + i


@again
def array(i, size):
    return np.full(size, i % 251, np.uint8)


@again
def add(x, y):
    return x + y


@again
def nested(i):
    return sum(ray.get([short.remote(i), add.remote(short.remote(i), i)]))


@again
def puts(i, size):
    """References to what it has put, and to what a task of its own makes."""
    return {"put": ray.put(np.full(size, i % 251, np.uint8)), "task": short.remote(i)}


@again
def inside(refs):
    """References in a container are not waited for: the task does."""
    return sum(ray.get(refs["list"])) + ray.get(refs["one"])


@ray.remote(max_retries=-1, num_returns="streaming")
def stream(n, size):
    for i in range(n):
        yield np.full(size, i, np.uint8)


@ray.remote(max_retries=-1, num_returns=3)
def three(i):
    return i, [i], np.full(5000, i % 251, np.uint8)


@ray.remote(max_retries=0)
def once(i):
    return long._function(i)


@ray.remote
def some_times(i):
    return long._function(i)


# -- what they must give ---------------------------------------------------------------------


def is_array(found: Any, size: int, value: int) -> bool:
    return found.shape == (size,) and bool((found == value % 251).all())


def simple(base: int) -> int:
    refs = [short.remote(base + i) for i in range(100)]
    sums = [add.remote(refs[i], refs[i + 1]) for i in range(0, 100, 2)]
    total = [add.remote(sums[i], sums[i + 1]) for i in range(0, 50, 2)]
    assert get(refs) == [2 * (base + i) for i in range(100)]
    assert get(total) == [8 * base + 32 * i + 12 for i in range(25)]
    return 175


def working(base: int) -> int:
    assert get([long.remote(i) for i in range(8)]) == [4999950000 + i for i in range(8)]
    return 8


def arrays(base: int) -> int:
    size = SIZES[base % 4]
    refs = [array.remote(base + i, size) for i in range(6)]
    sums = [add.remote(refs[i], refs[i]) for i in range(6)]
    for i, (one, double) in enumerate(zip(get(refs), get(sums))):
        value = (base + i) % 251
        assert is_array(one, size, value)
        assert double.shape == (size,) and (double == 2 * value % 256).all()
    return 12


def nesting(base: int) -> int:
    assert get([nested.remote(base + i) for i in range(6)]) == [5 * (base + i) for i in range(6)]
    return 24


def putting(base: int) -> int:
    size = SIZES[(base + 1) % 4]
    for i, found in enumerate(get([puts.remote(base + i, size) for i in range(6)])):
        assert is_array(get(found["put"]), size, base + i)
        assert get(found["task"]) == 2 * (base + i)
    return 12


def containers(base: int) -> int:
    refs = [short.remote(base + i) for i in range(5)]
    held = {"list": refs, "one": ray.put(base)}
    results = [inside.remote(held) for _ in range(3)]
    del refs, held
    assert get(results) == [11 * base + 20] * 3
    return 8


def streaming(base: int) -> int:
    size = SIZES[base % 3]
    for generator in [stream.remote(12, size) for _ in range(2)]:
        values = [get(ref) for ref in generator]
        assert len(values) == 12
        assert all(is_array(value, size, i) for i, value in enumerate(values))
    return 2


def several(base: int) -> int:
    a, b, c = three.remote(base)
    assert get([a, b]) == [base, [base]]
    assert is_array(get(c), 5000, base)
    return 1


def given_up(base: int) -> int:
    for task in (once, some_times):
        for i, ref in enumerate([task.remote(i) for i in range(4)]):
            try:
                assert get(ref) == 4999950000 + i
                counts["right"] += 1
            except ray.exceptions.WorkerCrashedError as error:
                assert "SIGKILL" in str(error), error
                counts["crashed"] += 1
    return 8


PARTS: tuple[Callable[[int], int], ...] = (
    simple,
    working,
    arrays,
    nesting,
    putting,
    containers,
    streaming,
    several,
    given_up,
)

#: Results of the tasks that are not tried for ever.
counts: Counter[str] = Counter()


# -- all of it -----------------------------------------------------------------------------


def run(kills: int, cpus: int = 2, pause: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """Rounds of all parts until so many workers were killed; what there was."""
    ray.init(num_cpus=cpus, object_store_memory=300 << 20, log_to_driver=False)
    running = session.current()
    assert running is not None
    core = running.core
    counts.clear()
    for part in PARTS:  # publishes the functions, which stay
        part(0)
    begun = time.monotonic()
    before = at_rest(core)
    killer = Killer(core, kills, pause, seed)
    killer.start()
    tasks, rounds = 0, 0
    try:
        while not killer.enough.is_set():
            for part in PARTS:
                tasks += part(rounds)
            rounds += 1
    finally:
        killer.enough.set()
        killer.join()
    after = at_rest(core)
    assert after == before, (before, after)
    tasks += sum(part(1) for part in PARTS)  # the session goes on
    stats = core.stats()
    ray.shutdown()
    return {
        "kills": killer.done,
        "deaths": stats["deaths"],
        "recoveries": stats["recoveries"],
        "tasks": tasks,
        "retries": stats["retries"],
        "crashed": f"{counts['crashed']} of {counts.total()} that may",
        "seconds": round(time.monotonic() - begun),
        "in_use": after,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=3000)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two at most")
    parser.add_argument("--seed", type=int, default=0)
    for name, value in run(**vars(parser.parse_args())).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
