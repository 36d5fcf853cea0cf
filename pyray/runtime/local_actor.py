"""Actors of `init(local_mode=True)`: they live in this process, and a call runs at `.remote()`.

So there is no order to keep, nothing runs beside anything else, and an actor can call itself. It
stays until it is killed, it ends itself, or the session ends. May import the core, `functions`,
`local_mode`, `exceptions`.
"""

from __future__ import annotations

from . import _core, functions
from .exceptions import ActorDiedError, ActorExit, actor_failure, task_failure
from .local_mode import LocalCall, Running, resolved, sent

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from .local_mode import LocalMode

__all__ = ["LocalActor", "LocalCreation", "call_of"]


class LocalCreation:
    """What makes the actors of a class with its options."""

    def __init__(
        self,
        mode: LocalMode,
        cls: type,
        description: Any,
        key: bytes | None,
        demand: dict[str, float],
        options: dict[str, Any],
    ) -> None:
        self._mode = mode
        self._cls = cls
        self._description = description
        self._key = key
        self._demand = demand
        self._restarts = options["max_restarts"]

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The reference that stands for the new actor."""
        if self._key is not None and self._mode.find_actor(self._key) is not None:
            raise _core.NameTaken
        functions.encode(self._cls, {})
        arguments = sent(args, kwargs, self._cls.__name__)
        ref = _core.put(self._description)
        actor = LocalActor(self._mode, ref, self._cls, arguments, self._demand)
        actor.key, actor.restarts_left = self._key, self._restarts
        self._mode.actors[ref] = actor
        actor.make()
        return ref


class LocalActor:
    """One actor, and why its calls fail, once it is dead."""

    def __init__(
        self, mode: LocalMode, ref: Any, cls: type, arguments: Any, demand: dict[str, float]
    ) -> None:
        self.ref = ref
        self.cls = cls
        self.key: bytes | None = None
        self.restarts = 0
        self.restarts_left = 0
        self.failure: Exception | None = None
        self._mode = mode
        self._arguments = arguments
        self._demand = demand
        self._instance: Any = None
        self._loop: Any = None

    def make(self) -> None:
        name = f"{self.cls.__name__}.__init__"
        try:
            args, kwargs = resolved(self._arguments)
            with self.running(name, "__init__"):
                self._instance = self.cls(*args, **kwargs)
        except (Exception, SystemExit) as error:
            self.failure = actor_failure(error, name, (self.cls.__name__, self.ref.hex()))

    def running(self, name: str, method: str) -> Running:
        """While this is entered, a call of that method is the current task."""
        return Running(
            self._mode,
            name,
            f"{self.cls.__module__}.{self.cls.__qualname__}.{method}",
            self._demand,
            actor=self.ref,
            actor_id=self.ref.hex(),
            actor_restarts=self.restarts,
        )

    def kill(self, no_restart: bool) -> None:
        if self.failure is not None:
            return
        if no_restart or not self.restarts_left:
            self.end("it was killed by kill().")
            return
        self.restarts += 1
        self.restarts_left -= 1  # below 0: for ever
        self.make()

    def end(self, why: str) -> None:
        self.failure = ActorDiedError(f"The actor is dead because {why}", self.ref.hex())
        self._instance = None

    def function(self, method: str) -> Callable[..., Any]:
        """What a call of that method calls."""
        if method == "__ray_ready__":
            return lambda: True
        if method == "__ray_terminate__":
            return _exit
        if method == "__ray_call__":
            return lambda fn, *args, **kwargs: self._finished(fn(self._instance, *args, **kwargs))
        bound = getattr(self._instance, method)
        return lambda *args, **kwargs: self._finished(bound(*args, **kwargs))

    # -- async methods -----------------------------------------------------------------------

    def _finished(self, value: Any) -> Any:
        """The result of a method, of a coroutine once it is done, of a generator in order."""
        if hasattr(value, "__await__") and hasattr(value, "send"):
            return self._wait(value)
        return self._items(value) if hasattr(value, "__anext__") else value

    def _items(self, values: AsyncIterator[Any]) -> Iterator[Any]:
        async def next_item() -> Any:
            return await values.__anext__()

        while True:
            try:
                item = self._wait(next_item())
            except StopAsyncIteration:
                return
            yield item

    def _wait(self, coroutine: Any) -> Any:
        """In the actor's event loop; in another one, and a thread, if a loop runs here already."""
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        if asyncio._get_running_loop() is not None:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(asyncio.run, coroutine).result()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)


def _exit() -> None:
    raise ActorExit


class LocalMethodCall(LocalCall):
    """What a Submitter calls in local mode for a method of an actor."""

    def __init__(
        self, actor: LocalActor, mode: LocalMode, method: str, name: str, count: int, options: Any
    ) -> None:
        super().__init__(mode, self._call, name, count, options)
        self._actor = actor
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = sent(args, kwargs, self._name)
        if self._actor.failure is not None:
            return self._failed(self._actor.failure)
        return self._run(arguments)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        return self._actor.function(self._method)(*args, **kwargs)

    def _running(self) -> Running:
        return self._actor.running(self._name, self._method)

    def _failure(self, error: BaseException) -> Any:
        actor = self._actor
        if isinstance(error, ActorExit):
            actor.end("exit_actor() was called.")
        elif isinstance(error, SystemExit):
            actor.end(f"{self._name} ended its process: SystemExit, status {error.code}.")
        failure = actor.failure
        if failure is None:
            failure = task_failure(error, self._name, (actor.cls.__name__, actor.ref.hex()))
            self._mode.errors.append((failure, self._name))
        return _core.store(failure, True)


def call_of(
    mode: LocalMode, ref: Any, method: str, name: str, count: int, options: dict[str, Any]
) -> LocalMethodCall:
    """A call of that method of the actor that `ref` stands for."""
    options = {**options, "max_retries": options["max_task_retries"]}
    return LocalMethodCall(mode.actors[ref], mode, method, name, count, options)
