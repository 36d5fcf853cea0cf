"""Pool: what CPython's own tests do not look at."""

from __future__ import annotations

import functools
import gc
import multiprocessing.pool
import os
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gates import Gate

import pyray as ray
from pyray.util.multiprocessing import AsyncResult, Pool, TimeoutError


@pytest.fixture
def pool():
    with Pool(2) as made:
        yield made


def double(x):
    return 2 * x


def total(array, factor=1):
    return int(array.sum()) * factor


class TestCalls:
    def test_what_workers_cannot_import(self, pool):
        captured = 3
        assert pool.apply(lambda x, y=0: x * captured + y, (2,), {"y": 1}) == 7
        assert pool.map(lambda x: x * captured, range(10)) == [3 * x for x in range(10)]
        assert list(pool.imap(lambda x: x * captured, range(10))) == [3 * x for x in range(10)]

    def test_methods_partials_classes_and_builtins(self, pool):
        assert pool.map("{}!".format, range(3)) == ["0!", "1!", "2!"]
        assert pool.map(functools.partial(pow, 2), range(4)) == [1, 2, 4, 8]
        assert pool.map(str, range(3)) == ["0", "1", "2"]
        assert pool.starmap(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)]

    def test_a_function_sees_what_it_captures_as_in_the_first_call(self):
        for expected in (1, 2):
            with Pool(2) as pool:
                value = expected
                assert pool.map(lambda _: value, range(3)) == [expected] * 3

    def test_references_are_passed_as_they_are(self, pool):
        refs = [ray.put(i) for i in range(3)]
        assert pool.map(ray.get, refs) == [0, 1, 2]

    def test_the_call_has_the_name_of_the_function(self, pool):
        def name():
            return ray.get_runtime_context().get_task_name()

        assert pool.apply(name) == "name"

    def test_no_more_run_at_once_than_processes(self, tmp_path):
        def alone(folder):
            os.mkdir(folder)  # fails if another is there
            os.rmdir(folder)

        with Pool(1) as pool:
            pool.map(alone, [tmp_path / "one"] * 50, chunksize=1)

    def test_as_many_run_at_once_as_processes(self, tmp_path):
        """More than the session has CPUs."""
        gates = [Gate(tmp_path, str(i)) for i in range(4)]
        with Pool(4) as pool:
            results = [pool.apply_async(gate.pass_through) for gate in gates]
            assert len({gate.until_begun() for gate in gates}) == 4
            for gate in gates:
                gate.open()
            for result in results:
                result.get()

    def test_results_come_in_any_order(self, pool, gate):
        def wait(i):
            if i == 0:
                gate.wait()
            return i

        found = pool.imap_unordered(wait, range(4))
        assert sorted(next(found) for _ in range(3)) == [1, 2, 3]
        gate.open()
        assert next(found) == 0
        with pytest.raises(StopIteration):
            next(found)

    def test_chunks_can_be_waited_for(self, pool, gate):
        found = pool.imap(lambda i: i or gate.wait(), range(2), chunksize=2)
        with pytest.raises(TimeoutError):
            found.next(timeout=0)
        gate.open()
        assert list(found) == [None, 1]

    def test_a_generator_that_waits_for_results(self, pool):
        """It does not keep the results of its first items from coming."""
        seen = threading.Semaphore(0)

        def items():
            for i in range(5):
                yield i
                seen.acquire()

        for expected, value in enumerate(pool.imap(double, items())):
            assert value == 2 * expected
            seen.release()

    @pytest.mark.parametrize("processes", [1, 2])
    def test_many_threads(self, processes):
        """Some wait for their own calls, others for the thread of the pool."""
        with Pool(processes) as pool:

            def use(i):
                found = pool.map(double, range(i, i + 50), chunksize=5)
                later = [pool.apply_async(double, (i,)) for _ in range(20)]
                once = [pool.apply(double, (i,)) for _ in range(20)]
                return found, once + [result.get() for result in later]

            with ThreadPoolExecutor(8) as threads:
                for i, found in enumerate(threads.map(use, range(40))):
                    assert found == ([2 * j for j in range(i, i + 50)], [2 * i] * 40)

    def test_an_endless_generator(self, pool):
        def forever():
            i = 0
            while True:
                yield i
                i += 1

        found = pool.imap(double, forever())
        assert [next(found) for _ in range(1000)] == [2 * i for i in range(1000)]

    def test_an_iterable_that_is_shorter_than_it_says(self, pool):
        class Short(list):
            def __len__(self):
                return 10

        assert pool.map(double, Short([1, 2, 3]), chunksize=1)[:3] == [2, 4, 6]

    def test_a_pool_in_a_task(self):
        @ray.remote
        def outer():
            with Pool(2) as pool:
                return pool.map(double, range(10))

        expected = [2 * i for i in range(10)]
        assert ray.get([outer.remote() for _ in range(4)]) == [expected] * 4

    def test_wrong_arguments(self, pool):
        for chunksize in (0, -1):
            with pytest.raises(ValueError, match="Chunksize"):
                pool.map(double, [1], chunksize=chunksize)
            with pytest.raises(ValueError, match="Chunksize"):
                pool.imap(double, [1], chunksize=chunksize)
        with pytest.raises(TypeError, match="initializer"):
            Pool(initializer=1)
        with pytest.raises(NotImplementedError, match="cannot be passed"):
            ray.dumps(pool)

    def test_processes_are_the_cpus_by_default(self):
        with Pool() as pool:
            assert repr(pool).endswith("state=RUN pool_size=2>")


class TestArrays:
    def test_they_are_read_where_they_are(self, pool):
        def is_writable(array):
            return array.flags.writeable

        assert pool.map(is_writable, [np.zeros(10**5)] * 4) == [False] * 4

    def test_one_in_many_calls_is_put_once(self, pool):
        array = np.ones(1 << 20)  # 8 MB: forty of them would not fit
        assert pool.starmap(total, [(array, i) for i in range(40)], chunksize=1) == [
            i << 20 for i in range(40)
        ]
        assert pool.map(total, [array] * 40, chunksize=1) == [1 << 20] * 40
        assert pool.map(functools.partial(total, array), range(40), chunksize=1) == [
            i << 20 for i in range(40)
        ]

    def test_more_than_the_store_holds(self, pool):
        """A call is submitted when there is room for its arguments."""
        arrays = (np.full(1 << 21, i, dtype=np.int64) for i in range(60))  # 16 MB each
        assert list(pool.imap(total, arrays)) == [i << 21 for i in range(60)]

    def test_a_generator_that_fills_the_same_array(self, pool):
        array = np.zeros(1 << 18, dtype=np.int64)

        def filled():
            for i in range(5):
                array[:] = i
                yield array

        assert list(pool.imap(total, filled())) == [i << 18 for i in range(5)]

    def test_one_that_the_function_captures(self, pool):
        array = np.ones(1 << 20)
        assert pool.map(lambda i: total(array) + i, range(8)) == [i + (1 << 20) for i in range(8)]


class TestFailures:
    def test_the_exception_is_the_original(self, pool):
        class Own(Exception):
            def __init__(self, a, b):
                super().__init__(a)
                self.b = b

        def fail():
            raise Own(1, b=[2])

        with pytest.raises(Own) as caught:
            pool.apply(fail)
        assert type(caught.value).__name__ == "Own"
        assert (caught.value.args, caught.value.b) == ((1,), [2])
        assert isinstance(caught.value.__cause__, multiprocessing.pool.RemoteTraceback)
        assert "raise Own(1, b=[2])" in str(caught.value.__cause__)

    def test_a_result_that_cannot_be_sent(self, pool):
        with pytest.raises(multiprocessing.pool.MaybeEncodingError, match="lock"):
            pool.apply(threading.Lock)

    def test_a_function_that_cannot_be_sent(self, pool):
        lock = threading.Lock()
        for result in (
            pool.apply_async(lambda: lock),
            pool.map_async(lambda x: lock, [1, 2]),
        ):
            with pytest.raises(TypeError, match="lock"):
                result.get()

    def test_a_worker_that_dies_fails_its_call_alone(self, pool):
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            pool.apply(os.kill, (0, signal.SIGKILL))
        assert pool.map(double, range(10)) == [2 * i for i in range(10)]

    def test_a_callback_that_raises(self, pool, caplog):
        def callback(value):
            raise ValueError("of the callback")

        result = pool.apply_async(double, (1,), callback=callback)
        assert result.get() == 2
        assert pool.apply(double, (2,)) == 4
        pool.close()
        pool.join()  # until callbacks are over, and what they raised is told
        assert "of the callback" in caplog.text

    def test_the_first_failure_of_a_list(self, pool):
        failed = []
        result = pool.map_async(
            lambda x: 1 // x, [1, 0, 2, 0], chunksize=1, error_callback=failed.append
        )
        with pytest.raises(ZeroDivisionError):
            result.get()
        assert not result.successful()
        assert [type(error) for error in failed] == [ZeroDivisionError]


class TestResults:
    def test_states(self, pool, gate):
        result = pool.apply_async(gate.wait)
        assert isinstance(result, AsyncResult) and not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        with pytest.raises(TimeoutError):
            result.get(timeout=0)
        gate.open()
        result.wait()
        assert result.ready() and result.successful()

    def test_callbacks_come_before_results(self, pool):
        got = []
        assert pool.map_async(double, [1, 2], callback=got.append).get() == [2, 4]
        assert got == [[2, 4]]


class TestEnd:
    def test_close_lets_calls_end(self, gate):
        pool = Pool(1)
        results = [pool.apply_async(gate.pass_through), pool.apply_async(double, (1,))]
        pool.close()
        with pytest.raises(ValueError, match="not running"):
            pool.apply(double, (1,))
        gate.until_begun()
        gate.open()
        pool.join()
        assert [result.get() for result in results] == [None, 2]

    def test_terminate_stops_them(self, gate):
        pool = Pool(1)
        results = [pool.apply_async(gate.pass_through) for _ in range(3)]
        found = pool.imap(double, range(10))
        gate.until_begun()
        pool.terminate()
        pool.join()
        for get in (*(result.get for result in results), found.next):
            with pytest.raises(ray.exceptions.TaskCancelledError):
                get()

    def test_join_of_a_running_pool(self, pool):
        with pytest.raises(ValueError, match="still running"):
            pool.join()

    def test_a_pool_that_is_dropped_ends(self):
        pool = Pool(1)
        assert pool.apply(double, (1,)) == 2
        thread, known = pool._window._thread, weakref.ref(pool)
        with pytest.warns(ResourceWarning, match="unclosed running"):
            del pool
            gc.collect()
        assert known() is None
        thread.join()


class TestWorkers:
    def test_maxtasksperchild(self):
        with Pool(1, maxtasksperchild=2) as pool:
            pids = pool.map(lambda _: os.getpid(), range(6), chunksize=1)
        assert all(pids.count(pid) <= 2 for pid in pids)

    def test_options(self):
        with Pool(1, ray_remote_args={"runtime_env": {"env_vars": {"OF_POOL": "x"}}}) as pool:
            assert pool.apply(os.getenv, ("OF_POOL",)) == "x"


_state = []


def initialize(value):
    _state.append(value)


def state(_):
    return list(_state)


class TestInitializer:
    def test_it_runs_once_in_each_worker(self):
        with Pool(2, initialize, ("ready",)) as pool:
            assert pool.map(state, range(20), chunksize=1) == [["ready"]] * 20

    def test_it_runs_though_there_is_nothing_to_do(self, tmp_path):
        pool = Pool(2, lambda: (tmp_path / str(os.getpid())).touch())
        pool.close()
        pool.join()
        assert len(list(tmp_path.iterdir())) == 2

    def test_it_runs_again_in_a_new_worker(self):
        with Pool(1, initialize, ("ready",), maxtasksperchild=2) as pool:
            found = pool.map(lambda _: (os.getpid(), state(_)), range(6), chunksize=1)
        pids = [pid for pid, _ in found]
        assert all(pids.count(pid) == 2 for pid in pids)
        assert all(values == ["ready"] for _, values in found)

    def test_a_worker_that_dies_is_replaced(self):
        with Pool(1, initialize, ("ready",)) as pool:
            with pytest.raises(ray.exceptions.RayActorError):
                pool.apply(os.kill, (0, signal.SIGKILL))
            assert pool.apply(state, (0,)) == ["ready"]

    def test_nothing_is_left_for_the_collector(self):
        """It would keep the handles of the actors."""
        pool = Pool(1, initialize, ("ready",))
        window = weakref.ref(pool._window)
        gc.disable()
        try:
            pool.apply(double, (1,))
            pool.terminate()
            pool.join()
            del pool
            assert window() is None
        finally:
            gc.enable()

    def test_one_that_raises(self):
        def fail():
            raise ValueError("of the initializer")

        with Pool(1, fail) as pool:
            with pytest.raises(ray.exceptions.RayActorError, match="of the initializer"):
                pool.apply(double, (1,))

    def test_terminate(self, gate):
        pool = Pool(2, initialize, ("ready",))
        result = pool.apply_async(gate.pass_through)
        gate.until_begun()
        pool.terminate()
        pool.join()
        with pytest.raises(ray.exceptions.TaskCancelledError):
            result.get()
