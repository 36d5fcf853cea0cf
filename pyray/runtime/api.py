"""What programs call: `remote`, `get`, `put`, `wait`, `cancel`, and what tells of the session.

Arguments are checked here; the work is done by the core. May import every other module of the
runtime but those of the node and the worker. Names and meanings are those of Ray. `get_actor` and
`kill` are in `named_actors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from . import _core, connection, error_log
from ._core import ObjectRef, ObjectRefGenerator
from .generators import DynamicObjectRefGenerator
from .options import (
    ACTOR_OPTIONS,
    TASK_OPTIONS,
    check_generator,
    option_attribute,
    validate_method_options,
)
from .remote_function import RemoteFunction, make
from .runtime_context import get_gpu_ids, get_runtime_context
from .signature import yields
from .start import init, is_initialized, shutdown
from .warn import warn

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .actor_class import ActorClass

    R = TypeVar("R")
    C = TypeVar("C")

    class Decorator(Protocol):
        """What `@remote(...)` with options is."""

        @overload
        def __call__(self, cls: type[C], /) -> ActorClass[C]: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, function: Callable[..., R], /) -> RemoteFunction[R]: ...


__all__ = [
    "available_resources",
    "cancel",
    "cluster_resources",
    "error_info",
    "get",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "wait",
]


# -- remote functions and actors -------------------------------------------------------------


@overload
def remote(cls: type[C], /) -> ActorClass[C]: ...  # type: ignore[overload-overlap]
@overload
def remote(function: Callable[..., R], /) -> RemoteFunction[R]: ...
@overload
def remote(**options: Any) -> Decorator: ...
def remote(*args: Any, **options: Any) -> Any:
    """Make a function one whose calls run as tasks, or a class one whose instances are actors.

    `@remote` or `@remote(num_cpus=2, ...)`. The function is called as `f.remote(...)`, which
    returns an `ObjectRef` at once; `Class.remote(...)` returns the handle of an actor, whose
    methods are called as `handle.method.remote(...)`. References among the arguments are replaced
    by their values before the function runs.

    Keyword Args:
        num_cpus (float): CPUs that a task, or an actor for its life, reserves; by default 1 for a
            task, and for an actor 0, unless it reserves something else.
        num_gpus (float): GPUs that it reserves.
        resources (dict): Other resources of `init(resources=...)` that it reserves.
        memory (int): Bytes of memory that it reserves.
        runtime_env (dict): What it runs in, see `init`.
        scheduling_strategy: "DEFAULT", "SPREAD" or a `NodeAffinitySchedulingStrategy`.
        name (str): What a task is called in logs and errors, by default as its function; what
            `get_actor` finds an actor by.

        num_returns (int | str): Of functions: how many references a call returns, or "streaming"
            for a generator of references, which is what generator functions do by default.
        max_retries (int): How often a task is run again when its worker died; 3 by default.
        retry_exceptions (bool | list): Whether it is also run again when it raised; or what.
        max_calls (int): After how many calls a worker is replaced; 0: never.

        max_restarts (int): Of actors: how often it is made anew when its process died; 0 by
            default, -1: always.
        max_task_retries (int): How often a call is run again when the actor was restarted; 0 by
            default, -1: always.
        max_pending_calls (int): How many calls of one process may not be over; -1, the default: any
            number.
        max_concurrency (int): How many calls run at once, in threads; 1 by default. In an actor
            with `async def` methods, in its event loop; 1000 by default.
        concurrency_groups (dict): Groups of methods, see `method`, and how many calls of each run
            at once.
        allow_out_of_order_execution (bool): Whether a call may overtake one whose arguments are not
            there yet; by default if several calls run at once.
        lifetime (str): "detached": it lives without handles, until it is killed.
        namespace (str): Where its name is unique; by default as `init` says.
        get_if_exists (bool): Whether `.remote()` returns the actor that has the name, if there is
            one; False by default.

    Raises:
        TypeError, ValueError: an option is wrong, or what is decorated is neither function nor
            class.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _remote(args[0], {})
    if args or not options:
        raise TypeError(
            "The @remote decorator must be applied either with no arguments and no parentheses, "
            "for example '@remote', or with options only, for example '@remote(num_returns=2)'. "
            f"The options are {', '.join({**TASK_OPTIONS, **ACTOR_OPTIONS})}."
        )
    return lambda function: _remote(function, options)


def _remote(function: Any, options: dict[str, Any]) -> Any:
    if isinstance(function, type):
        from .actor_class import make as make_actor_class

        return make_actor_class(function, options)
    if type(function).__name__ not in ("function", "cython_function_or_method"):
        raise TypeError(
            "The @remote decorator must be applied to either a function or a class, not to "
            f"{function!r}. Any other callable can be called from a function: "
            "@remote def f(*args): return callable(*args)."
        )
    if not function.__module__:
        function.__module__ = "global"
    return make(function, options)


def method(*args: Any, **options: Any) -> Any:
    """Give a method of an actor class options: `@method(num_returns=2)`.

    Keyword Args:
        num_returns (int | str): How many references a call returns; 1 by default, or "streaming"
            for a method that yields.
        max_task_retries (int): As in `remote`; by default as the actor says.
        retry_exceptions (bool | list): Whether calls are also run again when they raised; or what.
        concurrency_group (str): The group of `remote(concurrency_groups=...)` in which it runs.

    Raises:
        TypeError, ValueError: an option is wrong.
    """
    validate_method_options(options)
    if len(args) > bool(not options) or not all(map(callable, args)):
        raise TypeError(
            "The @method decorator must be applied with no arguments and no parentheses, or with "
            "options only, for example '@method(num_returns=2)'."
        )

    def annotate(function: Any) -> Any:
        inner = getattr(function, "__func__", function)  # of a class or static method
        check_generator(options.get("num_returns"), yields(inner))
        for name, value in options.items():
            setattr(function, option_attribute(name), value)
        return function

    return annotate(args[0]) if args else annotate


# -- objects ---------------------------------------------------------------------------------


if TYPE_CHECKING:

    @overload
    def get(
        object_refs: ObjectRef[R], *, timeout: float | None = None, copy_on_write: bool = False
    ) -> R: ...
    @overload
    def get(
        object_refs: list[ObjectRef[R]],
        *,
        timeout: float | None = None,
        copy_on_write: bool = False,
    ) -> list[R]: ...
    @overload
    def get(
        object_refs: ObjectRefGenerator,
        *,
        timeout: float | None = None,
        copy_on_write: bool = False,
    ) -> ObjectRefGenerator: ...
    def get(object_refs: Any, *, timeout: float | None = None, copy_on_write: bool = False) -> Any:
        """Wait for objects and return them."""

    def put(value: R) -> ObjectRef[R]:
        """Store an object, which cannot be changed any more, and return a reference to it."""

else:
    # Compiled: a call of Python would take longer than the work.
    get, put = _core.get_checked, _core.put
    get.__name__ = get.__qualname__ = "get"
    for _function in (get, put):
        _function.__module__ = __name__
        _function.__doc__ = _function.__doc__.partition("\n")[2]  # without Cython's signature


def get_slowly(object_refs: Any, timeout: Any, copy_on_write: bool) -> Any:
    """`get` of anything but one reference, or with a timeout."""
    if timeout is not None:
        timeout = _timeout(timeout)
    if type(object_refs) is not ObjectRef:
        if isinstance(object_refs, (ObjectRefGenerator, DynamicObjectRefGenerator)):
            return object_refs
        _check_refs(object_refs)
        connection.ensure()
    return _core.get(object_refs, timeout, copy_on_write)


def _check_refs(object_refs: Any) -> None:
    if not isinstance(object_refs, list):
        raise ValueError(
            f"Invalid type of object refs, {type(object_refs)}, is given. 'object_refs' must "
            "either be an ObjectRef or a list of ObjectRefs: of a tuple or a generator, pass "
            "list(...)."
        )
    for ref in object_refs:
        if type(ref) is not ObjectRef:
            raise TypeError(
                f"Attempting to call `get` on the value {ref!r}, which is not an ObjectRef: only "
                "what .remote() and put() return can be got."
            )


def _timeout(timeout: Any) -> float | None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        try:
            timeout = float(timeout) if not isinstance(timeout, (str, bool)) else None
        except (TypeError, ValueError):
            timeout = None
        if timeout is None:
            raise TypeError("The 'timeout' argument must be a number of seconds or None.")
    if timeout == -1:
        return None  # how Ray's older programs say None
    if not timeout >= 0:
        raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout}")
    return timeout


def wait(
    ray_waitables: list[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """Wait until some of the objects are there; return the references of those, and the rest.

    Both lists are in the order of the argument; the first has `num_returns` items at most.

    Args:
        ray_waitables: A list of different references, or generators of references.
        num_returns: How many to wait for.
        timeout: How many seconds to wait at most; 0: do not wait; None: as long as it takes.
        fetch_local: Accepted: every object is on this machine.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    if timeout is not None:
        timeout = _wait_timeout(timeout)
    simple = type(ray_waitables) is list and type(num_returns) is int
    if not simple or _core.get_session() is None or _core.check_unique(ray_waitables):
        return _wait_slowly(ray_waitables, num_returns, timeout)
    if not 0 < num_returns <= len(ray_waitables):
        return _wait_slowly(ray_waitables, num_returns, timeout)
    return _core.wait(ray_waitables, num_returns, timeout)


def _wait_slowly(
    waitables: Any, num_returns: Any, timeout: float | None
) -> tuple[list[Any], list[Any]]:
    """`wait` for generators too, or for what has to be refused."""
    if not isinstance(waitables, list):
        single = isinstance(waitables, (ObjectRef, ObjectRefGenerator))
        raise TypeError(
            "wait() expected a list of ObjectRef or ObjectRefGenerator, got "
            + (f"a single one, {waitables}" if single else f"{type(waitables)}")
        )
    _check_waitables(waitables)
    connection.ensure()
    if not waitables:
        return [], []
    _check_count(num_returns, len(waitables))
    return _core.wait(waitables, num_returns, timeout)


def _wait_timeout(timeout: Any) -> float:
    if timeout == -1:
        raise ValueError("The 'timeout' argument must be nonnegative. Received -1")
    return _timeout(timeout) or 0.0


def _check_waitables(refs: list[Any]) -> None:
    for ref in refs:
        if type(ref) is not ObjectRef and not isinstance(ref, ObjectRefGenerator):
            raise TypeError(
                "wait() expected a list of ObjectRef or ObjectRefGenerator, got list "
                f"containing {type(ref)}"
            )
    if len(set(refs)) != len(refs):
        raise ValueError(
            "Wait requires a list of unique ray_waitables: list(dict.fromkeys(refs)) has each once."
        )


def _check_count(num_returns: Any, most: int) -> None:
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"num_returns must be an integer, got {num_returns!r}.")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}.")
    if num_returns > most:
        raise ValueError(
            f"num_returns={num_returns} cannot be greater than the number of ray_waitables "
            f"provided to wait, {most}."
        )


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that is to make this object; do nothing if it has ended.

    A task that has not begun never will; one that runs is interrupted by KeyboardInterrupt, with
    `force` its worker is killed. `get` of its references raises TaskCancelledError.

    A call of an actor that runs is not interrupted, but can ask
    `get_runtime_context().is_canceled()`; that of an `async def` method gets
    `asyncio.CancelledError` where it waits.

    Args:
        ray_waitable: A reference, or a generator of references.
        force: Whether to kill the worker that runs the task.
        recursive: Whether tasks and calls of actors that it has submitted are cancelled, too.

    Raises:
        TypeError: it is neither a reference nor a generator of references.
        ValueError: `force` for a call of an actor: `kill` ends the actor.
    """
    if not isinstance(ray_waitable, (ObjectRef, ObjectRefGenerator)):
        raise TypeError(
            "cancel() only supported for object refs. For actors, try kill(). "
            f"Got: {type(ray_waitable)}."
        )
    for name, value in (("force", force), ("recursive", recursive)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {value!r}.")
    connection.ensure()
    _core.cancel(ray_waitable, force, recursive)


# -- the session -----------------------------------------------------------------------------


def nodes() -> list[dict[str, Any]]:
    """The nodes of the session, of which there is one: id, address, resources, labels."""
    from .resources import NODE_IP

    total = cluster_resources()
    known = connection.info()
    import socket

    return [
        {
            "NodeID": known["node_id"],
            "Alive": True,
            "NodeManagerAddress": NODE_IP,
            "NodeManagerHostname": socket.gethostname(),
            "NodeManagerPort": 0,
            "ObjectManagerPort": 0,
            "ObjectStoreSocketName": None,
            "RayletSocketName": None,
            "MetricsExportPort": 0,
            "NodeName": NODE_IP,
            "DeathReason": 0,
            "DeathReasonMessage": "",
            "alive": True,
            "Resources": total,
            "Labels": dict(known["labels"]),
        }
    ]


def cluster_resources() -> dict[str, float]:
    """Everything that tasks can reserve, by name."""
    return dict(connection.required().total_resources())


def available_resources() -> dict[str, float]:
    """What of it is not reserved at the moment; what is used up is left out."""
    return dict(connection.required().available_resources())


def error_info() -> list[dict[str, Any]]:
    """The tasks that failed last: type, message, traceback and task; deprecated.

    `get` raises the error of the task itself.
    """
    warn("error_info() is deprecated: get() raises the error of the task.", DeprecationWarning)
    connection.required()
    if connection.local is not None:
        return [error_log.describe(*failure) for failure in connection.local.errors]
    return error_log.recent()
