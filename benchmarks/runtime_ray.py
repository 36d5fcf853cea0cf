"""The workloads of the runtime benchmark against the Ray API, of pyray and of Ray.

    runtime_ray.py pyray|ray ROW [SETTINGS]

is run by runtime.py in the environment of either; the same code for both.  Names and
workloads are those of `ray microbenchmark` where it has them.  A row is a function that is
given the module, a session being up, and what to measure with.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runtime_actors
import runtime_spilling
from runtime_measure import Memcpy, PlainProcesses, Run, Wakeups, clock, pss, serve, shared_bytes

ROWS: dict[str, Callable[[Any, Run], dict | None]] = {}


def row(name: str) -> Callable:
    """Register a row that is measured in a session with a CPU for each core."""

    def register(function: Callable[[Any, Run], dict | None]) -> Callable:
        def measured(ray: Any, run: Run) -> dict | None:
            ray.init(num_cpus=run.workers)
            return function(ray, run)

        ROWS[name] = measured
        return function

    return register


def row_of_its_own(name: str) -> Callable:
    """Register a row that makes its sessions itself."""

    def register(function: Callable[[Any, Run], dict | None]) -> Callable:
        ROWS[name] = function
        return function

    return register


def small_value() -> bytes:
    return b"ok"


def pause(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def await_workers(ray: Any, count: int) -> None:
    """Return when so many workers have run a task."""
    paused = ray.remote(pause)
    seen: set[int] = set()
    end = clock() + 120
    while len(seen) < count:
        seen.update(ray.get([paused.remote(0.3) for _ in range(count)]))
        if clock() > end:
            raise TimeoutError(f"{len(seen)} of {count} workers after two minutes")


# A session

START = """
import {module} as ray
ray.init(num_cpus={workers})
@ray.remote
def first():
    return "ok"
print(ray.get(first.remote()), flush=True)
"""


@row_of_its_own("start")
def start(ray: Any, run: Run) -> dict:
    return run.starts(START.format(module=ray.__name__, workers=run.workers))


@row_of_its_own("idle-memory")
def idle_memory(ray: Any, run: Run) -> dict:
    ray.init(num_cpus=2)
    await_workers(ray, 2)
    return run.memory()


@row_of_its_own("idle-cpu")
def idle_cpu(ray: Any, run: Run) -> dict:
    ray.init(num_cpus=2)
    await_workers(ray, 2)
    return run.idle_cpu()


# Calls


@row_of_its_own("tasks-sync")
def tasks_sync(ray: Any, run: Run) -> dict:
    wakeups = Wakeups()
    ray.init(num_cpus=run.workers)
    small = ray.remote(small_value)
    try:
        return run.rate(lambda: ray.get(small.remote()), limit=wakeups)
    finally:
        wakeups.stop()


@row("tasks-async")
def tasks_async(ray: Any, run: Run) -> dict:
    small = ray.remote(small_value)
    return run.rate(lambda: ray.get([small.remote() for _ in range(1000)]), 1000)


@row("tasks-async-100k")
def tasks_async_100k(ray: Any, run: Run) -> dict:
    small = ray.remote(small_value)
    count = run.size(100_000, 20_000)
    found = run.rate(
        lambda: ray.get([small.remote() for _ in range(count)]),
        count,
        warm=lambda: ray.get([small.remote() for _ in range(1000)]),
    )
    return {**found, "tasks": count}


@row("tasks-batch")
def tasks_batch(ray: Any, run: Run) -> dict:
    small = ray.remote(small_value)

    def batch() -> None:
        submitted = [small.remote() for _ in range(1000)]
        ray.get(submitted)

    return run.rate(batch)


@row("tasks-multi")
def tasks_multi(ray: Any, run: Run) -> dict:
    """Four clients that each submit and get 10,000 tasks.  Ray's own has actors for clients."""
    small = ray.remote(small_value)

    @ray.remote(num_cpus=0)
    def client(count: int) -> int:
        ray.get([small.remote() for _ in range(count)])
        return os.getpid()

    count = run.size(10_000, 2_000)
    found = run.rate(
        lambda: ray.get([client.remote(count) for _ in range(4)]),
        4 * count,
        warm=lambda: ray.get([client.remote(100) for _ in range(4)]),
    )
    return {**found, "tasks": 4 * count}


# Objects


@row("get-small")
def get_small(ray: Any, run: Run) -> dict:
    value = ray.put(0)
    return run.rate(lambda: ray.get(value))


@row("put-small")
def put_small(ray: Any, run: Run) -> dict:
    return run.rate(lambda: ray.put(0))


@row("put-small-multi")
def put_small_multi(ray: Any, run: Run) -> dict:
    @ray.remote
    def client() -> None:
        for _ in range(100):
            ray.put(0)

    return run.rate(lambda: ray.get([client.remote() for _ in range(10)]), 1000)


def put_array(ray: Any, run: Run, array: Any) -> dict:
    # A put takes the memory of an earlier one only once that was given back: it takes a while
    # until all of the store has been touched.
    return run.rate(
        lambda: ray.put(array),
        array.nbytes / 1e9,
        limit=Memcpy(array, os.cpu_count() or 1),
        warm_seconds=run.size(10, 5),
    )


@row("put-gigabytes")
def put_gigabytes(ray: Any, run: Run) -> dict:
    import numpy as np

    return put_array(ray, run, np.zeros(100 * 1024 * 1024, np.int64))


@row("put-gigabytes-written")
def put_gigabytes_written(ray: Any, run: Run) -> dict:
    import numpy as np

    return put_array(ray, run, np.arange(100 * 1024 * 1024, dtype=np.int64))


@row("put-gigabytes-multi")
def put_gigabytes_multi(ray: Any, run: Run) -> dict:
    @ray.remote
    def client() -> None:
        import numpy as np

        for _ in range(10):
            ray.put(np.zeros(10 * 1024 * 1024, np.int64))

    gigabytes = 10 * 10 * 10 * 1024 * 1024 * 8 / 1e9
    return run.rate(
        lambda: ray.get([client.remote() for _ in range(10)]),
        gigabytes,
        warm_seconds=run.size(10, 5),
    )


@row("get-800mb")
def get_800mb(ray: Any, run: Run) -> dict:
    import numpy as np

    large = ray.put(np.ones(100 * 1024 * 1024, np.int64))
    small = ray.put(np.ones(1024 * 1024, np.int64))
    if ray.get(large).nbytes != 100 * ray.get(small).nbytes:
        raise AssertionError("another array")
    return run.time(lambda: ray.get(large), 1e6, limit=lambda: ray.get(small))


@row("wait-1k")
def wait_1k(ray: Any, run: Run) -> dict:
    small = ray.remote(small_value)

    def wait_multiple_refs() -> None:
        not_ready = [small.remote() for _ in range(1000)]
        fetch_local = True  # asked for once, as in `ray microbenchmark`
        for _ in range(1000):
            _, not_ready = ray.wait(not_ready, fetch_local=fetch_local)
            fetch_local = False

    return run.rate(wait_multiple_refs)


@row("get-10k-refs")
def get_10k_refs(ray: Any, run: Run) -> dict:
    @ray.remote
    def create_object_containing_ref() -> list:
        return [ray.put(1) for _ in range(10_000)]

    holder = create_object_containing_ref.remote()
    if len(ray.get(holder)) != 10_000:
        raise AssertionError("not 10,000 refs")
    return run.rate(lambda: ray.get(holder))


def shared_memory(ray: Any) -> float:
    """Megabytes of shared memory that this process maps: the store's."""
    return shared_bytes([os.getpid()]) / 1e6


@row_of_its_own("copy-on-write")
def copy_on_write(ray: Any, run: Run) -> dict:
    """Ten tasks that each hold the array, may write to it, have read it and written one item.

    Ray has no such get: there, whoever will write makes a copy.
    """
    import numpy as np

    readers = 10
    megabytes = run.size(1000, 100)
    ray.init(num_cpus=readers)
    await_workers(ray, readers)
    before = shared_memory(ray)
    held = ray.put(np.ones(megabytes * 125_000, np.int64))
    ours = ray.__name__ == "pyray"
    folder = tempfile.mkdtemp()

    def private() -> int:
        sizes = pss(os.getpid())
        return sizes["Pss"] - sizes.get("Pss_Shmem", 0)

    @ray.remote
    def reader(number: int, refs: list) -> tuple[int, int, int]:
        def meet(name: str) -> None:  # all readers come to the same point
            Path(folder, f"{name}-{number}").touch()
            while len(list(Path(folder).glob(f"{name}-*"))) < readers:
                time.sleep(0.02)

        np.ones(1000).sum()  # numpy is loaded before
        meet("begin")
        before = private()
        array = ray.get(refs[0], copy_on_write=True) if ours else ray.get(refs[0]).copy()
        if array.sum() != len(array):
            raise AssertionError("what a reader wrote is seen by another")
        array[number] = 7
        meet("read")
        after = private()
        meet("end")
        return before, after, os.getpid()

    found = ray.get([reader.remote(number, [held]) for number in range(readers)])
    if len({pid for _, _, pid in found}) != readers:
        raise AssertionError("readers shared a process")
    if ray.get(held).sum() != megabytes * 125_000:
        raise AssertionError("the object has changed")
    own = sum(after - before for before, after, _ in found) / 1e6
    shared = shared_memory(ray) - before
    return {
        "value": own + shared,
        "readers": own,
        "shared": shared,
        "array": megabytes,
        "way": "get(ref, copy_on_write=True)" if ours else "get(ref).copy()",
    }


# Programs


def create_matrix(size: list[int]) -> Any:
    import numpy as np

    return np.random.normal(size=size)


def multiply_matrices(x: Any, y: Any) -> Any:
    import numpy as np

    return np.dot(x, y)


def matrices(ray: Any, run: Run, window: int | None) -> dict:
    count = run.size(400, 40)
    plain = PlainProcesses(os.cpu_count() or 1)
    ray.init(num_cpus=run.workers)
    await_workers(ray, run.workers)
    create, multiply = ray.remote(create_matrix), ray.remote(multiply_matrices)

    def product() -> Any:
        x = create.remote([1000, 1000])
        y = create.remote([1000, 1000])
        return multiply.remote(x, y)

    def program(count: int = count) -> None:
        waiting: list[Any] = []
        for _ in range(count):
            if window and len(waiting) == window:
                check(ray.get(waiting.pop(0)))
            waiting.append(product())
        for matrix in ray.get(waiting):
            check(matrix)

    def check(matrix: Any) -> None:
        if matrix.shape != (1000, 1000):
            raise AssertionError("not a product")

    program(2 * run.workers)
    try:
        found = run.once(program, lambda: plain.run(count))
    finally:
        plain.stop()
    return {**found, "products": count}


@row_of_its_own("matrices")
def matrices_in_a_window(ray: Any, run: Run) -> dict:
    return matrices(ray, run, 16)


@row_of_its_own("matrices-at-once")
def matrices_at_once(ray: Any, run: Run) -> dict:
    return matrices(ray, run, None)


def slow_add(x: int, y: int) -> int:
    time.sleep(1)
    return x + y


@row_of_its_own("tree")
def tree(ray: Any, run: Run) -> dict:
    ray.init(num_cpus=4)
    await_workers(ray, 4)
    add = ray.remote(slow_add)

    def reduction() -> None:
        values = list(range(1, 9))
        while len(values) > 1:
            values = [*values[2:], add.remote(values[0], values[1])]
        if ray.get(values[0]) != 36:
            raise AssertionError("not the sum")

    return run.once(reduction)


@row_of_its_own("chain")
def chain(ray: Any, run: Run) -> dict:
    ray.init(num_cpus=4)
    await_workers(ray, 4)
    add = ray.remote(slow_add)

    def reduction() -> None:
        total = 1
        for value in range(2, 9):
            total = add.remote(total, value)
        if ray.get(total) != 36:
            raise AssertionError("not the sum")

    return run.once(reduction)


def length(array: Any) -> int:
    return len(array)


def pass_array(ray: Any, run: Run, call: Callable[[], Any]) -> dict:
    count = run.size(1000, 100)

    def thousand(count: int = count) -> None:
        if ray.get([call() for _ in range(count)]) != [1_000_000] * count:
            raise AssertionError("another array")

    return {**run.rate(thousand, count, warm=lambda: thousand(10)), "calls": count}


@row("a-by-value")
def a_by_value(ray: Any, run: Run) -> dict:
    import numpy as np

    a = np.arange(1_000_000)
    task = ray.remote(length)
    return pass_array(ray, run, lambda: task.remote(a))


@row("a-by-ref")
def a_by_ref(ray: Any, run: Run) -> dict:
    import numpy as np

    a = ray.put(np.arange(1_000_000))
    task = ray.remote(length)
    return pass_array(ray, run, lambda: task.remote(a))


@row("a-captured")
def a_captured(ray: Any, run: Run) -> dict:
    import numpy as np

    a = np.arange(1_000_000)

    @ray.remote
    def task() -> int:
        return len(a)

    return pass_array(ray, run, task.remote)


# Growth


@row_of_its_own("by-workers")
def by_workers(ray: Any, run: Run) -> None:
    for workers in run.points([1, 2, 4, 8, 16, 32, 64], growing=False):
        start = clock()
        ray.init(num_cpus=workers)
        await_workers(ray, workers)
        found = tasks_async(ray, run)
        ray.shutdown()
        run.point(workers, found, clock() - start)


@row("by-queued")
def by_queued(ray: Any, run: Run) -> None:
    small = ray.remote(small_value)

    def queue(count: int) -> None:
        ray.get([small.remote() for _ in range(count)])

    run.warm(lambda: queue(1000))
    for count in run.points(10**power for power in range(1, 7)):
        if count <= 10_000:
            found = run.rate(lambda count=count: queue(count), count)
        else:
            found = run.rate(lambda count=count: queue(count), count, warm=lambda: queue(1000))
        run.point(count, found, count / found["value"])


@row("by-dependencies")
def by_dependencies(ray: Any, run: Run) -> None:
    @ray.remote
    def count_of(*values: int) -> int:
        return len(values)

    for count in run.points(10**power for power in range(5)):
        refs = [ray.put(0) for _ in range(count)]
        if ray.get(count_of.remote(*refs)) != count:
            raise AssertionError("dependencies were lost")
        found = run.rate(lambda refs=refs: ray.get(count_of.remote(*refs)))
        run.point(count, found, 3 / found["value"])


@row("by-argument")
def by_argument(ray: Any, run: Run) -> None:
    import numpy as np

    task = ray.remote(length)
    for size in run.points([0, 100, *(10**power for power in range(3, 10))]):
        array = np.ones(size, np.uint8)
        if ray.get(task.remote(array)) != size:
            raise AssertionError("another array")
        found = run.rate(lambda array=array: ray.get(task.remote(array)))
        run.point(size, found, 3 / found["value"])


for _name, _function in (runtime_actors.ROWS | runtime_actors.CURVES).items():
    row(_name)(_function)
for _name, _function in runtime_spilling.ROWS.items():
    row_of_its_own(_name)(_function)


def versions(module: str) -> dict:
    from importlib.metadata import version

    # Of a source tree, as pyray's is, nothing is recorded but what it says itself.
    own = version(module) if module == "ray" else importlib.import_module(module).__version__
    return {"python": sys.version.split()[0], module: own, "numpy": version("numpy")}


def main() -> None:
    module = sys.argv[1]

    def bound(function: Callable[[Any, Run], dict | None]) -> Callable[[Run], dict | None]:
        return lambda run: function(importlib.import_module(module), run)

    serve(
        {name: bound(function) for name, function in ROWS.items()},
        lambda: versions(module),
    )


if __name__ == "__main__":
    main()
