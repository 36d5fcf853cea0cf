"""`Queue`: first in, first out, for tasks, actors and drivers. Ray's names and meanings.

The queue is an async actor: a call that waits for an item holds no thread. A queue can be
passed to tasks. Large arrays are put into the store, and do not go through the actor. May import
`calls` and the public API.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable

import pyray as ray

from .calls import LARGE, size_of

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Empty", "Full", "Queue"]


class Empty(queue.Empty):
    """The queue has no item, or not as many as wanted."""


class Full(queue.Full):
    """The queue has no room."""


class Queue:
    """A queue that lives in an actor.

    Args:
        maxsize: How many items it has room for; 0: any number.
        actor_options: Options of the actor, as `num_cpus` or `name`.
    """

    actor: Any

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        self.actor = ray.remote(_Items).options(**(actor_options or {})).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items there are."""
        found: int = ray.get(self.actor.qsize.remote())
        return found

    def qsize(self) -> int:
        """How many items there are."""
        return self.size()

    def empty(self) -> bool:
        """Whether there are none."""
        found: bool = ray.get(self.actor.empty.remote())
        return found

    def full(self) -> bool:
        """Whether there is no room for another."""
        found: bool = ray.get(self.actor.full.remote())
        return found

    # -- one item ----------------------------------------------------------------------------

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item.

        Args:
            item: What to add.
            block: Whether to wait for room.
            timeout: How many seconds at most.

        Raises:
            Full: there is no room, or was none in time.
            ValueError: `timeout` is negative.
        """
        _raise(ray.get(self._put(item, block, timeout)))

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """`put` that is awaited."""
        _raise(await self._put(item, block, timeout))

    def put_nowait(self, item: Any) -> None:
        """`put(item, block=False)`."""
        self.put(item, block=False)

    def _put(self, item: Any, block: bool, timeout: float | None) -> Any:
        item = _stored(item)
        if not block:
            return self.actor.put_nowait.remote(item)
        _check(timeout)
        return self.actor.put.remote(item, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item.

        Args:
            block: Whether to wait for one.
            timeout: How many seconds at most.

        Raises:
            Empty: there is no item, or was none in time.
            ValueError: `timeout` is negative.
        """
        return _item(ray.get(self._get(block, timeout)))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """`get` that is awaited."""
        answer = await self._get(block, timeout)
        return await answer.ref if type(answer) is _Stored else _item(answer)

    def get_nowait(self) -> Any:
        """`get(block=False)`."""
        return self.get(block=False)

    def _get(self, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.get_nowait.remote()
        _check(timeout)
        return self.actor.get.remote(timeout)

    # -- several -----------------------------------------------------------------------------

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all items, or none.

        Raises:
            Full: there is no room for all.
            TypeError: `items` cannot be iterated over.
        """
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        _raise(ray.get(self.actor.put_nowait_batch.remote([*map(_stored, items)])))

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take so many items.

        Raises:
            Empty: there are not as many.
            TypeError, ValueError: the number is none.
        """
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        found = _item(ray.get(self.actor.get_nowait_batch.remote(num_items)))
        return [_item(item) for item in found]

    # -- the end -----------------------------------------------------------------------------

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor.

        Args:
            force: Whether to kill it at once.
            grace_period_s: How many seconds it may take to end by itself, else.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            ended, _ = ray.wait([actor.__ray_terminate__.remote()], timeout=grace_period_s)
            if ended:
                return
        ray.kill(actor, no_restart=True)


def _check(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


class _Refusal:
    """What the actor answers instead of raising, which would write a traceback."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Stored:
    """A large item, in the store."""

    def __init__(self, ref: Any) -> None:
        self.ref = ref


def _stored(item: Any) -> Any:
    return _Stored(ray.put(item)) if size_of(item) >= LARGE else item


def _raise(answer: Any) -> None:
    if type(answer) is _Refusal:
        raise answer.error


def _item(answer: Any) -> Any:
    _raise(answer)
    return ray.get(answer.ref) if type(answer) is _Stored else answer


class _Items:
    """The actor. Every method is a coroutine: all of them run in one event loop."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self._queue.qsize()

    async def empty(self) -> bool:
        return self._queue.empty()

    async def full(self) -> bool:
        return self._queue.full()

    async def put(self, item: Any, timeout: float | None) -> _Refusal | None:
        if timeout is None or not self._queue.full():
            await self._queue.put(item)
            return None
        try:
            await asyncio.wait_for(self._queue.put(item), timeout)
        except asyncio.TimeoutError:
            return _Refusal(Full())
        return None

    async def get(self, timeout: float | None) -> Any:
        if timeout is None or not self._queue.empty():
            return await self._queue.get()
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except asyncio.TimeoutError:
            return _Refusal(Empty())

    async def put_nowait(self, item: Any) -> _Refusal | None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            return _Refusal(Full())
        return None

    async def get_nowait(self) -> Any:
        try:
            return self._queue.get_nowait()
        except asyncio.QueueEmpty:
            return _Refusal(Empty())

    async def put_nowait_batch(self, items: list[Any]) -> _Refusal | None:
        size = self._queue.qsize()
        if self._maxsize > 0 and size + len(items) > self._maxsize:
            text = f"Cannot add {len(items)} items to queue of size {size}"
            return _Refusal(Full(f"{text} and maxsize {self._maxsize}."))
        for item in items:
            self._queue.put_nowait(item)
        return None

    async def get_nowait_batch(self, num_items: int) -> Any:
        size = self._queue.qsize()
        if num_items > size:
            return _Refusal(Empty(f"Cannot get {num_items} items from queue of size {size}."))
        return [self._queue.get_nowait() for _ in range(num_items)]
