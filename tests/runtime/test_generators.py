"""Generator tasks: references to what they yield, while they run or when they have ended."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from gates import Gate

import pyray as ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def count(n):
    yield from range(n)


@ray.remote
def fails(n):
    yield from range(n)
    raise KeyError("after some")


def test_generator_functions_stream():
    generator = count.remote(5)
    assert isinstance(generator, ray.ObjectRefGenerator)
    assert iter(generator) is generator
    refs = list(generator)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2, 3, 4]
    with pytest.raises(StopIteration):
        next(generator)


def test_explicit_streaming():
    assert ray.get(list(count.options(num_returns="streaming").remote(3))) == [0, 1, 2]


@pytest.mark.parametrize("n", [0, 1, 2000])
def test_how_many(n):
    assert ray.get(list(count.remote(n))) == list(range(n))


def test_values_are_there_while_the_task_runs(tmp_path):
    gate = Gate(tmp_path)

    @ray.remote
    def yields():
        yield "first"
        gate.pass_through()
        yield "second"

    generator = yields.remote()
    assert ray.get(next(generator)) == "first"
    gate.until_begun()
    assert ray.wait([generator.completed()], timeout=0)[0] == []
    gate.open()
    assert ray.get(next(generator)) == "second"
    with pytest.raises(StopIteration):
        next(generator)
    ray.get(generator.completed())


def test_failure_comes_after_what_was_yielded():
    generator = fails.remote(2)
    assert [ray.get(next(generator)), ray.get(next(generator))] == [0, 1]
    failed = next(generator)
    with pytest.raises(KeyError, match="after some"):
        ray.get(failed)
    with pytest.raises(StopIteration):
        next(generator)


def test_failure_at_once():
    @ray.remote
    def bad():
        raise ValueError("at once")
        yield

    with pytest.raises(ValueError, match="at once"):
        ray.get(next(bad.remote()))


def test_references_go_on():
    @ray.remote
    def double(x):
        return 2 * x

    assert ray.get([double.remote(ref) for ref in count.remote(10)]) == list(range(0, 20, 2))


def test_large_values():
    @ray.remote
    def arrays():
        for i in range(10):
            yield np.full(100_000, i)

    assert [int(ray.get(ref)[5]) for ref in arrays.remote()] == list(range(10))


def test_generator_that_is_dropped_stops(tmp_path):
    gate = Gate(tmp_path)

    @ray.remote
    def endless():
        try:
            while True:
                yield 1
        finally:
            gate.say()

    generator = endless.remote()
    next(generator)
    del generator
    gate.until_begun()


def test_close(tmp_path):
    gate = Gate(tmp_path)

    @ray.remote
    def endless():
        try:
            while True:
                yield 1
        finally:
            gate.say()

    generator = endless.remote()
    next(generator)
    generator.close()
    gate.until_begun()


def test_generators_in_tasks():
    @ray.remote
    def total(n):
        return sum(ray.get(ref) for ref in count.remote(n))

    assert ray.get(total.remote(50)) == sum(range(50))


def test_a_generator_cannot_be_sent():
    with pytest.raises(TypeError, match="generator"):
        count.remote(count.remote(1))


class TestBackPressure:
    """`_generator_backpressure_num_objects`: how many references may wait to be taken."""

    @pytest.mark.parametrize("limit", [1, 3])
    def test_there_are_never_more(self, tmp_path, limit):
        made = tmp_path / "made"
        made.touch()

        @ray.remote(_generator_backpressure_num_objects=limit)
        def yields():
            for i in range(300):
                with made.open("ab") as file:
                    file.write(b".")
                yield i

        generator = yields.remote()
        for taken in range(300):
            assert made.stat().st_size <= taken + limit
            assert ray.get(next(generator)) == taken
        assert list(generator) == []

    @pytest.mark.parametrize("limit", [-1, None])
    def test_no_limit(self, limit):
        generator = count.options(_generator_backpressure_num_objects=limit).remote(100)
        ray.get(generator.completed())
        assert ray.get(list(generator)) == list(range(100))

    def test_who_waits_uses_no_cpu(self):
        limited = count.options(_generator_backpressure_num_objects=1)
        generators = [limited.remote(3) for _ in range(4)]

        @ray.remote(num_cpus=2)
        def both():
            return "ran"

        assert ray.get([next(generator) for generator in generators]) == [0] * 4
        assert ray.get(both.remote()) == "ran"
        assert [ray.get(list(generator)) for generator in generators] == [[1, 2]] * 4

    @pytest.mark.parametrize("how", ["close", "drop", "cancel"])
    def test_the_wait_ends(self, tmp_path, how):
        gate = Gate(tmp_path)

        @ray.remote(_generator_backpressure_num_objects=1)
        def endless():
            try:
                while True:
                    yield 1
            finally:
                gate.say()

        generator = endless.remote()
        assert ray.wait([generator]) == ([generator], [])
        if how == "close":
            generator.close()
        elif how == "drop":
            del generator
        else:
            ray.cancel(generator)
            ray.wait([generator.completed()])
            with pytest.raises(ray.exceptions.TaskCancelledError):
                ray.get(list(generator))
        gate.until_begun()

    def test_consumer_that_dies(self, tmp_path):
        gate = Gate(tmp_path)

        @ray.remote(_generator_backpressure_num_objects=1)
        def endless():
            try:
                while True:
                    yield 1
            finally:
                gate.say()

        @ray.remote(max_retries=0)
        def consumer():
            generator = endless.remote()
            next(generator)
            os.kill(os.getpid(), signal.SIGKILL)

        ref = consumer.remote()
        gate.until_begun()
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(ref)

    def test_producer_that_dies(self, tmp_path):
        died = tmp_path / "died"

        @ray.remote(_generator_backpressure_num_objects=2, max_retries=1)
        def yields():
            for i in range(20):
                if i == 10 and not died.exists():
                    died.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                yield i

        assert ray.get(list(yields.remote())) == list(range(20))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestDynamic:
    def test_result_is_a_generator_of_references(self):
        ref = count.options(num_returns="dynamic").remote(3)
        assert isinstance(ref, ray.ObjectRef)
        generator = ray.get(ref)
        assert isinstance(generator, ray.DynamicObjectRefGenerator)
        assert len(generator) == 3
        assert [ray.get(inner) for inner in generator] == [0, 1, 2]

    def test_as_argument(self):
        @ray.remote
        def total(refs):
            return sum(ray.get(list(refs)))

        assert ray.get(total.remote(count.options(num_returns="dynamic").remote(4))) == 6

    def test_failure(self):
        with pytest.raises(KeyError, match="after some"):
            ray.get(fails.options(num_returns="dynamic").remote(2))


def test_dynamic_is_deprecated():
    with pytest.warns(DeprecationWarning, match="streaming"):
        count.options(num_returns="dynamic")
