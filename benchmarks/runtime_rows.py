"""The rows of the runtime benchmark: what is measured, in which unit, and what is asked of it.

How a row is measured stands in runtime_ray.py (pyray and Ray, the same code) and in
runtime_executors.py (the others) under the same name.  A new row is an entry here and a
function there.
"""

from __future__ import annotations

from dataclasses import dataclass

PER_SECOND = "/s"
MICROSECONDS = "µs"
MILLISECONDS = "ms"
SECONDS = "s"
GIGABYTES = "GB/s"
MEGABYTES = "MB"
PERCENT = "% of a core"

# Units of rates; of all others, less is better.
RATES = (PER_SECOND, GIGABYTES)

OURS = "pyray"
NO_SPIN = "pyray-no-spin"
RAY = "ray"
DASK = "dask"
POOL = "pool"
PROCESSES = "processes"


@dataclass(frozen=True)
class Target:
    """What an issue asks of one row.

    ``times``     so many times better than ``peer``
    ``at_most``, ``at_least``   a bound, in the row's unit
    ``of_limit``  at least this share of the limit measured beside it
    ``over``      at most so many times what was measured beside it
    """

    kind: str
    number: float
    peer: str = ""
    subject: str = OURS


def times(number: float, peer: str, subject: str = OURS) -> Target:
    return Target("times", number, peer, subject)


def at_most(number: float) -> Target:
    return Target("at_most", number)


def at_least(number: float) -> Target:
    return Target("at_least", number)


@dataclass(frozen=True)
class Row:
    title: str
    unit: str
    targets: tuple[Target, ...] = ()
    limit: str = ""  # what is measured beside it, in the same process, in turn
    seconds: float = 300  # a peer that takes longer has failed the row
    section: str = "Calls"


@dataclass(frozen=True)
class Curve:
    title: str
    axis: str
    calls: str  # what a call is
    axis_unit: str = ""
    seconds: float = 600
    section: str = "Growth"


ROWS: dict[str, Row] = {
    # A session
    "start": Row(
        "`init()` to the first task's result, whole process with imports",
        SECONDS,
        (times(30, RAY), at_most(0.3)),
        section="A session",
    ),
    "idle-memory": Row(
        "memory of an idle session with 2 workers, beyond the driver (PSS)",
        MEGABYTES,
        (times(10, RAY), at_most(90)),
        section="A session",
    ),
    "idle-cpu": Row(
        "CPU time of an idle session with 2 workers, driver included",
        PERCENT,
        (at_most(0.1),),
        section="A session",
    ),
    # Calls, by the names of `ray microbenchmark`
    "tasks-sync": Row(
        "single client tasks sync",
        PER_SECOND,
        (times(400, RAY), times(60, PROCESSES), times(15, PROCESSES, NO_SPIN)),
        limit="two processes that wake each other by futex",
    ),
    "tasks-async": Row(
        "single client tasks async (1,000, then get)",
        PER_SECOND,
        (times(1000, RAY), times(50, POOL), at_least(1e6)),
    ),
    "tasks-async-100k": Row(
        "single client tasks async (100,000, then get)",
        PER_SECOND,
        (times(1000, RAY), times(50, POOL), at_least(1e6)),
        seconds=900,
    ),
    "tasks-batch": Row("single client tasks and get batch (of 1,000)", PER_SECOND),
    "tasks-multi": Row("multi client tasks async", PER_SECOND, (times(700, RAY),), seconds=600),
    # Objects
    "get-small": Row(
        "single client get calls (Plasma Store)",
        PER_SECOND,
        (times(200, RAY),),
        section="Objects",
    ),
    "put-small": Row(
        "single client put calls (Plasma Store)",
        PER_SECOND,
        (times(700, RAY),),
        section="Objects",
    ),
    "put-small-multi": Row("multi client put calls (Plasma Store)", PER_SECOND, section="Objects"),
    "put-gigabytes": Row(
        "single client put gigabytes (zeros that were never written, as in Ray's)",
        GIGABYTES,
        (Target("of_limit", 0.9),),
        limit="memcpy of the same array on all cores into touched shared memory",
        section="Objects",
    ),
    "put-gigabytes-written": Row(
        "single client put gigabytes (an array that was written)",
        GIGABYTES,
        (Target("of_limit", 0.9),),
        limit="memcpy of the same array on all cores into touched shared memory",
        section="Objects",
    ),
    "put-gigabytes-multi": Row("multi client put gigabytes", GIGABYTES, section="Objects"),
    "get-800mb": Row(
        "get of an 800 MB array",
        MICROSECONDS,
        (at_most(10), Target("over", 1.3)),
        limit="get of an 8 MB array",
        section="Objects",
    ),
    "wait-1k": Row(
        "single client wait 1k refs (one by one)",
        PER_SECOND,
        (times(200, RAY),),
        section="Objects",
    ),
    "get-10k-refs": Row(
        "single client get object containing 10k refs",
        PER_SECOND,
        (times(100, RAY),),
        section="Objects",
    ),
    "copy-on-write": Row(
        "ten readers of a 1 GB array who may write, all memory (PSS)",
        MEGABYTES,
        section="Objects",
    ),
    # Actors
    "actor-sync": Row("1:1 actor calls sync", PER_SECOND, (times(200, RAY),), section="Actors"),
    "actor-async": Row("1:1 actor calls async", PER_SECOND, (times(400, RAY),), section="Actors"),
    "actor-concurrent": Row(
        "1:1 actor calls concurrent", PER_SECOND, (times(150, RAY),), section="Actors"
    ),
    "actor-1-n": Row("1:n actor calls async", PER_SECOND, (times(300, RAY),), section="Actors"),
    "actor-n-n": Row(
        "n:n actor calls async", PER_SECOND, (times(300, RAY),), seconds=600, section="Actors"
    ),
    "actor-n-n-arg": Row(
        "n:n actor calls with arg async", PER_SECOND, (times(300, RAY),), section="Actors"
    ),
    "async-actor-sync": Row(
        "1:1 async-actor calls sync", PER_SECOND, (times(100, RAY),), section="Actors"
    ),
    "async-actor-async": Row(
        "1:1 async-actor calls async", PER_SECOND, (times(100, RAY),), section="Actors"
    ),
    "async-actor-args": Row(
        "1:1 async-actor calls with args async", PER_SECOND, (times(100, RAY),), section="Actors"
    ),
    "async-actor-1-n": Row("1:n async-actor calls async", PER_SECOND, section="Actors"),
    "async-actor-n-n": Row(
        "n:n async-actor calls async", PER_SECOND, seconds=600, section="Actors"
    ),
    "actors-made": Row(
        "actors created, called once and dropped",
        PER_SECOND,
        (times(50, RAY),),
        section="Actors",
    ),
    "actor-array": Row(
        "a 100 MB array as argument of 1,000 actor calls, by ref",
        MICROSECONDS,
        (Target("over", 2),),
        limit="the same with a few bytes",
        section="Actors",
    ),
    # More than memory
    "spill-put": Row(
        "sequential put of five times the store's size, by what goes to files",
        GIGABYTES,
        (Target("of_limit", 0.8),),
        limit="`dd` from /dev/zero to the same disk",
        seconds=900,
        section="More than memory",
    ),
    "spill-get": Row(
        "the same read back, from the disk",
        GIGABYTES,
        (Target("of_limit", 0.8),),
        limit="`dd` to /dev/null from the same disk",
        seconds=900,
        section="More than memory",
    ),
    "spill-fits": Row(
        "put and get of 8 KB in a store that is full of what was written to files",
        PER_SECOND,
        (Target("of_limit", 0.9),),
        limit="the same in an empty store",
        section="More than memory",
    ),
    "spill-small": Row(
        "get of 10 KB that were written to files, in random order",
        PER_SECOND,
        (times(10, RAY),),
        seconds=900,
        section="More than memory",
    ),
    "shuffle": Row(
        "shuffle of 4 GB of rows, 64 × 64 partitions, in a store of 1 GB",
        SECONDS,
        (times(2, RAY), times(2, DASK)),
        seconds=900,
        section="More than memory",
    ),
    # Programs
    "matrices": Row(
        "400 × (two 1000×1000 random matrices, one product), 16 under way",
        SECONDS,
        (Target("over", 1.05),),
        limit="the same NumPy calls in a plain process a core",
        seconds=600,
        section="Programs",
    ),
    "matrices-at-once": Row(
        "400 × (two 1000×1000 random matrices, one product), submitted at once",
        SECONDS,
        (Target("over", 1.05),),
        limit="the same NumPy calls in a plain process a core",
        seconds=600,
        section="Programs",
    ),
    "tree": Row(
        "tree reduction: 8 numbers, adds of 1 s", SECONDS, (at_most(3.05),), section="Programs"
    ),
    "chain": Row(
        "linear chain: 8 numbers, adds of 1 s", SECONDS, (at_most(7.05),), section="Programs"
    ),
    "a-by-value": Row(
        "`A` (a million int64) passed 1,000 times by value", PER_SECOND, section="Programs"
    ),
    "a-by-ref": Row(
        "`A` (a million int64) passed 1,000 times by ref", PER_SECOND, section="Programs"
    ),
    "a-captured": Row(
        "`A` (a million int64) captured in a function called 1,000 times",
        PER_SECOND,
        section="Programs",
    ),
}

CURVES: dict[str, Curve] = {
    "by-workers": Curve("Workers", "workers", "one of 1,000 tasks, then get"),
    "by-queued": Curve("Queued tasks", "tasks queued", "one task of so many, then get"),
    "by-dependencies": Curve("Dependencies", "refs in a task's arguments", "a task, wait for it"),
    "latency": Curve(
        "Latency of actor calls, idle",
        "one call in so many is slower",
        "an actor call, wait for it",
        section="Latency",
    ),
    "latency-busy": Curve(
        "Latency of actor calls, a core busy",
        "one call in so many is slower",
        "an actor call, wait for it",
        section="Latency",
    ),
    "by-argument": Curve(
        "Arguments", "bytes of the argument, by value", "a task, wait for it", "B"
    ),
}

NAMES = [*ROWS, *CURVES]


@dataclass(frozen=True)
class Peer:
    title: str
    environment: str  # "project", or a folder that peers.sh makes
    script: str
    argument: str
    distribution: str = ""  # whose version is recorded
    settings: tuple[tuple[str, str], ...] = ()  # environment variables
    only: tuple[str, ...] = ()  # rows, where not all


PEERS: dict[str, Peer] = {
    OURS: Peer("pyray", "project", "runtime_ray.py", "pyray", "pyray-runtime"),
    NO_SPIN: Peer(
        "pyray, spin off",
        "project",
        "runtime_ray.py",
        "pyray",
        "pyray-runtime",
        settings=(("PYRAY_SPIN_US", "0"),),
        only=("tasks-sync", "tasks-async", "tasks-async-100k", "tasks-multi", "idle-cpu"),
    ),
    RAY: Peer("Ray", "ray", "runtime_ray.py", "ray", "ray"),
    PROCESSES: Peer("ProcessPoolExecutor", "runtimes", "runtime_executors.py", "processes"),
    POOL: Peer("multiprocessing.Pool", "runtimes", "runtime_executors.py", "pool"),
    "loky": Peer("loky", "runtimes", "runtime_executors.py", "loky", "loky"),
    DASK: Peer("dask.distributed", "runtimes", "runtime_executors.py", "dask", "distributed"),
}
