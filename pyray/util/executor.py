"""`RayExecutor`: an executor of `concurrent.futures` whose calls run as tasks of the session.

It does what `ProcessPoolExecutor` does, with the exceptions of `concurrent.futures`. May import
`calls` and `window`, and the public API.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures._base import LOGGER
from concurrent.futures.process import _RemoteTraceback
from itertools import islice

import pyray as ray

from .calls import Functions, cause_of, run_call, run_tuples, size_of
from .window import Actors, Call, Tasks, Window, share

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    R = TypeVar("R")

__all__ = ["BrokenRayExecutor", "RayExecutor"]


class BrokenRayExecutor(BrokenExecutor):
    """The initializer of an executor raised; it takes no more calls."""


class RayExecutor(Executor):
    """An executor whose calls run in the workers of the session.

    A call that was not begun can be cancelled. A call is made once: if its worker dies,
    `result()` raises WorkerCrashedError, and the executor goes on. Arrays come as read-only views
    of shared memory.

    Args:
        max_workers: How many calls may run at once; by default the CPUs of the session.
        mp_context: Accepted: workers are forks of the node process of the session.
        initializer: Called in each worker first; the executor has workers of its own then (actors).
        initargs: Its arguments.
        max_tasks_per_child: After how many calls a worker is replaced.
        ray_remote_args: Options of the tasks or actors, as `num_gpus`, `runtime_env`, `resources`.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None and not isinstance(max_tasks_per_child, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks_per_child is not None and max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        if not ray.is_initialized():
            ray.init()
        if max_workers is None:
            max_workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._max_workers = max_workers
        given = ray_remote_args or {}
        cpus, ahead = share(max_workers)
        options = {"num_cpus": cpus, **given}
        if initializer is None:
            # As with processes, few calls are out of the reach of cancel().
            more = max_workers if ahead and "num_cpus" not in given else 0
            self._window = Window(Tasks(options, max_tasks_per_child), max_workers, more)
        else:
            actors = Actors(max_workers, options, initializer, initargs, max_tasks_per_child)
            self._window = Window(actors, max_workers)
        self._functions = Functions()
        self._state = _State(self._window)
        weakref.finalize(self, self._window.close).atexit = False
        _note(self._window)

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Have `fn(*args, **kwargs)` run in a worker.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenRayExecutor: its initializer raised.
        """
        if type(fn) is _Chunked:
            return self._submit(run_tuples, fn.function, args)
        return self._submit(run_call, fn, (args, kwargs), sum(map(size_of, args)))

    def _submit(self, run: Any, fn: Any, arguments: tuple[Any, ...], size: int = 0) -> Future[Any]:
        with self._state.lock:
            self._state.check()
            future: Future[Any] = Future()
            name = getattr(fn, "__name__", "")
            error: BaseException | None = None
            try:
                fn = self._functions.sent(fn)
            except Exception as problem:
                error = problem.__cause__ or problem
            self._window.add(_Work(self._state, future, fn, arguments, run, name, size, error))
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[R]:
        """`fn` of each item of the iterables, in order; `chunksize` of them are sent at a time.

        Raises:
            TimeoutError: while iterating: not all was done `timeout` seconds after this call.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **options)
        chunks = _chunks(zip(*iterables), chunksize)  # noqa: B905
        return _items(super().map(_Chunked(fn), chunks, timeout=timeout, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: Whether to return when all calls have ended.
            cancel_futures: Whether to cancel those that were not begun.
        """
        with self._state.lock:
            self._state.is_shut_down = True
            taken = self._window.take_back() if cancel_futures else []
        for call in taken:
            if isinstance(call, _Work):
                call.future.cancel()
        self._window.close()
        if wait:
            self._window.join()

    @property
    def _broken(self) -> str:
        return self._state.broken


class _State:
    """What calls know of their executor, which may be gone before them."""

    def __init__(self, window: Window) -> None:
        self.lock = threading.RLock()
        self.broken = ""
        self.is_shut_down = False
        self._window = weakref.ref(window)

    def check(self) -> None:
        if self.broken:
            raise BrokenRayExecutor(self.broken)
        if self.is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _is_exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def break_(self, error: BaseException) -> None:
        """The initializer has raised."""
        with self.lock:
            if self.broken:
                return
            self.broken = "An initializer failed, the executor is not usable anymore"
            LOGGER.critical("Exception in initializer: %s", error)
            window = self._window()
            taken = window.take_back() if window else []
        for call in taken:
            if call.begin():
                call.failed(BrokenRayExecutor(self.broken))


class _Work(Call):
    """A call and its future."""

    __slots__ = ("_state", "future")

    def __init__(self, state: _State, future: Future[Any], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._state = state
        self.future = future

    def begin(self) -> bool:
        return self.future.set_running_or_notify_cancel()

    def done(self, value: Any) -> None:
        self.future.set_result(value)

    def failed(self, error: BaseException) -> None:
        if getattr(error, "actor_init_failed", False):
            self._state.break_(error)
            error = BrokenRayExecutor(self._state.broken)
        self.future.set_exception(cause_of(error, _RemoteTraceback))


class _Chunked:
    """A function that is called with each of a tuple of arguments."""

    __slots__ = ("function",)

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        raise TypeError("it is the executor that calls the function")


def _chunks(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while chunk := tuple(islice(items, size)):
        yield chunk


def _items(lists: Iterator[list[Any]]) -> Iterator[Any]:
    for found in lists:
        found.reverse()  # so that nothing is held here that was given away
        while found:
            yield found.pop()


# -- the end of the program ------------------------------------------------------------------

_is_exiting = False
_windows: weakref.WeakSet[Window] = weakref.WeakSet()


def _note(window: Window) -> None:
    """At the end of the program wait for its calls. The hook of the session runs after ours."""
    if not _windows:
        atexit.unregister(_finish)
        atexit.register(_finish)
    _windows.add(window)


def _finish() -> None:
    global _is_exiting
    _is_exiting = True
    for window in list(_windows):
        window.close()
        window.join()
