"""Futures of references, and awaiting them: one thread serves all that a process waits for.

The thread sleeps in the core until an object is ready, and is told which: it never looks at all of
them. A result is decoded in the thread, so that an event loop only hands it on. May import the
core.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from functools import partial

from . import _core

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["future_of", "next_of", "stop"]


def future_of(ref: Any) -> Future[Any]:
    """A future of the value of a reference."""
    future: Future[Any] = Future()
    if _core.ready(ref):
        _settle(future, lambda: _core.get(ref))
    else:
        _server().add(_Waiting(future, ref, lambda: _core.ready(ref), lambda: _core.get(ref)))
    return future


async def next_of(generator: Any) -> Any:
    """The next reference of a generator of them.

    Raises:
        StopAsyncIteration: there is none any more.
    """
    import asyncio

    while True:
        found = generator._take()
        if found is not None:
            return found
        future: Future[Any] = Future()
        _server().add(_Waiting(future, generator, generator.next_ready, lambda: None))
        await asyncio.wrap_future(future)


def stop() -> None:
    """The session ends: whoever waits still is told."""
    global _serving
    server, _serving = _serving, None
    if server is not None and server.pid == os.getpid():
        server.stop()


class _Waiting:
    """A future, the reference or generator that it waits for, and how its result is had."""

    __slots__ = ("future", "is_ready", "ref", "result")

    def __init__(
        self,
        future: Future[Any],
        ref: Any,
        is_ready: Callable[[], bool],
        result: Callable[[], Any],
    ) -> None:
        self.future = future
        self.ref = ref
        self.is_ready = is_ready
        self.result = result


class _Server:
    """The thread, and what it waits for: futures by the slots of the objects."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._session = _core.get_session()
        self._vigil = _core.Vigil()
        self._changed = threading.Condition()  # guards what follows, and the vigil
        self._waiting: dict[int, dict[Future[Any], _Waiting]] = {}
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name="pyray-futures", daemon=True)
        self._thread.start()

    def add(self, waiting: _Waiting) -> None:
        with self._changed:
            if self._ended:
                raise _ended()
            slot = self._vigil.add(waiting.ref)
            if not self._waiting:
                self._changed.notify()
            self._waiting.setdefault(slot, {})[waiting.future] = waiting
        waiting.future.add_done_callback(partial(self._forget, slot))

    def _forget(self, slot: int, future: Future[Any]) -> None:
        """If it was cancelled; any other has gone before it was settled."""
        with self._changed:
            found = self._waiting.get(slot, {})
            if found.pop(future, None) is not None and not found:
                del self._waiting[slot]
                self._vigil.remove(slot)

    def serves(self, session: Any) -> bool:
        return self._session is session and not self._ended

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._session is not None:
            self._session.interrupt()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _serve(self) -> None:
        while not self._ended:
            try:
                since = self._settle_ready()
                if since is not None and not self._ended:
                    self._vigil.sleep(since)
            except BaseException as error:
                # The session is over, or its node has died: so is everything that was waited for.
                self._fail(_ended() if self._ended else error)
        self._fail(_ended())

    def _settle_ready(self) -> int | None:
        """Settle what is ready, of which nothing is kept; if nothing was, since when."""
        ready, since = self._look()
        for item in ready:
            _settle(item.future, item.result)
        return None if ready else since

    def _look(self) -> tuple[list[_Waiting], int]:
        """What is ready, and from when on there may be more."""
        with self._changed:
            while not (self._waiting or self._ended):
                self._changed.wait()
            since = self._vigil.events()
            return self._take_ready(), since

    def _take_ready(self) -> list[_Waiting]:
        found: list[_Waiting] = []
        rest: dict[int, dict[Future[Any], _Waiting]] = {}
        for slot in self._vigil.ready():
            rest[slot] = {}
            for future, item in self._waiting.get(slot, {}).items():
                if item.is_ready():
                    found.append(item)
                else:
                    self._vigil.add(item.ref)
                    rest[slot][future] = item
        for slot, items in rest.items():  # now that nothing can go wrong any more
            if items:
                self._waiting[slot] = items
            else:
                self._waiting.pop(slot, None)
        return found

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            waiting = [item for items in self._waiting.values() for item in items.values()]
            self._waiting.clear()
        for item in waiting:
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(error)


def _settle(future: Future[Any], result: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = result()
    except BaseException as error:
        # Without our frames, which would keep the reference, and others, as long as the error.
        future.set_exception(error.with_traceback(None))
    else:
        future.set_result(value)


def _ended() -> Exception:
    from .exceptions import RaySystemError

    return RaySystemError("the session has ended before the result was there")


_serving: _Server | None = None
_lock = threading.Lock()


def _server() -> _Server:
    """The server of this process in its present session."""
    global _serving
    session = _core.get_session()
    with _lock:
        server = _serving
        if server is None or server.pid != os.getpid() or not server.serves(session):
            server = _serving = _Server()
        return server
