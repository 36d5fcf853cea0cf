"""Calls that run as tasks, or on actors, so many at a time; the others wait in this process.

What `Pool`, `RayExecutor` and the backend of joblib share. A call that is not submitted yet can be
taken back, and a long list of calls does not fill the store. Whoever adds a call submits it if
there is room; one thread hears of results, submits what comes next and then tells who waits.

While there is room somebody may submit a call at any time: the thread waits for news, and each
call has a future that brings them. While there is none, only the thread submits: it waits for the
results themselves, which costs a fraction.

Invariants, under `_changed`: `_running` has what was submitted and is not heard of; nothing is in
the backlog while there is room; `_silent` has those that run and have no future, and is empty
while the thread waits for news, or there is some. May import `calls` and the public API alone.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from math import floor
from queue import SimpleQueue

import pyray as ray

from .calls import run_call

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["Actors", "Call", "Tasks", "Window", "share"]

#: While the arguments of running calls have so many bytes, no more than can run are submitted.
_LARGE = 32 << 20
#: How many calls are submitted ahead of those that can run.
AHEAD = 64
#: How many pairs of a function and a name have a remote function of their own.
_MOST_REMOTES = 100
#: Seconds that actors get to end by themselves.
_PATIENCE = 5.0

_log = logging.getLogger("pyray")


def share(processes: int) -> tuple[float, bool]:
    """The CPUs of a call such that `processes` run at once, and whether more may be submitted.

    A pool of more processes than CPUs shares them. Within a task, calls reserve none: the task
    keeps its own while it waits for them.
    """
    try:
        ray.get_runtime_context().get_assigned_resources()
        return 0, False
    except AssertionError:
        pass  # not in a task
    cpus = ray.cluster_resources().get("CPU", 0)
    if processes < cpus:
        return 1, False
    return floor(cpus / processes * 10_000) / 10_000, cpus > 0


class Call:
    """A call to be made, and who is told of its result. `error`: it fails without being made."""

    __slots__ = ("arguments", "error", "function", "name", "run", "size", "waiter")

    def __init__(
        self,
        function: Any,
        arguments: tuple[Any, ...],
        run: Callable[..., Any] = run_call,
        name: str = "",
        size: int = 0,
        error: BaseException | None = None,
    ) -> None:
        self.run = run  # what runs in the worker, with `function` and `arguments`
        self.function = function
        self.arguments = arguments
        self.name = name
        self.size = size
        self.error = error
        self.waiter: Any = None  # while it `is_awaited`, who made it hears of it in `wait_for`

    def begin(self) -> bool:
        """It is about to be submitted; False if it was taken back."""
        return True

    def done(self, value: Any) -> None:
        """It has returned."""

    def failed(self, error: BaseException) -> None:
        """It has raised, or could not run."""


class Window:
    """Runs calls with `workers`, `most` of which know at once how many can run at once."""

    def __init__(self, workers: Tasks | Actors, most: int, ahead: int = 0) -> None:
        self._workers = workers
        self._most = most
        self._ahead = ahead
        self._changed = threading.Condition(threading.RLock())
        self._running: dict[Call, Any] = {}  # with their references; None: failed at once
        self._silent: dict[Call, Any] = {}
        self._size = 0  # bytes of the arguments of those that run
        self._backlog: deque[Call | Iterator[Call]] = deque()
        self._refused: Call | None = None  # the next one: the store had no room for it
        self._feeding = 0  # threads that add calls
        self._telling = 0
        self._is_watching = False
        self._closed = False
        self._news: SimpleQueue[Any] = SimpleQueue()
        self._thread: threading.Thread | None = None

    # -- adding calls ------------------------------------------------------------------------

    def add(self, call: Call | Iterator[Call]) -> None:
        """Have a call made, or several, from an iterator that is never in need of waiting."""
        with self._changed:
            self._backlog.append(call)
            self._fill()

    def feed(self, calls: Iterator[Call]) -> None:
        """Have calls made whose iterator may wait for something: it gets a thread."""
        with self._changed:
            self._feeding += 1
        threading.Thread(target=self._feed, args=(calls,), name="pyray-feed", daemon=True).start()

    def _feed(self, calls: Iterator[Call]) -> None:
        try:
            for call in calls:
                with self._changed:
                    # One that waits, so that the next is at hand; no more are asked for.
                    self._changed.wait_for(lambda: not self._backlog or self._closed_at_once())
                    if self._closed_at_once():
                        break
                    self._backlog.append(call)
                    self._fill()
                del call
        finally:
            with self._changed:
                self._feeding -= 1
                self._changed.notify_all()
            self._news.put(_nothing)

    def _closed_at_once(self) -> bool:
        return self._workers.stopped

    def _fill(self) -> None:
        """Submit what there is room for."""
        while self._has_room():
            call = self._refused or self._next()
            if call is None:
                return
            again, self._refused = self._refused is call, None
            if not self._submit(call, again):
                self._refused = call
                return

    def _has_room(self) -> bool:
        running = len(self._running)
        if running < self._most:
            return True
        return running < self._most + self._ahead and self._size < _LARGE

    def _next(self) -> Call | None:
        backlog = self._backlog
        while backlog:
            head = backlog[0]
            if isinstance(head, Call):
                backlog.popleft()
                return head
            call = next(head, None)
            if call is not None:
                return call
            backlog.popleft()
        return None

    def _submit(self, call: Call, again: bool) -> bool:
        """Whether the store had room; while others run it may have it later."""
        if not again and not call.begin():
            return True
        error = call.error
        ref: Any = None
        if error is None and not ray.is_initialized():
            error = ray.exceptions.RaySystemError("the session of the pool has ended")
        if error is None:
            try:
                ref = self._workers.submit(call)
            except ray.exceptions.ObjectStoreFullError as problem:
                if self._running:
                    return False
                error = problem
            except BaseException as problem:
                # As the original: what the value's own code raised.
                error = problem.__cause__ if type(problem) is TypeError else None
                error = error or problem
        self._running[call] = ref
        self._size += call.size
        call.function = call.arguments = None  # type: ignore[assignment]
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="pyray-pool", daemon=True)
            self._thread.start()
        if error is not None:
            self._news.put((call, [], error))
        elif self._has_room() and not (call.waiter and call.waiter.is_awaited):
            self._listen(call, ref)
        else:
            self._silent[call] = ref
            if not self._has_room() and not self._is_watching:
                self._news.put(_nothing)
        return True

    # -- results -----------------------------------------------------------------------------

    def _listen(self, call: Call, ref: Any) -> None:
        ref.future().add_done_callback(partial(self._hear, call))

    def _hear(self, call: Call, future: Any) -> None:
        error = future.exception()
        self._news.put((call, [] if error else [future.result()], error))

    def _serve(self) -> None:
        while True:
            watched = self._watched()
            if watched and self._news.empty():
                self._watch(watched)
            else:
                self._take_news()
            del watched
            with self._changed:
                if self._closed and self.is_idle():
                    return

    def _take_news(self) -> None:
        news = self._news.get()
        if type(news) is tuple:
            self._tell(*news)
        else:
            news()

    def _watched(self) -> dict[Any, Call]:
        """The calls that run, by reference, while nobody else can submit any."""
        with self._changed:
            self._is_watching = not self._has_room()
            if self._is_watching:
                return {ref: call for call, ref in self._running.items() if ref is not None}
            for call, ref in self._silent.items():
                self._listen(call, ref)
            self._silent.clear()
            return {}

    def _watch(self, calls: dict[Any, Call], count: int = 1) -> None:
        """Wait until `count` of these have ended."""
        refs = list(calls)
        try:
            ray.wait(refs, num_returns=count)
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        except Exception as problem:  # the session has ended
            problem.__traceback__ = None
            for call in calls.values():
                self._tell(call, [], problem)
            return
        for ref in ready:
            result, error = [], None
            try:
                result.append(ray.get(ref))
            except BaseException as problem:
                error = problem.with_traceback(None)  # this frame has all references
            self._tell(calls[ref], result, error)

    def wait_for(self, waiter: Any, count: int) -> None:
        """Wait for `count` calls, all that there are of this waiter; or not, if some wait here."""
        with self._changed:
            calls = {ref: call for call, ref in self._running.items() if call.waiter is waiter}
            calls.pop(None, None)
            waiter.is_awaited = len(calls) == count
        try:
            if waiter.is_awaited:
                self._watch(calls, count)
        finally:
            # Of an interrupted wait, or one that was none, the thread is to hear.
            with self._changed:
                waiter.is_awaited = False
                left = [call for call in calls.values() if call in self._silent]
                for call in left if not self._is_watching else ():
                    self._listen(call, self._silent.pop(call))

    def _tell(self, call: Call, result: list[Any], error: BaseException | None) -> None:
        """Go on to the next call; then tell the owner of this one, who alone has the value."""
        with self._changed:
            if call not in self._running:
                return  # its future is late
            self._telling += 1
            del self._running[call]
            self._silent.pop(call, None)
            self._size -= call.size
            self._workers.ended(call, error)
            self._fill()
            self._changed.notify_all()
        try:
            if error is None:
                call.done(result.pop())
            else:
                call.failed(error)
        except BaseException:
            _log.exception("a callback of a pool raised")
        with self._changed:
            self._telling -= 1
            self._changed.notify_all()
            if self._closed and self.is_idle():
                self._news.put(_nothing)

    # -- the end -----------------------------------------------------------------------------

    def is_idle(self) -> bool:
        """Whether all that was added has been made, and told of."""
        with self._changed:
            feeding = self._feeding and not self._workers.stopped
            waiting = self._running or self._backlog or self._refused or feeding
            return not (waiting or self._telling)

    def wait_until(self, enough: Callable[[], bool]) -> None:
        """Wait until all is done, or enough, which is asked after each call that was told of."""
        with self._changed:
            self._changed.wait_for(lambda: enough() or self.is_idle())

    def close(self) -> None:
        """Nothing will be added; the thread ends when all is done. May be called anywhere."""
        self._closed = True
        self._news.put(_nothing)

    def take_back(self) -> list[Call]:
        """Take back the calls that are not submitted yet, and return them."""
        with self._changed:
            taken = [call for call in self._backlog if isinstance(call, Call)]
            if self._refused is not None:
                taken.insert(0, self._refused)
            self._refused = None
            self._backlog.clear()
            self._changed.notify_all()
            return taken

    def abandon(self) -> None:
        """`terminate`, in the thread; for finalizers, which run anywhere."""
        thread = self._thread
        # If it has ended, what is put there would keep itself, and the handles of actors.
        if thread is not None and thread.is_alive() and not self._workers.stopped:
            self._news.put(self.terminate)

    def terminate(self) -> None:
        """Take back what is not submitted, and stop what runs."""
        with self._changed:
            self._workers.stopped = True
            self.take_back()
            refs = [ref for ref in self._running.values() if ref is not None]
        if ray.is_initialized():
            self._workers.stop(refs)
        self.close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all is done; whether it is."""
        with self._changed:
            done = self._changed.wait_for(self.is_idle, timeout)
        thread = self._thread
        if done and self._closed and thread and thread is not threading.current_thread():
            thread.join()
        with self._changed:
            last = done and self._closed and not self._workers.stopped
            self._workers.stopped = self._workers.stopped or last
        if last and ray.is_initialized():
            self._workers.close()
        return done


def _nothing() -> None:
    pass


# -- who makes the calls ---------------------------------------------------------------------


class Tasks:
    """Calls as tasks."""

    def __init__(self, options: dict[str, Any], most_calls: int | None = None) -> None:
        # A call is made once, as by the originals: a worker that dies is an error of its call.
        self._options = {"max_retries": 0, **options}
        if most_calls:
            self._options["max_calls"] = most_calls
        self._remotes: dict[Any, Any] = {}
        self.stopped = False

    def submit(self, call: Call) -> Any:
        key = call.run, call.name
        remote = self._remotes.get(key)
        if remote is None:
            if len(self._remotes) >= _MOST_REMOTES:
                self._remotes.clear()
            options = {"name": call.name or call.run.__name__, **self._options}
            remote = ray.remote(**options)(call.run)
            self._remotes[key] = remote
        return remote.remote(call.function, *call.arguments)

    def ended(self, call: Call, error: BaseException | None) -> None:
        pass

    def stop(self, refs: list[Any]) -> None:
        for ref in refs:
            try:
                ray.cancel(ref, force=True)
            except (ray.exceptions.RayError, ProcessLookupError):
                pass  # the session, or the worker, is ending

    def close(self) -> None:
        pass


class _Worker:
    """A process that was initialized."""

    def __init__(self, initializer: Any, initargs: tuple[Any, ...]) -> None:
        if initializer is not None:
            initializer(*initargs)

    def run(self, run: Any, function: Any, *arguments: Any) -> Any:
        return run(function, *arguments)


class Actors:
    """Calls on actors, each of which is initialized; one call at a time on each."""

    def __init__(
        self,
        count: int,
        options: dict[str, Any],
        initializer: Any,
        initargs: tuple[Any, ...],
        most_calls: int | None = None,
    ) -> None:
        self._class: Any = ray.remote(**options)(_Worker)
        self._arguments = initializer, tuple(initargs)
        self._most_calls = most_calls
        self._idle = [self._new() for _ in range(count)]
        self._busy: dict[Call, tuple[Any, int]] = {}
        self.stopped = False

    def _new(self) -> tuple[Any, int]:
        return self._class.remote(*self._arguments), 0

    def submit(self, call: Call) -> Any:
        actor, calls = self._idle[-1]
        ref = actor.run.remote(call.run, call.function, *call.arguments)
        self._idle.pop()
        self._busy[call] = actor, calls + 1
        return ref

    def ended(self, call: Call, error: BaseException | None) -> None:
        actor, calls = self._busy.pop(call, (None, 0))
        if actor is None or self.stopped:
            return
        if _is_dead(error):
            self._idle.insert(0, self._new())
        elif calls == self._most_calls:
            actor.__ray_terminate__.remote()
            self._idle.insert(0, self._new())
        else:
            self._idle.append((actor, calls))

    def stop(self, refs: list[Any]) -> None:
        for actor, _ in [*self._idle, *self._busy.values()]:
            ray.kill(actor)

    def close(self) -> None:
        """Let each end by itself, initialized even if nothing was to do."""
        actors = [actor for actor, _ in self._idle]
        self._idle.clear()
        refs = [actor.__ray_terminate__.remote() for actor in actors]
        _, late = ray.wait(refs, num_returns=len(refs), timeout=_PATIENCE) if refs else ([], [])
        for ref in late:
            ray.kill(actors[refs.index(ref)])


def _is_dead(error: BaseException | None) -> bool:
    """Whether the actor of a call died, not one that the call has used."""
    of_another = isinstance(error, ray.exceptions.RayTaskError)
    return isinstance(error, ray.exceptions.RayActorError) and not of_another
