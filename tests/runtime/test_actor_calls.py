"""Calls of actors that wait for their arguments, for each other, or for room."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from gates import Gate

import pyray as ray
from pyray.exceptions import ActorDiedError, TaskCancelledError

pytestmark = pytest.mark.usefixtures("session")

#: Seconds after which what does not come is a failure.
SOON = 60


@ray.remote(num_cpus=0)
def held(gate):
    gate.pass_through()
    return "passed"


@ray.remote
class Same:
    def pid(self):
        return os.getpid()

    def same(self, x):
        return x

    def leave(self):
        ray.actor.exit_actor()


@ray.remote(num_cpus=0)
def wait_in_a_task(actor, wanted):
    return [actor.same.remote(*wanted), actor.same.remote(1)]


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


class TestDeath:
    """Nobody waits for the arguments of a call that nobody will run."""

    ENDS = {
        "it leaves": lambda actor: actor.leave.remote(),
        "it is killed": ray.kill,
        "its process dies": lambda actor: os.kill(ray.get(actor.pid.remote()), signal.SIGKILL),
    }

    @pytest.mark.parametrize("end", ENDS)
    def test_calls_that_wait_fail_at_once(self, gate, end):
        wanted = held.remote(gate)
        gate.until_begun()
        actor, other = Same.remote(), Same.remote()
        # Of two processes, as those of one that leaves come after the one by which it does.
        waiting = ray.get([wait_in_a_task.remote(actor, [wanted]) for _ in range(2)])
        waiting = [ref for refs in waiting for ref in refs]
        living = other.same.remote(wanted)
        self.ENDS[end](actor)
        for ref in waiting:
            with pytest.raises(ActorDiedError):
                ray.get(ref, timeout=SOON)
        for late in (actor.same.remote(wanted), actor.same.remote(1)):
            with pytest.raises(ActorDiedError):
                ray.get(late, timeout=SOON)
        assert ray.wait([living], timeout=0) == ([], [living])
        gate.open()
        assert ray.get([wanted, living], timeout=SOON) == ["passed", "passed"]

    def test_of_one_that_was_never_made(self, gate):
        wanted = held.remote(gate)
        gate.until_begun()
        actor = Same.options(resources={"Custom": 100}).remote()
        waiting = [actor.same.remote(wanted), actor.same.remote(1)]
        ray.kill(actor)
        for ref in waiting:
            with pytest.raises(ActorDiedError):
                ray.get(ref, timeout=SOON)
        gate.open()
        assert ray.get(wanted) == "passed"


class TestCancel:
    def test_a_cancelled_call_holds_back_no_other(self, gate):
        wanted = held.remote(gate)
        gate.until_begun()
        actor = Same.remote()
        first, second, third = (actor.same.remote(x) for x in (wanted, 2, wanted))
        ray.cancel(first)
        assert ray.get(second, timeout=SOON) == 2
        last = actor.same.remote(4)
        ray.cancel(third)
        assert ray.get(last, timeout=SOON) == 4
        for ref in (first, third):
            with pytest.raises(TaskCancelledError):
                ray.get(ref)
        gate.open()
        assert ray.get(actor.same.remote(wanted)) == "passed"


@ray.remote
class Box:
    """Where tasks leave references for the test."""

    def __init__(self):
        self.full = asyncio.Event()

    async def put(self, refs):
        self.refs = refs
        self.full.set()

    async def take(self):
        await self.full.wait()
        return self.refs


@ray.remote
class Sleeper:
    async def sleep(self, gate):
        gate.say()
        await asyncio.Event().wait()

    async def same(self, x):
        return x


def sleep_and_wait(sleeper, box, gate):
    ref = sleeper.sleep.remote(gate)
    ray.get(box.put.remote([ref]))
    return ray.get(ref)


@ray.remote(num_cpus=0)
def task_that_waits(sleeper, box, gate):
    return sleep_and_wait(sleeper, box, gate)


@ray.remote
class Waits:
    def call(self, sleeper, box, gate):
        return sleep_and_wait(sleeper, box, gate)


@ray.remote
class AwaitsInALoop:
    async def call(self, sleeper, box, gate):
        ref = sleeper.sleep.remote(gate)
        await box.put.remote([ref])
        return await ref


class TestRecursive:
    """Who cancels a task, or a call, cancels the calls that it has submitted."""

    CALLERS = {
        "task": lambda: task_that_waits,
        "method": lambda: Waits.remote().call,
        "method in a thread": lambda: Waits.options(max_concurrency=2).remote().call,
        "coroutine": lambda: AwaitsInALoop.remote().call,
    }

    @pytest.mark.parametrize("caller", CALLERS)
    def test_calls_of(self, gate, caller):
        sleeper, box = Sleeper.remote(), Box.remote()
        ref = self.CALLERS[caller]().remote(sleeper, box, gate)
        gate.until_begun()
        (child,) = ray.get(box.take.remote(), timeout=SOON)
        ray.cancel(ref)
        for one in (child, ref):
            with pytest.raises(TaskCancelledError):
                ray.get(one, timeout=SOON)
        assert ray.get(sleeper.same.remote(1)) == 1

    def test_not_so_if_not_asked(self, gate):
        sleeper, box = Sleeper.remote(), Box.remote()
        ref = task_that_waits.remote(sleeper, box, gate)
        gate.until_begun()
        (child,) = ray.get(box.take.remote(), timeout=SOON)
        ray.cancel(ref, recursive=False)
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=SOON)
        assert ray.get(sleeper.same.remote(1)) == 1
        assert ray.wait([child], timeout=0) == ([], [child])
        ray.cancel(child)
        with pytest.raises(TaskCancelledError):
            ray.get(child, timeout=SOON)

    def test_a_call_that_waits(self, gate):
        """With force, which is not for calls."""
        wanted = held.remote(gate)
        gate.until_begun()
        actor, box = Same.remote(), Box.remote()

        @ray.remote(num_cpus=0, max_retries=0)
        def calls(actor, box, refs):
            ray.get(box.put.remote([actor.same.remote(*refs)]))
            while True:
                signal.pause()

        ref = calls.remote(actor, box, [wanted])
        (child,) = ray.get(box.take.remote(), timeout=SOON)
        ray.cancel(ref, force=True)
        with pytest.raises(TaskCancelledError):
            ray.get(child, timeout=SOON)
        assert ray.get(actor.same.remote(1), timeout=SOON) == 1
        gate.open()
        assert ray.get(wanted) == "passed"


class Polite:
    """In a loop; what is not async stops it, so that the calls behind come at once."""

    async def nothing(self): ...

    def hold(self, gate):
        gate.pass_through()

    def f(self):
        return 1


class PoliteInThreads:
    def hold(self, gate):
        gate.pass_through()

    def f(self):
        return 1


@pytest.mark.parametrize(
    ("cls", "options", "group"),
    [
        (Polite, {}, None),
        (Polite, {"concurrency_groups": {"io": 2}}, "io"),
        (PoliteInThreads, {"concurrency_groups": {"io": 1}}, "io"),
    ],
)
def test_nothing_is_answered_after_terminate(cls, options, group, gate):
    polite = (ray.remote(**options) if options else ray.remote)(cls).remote()
    methods = [polite.hold, polite.__ray_terminate__, polite.f]
    if group:
        methods = [method.options(concurrency_group=group) for method in methods]
    hold, terminate, f = methods
    held = hold.remote(gate)
    gate.until_begun()
    calls = [terminate.remote(), *(f.remote() for _ in range(5))]
    gate.open()
    assert ray.get(held, timeout=SOON) is None
    for call in calls[1:]:
        with pytest.raises(ActorDiedError):
            ray.get(call, timeout=SOON)
