"""Files in a directory: which go through the system's cache, and which past it."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyray.runtime.spill_targets import Directory

LIMIT = 60.0


class Batch:
    """What a file gets: a page, once the gate is open."""

    def __init__(self, refuses_direct: bool = False) -> None:
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.refuses_direct = refuses_direct
        self.direct: list[bool] = []  # each time it was written

    def write(self, fd: int) -> int:
        self.direct.append(bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT))
        self.begun.set()
        if self.refuses_direct and self.direct[-1]:
            raise OSError(errno.EINVAL, "not aligned")
        assert self.gate.wait(LIMIT)
        os.ftruncate(fd, 4096)
        return 4096


@pytest.fixture
def target(tmp_path):
    """An empty directory, of a file system that has O_DIRECT (nearly all have, tmpfs since 6.6)."""
    return Directory(str(tmp_path))


def write_two(target: Directory, first: Batch, second: Batch) -> None:
    """At the same time, the first one first."""
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(target.write, first, "first")]
        assert first.begun.wait(LIMIT)
        results.append(pool.submit(target.write, second, "second"))
        assert second.begun.wait(LIMIT)
        first.gate.set()
        second.gate.set()
        assert [result.result(LIMIT) for result in results] == [4096, 4096]


def test_one_file_at_a_time_goes_through_the_cache(target):
    for _ in range(2):
        first, second = Batch(), Batch()
        write_two(target, first, second)
        assert (first.direct, second.direct) == ([False], [True])
        target.remove("first")
        target.remove("second")


def test_a_file_system_that_must_have_its_cache_is_asked_once(target):
    first, second, third = Batch(), Batch(refuses_direct=True), Batch(refuses_direct=True)
    write_two(target, first, second)
    assert second.direct == [True, False]
    target.remove("first")
    target.remove("second")
    write_two(target, Batch(), third)
    assert third.direct == [False]


def test_a_file_that_cannot_be_written_is_removed(target, tmp_path):
    class Full(Batch):
        def write(self, fd: int) -> int:
            raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"):
        target.write(Full(), "first")
    assert list(tmp_path.iterdir()) == []
    batch = Batch()
    batch.gate.set()
    target.write(batch, "first")  # the cache is free again
    assert batch.direct == [False]
