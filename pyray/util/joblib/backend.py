"""The backend "ray" of joblib: batches of calls as tasks of the session.

Arrays of a megabyte and more that are arguments of several calls are put into the store once, where
joblib's own backends write them into files. May import `pyray.util.calls` and `window`, joblib, and
the public API.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from typing import Any

from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)
from joblib.parallel import BACKENDS

import pyray as ray

from ..calls import Arrays, Functions, cause_of, loaded, placed, placed_by_name, size_of
from ..window import Actors, Call, Tasks, Window, share

__all__ = ["RayBackend"]


def run_batch(batch: Any, *arrays: Any) -> list[Any]:
    """The results of a batch, in a worker. Its functions may use the backend, too."""
    BACKENDS.setdefault("ray", RayBackend)
    calls = []
    for function, args, kwargs in batch.items:
        if arrays:
            args, kwargs = placed(args, arrays), placed_by_name(kwargs, arrays)
        calls.append((loaded(function), args, kwargs))
    batch.items = calls
    results: list[Any] = batch()
    return results


class RayBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs the calls of a `Parallel` in the workers of the session, which is started if need be.

    Args:
        ray_remote_args: Options of the tasks, as `num_gpus`, `runtime_env`, `resources`.
        initializer: Called in each worker first; there are workers of its own then (actors).
        initargs: Its arguments.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options
        )
        self._given = options
        self._remote_args = ray_remote_args
        self._workers: Window | None = None
        self._again: dict[str, Any] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls run at once; -1: as many as the session has CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            if not ray.is_initialized():
                ray.init()
            return max(int(ray.cluster_resources().get("CPU", 1)) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **options: Any,
    ) -> int:
        """Get ready for the calls of `parallel`; how many run at once."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if not ray.is_initialized():
            ray.init()
        options = {**self._given, **options}
        self._again = {**options, "n_jobs": n_jobs, "ray_remote_args": ray_remote_args}
        self.parallel = parallel
        args = dict(ray_remote_args or self._remote_args or {})
        if self.inner_max_num_threads is not None:
            env = dict(args.get("runtime_env") or {})
            env["env_vars"] = {**self._prepare_worker_env(count), **env.get("env_vars", {})}
            args["runtime_env"] = env
        cpus, ahead = share(count)
        more = count if ahead and "num_cpus" not in args else 0
        args = {"num_cpus": cpus, **args}
        initializer = options.get("initializer")
        if initializer is None:
            self._workers = Window(Tasks(args), count, more)
        else:
            actors = Actors(count, args, initializer, options.get("initargs") or ())
            self._workers = Window(actors, count)
        self._arrays = Arrays()
        self.start_call()
        return count

    def start_call(self) -> None:
        """A call of the `Parallel` begins: functions are as they are now."""
        self._functions = Functions()
        self._has_failed = False

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Run a batch of calls, and give its result to the callback."""
        assert self._workers is not None
        call = _Batch(*self._taken_apart(func))
        call.callback = callback
        self._workers.add(call)
        return call

    apply_async = submit

    def _taken_apart(self, batch: Any) -> tuple[Any, ...]:
        """What `Call` is made of."""
        sent, arrays = self._functions.sent, self._arrays
        function, args, kwargs = batch.items[0]
        size = sum(map(size_of, (*args, *kwargs.values()))) * len(batch.items)
        name = getattr(function, "__name__", "")
        found: list[Any] = []
        try:
            if size:
                batch = copy(batch)
                batch.items = [
                    (
                        sent(function),
                        arrays.taken_out(args, found),
                        dict(zip(kwargs, arrays.taken_out(kwargs.values(), found), strict=True)),
                    )
                    for function, args, kwargs in batch.items
                ]
            elif sent(function) is not function or any(f[0] is not function for f in batch.items):
                batch = copy(batch)
                batch.items = [(sent(f), args, kwargs) for f, args, kwargs in batch.items]
        except Exception as error:
            return None, (), run_batch, name, 0, error.__cause__ or error
        return batch, tuple(found), run_batch, name, size

    def retrieve_result_callback(self, out: tuple[Any, BaseException | None]) -> Any:
        """What the callback of `submit` got, as results."""
        value, error = out
        if error is not None:
            self._has_failed = True
            raise error
        return value

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Results are asked for: joblib would look every 10 ms whether they are there.

        A generator gives the first ones before all are there, and a timeout is joblib's affair.
        """
        polls = self.parallel.return_generator or self.parallel.timeout is not None
        if self._workers is not None and not polls:
            self._workers.wait_until(lambda: self._has_failed)
        yield

    def stop_call(self) -> None:
        """A call of the `Parallel` has ended: its functions are not kept."""
        self.start_call()

    def terminate(self) -> None:
        """The `Parallel` needs no workers any more."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs."""
        if self._workers is not None:
            self._workers.terminate()
            self._workers = None
        if ensure_ready:
            self.configure(parallel=self.parallel, **self._again)


class _Batch(Call):
    """A batch of calls, and who gets the results."""

    __slots__ = ("callback",)

    callback: Any

    def done(self, value: Any) -> None:
        if self.callback is not None:
            self.callback((value, None))

    def failed(self, error: BaseException) -> None:
        if self.callback is not None:
            self.callback((None, cause_of(error, RemoteTraceback)))
