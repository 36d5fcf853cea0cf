"""RayExecutor: what CPython's own tests do not look at, and some of what they do."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import weakref
from concurrent import futures

import numpy as np
import pytest

import pyray as ray
from pyray.util.executor import BrokenRayExecutor, RayExecutor


@pytest.fixture
def executor():
    with RayExecutor(2) as made:
        yield made


class TestCalls:
    def test_submit(self, executor):
        assert executor.submit(pow, 2, 8).result() == 256
        assert executor.submit(dict, self=1, fn=2).result() == {"self": 1, "fn": 2}
        captured = 3
        assert executor.submit(lambda x: x * captured, 4).result() == 12

    def test_map(self, executor):
        expected = [pow(i, i) for i in range(10)]
        for chunksize in (1, 3, 50):
            found = executor.map(pow, range(10), range(10), chunksize=chunksize)
            assert list(found) == expected
        assert list(executor.map(lambda x: -x, range(5), chunksize=2)) == [0, -1, -2, -3, -4]
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(pow, [1], [1], chunksize=0)

    def test_map_with_a_failure(self, executor):
        found = executor.map(divmod, [1, 1, 1], [2, 0, 5])
        assert next(found) == (0, 1)
        with pytest.raises(ZeroDivisionError):
            next(found)

    def test_map_in_time(self, executor, gate):
        with pytest.raises(futures.TimeoutError):
            list(executor.map(lambda _: gate.wait(), range(1), timeout=0))
        gate.open()

    def test_arrays_are_views(self, executor):
        found = executor.submit(np.ones, 10**5).result()
        assert found.sum() == 10**5 and not found.flags.writeable

    def test_asyncio(self, executor):
        async def main():
            return await asyncio.get_running_loop().run_in_executor(executor, pow, 3, 3)

        assert asyncio.run(main()) == 27

    def test_as_completed(self, executor):
        submitted = [executor.submit(pow, i, 2) for i in range(20)]
        assert {f.result() for f in futures.as_completed(submitted)} == {i**2 for i in range(20)}

    def test_the_exception_is_the_original(self, executor):
        def fail():
            raise RuntimeError(123)

        error = executor.submit(fail).exception()
        assert type(error) is RuntimeError and error.args == (123,)
        assert "raise RuntimeError(123)" in str(error.__cause__)

    def test_what_cannot_be_sent(self, executor):
        with pytest.raises(TypeError, match="lock"):
            executor.submit(id, threading.Lock()).result()
        lock = threading.Lock()
        with pytest.raises(TypeError, match="lock"):
            executor.submit(lambda: lock).result()
        assert executor.submit(pow, 2, 2).result() == 4

    def test_a_worker_that_dies_fails_its_call_alone(self, executor):
        future = executor.submit(os.kill, 0, signal.SIGKILL)
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            future.result()
        assert executor.submit(pow, 2, 2).result() == 4

    def test_no_more_run_at_once_than_workers(self, tmp_path):
        def alone():
            os.mkdir(tmp_path / "one")  # fails if another is there
            os.rmdir(tmp_path / "one")

        with RayExecutor(1) as executor:
            for future in [executor.submit(alone) for _ in range(30)]:
                future.result()

    def test_an_executor_in_a_task(self):
        @ray.remote
        def outer():
            with RayExecutor(2) as executor:
                return sum(executor.map(abs, range(10)))

        assert ray.get([outer.remote() for _ in range(4)]) == [45] * 4


class TestStates:
    def test_of_a_call_that_runs(self, gate):
        with RayExecutor(1) as executor:
            first, last = executor.submit(gate.pass_through), executor.submit(abs, 1)
            told = []
            last.add_done_callback(told.append)
            gate.until_begun()
            assert first.running() and not first.cancel()
            assert not last.running() and last.cancel() and told == [last]
            gate.open()
            assert first.result() is None and first.done()
            with pytest.raises(futures.CancelledError):
                last.result()

    def test_shutdown_cancels(self, gate):
        executor = RayExecutor(1)
        submitted = [executor.submit(gate.pass_through), executor.submit(abs, 1)]
        gate.until_begun()
        executor.shutdown(wait=False, cancel_futures=True)
        assert [future.cancelled() for future in submitted] == [False, True]
        gate.open()
        executor.shutdown()
        assert submitted[0].done()

    def test_shutdown_waits(self, executor):
        submitted = [executor.submit(abs, -i) for i in range(50)]
        executor.shutdown()
        assert all(future.done() for future in submitted)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(abs, 1)

    def test_one_that_is_dropped_makes_its_calls(self):
        executor = RayExecutor(1)
        submitted = [executor.submit(abs, -i) for i in range(50)]
        thread = executor._window._thread
        known = weakref.ref(executor)
        del executor
        gc.collect()
        assert known() is None
        assert [future.result() for future in submitted] == list(range(50))
        thread.join()

    def test_wrong_arguments(self):
        for number in (0, -1):
            with pytest.raises(ValueError, match="max_workers must be greater than 0"):
                RayExecutor(number)
        with pytest.raises(TypeError, match="initializer must be a callable"):
            RayExecutor(initializer=1)
        with pytest.raises(TypeError, match="max_tasks_per_child"):
            RayExecutor(max_tasks_per_child="1")
        with pytest.raises(ValueError, match="max_tasks_per_child"):
            RayExecutor(max_tasks_per_child=0)


_state = []


def initialize(value):
    _state.append(value)


def state(_):
    return list(_state)


class TestWorkers:
    def test_max_tasks_per_child(self):
        with RayExecutor(1, max_tasks_per_child=2) as executor:
            pids = [executor.submit(os.getpid).result() for _ in range(6)]
        assert all(pids.count(pid) <= 2 for pid in pids)

    def test_initializer(self):
        with RayExecutor(2, initializer=initialize, initargs=("ready",)) as executor:
            assert list(executor.map(state, range(20))) == [["ready"]] * 20

    def test_an_initializer_that_raises(self, caplog):
        def fail():
            raise ValueError("of the initializer")

        executor = RayExecutor(1, initializer=fail)
        with pytest.raises(BrokenRayExecutor):
            executor.submit(abs, 1).result()
        with pytest.raises(futures.BrokenExecutor):
            executor.submit(abs, 1)
        assert "of the initializer" in caplog.text
        executor.shutdown()
