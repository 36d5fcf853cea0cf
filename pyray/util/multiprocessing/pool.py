"""`Pool`: CPython's `multiprocessing.Pool` on tasks.

Arguments and results go through shared memory: arrays are copied once, and read where they are. A
pool needs no processes of its own unless they are to be initialized. May import `results`,
`pyray.util.calls` and `window`, and the public API.
"""

from __future__ import annotations

import warnings
import weakref
from itertools import islice
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE

import pyray as ray

from ..calls import Arrays, Functions, run_call, run_items, run_tuples, size_of
from ..window import AHEAD, Actors, Tasks, Window, share
from .results import AsyncResult, Chunk, IMapIterator, IMapUnorderedIterator, MapResult

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["Pool"]


class Pool:
    """A pool of worker processes, for programs that use `multiprocessing.Pool`.

    At most `processes` calls run at once. A call is made once: if its worker dies, `get` raises
    WorkerCrashedError. Arrays come as read-only views of shared memory.

    Args:
        processes: How many calls may run at once; by default the CPUs of the session.
        initializer: Called in each worker first; the pool has workers of its own then (actors).
        initargs: Its arguments.
        maxtasksperchild: After how many calls a worker is replaced.
        context: Accepted: workers are forks of the node process of the session.
        ray_address: Where `init` finds the session, if there is none.
        ray_remote_args: Options of the tasks or actors, as `num_gpus`, `runtime_env`, `resources`.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    _state = INIT

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if not ray.is_initialized():
            ray.init(address=ray_address)
        if processes is None:
            processes = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._processes = processes
        cpus, ahead = share(processes)
        options = {"num_cpus": cpus, **(ray_remote_args or {})}
        if initializer is None:
            tasks = Tasks(options, maxtasksperchild)
            ahead = ahead and "num_cpus" not in (ray_remote_args or {})
            self._window = Window(tasks, processes, AHEAD if ahead else 0)
        else:
            actors = Actors(
                processes, options, initializer, tuple(initargs or ()), maxtasksperchild
            )
            self._window = Window(actors, processes)
        self._functions = Functions()
        self._pending: set[Any] = set()
        self._finalizer = weakref.finalize(self, _abandon, self._window)
        self._finalizer.atexit = False
        self._state = RUN

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        if self._state == RUN:
            text = f"unclosed running multiprocessing pool {self!r}"
            _warn(text, ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = type(self)
        name = f"{cls.__module__}.{cls.__qualname__}"
        return f"<{name} state={self._state} pool_size={self._processes}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # -- one call ----------------------------------------------------------------------------

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None
    ) -> Any:
        """`func(*args, **kwds)`, in a worker."""
        self._check_running()
        result = AsyncResult(self)
        result.is_awaited = True
        chunk = self._chunk(result, 0, run_call, func, (tuple(args), kwds or {}), False, None)
        self._window.add(chunk)
        self._window.wait_for(result, 1)
        return result.get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """The same without waiting. `callback` gets the result, `error_callback` the exception.

        They are called in a thread of the pool, and should return soon.
        """
        self._check_running()
        result = AsyncResult(self, callback, error_callback)
        args = tuple(args)
        arguments = args, kwds or {}
        self._window.add(self._chunk(result, 0, run_call, func, arguments, False, None))
        return result

    # -- lists of calls ----------------------------------------------------------------------

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """`func` of each item, as a list."""
        return self._map(func, iterable, run_items, chunksize)

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """The same without waiting."""
        return self._map_async(func, iterable, run_items, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """`func(*item)` of each item, as a list."""
        return self._map(func, iterable, run_tuples, chunksize)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """The same without waiting."""
        return self._map_async(func, iterable, run_tuples, chunksize, callback, error_callback)

    def _map(
        self, func: Callable[..., Any], iterable: Any, run: Any, chunksize: int | None
    ) -> list[Any]:
        result = self._map_async(func, iterable, run, chunksize, None, None, True)
        if not result.ready():
            self._window.wait_for(result, result._count)
        found: list[Any] = result.get()
        return found

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Any,
        run: Callable[..., Any],
        chunksize: int | None,
        callback: Any,
        error_callback: Any,
        is_awaited: bool = False,
    ) -> MapResult:
        self._check_running()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        length = len(iterable)
        if chunksize is None:
            chunksize = -(-length // (self._processes * 4))
        if length and chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        result = MapResult(self, chunksize, length, callback, error_callback)
        result.is_awaited = is_awaited
        if length:
            self._add(result, run, func, iterable, chunksize)
        return result

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """An iterator of `func` of each item, in order; `chunksize` items are sent at a time."""
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """The same as the results come, in any order."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def _imap(
        self,
        kind: type[IMapIterator],
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> IMapIterator:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        result = kind(self, chunksize > 1)
        run = run_items if chunksize > 1 else run_call
        self._add(result, run, func, iterable, chunksize)
        return result

    # -- how they become calls ---------------------------------------------------------------

    def _add(
        self,
        result: Any,
        run: Callable[..., Any],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        size: int,
    ) -> None:
        calls = self._chunks(result, run, func, iterable, size)
        if type(iterable) in (list, tuple, range):
            self._window.add(calls)
        else:
            self._window.feed(calls)

    def _chunks(
        self,
        result: Any,
        run: Callable[..., Any],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        size: int,
    ) -> Iterator[Chunk]:
        """The calls for an iterable; where it raises, so does the result."""
        index = 0
        # What a generator yields may change before the next; items of a list are all there.
        arrays = Arrays() if type(iterable) in (list, tuple) else None
        name = getattr(func, "__name__", "")
        try:
            function = self._functions.sent_once(func)
            items: Any
            if run is run_call:
                for item in iterable:
                    items = (item,), {}
                    yield self._chunk(result, index, run, function, items, True, arrays, name)
                    index += 1
            else:
                rest = iter(iterable)
                while items := tuple(islice(rest, size)):
                    yield self._chunk(result, index, run, function, items, True, arrays, name)
                    index += 1
        except Exception as error:
            yield Chunk(result, index, None, (), error=error)
            index += 1
        result._set_length(index)

    def _chunk(
        self,
        result: Any,
        index: int,
        run: Callable[..., Any],
        function: Any,
        items: Any,
        is_sent: bool,
        arrays: Arrays | None,
        name: str = "",
    ) -> Chunk:
        try:
            if not is_sent:
                name = getattr(function, "__name__", "")
                function = self._functions.sent(function)
        except Exception as error:
            return Chunk(result, index, None, (), error=error.__cause__ or error)
        found: list[Any] = []
        args, *kwargs = items if run is run_call else (items,)
        size = _size(run, args)
        if arrays is not None and size:
            if run is run_tuples:
                args = [arrays.taken_out(item, found) for item in args]
            else:
                args = arrays.taken_out(args, found)
        return Chunk(result, index, function, (args, *kwargs, *found), run, name, size)

    # -- the end -----------------------------------------------------------------------------

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """Take no more calls; those that there are will be made."""
        if self._state == RUN:
            self._state = CLOSE
            self._window.close()

    def terminate(self) -> None:
        """Stop every call at once; results that are not there yet raise TaskCancelledError."""
        self._state = TERMINATE
        self._window.terminate()
        for result in list(self._pending):
            result._stop(ray.exceptions.TaskCancelledError(error_message="the pool was terminated"))

    def join(self) -> None:
        """Wait until all calls have ended, after `close` or `terminate`.

        Raises:
            ValueError: the pool is running.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._window.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()


def _size(run: Callable[..., Any], args: Any) -> int:
    """About how many bytes the arguments of a call have; the items of a chunk are alike."""
    if run is run_call:
        return sum(map(size_of, args))
    first = args[0]
    parts = first if run is run_tuples and type(first) in (list, tuple) else (first,)
    return sum(map(size_of, parts)) * len(args)


def _abandon(window: Window) -> None:
    window.abandon()
