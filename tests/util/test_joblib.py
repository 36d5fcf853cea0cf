"""The backend of joblib: what joblib's own tests do not look at."""

from __future__ import annotations

import functools
import os
import threading

import numpy as np
import pytest

import pyray as ray

joblib = pytest.importorskip("joblib", reason="joblib is not installed")
from joblib import Parallel, delayed, parallel_config  # noqa: E402

from pyray.util.joblib import register_ray  # noqa: E402
from pyray.util.joblib.backend import RayBackend  # noqa: E402

register_ray()


def total(array, i):
    return int(array.sum()) + i


def place(array, _):
    return array.__array_interface__["data"][0], array.flags.writeable, os.getpid()


class TestContext:
    def test_the_backend_in_a_context(self):
        with parallel_config("ray", n_jobs=2):
            backend, n_jobs = joblib.parallel.get_active_backend()
            assert type(backend) is RayBackend and n_jobs == 2
            assert Parallel()(delayed(abs)(-i) for i in range(100)) == list(range(100))

    def test_all_cpus(self):
        with parallel_config("ray"):
            assert [joblib.effective_n_jobs(n) for n in (-1, -2, 3, None)] == [2, 1, 3, 1]

    def test_nested_calls_run_in_threads(self):
        def backend():
            return type(joblib.parallel.get_active_backend()[0]).__name__

        with parallel_config("ray", n_jobs=2):
            assert Parallel()(delayed(backend)() for _ in range(4)) == ["ThreadingBackend"] * 4

    def test_threads_of_libraries(self):
        with parallel_config("ray", n_jobs=2, inner_max_num_threads=3):
            names = Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(4))
        assert names == ["3"] * 4

    def test_options(self):
        args = {"runtime_env": {"env_vars": {"OF_JOBLIB": "x"}}}
        with parallel_config("ray", n_jobs=2, ray_remote_args=args):
            assert Parallel()(delayed(os.getenv)("OF_JOBLIB") for _ in range(4)) == ["x"] * 4


class TestArrays:
    def test_one_in_many_calls_is_put_once(self):
        array = np.ones(1 << 20)  # 8 MB: eighty of them would not fit
        run = Parallel(n_jobs=2, backend="ray", batch_size=1)
        assert run(delayed(total)(array, i) for i in range(80)) == [
            i + (1 << 20) for i in range(80)
        ]
        assert run(delayed(total)(array=array, i=i) for i in range(80)) == [
            i + (1 << 20) for i in range(80)
        ]

    def test_a_generator_of_arrays(self):
        run = Parallel(n_jobs=2, backend="ray", batch_size=1)
        arrays = (np.full(1 << 20, i, dtype=np.int64) for i in range(50))
        assert run(delayed(total)(array, 0) for array in arrays) == [i << 20 for i in range(50)]

    def test_they_are_read_where_they_are(self):
        run = Parallel(n_jobs=2, backend="ray", batch_size=1)
        found = run(delayed(place)(np.ones(1 << 18), i) for i in range(4))
        assert not any(writable for _, writable, _ in found)


class TestFunctions:
    def test_those_that_workers_cannot_import(self):
        captured = 2
        found = Parallel(n_jobs=2, backend="ray")(
            delayed(lambda x: captured * x)(i) for i in range(20)
        )
        assert found == [2 * i for i in range(20)]

    def test_they_are_as_they_are_at_the_call(self):
        with Parallel(n_jobs=2, backend="ray") as run:
            for value in range(3):
                assert run(delayed(lambda: value)() for _ in range(3)) == [value] * 3

    def test_partials(self):
        function = functools.partial(pow, 2)
        assert Parallel(n_jobs=2, backend="ray")(delayed(function)(i) for i in range(4)) == [
            1,
            2,
            4,
            8,
        ]

    def test_what_cannot_be_sent(self):
        lock = threading.Lock()
        with pytest.raises(TypeError, match="lock"):
            Parallel(n_jobs=2, backend="ray")(delayed(id)(lock) for _ in range(3))


def test_generators_are_apart(gate):
    """One that is dropped is stopped, and another goes on."""
    first = Parallel(n_jobs=2, backend="ray", return_as="generator", batch_size=1)
    results = first(delayed(gate.pass_through)() for _ in range(1))
    gate.until_begun()
    second = Parallel(n_jobs=2, backend="ray", return_as="generator")(
        delayed(abs)(-i) for i in range(10)
    )
    with pytest.warns(UserWarning):
        del results
    assert list(second) == list(range(10))


def test_results_are_not_polled_for(gate, monkeypatch):
    slept = []
    monkeypatch.setattr(joblib.parallel.time, "sleep", slept.append)

    def let_go():
        gate.until_begun()
        gate.open()

    opener = threading.Thread(target=let_go)
    opener.start()
    calls = [delayed(gate.pass_through)(), *(delayed(abs)(-i) for i in range(9))]
    assert Parallel(n_jobs=2, backend="ray")(calls) == [None, *range(9)]
    opener.join()
    assert slept == []


def test_a_failure_does_not_wait_for_other_calls(gate):
    calls = [delayed(gate.pass_through)(), delayed(divmod)(1, 0)]  # nobody opens the gate
    with pytest.raises(ZeroDivisionError):
        Parallel(n_jobs=2, backend="ray", batch_size=1)(calls)


def test_in_a_task():
    @ray.remote
    def outer():
        register_ray()
        return sum(Parallel(n_jobs=2, backend="ray")(delayed(abs)(-i) for i in range(10)))

    assert ray.get([outer.remote() for _ in range(4)]) == [45] * 4
