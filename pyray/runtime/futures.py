"""Futures of references, and awaiting them: one thread serves all that a process waits for.

The thread sleeps in the core until an object is ready or something was added. A result is decoded
in the thread, so that an event loop only hands it on. May import the core.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future

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
    """The thread, and what it waits for."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._session = _core.get_session()
        self._changed = threading.Condition()
        self._added: list[_Waiting] = []
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name="pyray-futures", daemon=True)
        self._thread.start()

    def add(self, waiting: _Waiting) -> None:
        with self._changed:
            self._added.append(waiting)
            self._changed.notify()
        if self._session is not None:
            self._session.interrupt()

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
        waiting: list[_Waiting] = []
        while True:
            with self._changed:
                while not (waiting or self._added or self._ended):
                    self._changed.wait()
                # Before the list: what is added later is news.
                since = _news()
                waiting += self._added
                self._added.clear()
            try:
                if self._ended:
                    _fail(waiting, _ended())
                    return
                waiting = [item for item in waiting if not _serve_one(item)]
                if waiting:
                    _core.wait_for_news([item.ref for item in waiting], since)
            except BaseException as error:
                # The session is over, or its node has died: so is everything that was waited for.
                _fail(waiting, error)
                waiting = []


def _serve_one(item: _Waiting) -> bool:
    """Whether the future is settled, by whomever."""
    if item.future.cancelled():
        return True
    if not item.is_ready():
        return False
    _settle(item.future, item.result)
    return True


def _settle(future: Future[Any], result: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = result()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(value)


def _fail(waiting: list[_Waiting], error: BaseException) -> None:
    for item in waiting:
        if item.future.set_running_or_notify_cancel():
            item.future.set_exception(error)


def _news() -> int:
    try:
        return _core.news()
    except Exception:
        return 0  # the session has ended, which wait_for_news says


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
