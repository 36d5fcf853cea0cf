"""cancel: tasks that wait, tasks that run, tasks of tasks."""

from __future__ import annotations

import itertools
import os
import signal

import pytest
from gates import Gate

import pyray as ray
from pyray.exceptions import TaskCancelledError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def held(gate):
    gate.pass_through()
    return "passed"


@ray.remote
def spin(gate):
    """Runs for ever, in Python."""
    gate.say()
    for _ in itertools.count():
        pass


@ray.remote
def same(x):
    return x


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


def cancelled(ref):
    with pytest.raises(TaskCancelledError):
        ray.get(ref)


@pytest.mark.parametrize("task", [held, spin], ids=["blocked", "busy"])
def test_running(gate, task):
    ref = task.remote(gate)
    gate.until_begun()
    ray.cancel(ref)
    cancelled(ref)
    assert ray.get(same.remote(1)) == 1


def test_force(gate):
    ref = spin.remote(gate)
    pid = gate.until_begun()
    ray.cancel(ref, force=True)
    with pytest.raises((TaskCancelledError, WorkerCrashedError)):
        ray.get(ref)
    with pytest.raises(ProcessLookupError):
        while True:  # it is a child of another process: there is nothing to wait on
            os.kill(pid, 0)
    assert ray.get(same.remote(1)) == 1


def test_waiting_for_a_cpu(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(2)]
    running = [held.remote(gate) for gate in gates]
    for gate in gates:
        gate.until_begun()
    waiting = same.remote("never")
    ray.cancel(waiting)
    cancelled(waiting)
    for gate in gates:
        gate.open()
    assert ray.get(running) == ["passed", "passed"]


def test_waiting_for_an_argument(gate):
    first = held.remote(gate)
    second = same.remote(first)
    third = same.remote(second)
    gate.until_begun()
    ray.cancel(second)
    cancelled(second)
    cancelled(third)
    gate.open()
    assert ray.get(first) == "passed"


def test_cleanup_runs(gate, tmp_path):
    done = Gate(tmp_path, "done")

    @ray.remote
    def cleans_up():
        try:
            gate.pass_through()
        finally:
            done.say()

    ref = cleans_up.remote()
    gate.until_begun()
    ray.cancel(ref)
    done.until_begun()
    cancelled(ref)


def test_one_interrupt_for_each_cancel(gate, tmp_path):
    """Of several signals for one cancel(), a late one does not interrupt the cleanup."""
    again = Gate(tmp_path, "again")

    @ray.remote
    def cleans_up():
        late = []
        for one in gate, again:
            try:
                one.pass_through()
            except KeyboardInterrupt:
                try:
                    signal.raise_signal(signal.SIGINT)
                    late.append("ignored")
                except KeyboardInterrupt:
                    late.append("interrupted")
        return late

    ref = cleans_up.remote()
    gate.until_begun()
    ray.cancel(ref)
    again.until_begun()
    ray.cancel(ref)
    assert ray.get(ref) == ["ignored", "ignored"]


def test_finished_and_put():
    ref = same.remote(5)
    assert ray.get(ref) == 5
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    assert ray.get(ref) == 5
    put = ray.put(6)
    ray.cancel(put)
    assert ray.get(put) == 6


def test_twice(gate):
    ref = held.remote(gate)
    gate.until_begun()
    ray.cancel(ref)
    ray.cancel(ref)
    cancelled(ref)


def test_cancelled_tasks_are_not_tried_again(tmp_path, gate):
    tries = tmp_path / "tries"

    @ray.remote(retry_exceptions=True, max_retries=-1)
    def counts():
        with open(tries, "a") as file:
            file.write("x")
        gate.pass_through()

    ref = counts.remote()
    gate.until_begun()
    ray.cancel(ref)
    cancelled(ref)
    assert tries.read_text() == "x"


@pytest.mark.parametrize("recursive", [True, False])
def test_children(tmp_path, recursive):
    inner, outer = Gate(tmp_path, "inner"), Gate(tmp_path, "outer")

    @ray.remote
    def parent(box):
        child = held.remote(inner)
        box = ray.put([child])
        outer.say()
        return ray.get(child), box

    @ray.remote
    def watcher(gate):
        gate.pass_through()

    ref = parent.remote(None)
    outer.until_begun()
    inner.until_begun()
    ray.cancel(ref, recursive=recursive)
    cancelled(ref)
    if not recursive:
        inner.open()
    # Both CPUs are free again.
    assert ray.get([same.options(num_cpus=2).remote(i) for i in range(3)]) == [0, 1, 2]


def test_several_results(gate):
    refs = held.options(num_returns=3).remote(gate)
    gate.until_begun()
    ray.cancel(refs[1])
    for ref in refs:
        cancelled(ref)


def test_generator(gate):
    @ray.remote
    def yields():
        yield 1
        gate.pass_through()
        yield 2

    generator = yields.remote()
    assert ray.get(next(generator)) == 1
    gate.until_begun()
    ray.cancel(generator)
    with pytest.raises(TaskCancelledError):
        ray.get(next(generator))


def test_many_at_once():
    refs = [same.options(num_cpus=2).remote(i) for i in range(500)]
    for ref in refs[::2]:
        ray.cancel(ref)
    for i, ref in enumerate(refs):
        try:
            assert ray.get(ref) == i
        except TaskCancelledError:
            assert i % 2 == 0
