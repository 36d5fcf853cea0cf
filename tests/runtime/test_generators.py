"""Generator tasks: references to what they yield, while they run or when they have ended."""

from __future__ import annotations

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
