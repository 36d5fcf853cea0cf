"""The workloads of the runtime benchmark for what has no Ray API.

    runtime_executors.py processes|pool|loky|dask ROW [SETTINGS]

is run by runtime.py in their environment.  A peer is a class with the few calls that the rows
need; a row is a function of such a peer, started, and what to measure with.
"""

from __future__ import annotations

import operator
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from runtime_measure import PlainProcesses, Run, clock, serve
from runtime_spilling import ROW_BYTES, check_rows, deal, gather, shuffle_size


def small_value() -> bytes:
    return b"ok"


def pause(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def length(array: Any) -> int:
    return len(array)


def create_matrix(size: list[int]) -> Any:
    import numpy as np

    return np.random.normal(size=size)


def multiply_matrices(x: Any, y: Any) -> Any:
    import numpy as np

    return np.dot(x, y)


def slow_add(x: int, y: int) -> int:
    time.sleep(1)
    return x + y


class Futures:
    """What has ``submit``, of which the result is asked: concurrent.futures and its like."""

    # A whole program: START in it is how the pool is made.
    START = """
{imports}
def first():
    return "ok"
if __name__ == "__main__":
    pool = {make}
    print(pool.submit(first).result(), flush=True)
    {stop}
"""
    imports = "from concurrent.futures import ProcessPoolExecutor"
    make = "ProcessPoolExecutor({workers})"
    end = "pool.shutdown()"

    def script(self, workers: int) -> str:
        make = self.make.format(workers=workers)
        return self.START.format(imports=self.imports, make=make, stop=self.end)

    def start(self, workers: int) -> None:
        names: dict[str, Any] = {}
        exec(self.imports, names)
        self.pool = eval(self.make.format(workers=workers), names)

    def stop(self) -> None:
        self.pool.shutdown()

    def one(self, function: Callable, *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments).result()

    def many(self, function: Callable, count: int, *arguments: Any) -> list:
        submit = self.pool.submit
        futures = [submit(function, *arguments) for _ in range(count)]
        return [future.result() for future in futures]


class Loky(Futures):
    imports = "from loky import ProcessPoolExecutor"


class Pool(Futures):
    START = """
{imports}
def first():
    return "ok"
if __name__ == "__main__":
    pool = {make}
    print(pool.apply(first), flush=True)
    {stop}
"""
    imports = "from multiprocessing import Pool"
    make = "Pool({workers})"
    end = "pool.terminate()"

    def stop(self) -> None:
        self.pool.terminate()
        self.pool.join()

    def one(self, function: Callable, *arguments: Any) -> Any:
        return self.pool.apply(function, arguments)

    def many(self, function: Callable, count: int, *arguments: Any) -> list:
        submit = self.pool.apply_async
        results = [submit(function, arguments) for _ in range(count)]
        return [result.get() for result in results]


class Dask(Futures):
    imports = "from distributed import Client"
    # No dashboard: it is not installed either.
    make = "Client(n_workers={workers}, threads_per_worker=1, dashboard_address=None)"
    end = "pool.shutdown()"

    def one(self, function: Callable, *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments, pure=False).result()

    def many(self, function: Callable, count: int, *arguments: Any) -> list:
        submit = self.pool.submit
        return self.pool.gather([submit(function, *arguments, pure=False) for _ in range(count)])


PEERS: dict[str, type[Futures]] = {
    "processes": Futures,
    "pool": Pool,
    "loky": Loky,
    "dask": Dask,
}
#: Bytes of an idle worker of dask, and the tables that exist at a time in a task that deals one.
DASK_WORKER, DEALING = 150 << 20, 5

VERSIONS = {"loky": ["loky", "cloudpickle"], "dask": ["distributed", "cloudpickle"]}

ROWS: dict[str, Callable[[Any, Run], dict | None]] = {}
# Rows that some peers cannot do: no task depends on another, functions only by their names.
ONLY: dict[str, tuple[str, ...]] = {}


def row(name: str, *only: str, start: bool = True) -> Callable:
    """Register a row; with ``start`` it is given a pool that runs, with a process a core."""

    def register(function: Callable[[Any, Run], dict | None]) -> Callable:
        def measured(peer: Any, run: Run) -> dict | None:
            peer.start(run.workers)
            try:
                return function(peer, run)
            finally:
                peer.stop()

        ROWS[name] = measured if start else function
        if only:
            ONLY[name] = only
        return function

    return register


def offers(peer: str, name: str) -> bool:
    return name in ROWS and peer in ONLY.get(name, PEERS)


def await_workers(peer: Any, count: int) -> None:
    """Return when so many processes have run a task."""
    seen: set[int] = set()
    end = clock() + 120
    while len(seen) < count:
        seen.update(peer.many(pause, count, 0.3))
        if clock() > end:
            raise TimeoutError(f"{len(seen)} of {count} processes after two minutes")


def time_of(call: Callable[[], Any]) -> float:
    """Seconds of a call that has been made before."""
    call()
    start = clock()
    call()
    return clock() - start


# A session


@row("start", start=False)
def first_result(peer: Any, run: Run) -> dict:
    return run.starts(peer.script(run.workers))


@row("idle-memory", start=False)
def idle_memory(peer: Any, run: Run) -> dict:
    peer.start(2)
    await_workers(peer, 2)
    found = run.memory()
    peer.stop()
    return found


@row("idle-cpu", start=False)
def idle_cpu(peer: Any, run: Run) -> dict:
    peer.start(2)
    await_workers(peer, 2)
    found = run.idle_cpu()
    peer.stop()
    return found


# Calls


@row("tasks-sync")
def tasks_sync(peer: Any, run: Run) -> dict:
    return run.rate(lambda: peer.one(small_value))


@row("tasks-async")
def tasks_async(peer: Any, run: Run) -> dict:
    return run.rate(lambda: peer.many(small_value, 1000), 1000)


@row("tasks-async-100k")
def tasks_async_100k(peer: Any, run: Run) -> dict:
    def thousand() -> list:
        return peer.many(small_value, 1000)

    count = run.affordable(run.size(100_000, 20_000), time_of(thousand) / 1000)
    found = run.rate(lambda: peer.many(small_value, count), count, warm=thousand)
    return {**found, "tasks": count}


@row("tasks-batch")
def tasks_batch(peer: Any, run: Run) -> dict:
    return run.rate(lambda: peer.many(small_value, 1000))


# Programs


def matrices(peer: Any, run: Run, window: int | None) -> dict:
    count = run.size(400, 40)
    plain = PlainProcesses(os.cpu_count() or 1)
    peer.start(run.workers)
    await_workers(peer, run.workers)
    submit = peer.pool.submit

    def product() -> Any:
        x = submit(create_matrix, [1000, 1000], pure=False)
        y = submit(create_matrix, [1000, 1000], pure=False)
        return submit(multiply_matrices, x, y)

    def check(matrix: Any) -> None:
        if matrix.shape != (1000, 1000):
            raise AssertionError("not a product")

    def program(count: int = count) -> None:
        waiting: list[Any] = []
        for _ in range(count):
            if window and len(waiting) == window:
                check(waiting.pop(0).result())
            waiting.append(product())
        for matrix in peer.pool.gather(waiting):
            check(matrix)

    program(2 * run.workers)
    try:
        found = run.once(program, lambda: plain.run(count))
    finally:
        plain.stop()
    peer.stop()
    return {**found, "products": count}


@row("matrices", "dask", start=False)
def matrices_in_a_window(peer: Any, run: Run) -> dict:
    return matrices(peer, run, 16)


@row("matrices-at-once", "dask", start=False)
def matrices_at_once(peer: Any, run: Run) -> dict:
    return matrices(peer, run, None)


@row("tree", "dask", start=False)
def tree(peer: Any, run: Run) -> dict:
    peer.start(4)
    await_workers(peer, 4)

    def reduction() -> None:
        values: list[Any] = list(range(1, 9))
        while len(values) > 1:
            add = peer.pool.submit(slow_add, values[0], values[1], pure=False)
            values = [*values[2:], add]
        if values[0].result() != 36:
            raise AssertionError("not the sum")

    found = run.once(reduction)
    peer.stop()
    return found


@row("chain", "dask", start=False)
def chain(peer: Any, run: Run) -> dict:
    peer.start(4)
    await_workers(peer, 4)

    def reduction() -> None:
        total: Any = 1
        for value in range(2, 9):
            total = peer.pool.submit(slow_add, total, value, pure=False)
        if total.result() != 36:
            raise AssertionError("not the sum")

    found = run.once(reduction)
    peer.stop()
    return found


def deal_copies(seed: int, parts: int, rows: int) -> list[Any]:
    """Pieces that go one by one: a view of the table would keep all of it."""
    return [piece.copy() for piece in deal(seed, parts, rows)]


@row("shuffle", "dask", start=False)
def shuffle(peer: Any, run: Run) -> dict:
    """As in runtime_spilling.py.  A task of dask has one result: its pieces are taken out by tasks.

    Results in memory have a worker's part of the store, and what is more goes to files.  The limit
    of a worker counts what its tasks use themselves, too, which in Ray and pyray is outside the
    store: it has so much more.
    """
    import dask
    from distributed import Client

    parts, rows, store = shuffle_size(run)
    results_bytes = store // run.workers
    memory = results_bytes + DASK_WORKER + DEALING * rows * ROW_BYTES
    settings = {"distributed.worker.memory.target": results_bytes / memory}

    def once() -> float:
        with (
            tempfile.TemporaryDirectory() as folder,
            dask.config.set({"temporary-directory": folder, **settings}),
            Client(
                n_workers=run.workers,
                threads_per_worker=1,
                memory_limit=memory,
                dashboard_address=None,
            ) as client,
        ):
            start = clock()
            pieces = []
            for seed in range(parts):  # so pieces are taken before the next table is made
                table = client.submit(deal_copies, seed, parts, rows, pure=False)
                pieces.append(
                    [client.submit(operator.getitem, table, k, pure=False) for k in range(parts)]
                )
                del table
            results = [
                client.submit(gather, k, *[piece[k] for piece in pieces], pure=False)
                for k in range(parts)
            ]
            del pieces
            check_rows(client.gather(results), rows * parts)
            return clock() - start

    return {**run.once(once), "worker_bytes": memory, "results_bytes": results_bytes}


def pass_array(run: Run, calls: Callable[[int], list]) -> dict:
    def several(count: int) -> None:
        if calls(count) != [1_000_000] * count:
            raise AssertionError("another array")

    def ten() -> None:
        several(10)

    count = run.affordable(run.size(1000, 100), time_of(ten) / 10)
    return {**run.rate(lambda: several(count), count, warm=ten), "calls": count}


@row("a-by-value")
def a_by_value(peer: Any, run: Run) -> dict:
    import numpy as np

    a = np.arange(1_000_000)
    return pass_array(run, lambda count: peer.many(length, count, a))


@row("a-by-ref", "dask")
def a_by_ref(peer: Any, run: Run) -> dict:
    import numpy as np

    a = peer.pool.scatter(np.arange(1_000_000))
    return pass_array(run, lambda count: peer.many(length, count, a))


@row("a-captured", "loky", "dask")
def a_captured(peer: Any, run: Run) -> dict:
    import numpy as np

    a = np.arange(1_000_000)

    def task() -> int:
        return len(a)

    return pass_array(run, lambda count: peer.many(task, count))


# Growth


@row("by-workers", start=False)
def by_workers(peer: Any, run: Run) -> None:
    for workers in run.points([1, 2, 4, 8, 16, 32, 64], growing=False):
        start = clock()
        peer.start(workers)
        await_workers(peer, workers)
        found = tasks_async(peer, run)
        peer.stop()
        run.point(workers, found, clock() - start)


@row("by-queued")
def by_queued(peer: Any, run: Run) -> None:
    run.warm(lambda: peer.many(small_value, 1000))
    for count in run.points(10**power for power in range(1, 7)):
        warm = None if count <= 10_000 else lambda: peer.many(small_value, 1000)
        found = run.rate(lambda count=count: peer.many(small_value, count), count, warm=warm)
        run.point(count, found, count / found["value"])


def count_of(*values: Any) -> int:
    return len(values)


@row("by-dependencies", "dask")
def by_dependencies(peer: Any, run: Run) -> None:
    for count in run.points(10**power for power in range(5)):
        refs = [peer.pool.submit(int, pure=False) for _ in range(count)]
        if peer.one(count_of, *refs) != count:
            raise AssertionError("dependencies were lost")
        found = run.rate(lambda refs=refs: peer.one(count_of, *refs))
        run.point(count, found, 3 / found["value"])


@row("by-argument")
def by_argument(peer: Any, run: Run) -> None:
    import numpy as np

    for size in run.points([0, 100, *(10**power for power in range(3, 10))]):
        array = np.ones(size, np.uint8)
        if peer.one(length, array) != size:
            raise AssertionError("another array")
        found = run.rate(lambda array=array: peer.one(length, array))
        run.point(size, found, 3 / found["value"])


def versions(name: str) -> dict:
    from importlib.metadata import version

    found = {"python": sys.version.split()[0]}
    for distribution in [*VERSIONS.get(name, []), "numpy"]:
        found[distribution] = version(distribution)
    if name in ("processes", "pool"):
        import multiprocessing

        found["start method"] = multiprocessing.get_start_method()
    return found


def main() -> None:
    name = sys.argv[1]
    peer = PEERS[name]()

    def bound(function: Callable[[Any, Run], dict | None]) -> Callable[[Run], dict | None]:
        return lambda run: function(peer, run)

    serve({key: bound(function) for key, function in ROWS.items()}, lambda: versions(name))


if __name__ == "__main__":
    main()
