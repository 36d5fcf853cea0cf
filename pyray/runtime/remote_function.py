"""Remote functions: what `@remote` makes of a function.

`f.remote` is a `Submitter` of the core, which calls back here only when it is first used, when the
session has changed, and when arguments need a closer look. May import `options`, `placement`,
`functions`, `signature`, `runtime_env`, `connection`, and the core when a task is submitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from . import connection, functions, placement, resources, runtime_env
from ._core import session_number
from .exceptions import TaskUnschedulableError
from .options import options_key, task_options, with_defaults
from .signature import ArgumentCheck, is_asynchronous, is_generator

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._core import ObjectRef

R = TypeVar("R")

__all__ = ["RemoteFunction", "make"]

#: How many sets of options a function's calls are kept for.
_MOST_CALLS = 100


class Definition:
    """A function, and what is known of it whatever its options are."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._check: ArgumentCheck | None = None
        #: Calls by their options, in the session of this number.
        self.calls: dict[Any, Any] = {}
        self.session = -1

    @property
    def generator(self) -> bool:
        return is_generator(self.function)

    @property
    def full_name(self) -> str:
        return functions.full_name(self.function)

    @property
    def check(self) -> ArgumentCheck:
        # Not before a call: a function that is being decoded has no defaults yet.
        if self._check is None:
            self._check = ArgumentCheck(self.function, self.full_name)
        return self._check


class Plan:
    """A function with its options: makes the `Call` of a session."""

    def __init__(self, definition: Definition, options: dict[str, Any]) -> None:
        self.definition = definition
        self.options = options

    def prepare(self) -> Any:
        """What the Submitter is to call with the arguments, in the session that is current."""
        session = connection.ensure()
        definition = self.definition
        number = session_number()
        if definition.session != number:
            definition.session, definition.calls = number, {}
        key = options_key(self.options)
        call = definition.calls.get(key)
        if call is None:
            call = self._prepare(session)
            if key is not None and len(definition.calls) < _MOST_CALLS:
                definition.calls[key] = call
        return call

    def _prepare(self, session: Any) -> Any:
        function, generator = self.definition.function, self.definition.generator
        options = with_defaults(self.options, generator=generator)
        name = options["name"] or function.__name__
        num_returns = options["num_returns"]
        count = functions.GENERATORS.get(num_returns, num_returns)
        collect = count if generator and count > 0 else 0
        if connection.local is not None:
            from .local_mode import LocalCall

            called = functions.Collected(function, collect) if collect else function
            return LocalCall(connection.local, called, name, count, options)
        retry: Any = options["retry_exceptions"]
        retry = tuple(retry) if isinstance(retry, (list, tuple)) else retry
        worker_options = {"retry_exceptions": retry} if retry else {}
        from ._core import Call

        demand = resources.of_task(options)
        return Call(
            session,
            function=functions.published(session, function, worker_options, collect),
            shape=placement.shape(session, options, demand, TaskUnschedulableError),
            name=name,
            num_returns=count,
            max_retries=options["max_retries"],
            retry_exceptions=bool(retry),
            max_calls=options["max_calls"] or 0,
            backlog=max(options["_generator_backpressure_num_objects"] or 0, 0),
        )


class RemoteFunction(Generic[R]):
    """A function whose calls, `f.remote(...)`, run as tasks and give references to their results.

    `f.options(...)` is the same function with other options.
    """

    #: Submit a task: `f.remote(*args, **kwargs)`.
    remote: Callable[..., ObjectRef[R]]

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        if is_asynchronous(function):
            raise ValueError(
                "'async def' should not be used for remote tasks. Wrap it in a function that runs "
                f"it: def {function.__name__}_task(*args): return "
                f"asyncio.run({function.__name__}(*args))."
            )
        self._plan = Plan(Definition(function), options)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    @property
    def _function(self) -> Callable[..., Any]:
        """The function itself."""
        return self._plan.definition.function

    @property
    def _function_name(self) -> str:
        return self._plan.definition.full_name

    @property
    def _default_options(self) -> dict[str, Any]:
        return self._plan.options

    def __getattr__(self, name: str) -> Any:
        if name == "remote":
            from ._core import Submitter

            plan = self._plan
            check = plan.definition.check
            self.remote = Submitter(plan.prepare, check, check.min_args, check.max_args)
            return self.remote
        if name == "__wrapped__":
            return self._function
        if name in ("__name__", "__qualname__"):
            return getattr(self._function, name)
        raise AttributeError(f"a remote function has no attribute {name!r}, but .remote, .options")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._function_name
        raise TypeError(
            "Remote functions cannot be called directly. Instead of running "
            f"'{name}()', try '{name}.remote()'."
        )

    def options(self, **options: Any) -> RemoteFunction[R]:
        """The same function with other options, which are those of `@remote`.

        Raises:
            TypeError, ValueError: an option is wrong; `max_calls` cannot be changed.
        """
        plan = self._plan
        generator = plan.definition.generator
        found = task_options(options, in_options=True, generator=generator)
        if found.get("runtime_env") is not None:
            found["runtime_env"] = runtime_env.validate(found["runtime_env"])
        if found.get("_metadata") and plan.options.get("_metadata"):
            old = plan.options["_metadata"]
            new = found["_metadata"]
            found["_metadata"] = old | {key: old.get(key, {}) | new[key] for key in new}
        return _restore(Plan(plan.definition, plan.options | found))

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._function, self._plan.options)

    def __repr__(self) -> str:
        return f"<remote function {self._function_name}>"


def make(function: Callable[..., Any], options: dict[str, Any]) -> RemoteFunction[Any]:
    """The remote function of `@remote(**options)`.

    Raises:
        TypeError, ValueError: an option is wrong, or the function cannot be a task.
    """
    found = task_options(options, generator=is_generator(function))
    if found.get("runtime_env") is not None:
        found["runtime_env"] = runtime_env.validate(found["runtime_env"])
    return RemoteFunction(function, found)


def _restore(plan: Plan) -> RemoteFunction[Any]:
    self = RemoteFunction.__new__(RemoteFunction)
    self._plan = plan
    return self


def _remake(function: Callable[..., Any], options: dict[str, Any]) -> RemoteFunction[Any]:
    # The function may be half made: it is looked at when it is first called.
    return _restore(Plan(Definition(function), options))
