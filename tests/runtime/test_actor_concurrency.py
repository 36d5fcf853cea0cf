"""Actors whose calls run at a time: on threads, on an event loop, in concurrency groups."""

import asyncio
import contextvars
import threading

import pytest

import pyray as ray

WAIT = 60  # seconds; what takes so long has failed


@pytest.fixture(autouse=True)
def session():
    ray.init(num_cpus=2)
    yield
    ray.shutdown()


class Gate:
    """Calls that wait until another one lets them go."""

    def __init__(self):
        self.gate = threading.Event()
        self.inside = threading.Semaphore(0)
        self.seen = []

    def wait(self, number=0):
        self.inside.release()
        assert self.gate.wait(WAIT)
        self.seen.append(number)
        return number

    def open(self, count=0):
        for _ in range(count):
            assert self.inside.acquire(timeout=WAIT)
        self.gate.set()

    def shut(self):
        self.gate.clear()

    def task_id(self, number):
        self.inside.release()
        assert self.gate.wait(WAIT)
        return ray.get_runtime_context().get_task_id()


class TestThreads:
    def test_so_many_calls_run_at_a_time(self):
        gate = ray.remote(Gate).options(max_concurrency=4).remote()
        waiting = [gate.wait.remote(i) for i in range(3)]
        ray.get(gate.open.remote(3), timeout=WAIT)
        assert ray.get(waiting, timeout=WAIT) == [0, 1, 2]

    def test_one_more_waits_until_a_thread_is_free(self):
        gate = ray.remote(Gate).options(max_concurrency=2).remote()
        first, second, third = (gate.wait.remote(i) for i in range(3))
        # The third cannot run before one of the others ends, so this gate opens for two only.
        blocked = gate.open.remote(2)
        ready, _ = ray.wait([third, blocked], timeout=0)
        assert ready == []
        ray.kill(gate)
        for ref in (first, second, third, blocked):
            with pytest.raises(ray.exceptions.RayActorError):
                ray.get(ref, timeout=WAIT)

    def test_each_call_knows_its_own_task(self):
        gate = ray.remote(Gate).options(max_concurrency=5).remote()
        calls = [gate.task_id.remote(i) for i in range(4)]
        ray.get(gate.open.remote(4), timeout=WAIT)
        assert len(set(ray.get(calls, timeout=WAIT))) == 4

    def test_thousands_of_calls_from_several_threads(self):
        @ray.remote(max_concurrency=8)
        class Echo:
            def echo(self, value):
                return value

        echo = Echo.remote()
        found = {}

        def call(number):
            found[number] = ray.get([echo.echo.remote((number, i)) for i in range(500)])

        threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert found == {n: [(n, i) for i in range(500)] for n in range(4)}

    def test_calls_that_wait_among_thousands_that_do_not(self):
        class Adder(Gate):
            def add(self, a, b):
                return a + b

        mixed = ray.remote(Adder).options(max_concurrency=4).remote()
        for _ in range(20):
            short = [mixed.add.remote(i, 1) for i in range(300)]
            waiting = [mixed.wait.remote(i) for i in range(3)]
            more = [mixed.add.remote(i, 2) for i in range(300)]
            assert ray.get(short + more, timeout=WAIT) == [*range(1, 301), *range(2, 302)]
            ray.get(mixed.open.remote(3), timeout=WAIT)
            assert ray.get(waiting, timeout=WAIT) == [0, 1, 2]
            ray.get(mixed.shut.remote(), timeout=WAIT)

    def test_a_call_that_comes_while_the_only_one_waits(self):
        gate = ray.remote(Gate).options(max_concurrency=2).remote()
        for _ in range(20):
            waiting = gate.wait.remote()
            ray.get(gate.open.remote(1), timeout=WAIT)
            assert ray.get(waiting, timeout=WAIT) == 0
            ray.get(gate.shut.remote(), timeout=WAIT)

    def test_it_ends_with_its_last_handle_while_calls_run(self):
        gate = ray.remote(Gate).options(max_concurrency=3).remote()
        waiting = [gate.wait.remote(i) for i in range(2)]
        opened = gate.open.remote(2)
        del gate
        assert ray.get([opened, *waiting], timeout=WAIT) == [None, 0, 1]

    def test_exit_actor_while_others_run(self):
        @ray.remote(max_concurrency=3)
        class Leaves(Gate):
            def leave(self):
                assert self.inside.acquire(timeout=WAIT)
                assert self.inside.acquire(timeout=WAIT)
                ray.actor.exit_actor()

        leaves = Leaves.remote()
        calls = [leaves.wait.remote(i) for i in range(2)]
        for ref in (leaves.leave.remote(), *calls):
            with pytest.raises(ray.exceptions.RayActorError):
                ray.get(ref, timeout=WAIT)

    def test_exceptions_of_calls_are_their_own(self):
        @ray.remote(max_concurrency=3)
        class Fails:
            def fail(self, number):
                raise ValueError(number)

        fails = Fails.remote()
        for number, ref in enumerate([fails.fail.remote(i) for i in range(6)]):
            with pytest.raises(ValueError, match=str(number)):
                ray.get(ref, timeout=WAIT)


class AsyncGate:
    def __init__(self):
        self.gate = asyncio.Event()
        self.waiting = 0
        self.most = 0

    async def wait(self, number=0):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.gate.wait()
        self.waiting -= 1
        return number

    async def open(self, count=0):
        while self.waiting < count:
            await asyncio.sleep(0)
        self.gate.set()
        return self.most

    def plain(self, number):
        return number, asyncio.get_running_loop() is not None

    async def call(self, ref):
        return await ref[0] + 1

    async def gather(self, refs):
        return await asyncio.gather(*refs)

    async def numbers(self, count):
        for i in range(count):
            yield i

    async def fail(self):
        await asyncio.sleep(0)
        raise KeyError("lost")

    async def context(self):
        before = ray.get_runtime_context().get_task_id()
        await asyncio.sleep(0)
        return before, ray.get_runtime_context().get_task_id()

    async def through_a_socket(self):
        server = await asyncio.start_unix_server(self._answer, path="\0" + str(id(self)))
        reader, writer = await asyncio.open_unix_connection("\0" + str(id(self)))
        writer.write(b"question\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    async def _answer(self, reader, writer):
        writer.write(b"answer to " + await reader.readline())
        writer.close()

    async def in_thread(self):
        return await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)

    async def cancelled(self):
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    async def was(self):
        return self.was_cancelled


class TestAsync:
    @pytest.fixture
    def gate(self):
        return ray.remote(AsyncGate).remote()

    def test_a_thousand_calls_wait_at_a_time(self, gate):
        waiting = [gate.wait.remote(i) for i in range(999)]
        assert ray.get(gate.open.remote(999), timeout=WAIT) == 999
        assert ray.get(waiting, timeout=WAIT) == list(range(999))

    def test_max_concurrency(self):
        gate = ray.remote(AsyncGate).options(max_concurrency=3).remote()
        waiting = [gate.wait.remote(i) for i in range(2)]
        assert ray.get(gate.open.remote(2), timeout=WAIT) == 2
        more = [gate.wait.remote(i) for i in range(20)]
        assert ray.get(waiting + more, timeout=WAIT) == [0, 1, *range(20)]

    def test_plain_methods_run_on_the_loop(self, gate):
        assert ray.get(gate.plain.remote(5), timeout=WAIT) == (5, True)

    def test_await_of_references(self, gate):
        @ray.remote
        def number(i):
            return i

        assert ray.get(gate.call.remote([number.remote(4)]), timeout=WAIT) == 5
        refs = [number.remote(i) for i in range(50)]
        assert ray.get(gate.gather.remote(refs), timeout=WAIT) == list(range(50))

    def test_it_may_call_itself_and_wait(self, gate):
        @ray.remote
        class Tree:
            async def sum(self, depth):
                if depth == 0:
                    return 1
                me = ray.get_runtime_context().current_actor
                left, right = me.sum.remote(depth - 1), me.sum.remote(depth - 1)
                return await left + await right

        assert ray.get(Tree.remote().sum.remote(5), timeout=WAIT) == 32

    def test_async_generators(self, gate):
        assert [ray.get(ref) for ref in gate.numbers.remote(5)] == list(range(5))

    def test_back_pressure_of_async_generators(self):
        @ray.remote
        class Source:
            def __init__(self):
                self.made = 0

            async def numbers(self):
                while self.made < 20:
                    self.made += 1
                    yield self.made

            async def count(self):
                return self.made

        source = Source.remote()
        items = source.numbers.options(_generator_backpressure_num_objects=3).remote()
        assert ray.get(next(items), timeout=WAIT) == 1
        assert ray.get(source.count.remote(), timeout=WAIT) <= 5
        assert [ray.get(ref, timeout=WAIT) for ref in items] == list(range(2, 21))
        assert ray.get(source.count.remote(), timeout=WAIT) == 20

    def test_exceptions(self, gate):
        with pytest.raises(KeyError, match="lost"):
            ray.get(gate.fail.remote(), timeout=WAIT)

    def test_each_call_knows_its_own_task(self, gate):
        found = ray.get([gate.context.remote() for _ in range(20)], timeout=WAIT)
        assert all(before == after for before, after in found)
        assert len({before for before, _ in found}) == 20

    def test_the_loop_serves_sockets_and_threads_too(self, gate):
        for _ in range(3):
            assert ray.get(gate.through_a_socket.remote(), timeout=WAIT) == b"answer to question\n"
            assert ray.get(gate.in_thread.remote(), timeout=WAIT) > 0
            assert ray.get(gate.plain.remote(1), timeout=WAIT) == (1, True)

    def test_each_call_is_a_task_with_a_context_of_its_own(self):
        @ray.remote
        class Tasks:
            def __init__(self):
                self.of_calls = set()  # kept, so that none takes the place of another
                self.variable = contextvars.ContextVar("variable", default="new")

            async def short(self):
                self.of_calls.add(asyncio.current_task())
                found = self.variable.get()
                self.variable.set("used")
                return found

            async def long(self):
                before, found = asyncio.current_task(), await self.short()
                await asyncio.wait_for(asyncio.sleep(0), WAIT)
                return before is asyncio.current_task(), found, self.variable.get()

            async def count(self):
                return len(self.of_calls)

        tasks = Tasks.remote()
        calls = [call.remote() for _ in range(50) for call in (tasks.short, tasks.long)]
        assert ray.get(calls, timeout=WAIT) == ["new", (True, "new", "used")] * 50
        assert ray.get(tasks.count.remote(), timeout=WAIT) == 100

    def test_calls_that_never_wait_leave_time_to_others(self):
        @ray.remote
        class Busy:
            def __init__(self):
                self.over = False

            async def again(self, handles):
                if not self.over:
                    handles[0].again.remote(handles)

            async def end(self):
                await asyncio.sleep(0.001)
                self.over = True

        busy = Busy.remote()
        for _ in range(4):
            busy.again.remote([busy])
        ray.get(busy.end.remote(), timeout=WAIT)

    def test_a_task_factory(self):
        @ray.remote
        class Made:
            def __init__(self):
                self.made = 0
                asyncio.get_running_loop().set_task_factory(self.make)

            def make(self, loop, coroutine, **options):
                self.made += 1
                return asyncio.Task(coroutine, loop=loop, **options)

            async def count(self):
                await asyncio.sleep(0)
                return self.made

        made = Made.remote()
        assert ray.get([made.count.remote() for _ in range(3)], timeout=WAIT)[-1] == 3

    def test_cancel_reaches_the_coroutine(self, gate):
        call = gate.cancelled.remote()
        ray.get(gate.open.remote(1), timeout=WAIT)
        ray.cancel(call)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(call, timeout=WAIT)
        assert ray.get(gate.was.remote(), timeout=WAIT) is True

    def test_cancel_of_a_call_that_waits(self):
        gate = ray.remote(AsyncGate).options(max_concurrency=1).remote()
        first, second = gate.wait.remote(1), gate.wait.remote(2)
        ray.cancel(second)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(second, timeout=WAIT)
        ray.cancel(first)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(first, timeout=WAIT)
        assert ray.get(gate.plain.remote(3), timeout=WAIT) == (3, True)

    def test_exit_actor(self):
        @ray.remote
        class Leaves:
            async def leave(self):
                ray.actor.exit_actor()

            async def stay(self):
                await asyncio.Event().wait()

        leaves = Leaves.remote()
        stay = leaves.stay.remote()
        for ref in (leaves.leave.remote(), stay):
            with pytest.raises(ray.exceptions.RayActorError):
                ray.get(ref, timeout=WAIT)


class TestGroups:
    def test_groups_of_threads_do_not_wait_for_each_other(self):
        @ray.remote(concurrency_groups={"io": 1, "compute": 2})
        class Worker:
            def __init__(self):
                self.gate = threading.Event()

            @ray.method(concurrency_group="io")
            def read(self):
                assert self.gate.wait(WAIT)
                return "read"

            @ray.method(concurrency_group="compute")
            def compute(self):
                return "computed"

            def open(self):
                self.gate.set()

        worker = Worker.remote()
        reads = [worker.read.remote() for _ in range(3)]
        assert ray.get(worker.compute.remote(), timeout=WAIT) == "computed"
        in_group = worker.open.options(concurrency_group="compute").remote()
        ray.get(in_group, timeout=WAIT)
        assert ray.get(reads, timeout=WAIT) == ["read"] * 3

    def test_groups_of_coroutines(self):
        @ray.remote(concurrency_groups={"io": 2})
        class Worker:
            def __init__(self):
                self.gate = asyncio.Event()
                self.running = self.most = 0

            @ray.method(concurrency_group="io")
            async def read(self):
                self.running += 1
                self.most = max(self.most, self.running)
                await self.gate.wait()
                self.running -= 1

            async def open(self):
                while self.running < 2:
                    await asyncio.sleep(0)
                self.gate.set()

            async def most_running(self):
                return self.most

        worker = Worker.remote()
        reads = [worker.read.remote() for _ in range(10)]
        ray.get(worker.open.remote(), timeout=WAIT)
        ray.get(reads, timeout=WAIT)
        assert ray.get(worker.most_running.remote(), timeout=WAIT) == 2

    def test_unknown_group(self):
        @ray.remote(concurrency_groups={"io": 1})
        class Worker:
            def f(self):
                return 1

        worker = Worker.remote()
        with pytest.raises(ValueError, match="nowhere"):
            worker.f.options(concurrency_group="nowhere").remote()


class Leaver:
    """Leaves while other calls run, or wait for their turn."""

    def __init__(self):
        self.began = threading.Semaphore(0)

    def stay(self):
        self.began.release()
        threading.Event().wait()

    def leave(self):
        assert self.began.acquire(timeout=WAIT)
        raise SystemExit


class AsyncLeaver:
    def __init__(self):
        self.began = asyncio.Semaphore(0)

    async def stay(self):
        self.began.release()
        await asyncio.Event().wait()

    async def leave(self):
        await self.began.acquire()
        raise SystemExit


@pytest.mark.parametrize(
    ("cls", "options", "group"),
    [
        (Leaver, {"max_concurrency": 4}, None),
        (Leaver, {"concurrency_groups": {"io": 1}}, "io"),
        (AsyncLeaver, {}, None),
        (AsyncLeaver, {"concurrency_groups": {"io": 1}}, "io"),
    ],
)
def test_calls_under_way_when_it_leaves_fail(cls, options, group):
    leaver = (ray.remote(**options) if options else ray.remote)(cls).remote()
    stay = leaver.stay.options(concurrency_group=group) if group else leaver.stay
    calls = [stay.remote() for _ in range(3)]
    calls.append(leaver.leave.remote())
    for call in calls:
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(call, timeout=WAIT)
