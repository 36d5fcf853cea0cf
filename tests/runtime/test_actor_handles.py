"""Handles: what is checked at the call, what they say of themselves, and where they can go."""

from __future__ import annotations

import copy
import gc
import os
import select
import threading
import weakref

import numpy as np
import pytest
from gates import Gate

import pyray as ray
from pyray.actor import ActorHandle, ActorMethod
from pyray.exceptions import (
    ActorDiedError,
    ActorHandleNotFoundError,
    PendingCallsLimitExceeded,
    RayActorError,
    RayTaskError,
)

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Counter:
    limit = 10

    class Inner:
        pass

    def __init__(self, start=0):
        self.value = start

    @property
    def current(self):
        return self.value

    def increment(self, by=1, *, times=1):
        self.value += by * times
        return self.value

    def decrement(self):
        self.value -= 1

    def pid(self):
        return os.getpid()

    def _private(self):
        return "private"

    def __len__(self):
        return self.value

    def __call__(self, x):
        return x

    @ray.method(num_returns=2)
    def pair(self):
        return self.value, -self.value

    def numbers(self, n):
        yield from range(n)

    def fail(self, error):
        raise error

    def itself(self, value):
        return value

    def no_self():
        return 1

    @ray.method(num_returns=2)
    @staticmethod
    def static_pair(x):
        return x, x + 1


@pytest.fixture(scope="module")
def counter(session):
    return Counter.remote()


@ray.remote
def call(handle, *args):
    return ray.get(handle.itself.remote(*args))


class TestCalls:
    def test_arguments_are_checked_at_the_call(self, counter):
        with pytest.raises(TypeError) as caught:
            counter.increment.remote(1, 2)
        assert str(caught.value) == (
            "too many positional arguments: the actor method is "
            "Counter.increment(by=..., *, times=...)"
        )
        for args, kwargs in (((), {"step": 1}), ((1,), {"by": 1})):
            with pytest.raises(TypeError):
                counter.increment.remote(*args, **kwargs)
        with pytest.raises(TypeError, match="missing a required argument: 'value'"):
            counter.itself.remote()

    def test_self_is_not_an_argument(self, counter):
        with pytest.raises(TypeError, match="unexpected keyword argument 'self'"):
            counter.increment.remote(self=1)

    def test_method_without_self(self, counter):
        with pytest.raises(TypeError, match="takes 0 positional arguments"):
            ray.get(counter.no_self.remote())

    def test_argument_that_cannot_be_sent(self, counter):
        with pytest.raises(TypeError, match="Could not serialize the argument 0 of Counter.itself"):
            counter.itself.remote(threading.Lock())

    def test_called_directly(self, counter):
        with pytest.raises(TypeError) as caught:
            counter.increment()
        assert str(caught.value) == (
            "Actor methods cannot be called directly. Instead of running 'object.increment()', try "
            "'object.increment.remote()'."
        )

    def test_bind(self, counter):
        with pytest.raises(NotImplementedError):
            counter.increment.bind()

    def test_private_and_special_methods(self, counter):
        assert ray.get(counter._private.remote()) == "private"
        assert ray.get(counter.__call__.remote(3)) == 3
        assert isinstance(ray.get(counter.__len__.remote()), int)

    def test_methods_that_every_actor_has(self):
        other = Counter.remote(7)
        assert ray.get(other.__ray_ready__.remote()) is True
        assert ray.get(other.__ray_call__.remote(lambda self: self.value)) == 7
        assert (
            ray.get(other.__ray_call__.remote(lambda self, x, y=0: self.value + x + y, 1, y=2))
            == 10
        )
        with pytest.raises(TypeError, match="missing a required argument: 'fn'"):
            other.__ray_call__.remote()

    def test_references_are_resolved_at_the_top_level_only(self, counter):
        ref = ray.put(5)
        assert ray.get(counter.itself.remote(ref)) == 5
        assert ray.get(counter.itself.remote([ref])) == [ref]

    def test_failed_argument(self, counter):
        @ray.remote
        def fail():
            raise KeyError("first")

        with pytest.raises(KeyError, match="first"):
            ray.get(counter.itself.remote(fail.remote()))

    def test_large_argument_and_result(self, counter):
        array = np.arange(100_000)
        assert np.array_equal(ray.get(counter.itself.remote(array)), array)

    def test_what_it_raises(self, counter):
        with pytest.raises(ValueError, match="nothing") as caught:
            ray.get(counter.fail.remote(ValueError("nothing")))
        assert isinstance(caught.value, RayTaskError)
        assert "Counter.fail" in str(caught.value)
        assert ray.get(counter.itself.remote(1)) == 1


class TestAttributes:
    def test_a_method_that_is_not_there(self, counter):
        with pytest.raises(AttributeError) as caught:
            counter.incremnt
        assert str(caught.value) == (
            "'ActorHandle' object has no attribute 'incremnt': the class Counter has no such "
            "method. Did you mean increment or decrement?"
        )
        with pytest.raises(AttributeError, match="It has: .*decrement.*increment"):
            counter.xyz
        assert not hasattr(counter, "__array__") and not hasattr(counter, "nothing")

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("current", "a property"), ("limit", "an attribute"), ("Inner", "a class")],
    )
    def test_what_is_no_method(self, counter, name, kind):
        with pytest.raises(AttributeError, match=f"{kind} of the class Counter") as caught:
            getattr(counter, name)
        assert f"return self.{name}" in str(caught.value)

    def test_what_it_says_of_itself(self, counter):
        assert repr(counter) == f"Actor(Counter, {counter._actor_id.hex()})"
        assert len(counter._ray_actor_id.hex()) == 32
        assert "increment" in dir(counter) and "current" not in dir(counter)
        assert isinstance(counter, ActorHandle) and isinstance(counter.increment, ActorMethod)

    def test_a_method_is_kept(self, counter):
        assert counter.increment is counter.increment


class TestOptions:
    def test_num_returns(self):
        counter = Counter.remote(3)
        assert ray.get(counter.pair.remote()) == [3, -3]
        assert ray.get(counter.static_pair.remote(1)) == [1, 2]
        assert ray.get(counter.pair.options(num_returns=1).remote()) == (3, -3)
        a, b = counter.itself.options(num_returns=2).remote([1, 2])
        assert ray.get([b, a]) == [2, 1]
        assert counter.increment.options(num_returns=0).remote() is None
        assert ray.get(counter.increment.remote()) == 5

    def test_wrong_number_of_results(self, counter):
        first, _ = counter.itself.options(num_returns=2).remote([1, 2, 3])
        with pytest.raises(ValueError, match="returned 3 objects, but num_returns=2"):
            ray.get(first)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_generators_stream(self, counter):
        assert [ray.get(ref) for ref in counter.numbers.remote(3)] == [0, 1, 2]
        assert ray.get(list(ray.get(counter.numbers.options(num_returns="dynamic").remote(2)))) == [
            0,
            1,
        ]
        assert ray.get(counter.numbers.options(num_returns=2).remote(2)) == [0, 1]

    def test_name_is_in_the_error(self, counter):
        with pytest.raises(ValueError) as caught:
            ray.get(counter.fail.options(name="my call").remote(ValueError()))
        assert "my call" in str(caught.value) and "Counter.fail()" not in str(caught.value)

    def test_options_add_to_each_other(self):
        counter = Counter.remote(1)
        method = counter.fail.options(name="first").options(max_task_retries=1)
        with pytest.raises(ValueError, match="first"):
            ray.get(method.remote(ValueError()))

    def test_retried_when_it_raises(self, tmp_path):
        @ray.remote
        class Flaky:
            def __init__(self):
                self.calls = 0

            @ray.method(max_task_retries=3, retry_exceptions=[OSError])
            def f(self, error):
                self.calls += 1
                if self.calls < 3:
                    raise error
                return self.calls

        assert ray.get(Flaky.remote().f.remote(OSError())) == 3
        with pytest.raises(KeyError):
            ray.get(Flaky.remote().f.remote(KeyError()))
        with pytest.raises(OSError):
            ray.get(Flaky.remote().f.options(max_task_retries=1).remote(OSError()))
        flaky = Flaky.options(max_task_retries=-1).remote()
        assert ray.get(flaky.f.options(retry_exceptions=True).remote(KeyError())) == 3

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"num_cpus": 1}, "Invalid option keyword num_cpus for methods of actors"),
            ({"num_returns": "streaming"}, "generator functions"),
            ({"concurrency_group": "io"}, "'io' is not one of the actor's: it has none"),
        ],
    )
    def test_refused(self, counter, options, text):
        with pytest.raises(ValueError, match=text):
            counter.increment.options(**options)

    def test_many_sets_of_options(self, counter):
        refs = [counter.itself.options(name=f"call {i}").remote(i) for i in range(300)]
        assert ray.get(refs) == list(range(300))

    def test_max_pending_calls(self, tmp_path):
        gate = Gate(tmp_path)

        @ray.remote(max_pending_calls=2)
        class Slow:
            def wait(self, gate):
                gate.pass_through()

            def f(self):
                return 1

        @ray.remote
        def call_twice(slow):
            """Each process has calls of its own."""
            refs = [slow.f.remote(), slow.f.remote()]
            with pytest.raises(PendingCallsLimitExceeded):
                slow.f.remote()
            return refs

        slow = Slow.remote()
        refs = [slow.wait.remote(gate)]
        gate.until_begun()
        refs.append(slow.f.remote())
        same = copy.copy(slow)  # another handle, but the same caller
        for method in (slow.f, slow.wait, same.f):
            with pytest.raises(PendingCallsLimitExceeded, match="2 calls of this process"):
                method.remote(gate) if method is slow.wait else method.remote()
        refs += ray.get(call_twice.remote(slow))
        gate.open()
        assert ray.get(refs) == [None, 1, 1, 1]
        for _ in range(100):
            assert ray.get([slow.f.remote(), same.f.remote()]) == [1, 1]


class TestValues:
    def test_equal_and_usable_as_a_key(self, counter):
        same = ray.get(ray.put(counter))
        assert same == counter and hash(same) == hash(counter) and same is not counter
        assert {counter: 1}[same] == 1
        assert counter != Counter.remote() and counter != "counter"

    def test_passed_to_tasks(self, counter):
        assert ray.get(call.remote(counter, 5)) == 5

    def test_nested_in_arguments_and_results(self, counter):
        @ray.remote
        def inner(handles):
            return {"one": handles["here"][0]}

        found = ray.get(inner.remote({"here": [counter]}))["one"]
        assert found == counter and ray.get(found.itself.remote(1)) == 1

    def test_captured_by_a_function(self, counter):
        @ray.remote
        def use():
            return ray.get(counter.itself.remote("captured"))

        assert ray.get(use.remote()) == "captured"

    def test_passed_to_another_actor(self, counter):
        @ray.remote
        class Caller:
            def __init__(self, handle):
                self.handle = handle

            def call(self, x):
                return ray.get(self.handle.itself.remote(x))

        assert ray.get(Caller.remote(counter).call.remote(4)) == 4

    def test_its_own_handle(self):
        @ray.remote
        class Own:
            def me(self):
                return ray.get_runtime_context().current_actor

        own = Own.remote()
        assert ray.get(own.me.remote()) == own

    def test_made_in_a_task_and_returned(self):
        @ray.remote
        def make():
            return Counter.remote(41)

        assert ray.get(ray.get(make.remote()).increment.remote()) == 42

    def test_copied(self, counter):
        for other in (copy.copy(counter), copy.deepcopy(counter), copy.deepcopy([counter])[0]):
            assert other == counter and ray.get(other.itself.remote(2)) == 2

    def test_methods_are_values_too(self, counter):
        @ray.remote
        def use(method, x):
            return ray.get(method.remote(x))

        assert ray.get(use.remote(counter.itself, 3)) == 3
        first, second = ray.get(use.remote(counter.itself.options(num_returns=1), (1, 2)))
        assert (first, second) == (1, 2)

    def test_where_the_class_cannot_be_imported(self, tmp_path):
        folder = tmp_path / "module_of_the_maker"
        folder.mkdir()
        (folder / "__init__.py").write_text(
            "import pyray as ray\n\n"
            "@ray.remote\nclass Far:\n    def f(self, x=1):\n        return x\n"
        )

        @ray.remote(runtime_env={"py_modules": [str(folder)]})
        def make():
            import module_of_the_maker

            return module_of_the_maker.Far.remote()

        far = ray.get(make.remote())
        assert ray.get(far.f.remote(5)) == 5
        with pytest.raises(TypeError):
            far.f.remote(1, 2)


class TestLifetime:
    def test_a_handle_has_no_cycles(self):
        """An actor must not wait for the garbage collector."""
        gc.disable()
        try:
            counter = Counter.remote()
            ray.get(counter.increment.remote())
            ray.get(counter.pair.options(name="x").remote())
            gone = weakref.ref(counter)
            del counter
            assert gone() is None
        finally:
            gc.enable()

    def test_the_last_handle_ends_it(self, tmp_path):
        counter = Counter.remote()
        fd = os.pidfd_open(ray.get(counter.pid.remote()))
        del counter
        assert select.select([fd], [], [], 60)[0]
        os.close(fd)

    def test_a_handle_of_itself_does_not_keep_it(self):
        @ray.remote
        class Own:
            def __init__(self):
                self.me = ray.get_runtime_context().current_actor

            def pid(self):
                return os.getpid()

            def other(self):
                return ray.get_runtime_context().get_actor_id()

            def later(self):
                return self.me.other.remote()

        for max_concurrency in (1, 2):
            own = Own.options(max_concurrency=max_concurrency).remote()
            fd = os.pidfd_open(ray.get(own.pid.remote()))
            assert ray.get(ray.get(own.later.remote())) == own._actor_id.hex()
            assert not select.select([fd], [], [], 0)[0]
            del own
            assert select.select([fd], [], [], 60)[0]
            os.close(fd)

    def test_a_method_keeps_it(self):
        method = Counter.remote(5).increment
        gc.collect()
        assert ray.get(method.remote()) == 6

    def test_calls_of_an_actor_without_handles_are_done(self):
        assert ray.get(Counter.remote(1).increment.remote()) == 2

    def test_kept_in_an_object(self):
        ref = ray.put([Counter.remote(1)])
        gc.collect()
        assert ray.get(ray.get(ref)[0].increment.remote()) == 2

    def test_kill(self, tmp_path):
        gate = Gate(tmp_path)

        @ray.remote
        class Slow:
            def wait(self, gate):
                gate.pass_through()

            def f(self):
                return 1

        slow = Slow.remote()
        running, waiting = slow.wait.remote(gate), slow.f.remote()
        gate.until_begun()
        ray.kill(slow)
        for ref in (running, waiting, slow.f.remote()):
            with pytest.raises(ActorDiedError) as caught:
                ray.get(ref)
            assert isinstance(caught.value, RayActorError)
            assert not caught.value.actor_init_failed
        ray.kill(slow)  # again: nothing happens

    @pytest.mark.parametrize("what", [None, 1, Counter, "name"])
    def test_kill_of_something_else(self, what):
        with pytest.raises(ValueError, match=r"kill\(\) only supported for actors. For tasks, try"):
            ray.kill(what)

    def test_kill_of_a_reference(self):
        with pytest.raises(ValueError, match="For tasks, try cancel"):
            ray.kill(ray.put(1))

    def test_terminate_ends_it_after_earlier_calls(self):
        counter = Counter.remote()
        first = counter.increment.remote()
        last = counter.__ray_terminate__.remote()
        assert ray.get(first) == 1
        with pytest.raises(ActorDiedError):
            ray.get([last, counter.increment.remote()])

    def test_exit_actor(self):
        @ray.remote
        class Leaving:
            def leave(self):
                ray.actor.exit_actor()

            def f(self):
                return 1

        leaving = Leaving.options(max_restarts=5).remote()
        refs = [leaving.f.remote(), leaving.leave.remote(), leaving.f.remote()]
        assert ray.get(refs[0]) == 1
        for ref in refs[1:]:
            with pytest.raises(ActorDiedError, match="exit_actor"):
                ray.get(ref)

    def test_exit_actor_elsewhere(self):
        with pytest.raises(TypeError, match="exit_actor API is called on a non-actor worker"):
            ray.actor.exit_actor()

        @ray.remote
        def leave():
            ray.actor.exit_actor()

        with pytest.raises(TypeError, match="non-actor worker"):
            ray.get(leave.remote())

    def test_constructor_that_raises(self):
        @ray.remote
        class Broken:
            def __init__(self):
                raise RuntimeError("cannot be made")

            def f(self): ...

        broken = Broken.remote()
        for _ in range(2):
            with pytest.raises(ActorDiedError, match="cannot be made") as caught:
                ray.get(broken.f.remote())
            assert caught.value.actor_init_failed
            assert caught.value.actor_id == broken._actor_id.hex()
            assert "error raised in its creation task" in str(caught.value)
            assert "Broken.__init__" in str(caught.value)

    def test_restarted(self):
        counter = Counter.options(max_restarts=1).remote(5)
        ray.get(counter.increment.remote())
        pid = ray.get(counter.pid.remote())
        ray.kill(counter, no_restart=False)
        while True:
            try:
                assert ray.get(counter.increment.remote()) == 6
                break
            except RayActorError as error:
                assert not isinstance(error, ActorDiedError) or counter
        assert ray.get(counter.pid.remote()) != pid
        assert ray.get(call.remote(counter, 1)) == 1
        ray.kill(counter)
        with pytest.raises(ActorDiedError):
            ray.get(counter.increment.remote())


class TestCancel:
    def test_a_call_that_waits(self, tmp_path):
        gate = Gate(tmp_path)

        @ray.remote
        class Slow:
            def wait(self, gate):
                gate.pass_through()

            def f(self):
                return 1

        slow = Slow.remote()
        first, second = slow.wait.remote(gate), slow.f.remote()
        gate.until_begun()
        ray.cancel(second)
        gate.open()
        ray.get(first)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(second)
        assert ray.get(slow.f.remote()) == 1

    def test_one_that_runs_may_look(self, tmp_path):
        begun, cancelled = Gate(tmp_path, "begun"), Gate(tmp_path, "cancelled")

        @ray.remote
        class Patient:
            def work(self, begun, cancelled):
                context = ray.get_runtime_context()
                before = context.is_canceled()
                begun.say()
                cancelled.wait()
                return before, context.is_canceled()

            def f(self):
                return ray.get_runtime_context().is_canceled()

        patient = Patient.remote()
        ref = patient.work.remote(begun, cancelled)
        begun.until_begun()
        ray.cancel(ref)
        cancelled.open()
        assert ray.get(ref) == (False, True)
        assert ray.get(patient.f.remote()) is False

    def test_force_is_refused(self, tmp_path):
        gate = Gate(tmp_path)

        @ray.remote
        class Slow:
            def wait(self, gate):
                gate.pass_through()

            def numbers(self):
                yield 1

        slow = Slow.remote()
        ref = slow.wait.remote(gate)
        gate.until_begun()
        waiting = slow.wait.remote(gate), slow.numbers.remote()
        for call in (ref, *waiting):
            with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
                ray.cancel(call, force=True)
        ray.kill(slow)

    def test_a_handle_cannot_be_cancelled(self, counter):
        with pytest.raises(TypeError, match=r"For actors, try kill\(\)"):
            ray.cancel(counter)

    def test_is_canceled_is_of_tasks(self):
        with pytest.raises(RuntimeError, match="not in the driver"):
            ray.get_runtime_context().is_canceled()

        @ray.remote
        class Async:
            async def f(self):
                return ray.get_runtime_context().is_canceled()

        with pytest.raises(RuntimeError, match="not supported in an async actor"):
            ray.get(Async.remote().f.remote())


def test_handles_of_a_session_that_has_ended(no_session):
    ray.init(num_cpus=1)
    counter = Counter.remote()
    method = counter.increment
    unused = Counter.remote()
    assert ray.get(method.remote()) == 1
    ray.shutdown()
    for _ in range(2):
        for use in (
            method.remote,
            counter.increment.remote,
            lambda: ray.kill(counter),
            lambda: ray.dumps(counter),
            lambda: unused.increment.remote(),
        ):
            with pytest.raises(ActorHandleNotFoundError, match="not valid across sessions"):
                use()
        assert repr(counter).startswith("Actor(") and hash(counter) == hash(counter)
        assert not hasattr(unused, "__array__")
        ray.init(num_cpus=1, ignore_reinit_error=True)
        assert ray.get(Counter.remote().increment.remote()) == 1
