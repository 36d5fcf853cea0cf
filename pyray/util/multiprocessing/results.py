"""What the methods of `Pool` return: results of calls, lists of them, iterators.

As those of `multiprocessing.pool`; `get` of what `terminate()` stopped raises instead of waiting
for ever. May import `pyray.util.calls` and `window`.
"""

from __future__ import annotations

import threading
from collections import deque
from multiprocessing import TimeoutError
from multiprocessing.pool import (  # type: ignore[attr-defined]
    MaybeEncodingError,
    RemoteTraceback,
)
from types import GenericAlias

from pyray.exceptions import RayTaskError

from ..calls import cause_of
from ..window import Call

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["AsyncResult", "Chunk", "IMapIterator", "IMapUnorderedIterator", "MapResult"]


class Chunk(Call):
    """A call of a pool, and which part of a result it makes."""

    __slots__ = ("_index", "_result")

    def __init__(self, result: Any, index: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._result = result
        self._index = index
        if result.is_awaited:
            self.waiter = result

    def done(self, value: Any) -> None:
        self._result._set(self._index, True, value)

    def failed(self, error: BaseException) -> None:
        self._result._set(self._index, False, _as_raised(error))


def _as_raised(error: BaseException) -> BaseException:
    """The exceptions of `multiprocessing` in the place of ours."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if type(cause) is TypeError and str(cause).startswith("Could not serialize the result"):
            return MaybeEncodingError(cause, "the result of the call")
    return cause_of(error, RemoteTraceback)


class _Result:
    """Something that a pool works on. Until it is complete the pool lives, and knows of it."""

    is_awaited = False  # as `Call.waiter`

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        pool._pending.add(self)

    def _complete(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._pending.discard(self)

    def _stop(self, error: BaseException) -> None:
        """The pool is terminated."""
        raise NotImplementedError


class AsyncResult(_Result):
    """The result of `apply_async`."""

    _value: Any

    def __init__(
        self,
        pool: Any,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(pool)
        self._event = threading.Event()
        self._success = True
        self._callback = callback
        self._error_callback = error_callback

    def ready(self) -> bool:
        """Whether the call has ended."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Whether it has ended without an exception.

        Raises:
            ValueError: it has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, `timeout` seconds at most."""
        self._event.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The result, once it is there; what the call raised is raised.

        Raises:
            multiprocessing.TimeoutError: it is not there after `timeout` seconds.
            TaskCancelledError: the pool was terminated.
        """
        self._event.wait(timeout)
        if not self.ready():
            raise TimeoutError
        if self._success:
            return self._value
        raise self._value

    def _set(self, index: int, success: bool, value: Any) -> None:
        if not self.ready():
            self._end(success, value)

    def _end(self, success: bool, value: Any) -> None:
        self._success, self._value = success, value
        callback = self._callback if success else self._error_callback
        self._callback = self._error_callback = None
        try:
            if callback:
                callback(value)
        finally:
            self._event.set()
            self._complete()

    def _stop(self, error: BaseException) -> None:
        if not self.ready():
            self._callback = self._error_callback = None
            self._end(False, error)

    __class_getitem__: Any = classmethod(GenericAlias)


class MapResult(AsyncResult):
    """The result of `map_async` and `starmap_async`: a list, or the first failure."""

    def __init__(
        self,
        pool: Any,
        size: int,
        length: int,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self._value = [None] * length
        self._size = size
        self._count = -(-length // size) if size else 0
        self._left = self._count
        self._lock = threading.Lock()
        if not length:
            self._event.set()
            self._complete()

    def _set(self, index: int, success: bool, value: Any) -> None:
        with self._lock:
            if self.ready():
                return
            if success and self._success:
                self._value[index * self._size : (index + 1) * self._size] = value
            elif self._success:
                self._success, self._value = False, value
            self._left -= 1
            last = self._left == 0
        if last:
            self._end(self._success, self._value)

    def _set_length(self, count: int) -> None:
        """There are so many chunks: fewer if the iterable has failed, or was shorter than told."""
        with self._lock:
            self._left -= self._count - count
            last = self._left == 0 and self._count != count
        if last and not self.ready():
            self._end(self._success, self._value)


class IMapIterator(_Result):
    """The results of `imap`, in order."""

    def __init__(self, pool: Any, chunked: bool) -> None:
        super().__init__(pool)
        self._changed = threading.Condition(threading.Lock())
        self._items: deque[tuple[bool, Any]] = deque()  # results, or chunks of them
        self._chunk: Iterator[Any] = iter(())
        self._chunked = chunked
        self._index = 0  # of the next chunk
        self._later: dict[int, tuple[bool, Any]] = {}
        self._length: int | None = None
        self._stopped: BaseException | None = None

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result; what its call raised is raised.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it is not there after `timeout` seconds.
            TaskCancelledError: the pool was terminated.
        """
        for value in self._chunk:
            return value
        while True:
            with self._changed:
                if not self._items:
                    self._changed.wait_for(self._has_news, timeout)
                if not self._items:
                    if self._index == self._length:
                        raise StopIteration
                    raise self._stopped or TimeoutError
                success, value = self._items.popleft()
            if not success:
                raise value
            if not self._chunked:
                return value
            value.reverse()  # so that each result is let go of with its turn
            self._chunk = _popped(value)
            for value in self._chunk:
                return value

    __next__ = next

    def _has_news(self) -> bool:
        return bool(self._items or self._index == self._length or self._stopped)

    def _set(self, index: int, success: bool, value: Any) -> None:
        with self._changed:
            self._later[index] = success, value
            while self._index in self._later:
                self._items.append(self._later.pop(self._index))
                self._index += 1
            self._note()

    def _set_length(self, length: int) -> None:
        with self._changed:
            self._length = length
            self._note()

    def _note(self) -> None:
        if self._index == self._length:
            self._complete()
        self._changed.notify_all()

    def _stop(self, error: BaseException) -> None:
        with self._changed:
            self._stopped = error
            self._changed.notify_all()
        self._complete()


class IMapUnorderedIterator(IMapIterator):
    """The results of `imap_unordered`, as they come."""

    def _set(self, index: int, success: bool, value: Any) -> None:
        with self._changed:
            self._items.append((success, value))
            self._index += 1
            self._note()


def _popped(values: list[Any]) -> Iterator[Any]:
    while values:
        yield values.pop()
