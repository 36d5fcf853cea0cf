"""Kill actors at random instants while threads, tasks and other actors call them.

    python tests/chaos/kill_actors.py --kills 2000 --actors 1000

Prints what there was. Calls that are tried without end must return what they return without kills,
and run for the first time in the order in which their caller submitted them: an actor writes that
into a file. Others may raise RayActorError, and nothing else. What the session has in use at the
end, memory, objects, resources, names, must be what it was at the beginning; then actors are made,
called and dropped, one after another, and memory must not grow.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from kill_workers import is_array, short
from killing import DEADLINE, Killer, at_rest, get

import pyray as ray
from pyray.runtime import session

SIZES = (0, 100, 20_000, 500_000)
Died = ray.exceptions.ActorDiedError
forever = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)


# -- actors and tasks ------------------------------------------------------------------------


@forever
class Log:
    """Writes down which calls have run."""

    def __init__(self, path):
        self.path = path

    def append(self, caller, number, size, *ignored):
        with open(self.path, "ab", buffering=0) as file:
            file.write(f"{caller} {number}\n".encode())
        return caller, number, np.full(size, number % 251, np.uint8)


@forever
class Caller:
    """An actor that calls others; it is killed, too."""

    def call(self, log, name, count):
        return call(log, name, count)


@ray.remote(max_retries=-1)
def call_from_task(log, name, count):
    return call(log, name, count)


@ray.remote(max_restarts=2, num_cpus=0)
class Mortal:
    """Calls are not tried again, and after three deaths there are none."""

    def __init__(self):
        self.calls = 0

    def add(self, number):
        self.calls += 1
        return number + 0 * sum(range(50_000)), self.calls


@ray.remote(num_cpus=0)
class Small:
    def __init__(self, number):
        self.number = number

    def value(self):
        return self.number


# -- what they must give ---------------------------------------------------------------------


def call(log: Any, name: str, count: int) -> tuple[str, int]:
    """Calls of all kinds; the name by which the log knows them, and how many there were."""
    caller = f"{name}-{uuid.uuid4().hex}"  # one that is killed and tried again is another one
    chance = random.Random(caller)
    results = []
    for number in range(1, count + 1):
        arguments: list[Any] = []
        if chance.random() < 0.2:
            arguments.append(short.remote(number))
        if chance.random() < 0.1:
            arguments.append(np.zeros(chance.choice(SIZES), np.uint8))
        size = chance.choice(SIZES[:3] if number % 10 else SIZES)
        results.append((number, size, log.append.remote(caller, number, size, *arguments)))
    for number, size, ref in results:
        found = get(ref)
        assert found[:2] == (caller, number), (found[:2], caller, number)
        assert is_array(found[2], size, number)
    return caller, count


def check_order(path: str, expected: dict[str, int]) -> int:
    """First runs of each caller's calls are in order, without gaps, and none is missing."""
    last: Counter[str] = Counter()
    lines = Path(path).read_text().splitlines()
    for line in lines:
        caller, number = line.split()
        assert int(number) <= last[caller] + 1, f"{line} after {last[caller]}"
        last[caller] = max(last[caller], int(number))
    for caller, count in expected.items():
        assert last[caller] == count, (caller, last[caller], count)
    return len(lines)


def mortals(counts: Counter[str]) -> None:
    actor = Mortal.remote()
    refs = [actor.add.remote(i) for i in range(30)]
    dead = False
    for i, ref in enumerate(refs):
        try:
            number, calls = get(ref)
            assert number == i and calls <= i + 1
            assert not dead
            counts["answered"] += 1
        except ray.exceptions.RayActorError as error:
            dead = isinstance(error, Died)
            counts["died" if dead else "unavailable"] += 1
    if dead:
        try:
            get(actor.add.remote(0))
        except Died:
            return
        raise AssertionError("a dead actor answers")


def named(name: str) -> None:
    """Found by its name, and gone with its last handle."""
    actor = when_free(name)
    found = ray.get_actor(name)
    del actor
    assert get(found.append.remote("x", 1, 10))[:2] == ("x", 1)
    ref = found.append.remote("y", 2, 10)
    del found
    assert get(ref)[:2] == ("y", 2)


def when_free(name: str) -> Any:
    """One of that name; the one before may be about to end."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        try:
            return Log.options(name=name).remote(os.devnull)
        except ValueError:
            os.sched_yield()
    raise TimeoutError(f"{name} lives on")


# -- callers ---------------------------------------------------------------------------------


class Load(threading.Thread):
    """Calls one log after another, from here, from tasks and from other actors."""

    def __init__(self, index: int, logs: list[tuple[Any, str]]) -> None:
        super().__init__(daemon=True)
        self.index, self.logs = index, logs
        self.enough = threading.Event()
        self.expected: dict[str, dict[str, int]] = {path: {} for _, path in logs}
        self.counts: Counter[str] = Counter()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            caller = Caller.remote()
            for rounds in itertools.count():
                self.round(caller, rounds)
                if self.enough.is_set():
                    return
        except BaseException as error:
            self.failed = error

    def round(self, caller: Any, rounds: int) -> None:
        log, path = self.logs[rounds % len(self.logs)]
        refs = [
            call_from_task.remote(log, f"task-{self.index}", 15),
            caller.call.remote(log, f"actor-{self.index}", 15),
        ]
        made = call(log, f"driver-{self.index}", 40)
        self.expected[path].update([made, *get(refs)])
        self.counts["calls"] += 70
        mortals(self.counts)
        named(f"named-{self.index}")


def use(seconds: float, killer: Killer | None, threads: int) -> tuple[Counter[str], int]:
    """All of it until the killer has had enough: what there was, and how many calls have run."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{i}" for i in range(2)]
        for path in paths:
            Path(path).touch()
        logs = [(Log.remote(path), path) for path in paths]
        loads = [Load(i, logs) for i in range(threads)]
        for load in loads:
            load.start()
        if killer:
            killer.start()
            while not killer.enough.wait(seconds) and not any(load.failed for load in loads):
                pass
            killer.enough.set()
            killer.join()
        for load in loads:
            load.enough.set()
            load.join()
            if load.failed:
                raise load.failed
        runs = 0
        for path in paths:
            expected: dict[str, int] = {}
            for load in loads:
                expected.update(load.expected[path])
            runs += check_order(path, expected)
        return sum((load.counts for load in loads), Counter()), runs


# -- one after another -----------------------------------------------------------------------


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def come_and_go(actors: int, core: Any) -> dict[str, Any]:
    """Actors are made, called and dropped: what that costs, and what is left."""
    for i in range(10):
        assert get(Small.remote(i).value.remote()) == i
    before, begun, memory = at_rest(core), time.monotonic(), resident()
    for i in range(actors):
        assert get(Small.remote(i).value.remote()) == i
    took, grown = time.monotonic() - begun, resident() - memory
    after = at_rest(core)
    assert after == before, (before, after)
    assert grown < 16 << 20, f"{actors} actors have left {grown} bytes"
    return {"actors": actors, "actors_seconds": round(took, 1), "grown_kb": grown >> 10}


def run(
    kills: int, actors: int = 0, cpus: int = 2, pause: float = 0.4, seed: int = 0, threads: int = 3
) -> dict[str, Any]:
    """Load from all kinds of callers until so many workers were killed; what there was."""
    ray.init(num_cpus=cpus, object_store_memory=300 << 20, log_to_driver=False)
    running = session.current()
    assert running is not None
    core = running.core
    begun = time.monotonic()
    try:
        use(0, None, threads)  # publishes the functions, which stay
        before = at_rest(core)
        killer = Killer(core, kills, pause, seed)
        counts, runs = use(0.1, killer, threads)
        after = at_rest(core)
        assert after == before, (before, after)
        more, _ = use(0, None, threads)  # the session goes on
        assert not more["died"] and not more["unavailable"]
        found = come_and_go(actors, core) if actors else {}
        stats = core.stats()
    finally:
        ray.shutdown()
    return {
        "kills": killer.done,
        "deaths": stats["deaths"],
        "calls": counts["calls"],
        "runs of calls": runs,
        "mortals' calls": {k: counts[k] for k in ("answered", "unavailable", "died")},
        "seconds": round(time.monotonic() - begun),
        **found,
        "in_use": after,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--actors", type=int, default=1000, help="made and dropped at the end")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between two at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=3, help="callers in this process")
    for name, value in run(**vars(parser.parse_args())).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
