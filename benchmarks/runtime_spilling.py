"""The workloads with more objects than memory, of pyray and of Ray: the same code for both.

Imported by runtime_ray.py, and by runtime_executors.py for the tasks of the shuffle.  Files go to a
directory of the row's own, beside which `dd` writes and reads.  What is read back is taken out of
the system's cache before, so that it comes from the disk.  Memory that these need has been in use
just before, of all alike.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime_measure import Run, clock, result

MB = 1 << 20
#: Bytes of a store at least: Ray's minimum.
LEAST = 80 * MB
#: Bytes of a row that is shuffled: two int64.
ROW_BYTES = 16


@contextmanager
def session(ray: Any, store: int) -> Iterator[Path]:
    """A session with so small a store, and where its files are."""
    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=2, object_store_memory=store, object_spilling_directory=folder)
        try:
            yield Path(folder)
        finally:
            ray.shutdown()


def warm(size: int) -> None:
    """The system has so much free memory at hand.

    A virtual machine may have to get it from its host first, at less than the speed of a disk.
    Whether it has to depends on what ran before, and is to be the same for all.
    """
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


def forget_cached(folder: Path) -> None:
    """The system's cache keeps nothing of the files below."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def dd(**operands: object) -> float:
    start = clock()
    text = [f"{name}={value}" for name, value in operands.items()]
    subprocess.run(["dd", *text], check=True, capture_output=True)
    return clock() - start


def disk(folder: Path, size: int) -> tuple[float, float]:
    """Seconds that the disk needs to write so much and to read it.

    Neither is waited for until the disk has it (fdatasync), as files of a session are not either;
    what is read was taken out of the cache, in both.
    """
    path = folder / "dd"
    os.sync()
    warm(size)
    taken = dd(**{"if": "/dev/zero", "of": path, "bs": "1M", "count": size // MB})
    forget_cached(folder)
    warm(size)
    read = dd(**{"if": path, "of": "/dev/null", "bs": "1M"})
    path.unlink()
    return taken, read


def five_times(ray: Any, run: Run, which: int) -> dict:
    """Gigabytes a second of arrays of 20 MB, written (0) or read back (1); and the disk's.

    Those that the store itself holds do not count: four times its size goes to the disk.
    """
    import numpy as np

    store = run.size(1000, 200) * MB
    array = np.arange(20 * MB // 8)
    count = 5 * store // array.nbytes
    size = 4 * store

    def once() -> float:
        with session(ray, store) as folder:
            os.sync()
            warm(size + store)
            start = clock()
            refs = []
            for i in range(count):
                array[0] = i
                refs.append(ray.put(array))
            seconds = [clock() - start]
            forget_cached(folder)
            warm(size)
            start = clock()
            for i, ref in enumerate(refs):
                value = ray.get(ref)
                if value[0] != i or value[-1] != len(array) - 1:
                    raise AssertionError("another array")
                del value
            seconds.append(clock() - start)
            return size / seconds[which] / 1e9

    def limit() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return size / disk(Path(folder), size)[which] / 1e9

    return result(*run.rounds(once, limit))


def spill_put(ray: Any, run: Run) -> dict:
    return five_times(ray, run, 0)


def spill_get(ray: Any, run: Run) -> dict:
    return five_times(ray, run, 1)


def spill_fits(ray: Any, run: Run) -> dict:
    """Put and get of a small array, in a store full of what is in files, and in an empty one."""
    import numpy as np

    array = np.zeros(1000)
    large = np.arange(20 * MB // 8)

    def call() -> None:
        ray.get(ray.put(array))

    def rate(count: int) -> float:
        with session(ray, 500 * MB):
            refs = [ray.put(large) for _ in range(count)]
            found = run.rate(call, warm_seconds=1)["value"]
            del refs
            return found

    return result(*run.rounds(lambda: rate(60), lambda: rate(0)))


def spill_small(ray: Any, run: Run) -> dict:
    """Objects of 10 KB that were spilled, got in random order, a second."""
    import numpy as np

    count = run.size(100_000, 20_000)
    order = list(range(count))
    random.Random(0).shuffle(order)

    def once() -> float:
        with session(ray, max(count * 10_000 // 5, LEAST)):
            refs = [ray.put(np.full(1250, i)) for i in range(count)]
            start = clock()
            for i in order:
                if ray.get(refs[i])[0] != i:
                    raise AssertionError("another array")
            taken = clock() - start
            del refs
            return count / taken

    return result(*run.rounds(once))


def deal(seed: int, parts: int, rows: int) -> list[Any]:
    """A partition of so many rows, of a key and a number, by the partitions that they go to.

    In the ways of NumPy that take least (a radix sort of short keys; take, which copies rows as
    such): what is measured is how the pieces get about.
    """
    import numpy as np

    table = np.random.default_rng(seed).integers(0, 1 << 60, (rows, 2))
    table[:, 0] %= parts
    keys = table[:, 0].astype(np.uint8)
    table = np.take(table, np.argsort(keys, kind="stable"), axis=0)
    ends = np.bincount(keys, minlength=parts).cumsum()
    return list(np.split(table, ends[:-1]))


def gather(part: int, *pieces: Any) -> tuple[int, int]:
    """How many rows have come to a partition, and the sum of their numbers."""
    import numpy as np

    keys = np.concatenate([piece[:, 0] for piece in pieces])
    if (keys != part).any():
        raise AssertionError("a row of another partition")
    return len(keys), sum(int(piece[:, 1].sum()) for piece in pieces)


def shuffle_size(run: Run) -> tuple[int, int, int]:
    """Partitions, rows of each, and bytes of the store."""
    parts = run.size(64, 16)
    rows = run.size(1 << 22, 1 << 20)
    return parts, rows, max(rows * ROW_BYTES * parts // 4, LEAST)


def check_rows(gathered: list[tuple[int, int]], expected: int) -> None:
    if sum(count for count, _ in gathered) != expected:
        raise AssertionError("rows are missing")


def shuffle(ray: Any, run: Run) -> dict:
    """Rows go from so many partitions to as many others, through a store that is too small."""
    parts, rows, store = shuffle_size(run)

    def once() -> float:
        with session(ray, store):
            dealt = ray.remote(deal).options(num_returns=parts)
            gathered = ray.remote(gather)
            start = clock()
            pieces = [dealt.remote(seed, parts, rows) for seed in range(parts)]
            results = [gathered.remote(k, *[p[k] for p in pieces]) for k in range(parts)]
            del pieces
            check_rows(ray.get(results), rows * parts)
            return clock() - start

    return run.once(once)


ROWS = {
    "spill-put": spill_put,
    "spill-get": spill_get,
    "spill-fits": spill_fits,
    "spill-small": spill_small,
    "shuffle": shuffle,
}
