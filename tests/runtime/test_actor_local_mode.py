"""Actors of init(local_mode=True): in this process, each call at `.remote()`."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

import pyray as ray
from pyray.exceptions import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorHandleNotFoundError,
    RayTaskError,
)


@pytest.fixture(autouse=True)
def session(no_session):
    ray.init(local_mode=True, object_store_memory=50 << 20, namespace="here")


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start
        self.calls = 0

    def increment(self, by=1):
        self.value += by
        return self.value

    def pid(self):
        return os.getpid()

    @ray.method(num_returns=2)
    def pair(self):
        return 1, 2

    def numbers(self, n):
        for i in range(n):
            self.value = i
            yield i

    def fail(self):
        raise KeyError("here")

    def again(self):
        me = ray.get_runtime_context().current_actor
        return ray.get(me.increment.remote())

    def flaky(self):
        self.calls += 1
        if self.calls < 3:
            raise OSError
        return self.calls

    def exit(self):
        ray.actor.exit_actor()

    def leave(self):
        raise SystemExit(3)

    def context(self):
        found = ray.get_runtime_context()
        return found.get_actor_id(), found.get_actor_name(), found.get_task_name()


def test_a_call_runs_at_once():
    seen = []
    counter = Counter.remote(1)
    ref = counter.increment.remote()
    counter.__ray_call__.remote(lambda self: None)
    assert ray.get(counter.__ray_call__.remote(lambda self: self.value)) == 2
    assert ray.get(ref) == 2
    assert ray.get(counter.pid.remote()) == os.getpid()
    assert ray.get(counter.__ray_ready__.remote()) is True


def test_results():
    counter = Counter.remote()
    assert ray.get(counter.pair.remote()) == [1, 2]
    assert [ray.get(ref) for ref in counter.numbers.remote(3)] == [0, 1, 2]
    assert ray.get(counter.increment.remote()) == 3
    assert counter.increment.options(num_returns=0).remote() is None
    assert ray.get(counter.increment.remote(by=ray.put(5))) == 9


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="too many"):
        Counter.remote(1, 2)
    counter = Counter.remote()
    with pytest.raises(TypeError, match="the actor method is Counter.increment"):
        counter.increment.remote(1, 2)
    with pytest.raises(AttributeError, match="Did you mean"):
        counter.incremnt
    with pytest.raises(TypeError, match="Could not serialize"):
        counter.increment.remote(threading.Lock())


def test_what_it_raises():
    counter = Counter.remote()
    ref = counter.fail.remote()
    with pytest.raises(KeyError, match="here") as caught:
        ray.get(ref)
    assert isinstance(caught.value, RayTaskError) and "Counter.fail" in str(caught.value)
    assert ray.get(counter.increment.remote()) == 1
    flaky = counter.flaky.options(max_task_retries=2, retry_exceptions=True)
    assert ray.get(flaky.remote()) == 3


def test_it_can_call_itself():
    assert ray.get(Counter.remote(1).again.remote()) == 2


def test_constructor_that_raises():
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("cannot be made")

        def f(self): ...

    with pytest.raises(ActorDiedError, match="cannot be made") as caught:
        ray.get(Broken.remote().f.remote())
    assert caught.value.actor_init_failed


@pytest.mark.parametrize("how", ["exit", "leave", "__ray_terminate__", "kill"])
def test_ends(how):
    counter = Counter.options(name="x").remote()
    if how == "kill":
        ray.kill(counter)
    else:
        with pytest.raises(ActorDiedError):
            ray.get(getattr(counter, how).remote())
    with pytest.raises(ActorDiedError, match="The actor is dead because"):
        ray.get(counter.increment.remote())
    _, second = counter.pair.remote()
    with pytest.raises(ActorDiedError):
        ray.get(second)
    with pytest.raises(ValueError):
        ray.get_actor("x")


def test_restarted():
    counter = Counter.options(max_restarts=1).remote(5)
    ray.get(counter.increment.remote())
    ray.kill(counter, no_restart=False)
    assert ray.get(counter.increment.remote()) == 6
    ray.kill(counter, no_restart=False)
    with pytest.raises(ActorDiedError):
        ray.get(counter.increment.remote())


def test_handles_are_values():
    @ray.remote
    def use(handles):
        return ray.get(handles[0].increment.remote())

    counter = Counter.remote()
    assert ray.get(use.remote([counter])) == 1
    assert ray.get(ray.put([counter])) == [counter]
    assert repr(counter) == f"Actor(Counter, {counter._actor_id.hex()})"


def test_names():
    counter = Counter.options(name="x").remote()
    assert ray.get_actor("x") == counter == ray.get_actor("x", namespace="here")
    with pytest.raises(ActorAlreadyExistsError):
        Counter.options(name="x").remote()
    assert Counter.options(name="x", get_if_exists=True).remote() == counter
    other = Counter.options(name="y", namespace="there").remote()
    assert ray.util.list_named_actors() == ["x"]
    assert {"name": "y", "namespace": "there"} in ray.util.list_named_actors(True)
    with pytest.raises(ValueError, match="Failed to look up"):
        ray.get_actor("y")


def test_context():
    counter = Counter.options(name="x").remote()
    assert ray.get(counter.context.remote()) == (counter._actor_id.hex(), "x", "Counter.context")
    assert ray.get_runtime_context().get_actor_id() is None
    with pytest.raises(TypeError, match="exit_actor"):
        ray.actor.exit_actor()


@ray.remote
class Async:
    async def wait(self, x):
        await asyncio.sleep(0)
        return x

    async def nested(self):
        me = ray.get_runtime_context().current_actor
        return await me.wait.remote(7)

    async def numbers(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    def plain(self):
        return "plain"


def test_async_methods():
    actor = Async.remote()
    assert ray.get(actor.wait.remote(1)) == 1
    assert ray.get(actor.nested.remote()) == 7
    assert [ray.get(ref) for ref in actor.numbers.remote(3)] == [0, 1, 2]
    assert ray.get(actor.plain.remote()) == "plain"


def test_async_methods_called_in_a_loop():
    async def main():
        actor = Async.remote()
        return await actor.wait.remote(3)

    assert asyncio.run(main()) == 3


def test_session_that_has_ended():
    counter = Counter.remote()
    ray.shutdown()
    with pytest.raises(ActorHandleNotFoundError):
        counter.increment.remote()
