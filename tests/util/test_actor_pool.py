"""ActorPool, with the meanings of Ray's."""

from __future__ import annotations

import os
import signal

import pytest

import pyray as ray
from pyray.exceptions import ActorDiedError, GetTimeoutError
from pyray.util import ActorPool


@ray.remote
class Actor:
    def double(self, x):
        return 2 * x

    def pair(self, x):
        return x, -x

    def divide(self, x):
        return 1 // x

    def wait(self, gate, x):
        if gate is not None:
            gate.wait()
        return x

    def die(self, _):
        os.kill(os.getpid(), signal.SIGKILL)


def double(actor, x):
    return actor.double.remote(x)


@pytest.fixture
def actors():
    return [Actor.remote(), Actor.remote()]


@pytest.fixture
def pool(actors):
    return ActorPool(actors)


class TestMany:
    def test_map(self, pool):
        assert list(pool.map(double, range(20))) == [2 * i for i in range(20)]

    def test_map_unordered(self, pool, gate):
        def wait(actor, x):
            return actor.wait.remote(None if x else gate, x)

        found = pool.map_unordered(wait, range(5))
        assert sorted(next(found) for _ in range(4)) == [1, 2, 3, 4]
        gate.open()
        assert list(found) == [0]

    def test_nothing(self, pool):
        assert list(pool.map(double, [])) == []
        assert list(pool.map_unordered(double, [])) == []

    def test_results_that_were_not_asked_for_are_dropped(self, pool):
        pool.map(double, range(5))
        assert list(pool.map(double, [10, 11])) == [20, 22]
        pool.map_unordered(double, range(5))
        assert sorted(pool.map_unordered(double, [10, 11])) == [20, 22]

    def test_several_returns(self, pool):
        def pair(actor, x):
            return actor.pair.options(num_returns=2).remote(x)

        assert list(pool.map(pair, range(3))) == [[0, 0], [1, -1], [2, -2]]
        assert sorted(pool.map_unordered(pair, range(3))) == [[0, 0], [1, -1], [2, -2]]


class TestOne:
    def test_in_order(self, pool):
        for i in range(5):
            pool.submit(double, i)
        found = []
        while pool.has_next():
            found.append(pool.get_next())
        assert found == [0, 2, 4, 6, 8]
        with pytest.raises(StopIteration):
            pool.get_next()
        with pytest.raises(StopIteration):
            pool.get_next_unordered()

    def test_in_time(self, pool, gate):
        pool.submit(lambda actor, x: actor.wait.remote(gate, x), 1)
        for get_next in (pool.get_next, pool.get_next_unordered):
            with pytest.raises(TimeoutError):
                get_next(timeout=0)
        gate.open()
        assert pool.get_next() == 1

    @pytest.mark.parametrize("get_next", ["get_next", "get_next_unordered"])
    def test_what_is_not_in_time_is_ignored(self, pool, gate, get_next):
        pool.submit(lambda actor, x: actor.wait.remote(gate, x), 1)
        with pytest.raises(TimeoutError, match="has been ignored"):
            getattr(pool, get_next)(timeout=0, ignore_if_timedout=True)
        assert not pool.has_next()
        gate.open()
        assert list(pool.map(double, [1, 2])) == [2, 4]

    def test_order_after_any_order(self, pool):
        pool.submit(double, 1)
        assert pool.get_next_unordered() == 2
        pool.submit(double, 2)
        assert pool.get_next() == 4

    def test_a_failure_leaves_the_actor_in_the_pool(self, pool):
        pool.submit(lambda actor, x: actor.divide.remote(x), 0)
        with pytest.raises(ZeroDivisionError):
            pool.get_next()
        assert list(pool.map(double, range(4))) == [0, 2, 4, 6]

    def test_an_actor_that_died_leaves_the_pool(self, pool):
        pool.submit(lambda actor, x: actor.die.remote(x), 0)
        with pytest.raises(ActorDiedError):
            pool.get_next()
        assert list(pool.map(double, range(4))) == [0, 2, 4, 6]
        assert pool.pop_idle() is not None and pool.pop_idle() is None

    def test_a_function_that_raises_keeps_the_actor(self, pool):
        for _ in range(3):
            with pytest.raises(AttributeError):
                pool.submit(lambda actor, x: actor.nothing.remote(x), 0)
        assert pool.has_free()

    def test_a_timeout_of_get_is_not_one_of_the_pool(self):
        assert issubclass(GetTimeoutError, TimeoutError)


class TestActors:
    def test_free_ones(self, pool, actors):
        assert pool.has_free()
        for i in range(2):
            pool.submit(double, i)
        assert not pool.has_free() and pool.pop_idle() is None
        assert pool.get_next() == 0
        assert pool.has_free()

    def test_pop_and_push(self, actors):
        pool = ActorPool(actors[:1])
        with pytest.raises(ValueError, match="already belongs"):
            pool.push(actors[0])
        pool.push(actors[1])
        pool.submit(double, 1)
        with pytest.raises(ValueError, match="already belongs"):
            pool.push(actors[1])
        assert pool.pop_idle() == actors[0] and pool.pop_idle() is None
        assert pool.get_next() == 2
        pool.push(actors[0])

    def test_push_begins_what_waits(self, actors):
        pool = ActorPool([])
        pool.submit(double, 3)
        assert not pool.has_next()
        pool.push(actors[0])
        assert pool.get_next() == 6
