"""get, put and wait: values, lists, timeouts, identity, what is refused."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from gates import Gate

import pyray as ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def same(x):
    return x


@ray.remote
def held(gate, value=None):
    gate.pass_through()
    return value


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


# -- put and get -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", b"x" * 200_000, [1, [2, {"a": (3,)}]], {1, 2}, 2**200],
)
def test_there_and_back(value):
    assert ray.get(ray.put(value)) == value


def test_list_of_references():
    refs = [ray.put(i) for i in range(100)]
    assert ray.get(refs) == list(range(100))
    assert ray.get([refs[0], refs[0]]) == [0, 0]
    assert ray.get([]) == []


def test_identity_inside_of_an_object():
    obj = [np.zeros(42)] * 99
    found = ray.get(ray.put(obj))
    assert found[0] is found[1] is found[98]


def test_array_is_not_copied_and_outlives_its_reference():
    ref = ray.put(np.arange(1_000_000))
    view = ray.get(ref)
    again = ray.get(ref)
    assert view.ctypes.data == again.ctypes.data
    del ref, again
    for i in range(50):
        ray.put(np.full(1_000_000, i))
    assert view[-1] == 999_999 and view.sum() == 499999500000


def test_copy_on_write():
    ref = ray.put(np.zeros(100_000))
    mine = ray.get(ref, copy_on_write=True)
    mine[:] = 1
    assert mine.sum() == 100_000
    assert ray.get(ref).sum() == 0
    assert ray.get([ref], copy_on_write=True)[0].flags.writeable


def test_put_is_a_snapshot():
    items = [1, 2]
    ref = ray.put(items)
    items.append(3)
    assert ray.get(ref) == [1, 2]


def test_nested_references():
    inner = ray.put("inner")
    outer = ray.put({"ref": inner, "list": [inner]})
    del inner
    found = ray.get(outer)
    assert ray.get(found["ref"]) == "inner" and found["list"] == [found["ref"]]


def test_reference():
    ref = ray.put(1)
    assert ref == ray.get(ray.put([ref]))[0]
    assert ref != ray.put(1)
    assert len({ref, ref, ray.put(1)}) == 2
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert repr(ref) == f"ObjectRef({ref.hex()})"
    assert not ref.is_nil() and ray.ObjectRef.nil().is_nil()
    assert ray.ObjectRef[int]
    assert ref.job_id().hex() == ray.get_runtime_context().get_job_id()


@pytest.mark.leaves("nobody knows where the bytes of pickle are")
def test_reference_through_pickle():
    ref = ray.put("value")
    for codec in (pickle, ray):
        again = codec.loads(codec.dumps(ref))
        assert again == ref and ray.get(again) == "value"


def test_get_from_threads(gate):
    ref = held.remote(gate, 5)
    found = []
    threads = [threading.Thread(target=lambda: found.append(ray.get(ref))) for _ in range(10)]
    for thread in threads:
        thread.start()
    gate.until_begun()
    gate.open()
    for thread in threads:
        thread.join()
    assert found == [5] * 10


@pytest.mark.parametrize("timeout", [0, 0.01, 1e-9])
def test_get_in_time_or_not(gate, timeout):
    ref, there = held.remote(gate, 1), ray.put(2)
    gate.until_begun()
    for refs in (ref, [ref], [there, ref]):
        with pytest.raises(ray.exceptions.GetTimeoutError) as caught:
            ray.get(refs, timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        assert "timed out" in str(caught.value)
    assert ray.get(there, timeout=timeout) == 2
    gate.open()
    assert ray.get(ref, timeout=60) == 1
    assert ray.get(ref, timeout=0) == 1


def test_get_of_a_generator_is_the_generator():
    @ray.remote
    def count():
        yield 1

    generator = count.remote()
    assert ray.get(generator) is generator


def test_get_raises_the_first_failure_at_once(gate):
    @ray.remote
    def fail():
        raise KeyError("failed")

    waits = held.remote(gate)
    gate.until_begun()
    with pytest.raises(KeyError, match="failed"):
        ray.get([waits, fail.remote()])
    gate.open()


# -- wait ------------------------------------------------------------------------------------


def test_wait_keeps_the_order(gate):
    slow = held.remote(gate)
    a, b, c = ray.put(1), ray.put(2), same.remote(3)
    ray.get(c)
    gate.until_begun()
    assert ray.wait([a, slow, b, c]) == ([a], [slow, b, c])
    assert ray.wait([a, slow, b, c], num_returns=3) == ([a, b, c], [slow])
    assert ray.wait([slow, c, b, a], num_returns=2) == ([c, b], [slow, a])
    assert ray.wait([slow, a], num_returns=2, timeout=0.01) == ([a], [slow])
    assert ray.wait([slow], timeout=0) == ([], [slow])
    gate.open()
    assert ray.wait([a, slow], num_returns=2) == ([a, slow], [])


def test_wait_one_by_one():
    left = [same.remote(i) for i in range(500)]
    found = []
    while left:
        (ready,), left = ray.wait(left)
        found.append(ray.get(ready))
    assert sorted(found) == list(range(500))


def test_wait_for_the_first_of_two(tmp_path):
    gates = [Gate(tmp_path, "one"), Gate(tmp_path, "two")]
    refs = [held.remote(gate, i) for i, gate in enumerate(gates)]
    for gate in gates:
        gate.until_begun()
    gates[1].open()
    assert ray.wait(refs) == ([refs[1]], [refs[0]])
    gates[0].open()
    assert ray.wait(refs, num_returns=2) == (refs, [])


def test_wait_counts_failures_as_ready():
    @ray.remote
    def fail():
        raise ValueError

    ref = fail.remote()
    assert ray.wait([ref]) == ([ref], [])


def test_wait_for_generators(gate):
    @ray.remote
    def yields():
        yield 1
        gate.pass_through()
        yield 2

    generator = yields.remote()
    assert ray.wait([generator]) == ([generator], [])
    assert ray.get(next(generator)) == 1
    gate.until_begun()
    there = ray.put(0)
    assert ray.wait([generator], timeout=0) == ([], [generator])
    assert ray.wait([generator, there], num_returns=2, timeout=0.01) == ([there], [generator])
    gate.open()
    assert ray.wait([generator, there], num_returns=2) == ([generator, there], [])
    assert ray.get(next(generator)) == 2


def test_wait_for_the_next_of_a_generator_and_for_its_end(gate):
    @ray.remote
    def yields():
        yield 1
        gate.pass_through()

    generator = yields.remote()
    end = generator.completed()
    gate.until_begun()
    assert ray.wait([end, generator]) == ([generator], [end])
    assert ray.wait([end, generator], num_returns=2, timeout=0.01) == ([generator], [end])
    assert ray.get(next(generator)) == 1
    assert ray.wait([end, generator], timeout=0.01) == ([], [end, generator])
    gate.open()
    assert ray.wait([end, generator], num_returns=2) == ([end, generator], [])
    assert list(generator) == []
    assert ray.wait([generator]) == ([generator], [])


def test_wait_for_generators_in_turn():
    """Each item may come at any moment of the wait."""

    @ray.remote
    def count(n):
        yield from range(n)

    waiting = [count.remote(200) for _ in range(3)]
    found = {generator: [] for generator in waiting}
    while waiting:
        ready, _ = ray.wait(waiting)
        for generator in ready:
            ref = next(generator, None)
            if ref is None:
                waiting.remove(generator)
            else:
                found[generator].append(ray.get(ref))
    assert [values == list(range(200)) for values in found.values()] == [True] * 3


def test_wait_of_nothing():
    assert ray.wait([]) == ([], [])
    assert ray.wait([], num_returns=5, timeout=1) == ([], [])


def test_fetch_local():
    ref = ray.put(1)
    assert ray.wait([ref], fetch_local=False) == ([ref], [])
