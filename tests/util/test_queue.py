"""Queue, with the meanings of Ray's."""

from __future__ import annotations

import asyncio
import queue

import numpy as np
import pytest

import pyray as ray
from pyray.util.queue import Empty, Full, Queue


@pytest.fixture
def items():
    made = Queue()
    yield made
    made.shutdown()


@pytest.fixture
def two():
    """A queue with room for two."""
    made = Queue(maxsize=2)
    yield made
    made.shutdown()


class TestOne:
    def test_in_order(self, items):
        for i in range(10):
            items.put(i)
        assert [items.get() for _ in range(10)] == list(range(10))

    def test_sizes(self, two):
        assert (len(two), two.qsize(), two.size()) == (0, 0, 0)
        assert two.empty() and not two.full()
        two.put(1)
        two.put(2)
        assert len(two) == 2 and two.full() and not two.empty()

    def test_at_once(self, two):
        with pytest.raises(Empty):
            two.get_nowait()
        with pytest.raises(queue.Empty):
            two.get(block=False)
        two.put_nowait(1)
        two.put_nowait(2)
        with pytest.raises(Full):
            two.put_nowait(3)
        with pytest.raises(queue.Full):
            two.put(3, block=False)
        assert [two.get_nowait(), two.get(block=False)] == [1, 2]

    def test_in_time(self, two):
        with pytest.raises(Empty):
            two.get(timeout=0.001)
        two.put(1, timeout=0)
        two.put(2, timeout=10)
        with pytest.raises(Full):
            two.put(3, timeout=0.001)
        assert [two.get(timeout=0), two.get(timeout=10)] == [1, 2]
        for call in (two.get, lambda timeout: two.put(1, timeout=timeout)):
            with pytest.raises(ValueError, match="non-negative"):
                call(timeout=-1)

    def test_get_waits_for_put(self, items):
        @ray.remote
        def take(items):
            return items.get()

        ref = take.remote(items)
        items.put("item")
        assert ray.get(ref) == "item"

    def test_put_waits_for_get(self, two):
        @ray.remote
        def fill(items):
            for i in range(10):
                items.put(i)

        ref = fill.remote(two)
        assert [two.get() for _ in range(10)] == list(range(10))
        ray.get(ref)

    def test_items_are_what_they_were(self, items):
        for item in (None, [1], {"a": (2,)}, ValueError("an item"), np.arange(3)):
            items.put(item)
        assert [items.get() for _ in range(3)] == [None, [1], {"a": (2,)}]
        assert repr(items.get()) == repr(ValueError("an item"))
        assert items.get().tolist() == [0, 1, 2]

    def test_large_arrays_are_in_the_store(self, items):
        array = np.arange(1 << 18)
        for _ in range(100):  # 2 MB each
            items.put(array)
            assert np.array_equal(items.get(), array)
        items.put_nowait_batch([array, 1])
        first, second = items.get_nowait_batch(2)
        assert np.array_equal(first, array) and second == 1


class TestAsync:
    def test_in_order(self, two):
        async def put():
            for i in range(10):
                await two.put_async(i)

        async def get():
            return [await two.get_async() for _ in range(10)]

        async def main():
            return (await asyncio.gather(put(), get()))[1]

        assert asyncio.run(main()) == list(range(10))

    def test_at_once_and_in_time(self, two):
        async def main():
            with pytest.raises(Empty):
                await two.get_async(block=False)
            with pytest.raises(Empty):
                await two.get_async(timeout=0.001)
            await two.put_async(np.zeros(1 << 18), block=False)
            await two.put_async(2)
            with pytest.raises(Full):
                await two.put_async(3, block=False)
            with pytest.raises(Full):
                await two.put_async(3, timeout=0.001)
            with pytest.raises(ValueError, match="non-negative"):
                await two.get_async(timeout=-1)
            return (await two.get_async()).shape, await two.get_async(timeout=10)

        assert asyncio.run(main()) == ((1 << 18,), 2)


class TestSeveral:
    def test_in_order(self, items):
        items.put_nowait_batch(range(5))
        assert items.get_nowait_batch(3) == [0, 1, 2]
        assert items.get_nowait_batch(2) == [3, 4]
        assert items.get_nowait_batch(0) == []

    def test_all_or_none(self, two):
        with pytest.raises(Full, match="Cannot add 3 items"):
            two.put_nowait_batch([1, 2, 3])
        assert two.empty()
        two.put(1)
        with pytest.raises(Empty, match="Cannot get 2 items"):
            two.get_nowait_batch(2)
        assert two.qsize() == 1

    def test_wrong_arguments(self, items):
        with pytest.raises(TypeError, match="Iterable"):
            items.put_nowait_batch(1)
        with pytest.raises(TypeError, match="int"):
            items.get_nowait_batch(1.5)
        with pytest.raises(ValueError, match="nonnegative"):
            items.get_nowait_batch(-1)


class TestActor:
    def test_options(self):
        items = Queue(actor_options={"name": "of the queue", "num_cpus": 0})
        items.put(1)
        assert ray.get(ray.get_actor("of the queue").qsize.remote()) == 1
        items.shutdown()

    @pytest.mark.parametrize("force", [False, True])
    def test_shutdown(self, force):
        items = Queue()
        items.put(1)
        actor = items.actor
        items.shutdown(force=force)
        items.shutdown()
        assert items.actor is None
        with pytest.raises(ray.exceptions.RayActorError):
            while True:  # one that ends by itself may answer a last call
                ray.get(actor.qsize.remote())

    def test_handles_are_values(self, items):
        @ray.remote
        def fill(items, i):
            items.put(i)

        ray.get([fill.remote(items, i) for i in range(10)])
        assert sorted(items.get_nowait_batch(10)) == list(range(10))
