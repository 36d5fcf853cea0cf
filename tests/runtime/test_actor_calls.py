"""Calls of actors that wait for their arguments, for each other, or for room."""

from __future__ import annotations

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


@ray.remote(num_cpus=0)
def wait_in_a_task(actor, wanted):
    return [actor.same.remote(*wanted), actor.same.remote(1)]
