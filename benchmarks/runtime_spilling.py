"""The workloads with more objects than memory, of pyray and of Ray: the same code for both.

Imported by runtime_ray.py.  Files go to a directory of the row's own, beside which `dd` writes and
reads.  What is read back is taken out of the system's cache before, so that it comes from the disk.
"""

from __future__ import annotations

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


@contextmanager
def session(ray: Any, store: int) -> Iterator[Path]:
    """A session with so small a store, and where its files are."""
    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=2, object_store_memory=store, object_spilling_directory=folder)
        try:
            yield Path(folder)
        finally:
            ray.shutdown()


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
    """Seconds that the disk needs to write so much and to read it."""
    path = folder / "dd"
    taken = dd(**{"if": "/dev/zero", "of": path, "bs": "1M", "count": size // MB})
    forget_cached(folder)
    read = dd(**{"if": path, "of": "/dev/null", "bs": "1M"})
    path.unlink()
    os.sync()
    return taken, read


def five_times(ray: Any, run: Run, which: int) -> dict:
    """Gigabytes a second of arrays of 20 MB, written (0) or read back (1); and the disk's."""
    import numpy as np

    store = run.size(1000, 200) * MB
    array = np.arange(20 * MB // 8)
    count = 5 * store // array.nbytes
    size = count * array.nbytes

    def once() -> float:
        with session(ray, store) as folder:
            start = clock()
            refs = []
            for i in range(count):
                array[0] = i
                refs.append(ray.put(array))
            seconds = [clock() - start]
            forget_cached(folder)
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

    rates = []
    for full in (False, True):
        with session(ray, 500 * MB):
            refs = [ray.put(large) for _ in range(60)] if full else []
            rates.append(run.rate(call, warm_seconds=2)["rounds"])
            del refs
    return result(rates[1], rates[0])


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


def shuffle(ray: Any, run: Run) -> dict:
    """Rows go from so many partitions to as many others, through a store that is too small."""
    import numpy as np

    parts = run.size(64, 16)
    rows = run.size(1 << 22, 1 << 20)  # of a partition, of 16 bytes

    def deal(seed: int) -> list[Any]:
        numbers = np.random.default_rng(seed)
        keys = numbers.integers(0, parts, rows)
        table = np.stack([keys, numbers.integers(0, 1 << 60, rows)], axis=1)
        table = table[np.argsort(keys, kind="stable")]
        ends = np.searchsorted(table[:, 0], np.arange(parts), side="right")
        return list(np.split(table, ends[:-1]))

    def gather(part: int, *pieces: Any) -> tuple[int, int]:
        keys = np.concatenate([piece[:, 0] for piece in pieces])
        if (keys != part).any():
            raise AssertionError("a row of another partition")
        return len(keys), sum(int(piece[:, 1].sum()) for piece in pieces)

    def once() -> float:
        with session(ray, max(rows * 16 * parts // 4, LEAST)):
            dealt = ray.remote(deal).options(num_returns=parts)
            gathered = ray.remote(gather)
            start = clock()
            pieces = [dealt.remote(seed) for seed in range(parts)]
            results = [gathered.remote(k, *[p[k] for p in pieces]) for k in range(parts)]
            del pieces
            if sum(count for count, _ in ray.get(results)) != rows * parts:
                raise AssertionError("rows are missing")
            return clock() - start

    return run.once(once)


ROWS = {
    "spill-put": spill_put,
    "spill-get": spill_get,
    "spill-fits": spill_fits,
    "spill-small": spill_small,
    "shuffle": shuffle,
}
