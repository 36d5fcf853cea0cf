"""`init(local_mode=True)`: tasks run in this process, at `.remote()`, for debuggers and prints.

There is a session, with an object store and nothing else: references and values are as they always
are, so arrays that come from `get` are read-only, and what cannot be sent is refused here too.
Generators run as they are asked. May import the core, `functions`, `exceptions`, `resources`.
"""

from __future__ import annotations

import os

from . import _core, functions, resources
from ._core import ObjectRef
from .exceptions import ActorExit, RayError, task_failure
from .generators import DynamicObjectRefGenerator

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .local_actor import LocalActor

__all__ = ["LocalCall", "LocalGenerator", "LocalMode", "Running", "resolved", "sent"]


class LocalMode:
    """A session without other processes."""

    def __init__(self, known: dict[str, Any], total: dict[str, float], size: int) -> None:
        self.core = _core.Session.create(arena_bytes=size, resources=total)
        _core.set_session(self.core)
        _core.set_job(1)
        name = f"local_mode_{os.getpid()}"
        self.info = known | {"name": name, "directory": "", "node_id": os.urandom(28).hex()}
        self.info["labels"] = {"ray.io/node-id": self.info["node_id"], **known["labels"]}
        self.tasks: list[dict[str, Any]] = []
        self.errors: list[tuple[RayError, str]] = []
        #: By the references that stand for them; they stay until the session ends.
        self.actors: dict[Any, LocalActor] = {}

    def stop(self) -> None:
        _core.set_session(None)
        _core.set_job(0)
        self.core.close()

    def current_task(self) -> dict[str, Any] | None:
        return self.tasks[-1] if self.tasks else None

    # -- actors ------------------------------------------------------------------------------

    def current_actor(self) -> Any:
        """The reference to the actor that runs, or None."""
        return self.tasks[-1].get("actor") if self.tasks else None

    def live_actors(self) -> list[Any]:
        return [ref for ref, actor in self.actors.items() if actor.failure is None]

    def find_actor(self, key: bytes) -> Any:
        """The reference to the live actor with that key, or None."""
        for ref in self.live_actors():
            if self.actors[ref].key == key:
                return ref
        return None

    def kill_actor(self, ref: Any, no_restart: bool) -> None:
        self.actors[ref].kill(no_restart)


class LocalCall:
    """What a Submitter calls in local mode: it runs the task."""

    def __init__(
        self,
        mode: LocalMode,
        function: Callable[..., Any],
        name: str,
        count: int,
        options: dict[str, Any],
    ) -> None:
        self._mode = mode
        self._function = function
        self._name = name
        self._count = count
        self._options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        functions.encode(self._function, {})
        return self._run(sent(args, kwargs, functions.full_name(self._function)))

    def _run(self, sent: Any) -> Any:
        """With the arguments that were stored; what the caller gets."""
        options = self._options
        retry = options["retry_exceptions"]
        left = options["max_retries"] if retry else 0
        while True:
            try:
                args, kwargs = resolved(sent)
            except Exception as error:
                return self._failed(error)
            try:
                return self._results(args, kwargs)
            except (Exception, SystemExit) as error:
                covered = retry is True or isinstance(error, tuple(retry or ()))
                if not left or not covered or isinstance(error, ActorExit):
                    return self._failed(error)
                left -= 1  # below 0: for ever

    def _results(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._count == -2:
            return LocalGenerator(self._yielded(args, kwargs))
        if self._count == -1:
            refs = DynamicObjectRefGenerator(list(self._yielded(args, kwargs)))
            return _core.store(refs)
        with self._running():
            found = self._function(*args, **kwargs)
        if self._count == 0:
            return None
        if self._count == 1:
            return _core.store(found)
        values = list(found)
        if len(values) != self._count:
            raise ValueError(f"Task returned {len(values)} objects, but num_returns={self._count}.")
        return [_core.store(value) for value in values]

    def _yielded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        """References to what the generator yields; its failure is the last."""
        try:
            with self._running():
                values = iter(self._function(*args, **kwargs))
            while True:
                with self._running():
                    value = next(values)
                yield _core.store(value)
        except StopIteration:
            return
        except (Exception, SystemExit) as error:
            yield self._failure(error)

    def _running(self) -> Running:
        demand = resources.of_task(self._options)
        name = functions.full_name(self._function)
        return Running(self._mode, self._name, name, demand)

    def _failure(self, error: BaseException) -> Any:
        failure = task_failure(error, self._name)
        self._mode.errors.append((failure, self._name))
        return _core.store(failure, True)

    def _failed(self, error: BaseException) -> Any:
        """The failure in place of every result."""
        if self._count == 0:
            return None
        if self._count == -2:
            return LocalGenerator(iter([self._failure(error)]))
        if self._count in (1, -1):
            return self._failure(error)
        return [self._failure(error) for _ in range(self._count)]


class Running:
    """While this is entered, a task of this name is the current one."""

    def __init__(
        self, mode: LocalMode, name: str, function: str, demand: dict[str, float], **more: Any
    ) -> None:
        self._tasks = mode.tasks
        self._task = {
            "task_id": os.urandom(16).hex(),
            "name": name,
            "function_name": function,
            "resources": demand,
            "gpu_ids": list(range(int(-(-demand.get("GPU", 0) // 1)))),
            "attempt": 0,
            **more,
        }

    def __enter__(self) -> None:
        self._tasks.append(self._task)

    def __exit__(self, *error: object) -> None:
        self._tasks.pop()


class LocalGenerator:
    """References to what a generator yields, which runs as they are taken."""

    def __init__(self, refs: Iterator[Any]) -> None:
        self._refs = refs
        self._done = _core.put(None)

    def __iter__(self) -> LocalGenerator:
        return self

    def __next__(self) -> Any:
        return next(self._refs)

    def __aiter__(self) -> LocalGenerator:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def completed(self) -> Any:
        return self._done

    def close(self) -> None:
        self._refs = iter(())


def sent(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    """A reference to the arguments of a call of `name`, stored.

    Raises:
        TypeError: they cannot be sent.
    """
    try:
        return _core.put((args, kwargs))
    except TypeError as error:
        raise functions.argument_error(error, args, kwargs, name) from error


def resolved(sent: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Those arguments, with values for the references among them."""
    args, kwargs = _core.get(sent)
    return tuple(map(_resolved, args)), {name: _resolved(item) for name, item in kwargs.items()}


def _resolved(value: Any) -> Any:
    return _core.get(value) if isinstance(value, ObjectRef) else value
