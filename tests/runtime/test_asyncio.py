"""References in event loops and as futures, served by one thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
import weakref

import pytest
from gates import Gate, until

import pyray as ray
from pyray.runtime import futures

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def same(x):
    return x


@ray.remote
def held(gate, value=None):
    gate.pass_through()
    return value


@ray.remote
def fail():
    raise KeyError("failed")


@ray.remote
def count(n):
    yield from range(n)


async def opened(gate):
    """In a thread, as opening a pipe blocks."""
    await asyncio.to_thread(gate.until_begun)
    await asyncio.to_thread(gate.open)


def test_await():
    async def main():
        return await same.remote(5), await ray.put("there")

    assert asyncio.run(main()) == (5, "there")


def test_loop_goes_on_while_one_waits(tmp_path):
    gate = Gate(tmp_path)

    async def main():
        ref = held.remote(gate, "value")
        waiting = asyncio.ensure_future(ref)
        await opened(gate)
        return await waiting

    assert asyncio.run(main()) == "value"


def test_gather():
    async def main():
        return await asyncio.gather(*[same.remote(i) for i in range(500)])

    assert asyncio.run(main()) == list(range(500))


def test_no_thread_for_each(tmp_path):
    gate = Gate(tmp_path)

    async def main():
        first = held.remote(gate)
        rest = [asyncio.ensure_future(same.remote(first)) for _ in range(100)]
        await asyncio.to_thread(gate.until_begun)
        threads = [thread.name for thread in threading.enumerate()]
        await asyncio.to_thread(gate.open)
        await asyncio.gather(*rest)
        return threads

    threads = asyncio.run(main())
    assert sum("pyray" in name for name in threads) == 2  # this one, and the listener


def test_failure():
    async def main():
        with pytest.raises(KeyError, match="failed"):
            await fail.remote()
        return await asyncio.gather(fail.remote(), same.remote(1), return_exceptions=True)

    failed, value = asyncio.run(main())
    assert isinstance(failed, KeyError) and isinstance(failed, ray.exceptions.RayTaskError)
    assert value == 1


def test_timeout_and_await_again(tmp_path):
    gate = Gate(tmp_path)

    async def main():
        ref = held.remote(gate, 3)
        await asyncio.to_thread(gate.until_begun)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ref, 0.01)
        await asyncio.to_thread(gate.open)
        return await ref

    assert asyncio.run(main()) == 3


def test_several_loops_in_threads():
    async def main(start):
        return await asyncio.gather(*[same.remote(start + i) for i in range(50)])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: asyncio.run(main(start)), range(0, 200, 50)))
    assert [value for part in found for value in part] == list(range(200))


def test_future():
    future = same.remote(7).future()
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 7
    assert ray.put(8).future().result(timeout=0) == 8
    with pytest.raises(KeyError):
        fail.remote().future().result()


def test_futures_as_completed(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(2)]
    futures = [held.remote(gate, i).future() for i, gate in enumerate(gates)]
    for gate in gates:
        gate.until_begun()
    gates[1].open()
    done, rest = concurrent.futures.wait(futures, return_when="FIRST_COMPLETED")
    assert done == {futures[1]} and rest == {futures[0]}
    gates[0].open()
    assert futures[0].result() == 0


def test_callback():
    called = threading.Event()
    same.remote(1).future().add_done_callback(lambda future: called.set())
    assert called.wait(60)


def test_cancelled_future(tmp_path):
    gate = Gate(tmp_path)
    ref = held.remote(gate, 1)
    gate.until_begun()
    future = ref.future()
    assert future.cancel()
    gate.open()
    assert ray.get(ref) == 1  # the task goes on


def test_one_that_is_ready_costs_no_look_at_the_others(monkeypatch):
    @ray.remote
    class Box:
        def __init__(self):
            self.futures = {}

        def future(self, i):
            return self.futures.setdefault(i, asyncio.get_running_loop().create_future())

        async def put(self, i):
            self.future(i).set_result(i)

        async def take(self, i):
            return await self.future(i)

    async def main():
        box, n = Box.remote(), 100
        taken = [box.take.remote(i).as_future() for i in range(n)]
        for i in range(n):
            await box.put.remote(i)
            assert await taken[i] == i
        return n

    looks = []
    ready = futures._core.ready
    monkeypatch.setattr(futures._core, "ready", lambda ref: looks.append(ref) or ready(ref))
    n = asyncio.run(main())
    assert n < len(looks) <= 10 * n


def test_many_that_wait_for_one(tmp_path):
    gate = Gate(tmp_path)
    ref = held.remote(gate, 5)
    gate.until_begun()
    waiting = [ref.future() for _ in range(50)]
    for future in waiting[::2]:
        assert future.cancel()
    gate.open()
    assert [future.result() for future in waiting[1::2]] == [5] * 25


def test_a_cancelled_future_is_forgotten_at_once(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(2)]
    refs = [held.remote(gate) for gate in gates]
    server = futures._server()
    assert not server._waiting
    waiting = [ref.future() for ref in refs]
    assert len(server._waiting) == 2
    for future in waiting:
        assert future.cancel()
    assert not server._waiting
    for gate, ref in zip(gates, refs, strict=True):
        gate.until_begun()
        gate.open()
        ray.get(ref)


def test_generator():
    async def main():
        return [await ref async for ref in count.remote(200)]

    assert asyncio.run(main()) == list(range(200))


def test_generator_that_yields_now_and_then(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(3)]

    @ray.remote
    def yields():
        for i, gate in enumerate(gates):
            gate.pass_through()
            yield i

    async def main():
        generator = yields.remote()
        found = []
        for gate in gates:
            following = asyncio.ensure_future(generator.__anext__())
            await opened(gate)
            found.append(await (await following))
        with pytest.raises(StopAsyncIteration):
            await generator.__anext__()
        return found

    assert asyncio.run(main()) == [0, 1, 2]


def test_in_a_task():
    @ray.remote
    def outer():
        async def main():
            return await asyncio.gather(*[same.remote(i) for i in range(10)])

        return asyncio.run(main())

    assert ray.get(outer.remote()) == list(range(10))


def test_in_a_task_that_has_all_cpus():
    @ray.remote(num_cpus=2)
    def outer():
        async def main():
            return await same.options(num_cpus=2).remote(1)

        return asyncio.run(main())

    assert ray.get(outer.remote()) == 1


def test_many_at_once():
    async def main():
        futures = [same.remote(os.urandom(2)).as_future() for _ in range(2000)]
        return len(await asyncio.gather(*futures))

    assert asyncio.run(main()) == 2000


class Kept:
    """What a weak reference can be made to."""


def test_nobody_keeps_the_result_of_a_future():
    future = ray.put(Kept()).future()
    seen = weakref.ref(future.result())
    del future
    until(lambda: gc.collect() >= 0 and seen() is None)


def test_the_error_of_a_future_keeps_nothing(tmp_path):
    """Frames of the thread would keep the reference, and what was ready with it."""
    gate = Gate(tmp_path)
    there = fail.remote()
    ray.wait([there])
    awaited = held.remote(gate)
    future = awaited.future()
    gate.until_begun()
    ray.cancel(awaited)
    assert there.future().exception().__traceback__ is None
    assert future.exception().__traceback__ is None
