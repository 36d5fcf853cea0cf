"""Actors with `async def` methods: their calls are coroutines on one event loop.

The loop looks for calls whenever it looks for events. While nothing but itself can wake it, it
sleeps where calls wake it at once (csrc/process.c, pr_sleep); when it watches sockets or pipes, a
thread does so, and writes to the loop's own pipe. Imports the core, and asyncio.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
import threading
from collections import deque
from collections.abc import Coroutine
from typing import Any

from . import _core

__all__ = ["serve"]

#: Calls that may run at a time, if the actor does not say.
MAX_CONCURRENCY = 1000
#: Calls that are begun before the loop looks for other things again.
BATCH = 100
#: Seconds; how late a signal that comes just before the loop sleeps is seen, at most.
SLICE = 0.1


def serve(actor: _core.Actor) -> None:
    """Run the calls of an actor until it is to end."""
    selector = _Selector(actor)
    loop = _Loop(selector)
    selector.loop = loop
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_live(actor, selector))


async def _live(actor: _core.Actor, selector: _Selector) -> None:
    # The constructor may ask for the running loop.
    if actor.construct():
        selector.calls = _Calls(actor, selector.loop)
        await selector.calls.ended


class _Loop(asyncio.SelectorEventLoop):
    """Other threads that wake it wake it where it sleeps."""

    _selector: _Selector
    _task_factory: Any

    def __init__(self, selector: _Selector) -> None:
        super().__init__(selector)
        self._first: tuple[Any, contextvars.Context] | None = None
        self._keeps = self._keep

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that has run to where it waits for something, or to its end.

        A new task asks the loop to run its first step soon: here that is run at once, without a way
        through the queue of what is ready.
        """
        self.call_soon = self._keeps  # type: ignore[method-assign,assignment]
        try:
            if self._task_factory is None:
                task = asyncio.Task(coroutine, loop=self)
            else:
                task = self.create_task(coroutine)
        finally:
            del self.call_soon
        first = self._first
        if first is not None:  # a factory may have run it, or be about to
            self._first = None
            step, context = first
            context.run(step)
        return task

    def _keep(self, step: Any, *, context: contextvars.Context) -> None:
        self._first = step, context

    def _write_to_self(self) -> None:
        if self._selector.watches_files():
            super()._write_to_self()  # type: ignore[misc]
        else:
            self._selector.actor.interrupt()


class _Selector(selectors.DefaultSelector):
    """Waits for calls as well as for file descriptors."""

    def __init__(self, actor: _core.Actor) -> None:
        super().__init__()
        self.actor = actor
        self.loop: _Loop
        self.calls: _Calls | None = None
        self._watch: _Watch | None = None
        self._turns = 0

    def watches_files(self) -> bool:
        """Whether anything is registered but the loop's own pipe."""
        return self.calls is None or len(self.get_map()) > 1

    def select(self, timeout: float | None = None) -> list[Any]:
        calls = self.calls
        if calls is None:
            return super().select(timeout)
        seen = self.actor.events()
        if self.watches_files():
            return self._select_files(calls, seen, timeout)
        if not calls.look() and timeout != 0:
            self.actor.sleep(seen, SLICE if timeout is None else min(timeout, SLICE))
            if calls.look() or seen != self.actor.events():
                return []
        # The pipe says that there was a signal, which ends the sleep above.
        self._turns += 1
        return super().select(0) if self._turns % 64 == 0 or timeout != 0 else []

    def _select_files(self, calls: _Calls, seen: int, timeout: float | None) -> list[Any]:
        found = super().select(0)
        if found or calls.look() or timeout == 0:
            return found
        if self._watch is None:
            self._watch = _Watch(self.actor, self.loop)
        self._watch.begin(seen)
        return super().select(timeout)


class _Watch:
    """A thread that wakes the loop when this process is notified."""

    def __init__(self, actor: _core.Actor, loop: _Loop) -> None:
        self.actor = actor
        self.loop = loop
        self.seen = 0
        self.asked = threading.Semaphore(0)
        self.watching = False
        threading.Thread(target=self._run, daemon=True).start()

    def begin(self, seen: int) -> None:
        if not self.watching:
            self.watching = True
            self.seen = seen
            self.asked.release()

    def _run(self) -> None:
        while True:
            self.asked.acquire()
            self.actor.wait_for_event(self.seen)
            self.watching = False
            self.loop.call_soon_threadsafe(_nothing)


def _nothing() -> None:
    pass


class _Group:
    """Calls that share a limit: those that run, and those that wait for it."""

    __slots__ = ("most", "running", "waiting")

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0
        self.waiting: deque[tuple[int, int]] = deque()


class _Calls:
    """The calls that run, and what they wait for."""

    def __init__(self, actor: _core.Actor, loop: _Loop) -> None:
        self.actor = actor
        self.loop = loop
        self.ended: asyncio.Future[None] = loop.create_future()
        self.running: dict[int, asyncio.Task[None]] = {}
        self.rooms: dict[int, asyncio.Future[int]] = {}
        options = actor.options
        self.default = _Group(options.get("max_concurrency") or MAX_CONCURRENCY)
        named = options.get("concurrency_groups") or {}
        self.groups = {name: _Group(most) for name, most in named.items()}
        self.groups[""] = self.default

    def look(self) -> bool:
        """Begin what may be begun: whether the loop has something to do now."""
        if self.rooms:
            self._look_for_room()
        if self.running:
            for call in self.actor.cancelled(self.running):
                self.running[call].cancel()
        if self.actor.over():
            if not self.ended.done():
                self.ended.set_result(None)
            return True
        begun = self._begin() if len(self.groups) == 1 else self._begin_by_group()
        return begun or bool(self.loop._ready)  # type: ignore[attr-defined]

    def _begin(self) -> bool:
        group = self.default
        for begun in range(BATCH):
            call = self.actor.poll() if group.running < group.most else 0
            if not call:
                return begun > 0
            self._start(call, group)
        return True

    def _begin_by_group(self) -> bool:
        begun = False
        while True:
            taken = self.actor.take()
            if taken is None:
                break
            task, epoch, name = taken
            self.groups[name].waiting.append((task, epoch))
        for group in self.groups.values():
            while group.waiting and group.running < group.most:
                begun = True
                task, epoch = group.waiting.popleft()
                if self.actor.begin(task, epoch):
                    self._start(task, group)
        return begun

    def _start(self, call: int, group: _Group) -> None:
        group.running += 1
        task = self.loop.begin(self.actor.serve(call, group, self))
        if not task.done():
            self.running[call] = task

    # -- generators ------------------------------------------------------------------------------

    async def stream(self, call: int, generator: Any) -> None:
        """What an asynchronous generator yields are the results of the call."""
        skipped = self.actor.produced(call)  # by an attempt before
        async for value in generator:
            if skipped:
                skipped -= 1
            elif not self.actor.put_item(call, value) or await self._room(call) < 0:
                await generator.aclose()
                break

    async def _room(self, call: int) -> int:
        """Back-pressure: waits until the call may yield another item; -1: nobody wants one."""
        room = self.actor.has_room(call)
        if room == 0:
            self.rooms[call] = self.loop.create_future()
            room = await self.rooms[call]
        return room

    def _look_for_room(self) -> None:
        for call, future in list(self.rooms.items()):
            room = self.actor.has_room(call)
            if room or future.done():
                del self.rooms[call]
                if not future.done():
                    future.set_result(room)
