"""Tasks of tasks: any depth, no deadlock, CPUs given back while a worker waits."""

from __future__ import annotations

import threading

import pytest
from gates import Gate

import pyray as ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def deep(n):
    return 0 if n == 0 else 1 + ray.get(deep.remote(n - 1))


@ray.remote
def wide(depth, width):
    if depth == 0:
        return 1
    return sum(ray.get([wide.remote(depth - 1, width) for _ in range(width)]))


def test_deeper_than_there_are_cpus():
    assert ray.get(deep.remote(20)) == 20


def test_tree():
    assert ray.get(wide.remote(3, 4)) == 64


def test_all_cpus_and_still_no_deadlock():
    @ray.remote(num_cpus=2)
    def outer():
        return ray.get(inner.remote())

    @ray.remote(num_cpus=2)
    def inner():
        return "done"

    assert ray.get([outer.remote() for _ in range(5)]) == ["done"] * 5


def test_wait_in_a_task():
    @ray.remote
    def outer():
        refs = [deep.remote(0) for _ in range(10)]
        left = refs
        while left:
            _, left = ray.wait(left)
        return sum(ray.get(refs))

    assert ray.get([outer.remote() for _ in range(4)]) == [0] * 4


def test_generator_of_a_task_in_a_task():
    @ray.remote
    def count(n):
        yield from range(n)

    @ray.remote(num_cpus=2)
    def outer():
        refs = count.options(num_cpus=2).remote(5)
        return ray.get(list(refs))

    assert ray.get(outer.remote()) == [0, 1, 2, 3, 4]


def test_wait_for_a_generator_in_a_task():
    @ray.remote(num_cpus=2)
    def count(n):
        yield from range(n)

    @ray.remote(num_cpus=2)
    def outer():
        generator = count.remote(1)
        ready, _ = ray.wait([generator])
        return ray.get(next(ready[0]))

    assert ray.get(outer.remote()) == 0


def test_children_outlive_their_parent():
    @ray.remote
    def parent():
        return [deep.remote(i) for i in range(5)]

    assert ray.get(ray.get(parent.remote())) == [0, 1, 2, 3, 4]


def test_references_made_in_a_task_outlive_it():
    @ray.remote(max_calls=1)
    def parent():
        return {"ref": ray.put(list(range(1000)))}

    refs = [ray.get(parent.remote())["ref"] for _ in range(4)]
    assert [len(ray.get(ref)) for ref in refs] == [1000] * 4


def test_threads_of_a_task_that_wait(tmp_path):
    @ray.remote
    def outer():
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(ray.get(deep.remote(2)))) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    assert ray.get(outer.remote()) == [2] * 5
    # The CPU was given back, and taken back, once.
    gate = Gate(tmp_path)

    @ray.remote(num_cpus=2)
    def all_cpus():
        gate.pass_through()

    ref = all_cpus.remote()
    gate.until_begun()
    assert "CPU" not in ray.available_resources()
    gate.open()
    ray.get(ref)


def test_mutual_recursion():
    assert ray.get(is_even.remote(7)) is False


@ray.remote
def is_even(n):
    return True if n == 0 else ray.get(is_odd.remote(n - 1))


@ray.remote
def is_odd(n):
    return False if n == 0 else ray.get(is_even.remote(n - 1))


def test_no_session_of_its_own_in_a_task():
    @ray.remote
    def task():
        initialized = ray.is_initialized()
        errors = []
        for call in (ray.init, ray.shutdown):
            try:
                call()
            except Exception as error:
                errors.append(type(error).__name__)
        return initialized, errors

    assert ray.get(task.remote()) == (True, ["RuntimeError", "RaySystemError"])
