"""Everything at once, for long, in a store much too small: tasks, actors, objects of 10 KB to
500 MB, while workers, actors and the spiller are killed, the places for files fail, and results of
tasks are freed and their files removed, so that they are made again.

    python tests/chaos/soak.py --minutes 30

Each value is known from its seed. In each round everything runs until the time is over; then each
object that is left is read, and all are dropped. After that the session must have in use what it
had before the first round: bytes, blocks, objects, resources, files and descriptors; and its
processes may not have grown. Prints a line a round, and what there was.

What may happen, and is counted: a put or a task is refused, as there is no room
(ObjectStoreFullError); a value cannot be read while the place of its file fails (ObjectLostError),
but later; an actor that was killed has forgotten what it kept. Nothing else may.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import math
import os
import random
import resource
import struct
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from killing import DEADLINE, Killer, at_rest, get, kill

import pyray as ray
from pyray import internal
from pyray.exceptions import (
    ObjectLostError,
    ObjectStoreFullError,
)
from pyray.runtime import session
from pyray.store import _spilled

KB, MB = 1 << 10, 1 << 20
#: Bytes by which a process may have grown from the first rounds to the last.
GROWTH = 32 * MB
M_MMAP_THRESHOLD = -3  # of malloc.h
RENAME_EXCHANGE = 2  # of stdio.h
#: Numbers that are made, and compared, at a time: so that checking takes no memory.
CHUNK = 1 << 16
STEPS = np.arange(CHUNK, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
SEEDS = itertools.count(1)
#: Stops a process for some seconds; it may have gone by itself.
STAND_STILL = "kill -STOP $1 2>/dev/null && sleep $2; kill -CONT $1 2>/dev/null; true"
#: Results of a generator, at most.
PIECES = 4
#: Before each message in a file, csrc/spill_file.h: magic, the object's id, size, checksum.
HEADER = struct.Struct("<8sQQQ32x")

again = ray.remote(max_retries=-1)
forever = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)


# -- values ----------------------------------------------------------------------------------


def numbers(seed: int, size: int) -> np.ndarray:
    """So many bytes, rounded down to eight, each of which follows from seed and place."""
    made = np.empty(size // 8, np.uint64)
    for at in range(0, len(made), CHUNK):
        part = made[at : at + CHUNK]
        np.add(STEPS[: len(part)], start(seed, at), out=part)
    return made


def start(seed: int, at: int) -> np.uint64:
    return np.uint64((seed * 0xD1342543DE82EF95 + at * 0xDA942042E4DD58B5) % 2**64)


def is_numbers(found: np.ndarray, seed: int, size: int) -> bool:
    return found.shape == (size // 8,) and all(
        bool((found[at : at + CHUNK] - start(seed, at) == STEPS[: len(found) - at]).all())
        for at in range(0, len(found), CHUNK)
    )


def any_size(chance: random.Random, largest: int) -> int:
    """Each order of magnitude as often as any other."""
    return int(math.exp(chance.uniform(math.log(10 * KB), math.log(largest))))


# -- tasks and actors ------------------------------------------------------------------------


@again
def make(seed, size):
    return numbers(seed, size)


@again
def check(found, seed, size):
    return is_numbers(found, seed, size)


@again
def derive(found, seed, size, new_seed, new_size):
    assert is_numbers(found, seed, size)
    return numbers(new_seed, new_size)


@again
def put_inside(seed, size):
    """One half is the task's result; the other it puts, and refers to."""
    half = size // 2
    return numbers(seed, half), [ray.put(numbers(-seed, half))]


@ray.remote(max_retries=-1, num_returns="streaming")
def pieces(seeds, size):
    """As many results of that size, one after another."""
    for seed in seeds:
        yield numbers(seed, size)


@forever
class Keeper:
    """Makes values, and is the only one to refer to some objects. It forgets them when killed."""

    def __init__(self):
        self.kept = {}

    def make(self, seed, size):
        return numbers(seed, size)

    def keep(self, seed, refs):
        self.kept[seed] = refs

    def give(self, seed):
        return self.kept.pop(seed, [])


# -- what there is ---------------------------------------------------------------------------


class Object(NamedTuple):
    ref: ray.ObjectRef
    seed: int
    size: int
    is_pair: bool = False  # as put_inside makes it
    is_result: bool = False  # of a task: it can be made again

    def is_right(self, **options: Any) -> bool:
        """Raises what `get` does."""
        found = ray.get(self.ref, timeout=DEADLINE, **options)
        if not self.is_pair:
            right = is_numbers(found, self.seed, self.size)
            if options:  # a copy: others do not see what is done to it
                found[:] = 0
            return right
        own, (inner,) = found
        half = self.size // 2
        right = is_numbers(own, self.seed, half)
        del own, found
        return right and is_numbers(get(inner), -self.seed, half)


class Live:
    """The objects that there are, of so many bytes together at most."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lock = threading.Lock()
        self.objects: dict[int, Object] = {}
        self.bytes = 0
        self.results: set[int] = set()  # ids of all that tasks have made; some are gone

    def add(self, made: Object, chance: random.Random) -> None:
        with self.lock:
            self.objects[made.seed] = made
            if made.is_result:
                self.results.add(int(made.ref.hex(), 16))
            self.bytes += made.size
            while self.bytes > self.limit:
                self.bytes -= self.objects.pop(chance.choice(list(self.objects))).size

    def pick(self, chance: random.Random) -> Object | None:
        with self.lock:
            return self.objects[chance.choice(list(self.objects))] if self.objects else None

    def are_results(self, ids: list[int]) -> bool:
        with self.lock:
            return self.results.issuperset(ids)

    def drop(self, seed: int) -> Object | None:
        with self.lock:
            found = self.objects.pop(seed, None)
            if found:
                self.bytes -= found.size
            return found


# -- what goes on ----------------------------------------------------------------------------


class Load(threading.Thread):
    """Makes objects, reads them, gives them to tasks and actors, and drops them."""

    def __init__(self, seed: int, live: Live, largest: int, enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self.chance = random.Random(seed)
        self.live, self.largest, self.enough = live, largest, enough
        self.counts: Counter[str] = Counter()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            keeper = Keeper.remote()
            doings: list[tuple[Callable[[Any], None], int]] = [
                (self.put, 3), (self.by_task, 3), (self.by_actor, 2), (self.with_inner, 2),
                (self.derived, 2), (self.by_generator, 1), (self.read, 6), (self.as_argument, 3),
                (self.kept, 2), (self.freed, 3),
            ]  # fmt: skip
            whats, weights = zip(*doings)
            while not self.enough.is_set():
                (what,) = self.chance.choices(whats, weights)
                try:
                    what(keeper)
                    self.counts["done"] += 1
                except ObjectStoreFullError:
                    self.counts["refused"] += 1
                except ObjectLostError as error:
                    check_away(error)
                    self.counts["away"] += 1
        except BaseException as error:
            self.failed = error
            self.enough.set()

    def new(self) -> tuple[int, int]:
        return next(SEEDS), any_size(self.chance, self.largest)

    def add(self, *made: Any, **options: bool) -> None:
        """An Object."""
        new = Object(*made, **options)
        self.counts["objects"] += 1
        self.counts["MB"] += new.size // MB
        self.live.add(new, self.chance)

    # -- making ------------------------------------------------------------------------------

    def put(self, keeper: Any) -> None:
        seed, size = self.new()
        self.add(ray.put(numbers(seed, size)), seed, size)

    def by_task(self, keeper: Any) -> None:
        self.made(make.remote, *self.new(), is_result=True)

    def by_actor(self, keeper: Any) -> None:
        self.made(keeper.make.remote, *self.new())

    def with_inner(self, keeper: Any) -> None:
        self.made(put_inside.remote, *self.new(), is_pair=True, is_result=True)

    def made(self, by: Callable[..., Any], seed: int, size: int, **options: bool) -> None:
        ref = by(seed, size)
        self.until_made(ref)
        self.add(ref, seed, size, **options)

    def until_made(self, ref: ray.ObjectRef) -> None:
        ready, _ = ray.wait([ref], timeout=DEADLINE, fetch_local=False)
        assert ready, "a task does not end"

    def derived(self, keeper: Any) -> None:
        found = self.live.pick(self.chance)
        if found and not found.is_pair:
            seed, size = self.new()
            ref = derive.remote(found.ref, found.seed, found.size, seed, size // 4)
            self.until_made(ref)
            self.add(ref, seed, size // 4, is_result=True)

    def by_generator(self, keeper: Any) -> None:
        n = self.chance.randint(1, PIECES)
        seeds = [next(SEEDS) for _ in range(n)]
        size = any_size(self.chance, self.largest)
        refs = list(pieces.remote(seeds, size // n))
        if len(refs) < n:
            get(refs[-1])  # which raises what has stopped it
        for ref, seed in zip(refs, seeds, strict=True):
            self.add(ref, seed, size // n, is_result=True)

    # -- reading -----------------------------------------------------------------------------

    def read(self, keeper: Any) -> None:
        found = self.live.pick(self.chance)
        if found:
            options = {"copy_on_write": True} if self.chance.random() < 0.2 else {}
            assert found.is_right(**({} if found.is_pair else options)), found
            if self.chance.random() < 0.3:
                self.live.drop(found.seed)

    def as_argument(self, keeper: Any) -> None:
        found = self.live.pick(self.chance)
        if found and not found.is_pair:
            assert get(check.remote(found.ref, found.seed, found.size)), found

    def kept(self, keeper: Any) -> None:
        """For some time nobody refers to it but an actor."""
        found = self.live.pick(self.chance)
        if found is None or self.live.drop(found.seed) is None:
            return
        seed, size, is_pair = found.seed, found.size, found.is_pair
        get(keeper.keep.remote(seed, [found.ref]))
        del found
        self.put(keeper)
        refs = get(keeper.give.remote(seed))
        self.counts["kept" if refs else "forgotten"] += 1
        if refs:
            back = Object(refs[0], seed, size, is_pair)
            assert back.is_right(), back

    def freed(self, keeper: Any) -> None:
        """Its value is given back, unless somebody reads it now, and made again."""
        found = self.live.pick(self.chance)
        if found and found.is_result:
            internal.free([found.ref])
            self.counts["freed"] += 1
            if found.is_pair or self.chance.random() < 0.7:
                assert found.is_right(), found
            else:
                assert get(check.remote(found.ref, found.seed, found.size)), found
            self.counts["right again"] += 1


def check_away(error: ObjectLostError) -> None:
    """It is not lost, but cannot be read at the moment."""
    assert "could not be read back" in str(error), error


class Trouble(threading.Thread):
    """Now and then the spiller is killed, or stands still, or places for files fail for a while, or
    files are removed."""

    def __init__(
        self, core: Any, places: list[Path], live: Live, seed: int, enough: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.core, self.places, self.live, self.enough = core, places, live, enough
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.failed: BaseException | None = None

    def run(self) -> None:
        whats = [self.kill, self.stand_still, self.full, self.fail, self.remove, self.remove]
        try:
            # Not sooner: a spiller that dies at once, again and again, is given up by the node.
            while not self.enough.wait(1 + 3 * self.chance.random()):
                self.chance.choice(whats)()
        except BaseException as error:
            self.failed = error
            self.enough.set()

    def for_a_while(self) -> None:
        self.enough.wait(3 * self.chance.random())

    def kill(self) -> None:
        for pid in spillers(self.core):
            self.counts["killed"] += kill(pid)

    def stand_still(self) -> None:
        """By another process: if one of the session dies while the spiller stands still amid an
        operation, all others wait until it goes on, the driver with all its threads."""
        for pid in spillers(self.core):
            self.counts["stopped"] += 1
            pause = 3 * self.chance.random()
            subprocess.run(["sh", "-c", STAND_STILL, "-", str(pid), f"{pause:.2f}"], check=True)

    def full(self) -> None:
        """No file can be made longer, wherever it is."""
        for pid in spillers(self.core):
            with alive(pid):
                before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
                self.counts["full"] += 1
                self.for_a_while()
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def fail(self) -> None:
        """Some directories are away, or something else is in their place."""
        failing = self.chance.sample(self.places, self.chance.randint(1, len(self.places)))
        self.counts["failed"] += len(failing)
        for place in failing:
            # What is not there at a URL counts as lost: something else is there, at any time.
            if place is self.places[-1] or self.chance.random() < 0.5:
                place.with_suffix(".away").touch()
                exchange(place)
            else:
                place.rename(place.with_suffix(".away"))
        self.for_a_while()
        for place in failing:
            if place.is_file():
                exchange(place)
                place.with_suffix(".away").unlink()
            else:
                place.with_suffix(".away").rename(place)

    def remove(self) -> None:
        """Files in which there is nothing but results of tasks."""
        found = [path for place in self.places for path in place.glob("*")]
        being_written = {path for pid in spillers(self.core) for path in open_files(pid)}
        for path in found:
            with suppress(FileNotFoundError):  # it was not needed any more
                ids = ids_in(path)
                if ids and str(path) not in being_written and self.live.are_results(ids):
                    path.unlink()
                    self.counts["removed"] += 1
                    self.counts["values in them"] += len(ids)


def ids_in(path: Path) -> list[int]:
    """Which objects have copies in a file that is whole."""
    found = []
    with open(path, "rb") as file:
        end = 0
        while True:
            # A message begins at a multiple of 64, or of a page, and its header is before it.
            for to in (64, 4096):
                at = (end + HEADER.size + to - 1) // to * to
                header = os.pread(file.fileno(), HEADER.size, at - HEADER.size)
                if header.startswith(b"PYRAYOBJ") and len(header) == HEADER.size:
                    break
            else:
                return found
            _, number, size, _ = HEADER.unpack(header)
            found.append(number)
            end = at + size


def exchange(place: Path) -> None:
    """With what is beside it, so that the one or the other is there."""
    at, paths = -100, [bytes(path) for path in (place, place.with_suffix(".away"))]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at, paths[0], at, paths[1], RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))


def open_files(pid: int) -> Iterator[str]:
    with suppress(FileNotFoundError):  # it has just been killed
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                yield os.readlink(f"/proc/{pid}/fd/{name}")


@contextmanager
def alive(pid: int) -> Iterator[None]:
    """It may have gone by itself."""
    try:
        yield
    except ProcessLookupError:
        pass


def spillers(core: Any) -> list[int]:
    return [p["pid"] for p in core.processes() if p["kind"] == "spiller"]


# -- what is in use --------------------------------------------------------------------------


def memory(pid: int) -> int:
    """Bytes that are the process' alone: what it shares are objects, and files that it reads."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * KB
    return 0  # it has ended


class Sampler(threading.Thread):
    """How much the processes have at most, looked at four times a second."""

    def __init__(self, core: Any, pids: dict[str, int], enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self.core, self.pids, self.enough = core, pids, enough
        self.most: Counter[str] = Counter()

    def run(self) -> None:
        while not self.enough.wait(0.25):
            for name, pid in (*self.pids.items(), *(("spiller", p) for p in spillers(self.core))):
                with alive(pid):
                    try:
                        self.note(name, memory(pid))
                    except FileNotFoundError:
                        pass  # it has just been killed
            stats = self.core.stats()
            self.note("store", stats["used"])
            self.note("touched", stats["touched"])

    def note(self, name: str, found: int) -> None:
        self.most[name] = max(self.most[name], found)


def everything(core: Any, node: int, places: list[Path]) -> dict[str, Any]:
    """What is in use at rest, without workers: each has descriptors in the node."""
    at_rest(core)
    until("nothing is kept to be made again", lambda: core.stats()["lineage_tasks"] == 0)
    until("workers end", lambda: not [kill(p["pid"]) for p in workers(core)])
    # What the spiller says of its latest failure is an object, as long as that text.
    for name in (_spilled.WRITE_FAILURE, _spilled.READ_FAILURE):
        core.replace(name, b"")
    until("files go", lambda: not any(os.listdir(place) for place in places))
    descriptors = {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in processes(node)}
    return {**at_rest(core), "descriptors": descriptors}


def until(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"{what}: it never was so"
        os.sched_yield()


def workers(core: Any) -> list[dict[str, Any]]:
    return [p for p in core.processes() if p["kind"] == "worker"]


def processes(node: int) -> list[tuple[str, int]]:
    return [("driver", os.getpid()), ("node", node)]


# -- all of it -------------------------------------------------------------------------------


class Soak:
    """One session, and rounds in it."""

    def __init__(
        self, folder: str, cpus: int, store: int, live: int, largest: int, seed: int, threads: int
    ) -> None:
        self.live, self.largest = live, largest
        self.seed, self.threads = seed, threads
        roots = [Path(folder, name) for name in ("a", "b", "c")]
        for root in roots:
            root.mkdir()
        ray.init(
            num_cpus=cpus,
            object_store_memory=store,
            # The last is reached through fsspec: the spiller alone reads and writes there.
            object_spilling=[roots[0], roots[1], f"local://{roots[2]}"],
            log_to_driver=False,
        )
        running = session.current()
        assert running is not None
        self.core, self.node = running.core, running.node_pid
        self.places = [root / running.name for root in roots]
        self.counts: Counter[str] = Counter()
        self.trouble: Counter[str] = Counter()
        self.kills = 0
        self.before: dict[str, Any] | None = None

    def until_files(self) -> None:
        """Files in each place, so that there is what can be taken away."""
        refs = []
        while not all(place.is_dir() for place in self.places):
            refs.append(ray.put(numbers(0, self.largest)))

    def round(self, seconds: float, quiet: bool = False) -> dict[str, Any]:
        """Everything for so long, and what is in use when that is over; with `quiet` nobody is
        killed, and nothing fails."""
        self.seed += 1
        enough = threading.Event()
        live = Live(self.live)
        loads = [
            Load(self.seed * 1000 + i, live, self.largest, enough) for i in range(self.threads)
        ]
        sampler = Sampler(self.core, dict(processes(self.node)), enough)
        killer = Killer(self.core, 0 if quiet else -1, 0.5, self.seed)
        trouble = Trouble(self.core, self.places, live, self.seed, enough)
        threads: list[threading.Thread] = [*loads, sampler]
        if not quiet:
            threads += [killer, trouble]
        for thread in threads:
            thread.start()
        enough.wait(seconds)
        enough.set()
        killer.enough.set()
        for thread in threads:
            thread.join()
        for worker in (*loads, trouble):
            if worker.failed:
                raise worker.failed
        self.counts.update(sum((load.counts for load in loads), Counter()))
        self.trouble.update(trouble.counts)
        self.kills += killer.done
        left = len(live.objects)
        self.read_all(live)
        del loads, threads
        found = self.in_use()
        rest = {name: memory(pid) for name, pid in processes(self.node)}
        return {"left": left, "in_use": found, "rest": rest, "most": sampler.most}

    def in_use(self) -> dict[str, Any]:
        """As it was before the first round, if that comes: the node may be about to notice that a
        worker has ended, or to start one."""
        end = time.monotonic() + DEADLINE
        while True:
            found = everything(self.core, self.node, self.places)
            if self.before in (None, found) or time.monotonic() > end:
                return found

    def read_all(self, live: Live) -> None:
        """What is left is right, and is dropped."""
        for seed in list(live.objects):
            found = live.drop(seed)
            assert found
            try:
                assert found.is_right(), found
            except ObjectStoreFullError:
                self.counts["refused results"] += 1  # of a task
            except ObjectLostError as error:
                # A task that was to read what was away: nothing is so now.
                check_away(error)
                assert isinstance(error, ray.exceptions.RayTaskError), (error, found)
                self.counts["failed tasks"] += 1


def run(
    minutes: float = 30,
    round_seconds: float = 60,
    cpus: int = 2,
    store: int = 1024,
    live: int = 4096,
    largest: int = 500,
    seed: int = 0,
    threads: int = 2,
    folder: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Rounds until the time is over; what there was. Sizes are in MB."""
    os.environ["PYRAY_object_store_full_timeout_s"] = "30"
    os.environ["PYRAY_max_lineage_bytes"] = "inf"
    # Threads' arenas keep up to 64 MB that were freed, which would look like growth: large blocks
    # are the system's at once.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MB)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-", dir=folder) as made:
        soak = Soak(made, cpus, store * MB, live * MB, largest * MB, seed, threads)
        try:
            soak.until_files()
            before = soak.before = soak.round(min(5, round_seconds), quiet=True)["in_use"]
            tell(COLUMNS)
            rounds = []
            while not rounds or time.monotonic() - begun < minutes * 60:
                rounds.append(soak.round(round_seconds))
                tell(line(len(rounds), rounds[-1]))
                assert rounds[-1]["in_use"] == before, (before, rounds[-1]["in_use"])
            check_growth(rounds)
            stats = soak.core.stats()
        finally:
            ray.shutdown()
            del os.environ["PYRAY_object_store_full_timeout_s"]
            del os.environ["PYRAY_max_lineage_bytes"]
        left = [str(path) for path in Path(made).rglob("*") if path.parent != Path(made)]
        assert not left, left
    most: Counter[str] = Counter()
    for found in rounds:
        most |= found["most"]
    return {
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "rounds": len(rounds),
        "operations": soak.counts["done"],
        "objects made": soak.counts["objects"],
        "GB made": round(soak.counts["MB"] / 1024, 1),
        "GB written to files": round(stats["spilled_bytes"] / 1024**3, 1),
        "GB brought back": round(stats["restored_bytes"] / 1024**3, 1),
        "workers and actors killed": soak.kills,
        "spillers killed": soak.trouble["killed"],
        "spillers stopped for a while": soak.trouble["stopped"],
        "times that no file could be written": soak.trouble["full"],
        "places that failed for a while": soak.trouble["failed"],
        "results freed; of them read at once, and right": (
            soak.counts["freed"],
            soak.counts["right again"],
        ),
        "files of results removed; values in them": (
            soak.trouble["removed"],
            soak.trouble["values in them"],
        ),
        "tasks run again to make a lost value": stats["reconstructed_tasks"],
        "refused for want of room": soak.counts["refused"] + soak.counts["refused results"],
        "not to be read for a while": soak.counts["away"] + soak.counts["failed tasks"],
        "kept by actors; forgotten": (soak.counts["kept"], soak.counts["forgotten"]),
        "at rest, first round": rounds[0]["rest"],
        "at rest, last round": rounds[-1]["rest"],
        "at most": dict(most),
        "in use": before,
    }


def check_growth(rounds: list[dict[str, Any]]) -> None:
    """From the second round to the last: caches are full by then."""
    if len(rounds) > 2:
        first, last = rounds[1]["rest"], rounds[-1]["rest"]
        for name in first:
            assert last[name] - first[name] < GROWTH, (name, first, last)


COLUMNS = "round  objects left   MB at rest: driver  node   at most: driver  node  spiller  store"


def line(number: int, found: dict[str, Any]) -> str:
    rest, most = found["rest"], found["most"]
    return (
        f"{number:5d}  {found['left']:12d}   {rest['driver'] // MB:18d}  {rest['node'] // MB:4d}"
        f"   {most['driver'] // MB:15d}  {most['node'] // MB:4d}  {most['spiller'] // MB:7d}"
        f"  {most['store'] // MB:5d}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--round-seconds", type=float, default=60)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--store", type=int, default=1024, help="MB")
    parser.add_argument("--live", type=int, default=4096, help="MB of objects at a time at most")
    parser.add_argument("--largest", type=int, default=500, help="MB of an object")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="in the driver")
    parser.add_argument("--folder", help="where files go; by default where temporary files go")
    for name, value in run(**vars(parser.parse_args()), tell=print).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    import soak  # by whose name workers find tasks: they are small objects then, and in no file

    soak.main()
