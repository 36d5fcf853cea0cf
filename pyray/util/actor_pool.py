"""`ActorPool`: calls on a fixed set of actors, one at a time on each. Ray's names and meanings.

May import the public API alone.
"""

from __future__ import annotations

from collections import deque

import pyray as ray

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    V = TypeVar("V")

__all__ = ["ActorPool"]


class ActorPool:
    """Hands values to actors that have nothing to do.

    Args:
        actors: Handles of the actors. They belong to the pool until `pop_idle` gives one back.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle = list(actors)
        # By reference, the first of several: number of the call, its actor, all of its references.
        self._busy: dict[Any, tuple[int, Any, Any]] = {}
        self._refs: dict[int, Any] = {}  # by number
        self._submitted = 0
        self._returned = 0
        self._waiting: deque[tuple[Callable[[Any, Any], Any], Any]] = deque()

    # -- many values -------------------------------------------------------------------------

    def map(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Iterate over the results of `fn(actor, value)`, in the order of the values.

        Results that nobody has asked for are dropped.

        Args:
            fn: Calls a method of the actor and returns the reference.
            values: Its second arguments.
        """
        self._drop(self.get_next)
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next)

    def map_unordered(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """The same as the results come, in any order."""
        self._drop(self.get_next_unordered)
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next_unordered)

    def _drop(self, get_next: Callable[..., Any]) -> None:
        while self.has_next():
            try:
                get_next(timeout=0, ignore_if_timedout=True)
            except Exception:
                pass  # whether it failed or is not there yet

    def _results(self, get_next: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield get_next()

    # -- one value ---------------------------------------------------------------------------

    def submit(self, fn: Callable[[Any, V], Any], value: V) -> None:
        """Have `fn(actor, value)` called as soon as an actor is free."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            result = fn(actor, value)
        except BaseException:
            self._idle.append(actor)
            raise
        ref = result[0] if isinstance(result, list) else result
        self._busy[ref] = self._submitted, actor, result
        self._refs[self._submitted] = ref
        self._submitted += 1

    def has_next(self) -> bool:
        """Whether there are results, or will be, that were not returned."""
        return bool(self._busy)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result, in the order of `submit`.

        Args:
            timeout: How many seconds to wait at most.
            ignore_if_timedout: Whether to go on to the next result, then.

        Raises:
            StopIteration: there are no results left.
            TimeoutError: it is not there in time.
            ValueError: `get_next_unordered` has returned a later one.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        ref = self._refs.get(self._returned)
        if ref is None:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        if timeout is not None and not ray.wait([ref], timeout=timeout)[0]:
            raise self._timed_out(ref, ignore_if_timedout)
        return self._result(ref)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Any of the results, whichever is there first.

        Args:
            timeout: How many seconds to wait at most.
            ignore_if_timedout: Whether to drop one of those that are not there, then.

        Raises:
            StopIteration: there are no results left.
            TimeoutError: none is there in time.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=timeout)
        if not ready:
            raise self._timed_out(next(iter(self._busy)), ignore_if_timedout)
        return self._result(ready[0])

    def _timed_out(self, ref: Any, ignore: bool) -> TimeoutError:
        text = "Timed out waiting for result"
        if ignore:
            text += f". The task {ref} has been ignored."
            self._give_back(self._taken(ref)[0])
        return TimeoutError(text)

    def _result(self, ref: Any) -> Any:
        actor, result = self._taken(ref)
        alive = True
        try:
            return ray.get(result)
        except Exception as error:
            # Not one that the method has called.
            died = isinstance(error, ray.exceptions.ActorDiedError)
            alive = not died or isinstance(error, ray.exceptions.RayTaskError)
            raise
        finally:
            if alive:
                self._give_back(actor)

    def _taken(self, ref: Any) -> tuple[Any, Any]:
        number, actor, result = self._busy.pop(ref)
        del self._refs[number]
        self._returned = max(self._returned, number + 1)
        return actor, result

    def _give_back(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())

    # -- the actors --------------------------------------------------------------------------

    def has_free(self) -> bool:
        """Whether an actor has nothing to do."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any:
        """Take an actor that has nothing to do out of the pool; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor.

        Raises:
            ValueError: it is in the pool.
        """
        if actor in self._idle or any(actor == other for _, other, _ in self._busy.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._give_back(actor)
