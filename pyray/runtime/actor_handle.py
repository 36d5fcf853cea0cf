"""Handles of actors, and the methods that are called through them.

A handle is a reference to the object that stands for the actor, and nothing else: what else it
needs it reads there when it is first used. `handle.method` is kept in the handle, so it must not
refer to the handle: a cycle would keep the actor alive. May import the core, `actor_descriptor`,
`connection`, `functions`, `options`, and `local_actor` in local mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _core, actor_descriptor, connection, functions
from ._core import Submitter, session_number
from .exceptions import ActorHandleNotFoundError
from .options import call_options, options_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import ObjectRef
    from .actor_descriptor import Descriptor

__all__ = ["ActorHandle", "ActorMethod", "check_session", "description"]

T = TypeVar("T")

#: How many sets of options a method's calls are kept for.
_MOST_CALLS = 100


def check_session(number: int) -> Any:
    """The session, if it is the one of this number.

    Raises:
        ActorHandleNotFoundError: it has ended.
        RaySystemError: its node process has died.
    """
    if number != session_number():
        raise ActorHandleNotFoundError(
            "ActorHandle objects are not valid across sessions: the actor of this handle ended "
            "with its session. This typically happens when a handle from before shutdown() is used "
            "after it. Create a new actor in the current session."
        )
    return connection.required()


def description(ref: ObjectRef[Any]) -> tuple[Any, str | None, str]:
    """What is stored as the object that stands for an actor: descriptor, name and namespace."""
    found: tuple[Any, str | None, str] = _core.get(ref)
    return found


class ActorHandle(Generic[T]):
    """An actor, for those who call it: `handle.method.remote(...)`.

    It may be passed to tasks and actors, and kept in objects; the actor lives as long as there is
    a handle to it. Handles of the same actor are equal.
    """

    def __init__(self, ref: ObjectRef[Any], descriptor: Descriptor | None = None) -> None:
        self._ray_actor_id = ref
        self._ray_session = session_number()
        if descriptor is not None:
            self._ray_descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_ray_"):
            if name != "_ray_descriptor":
                raise AttributeError(name)  # half made
            check_session(self._ray_session)
            ref, _, _ = description(self._ray_actor_id)
            self._ray_descriptor = actor_descriptor.read(ref)
            return self._ray_descriptor
        if name.startswith("__") and self._ray_session != session_number():
            raise AttributeError(name)  # Python itself, or a library, wants to know what this is
        descriptor = self._ray_descriptor
        if descriptor.method(name) is None:
            raise AttributeError(_no_such_method(descriptor, name))
        method = ActorMethod(Plan(self._ray_actor_id, self._ray_session, descriptor, name, {}))
        self.__dict__[name] = method
        return method

    @property
    def _actor_id(self) -> ObjectRef[Any]:
        return self._ray_actor_id

    def __dir__(self) -> list[str]:
        return [name for name in self._ray_descriptor.methods if not name.startswith("__")]

    def __repr__(self) -> str:
        try:
            name = self._ray_descriptor.class_name
        except Exception:  # of a session that has ended
            name = "?"
        return f"Actor({name}, {self._ray_actor_id.hex()})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorHandle):
            return NotImplemented
        return bool(self._ray_actor_id == other._ray_actor_id)

    def __hash__(self) -> int:
        return hash(self._ray_actor_id)

    def __reduce__(self) -> tuple[Any, ...]:
        check_session(self._ray_session)
        return ActorHandle, (self._ray_actor_id,)


def _no_such_method(descriptor: Descriptor, name: str) -> str:
    from difflib import get_close_matches

    cls = descriptor.class_name
    text = f"'ActorHandle' object has no attribute {name!r}: "
    kind = descriptor.others.get(name)
    if kind is not None:
        a = "an" if kind == "attribute" else "a"
        return (
            f"{text}it is {a} {kind} of the class {cls}, and only methods can be called from "
            f"outside of the actor. Add a method that returns it: def get_{name}(self): "
            f"return self.{name}"
        )
    names = [method for method in descriptor.methods if not method.startswith("__")]
    near = get_close_matches(name, names, 3)
    if near:
        return f"{text}the class {cls} has no such method. Did you mean {' or '.join(near)}?"
    return f"{text}the class {cls} has no such method. It has: {', '.join(sorted(names)) or 'none'}"


# -- methods ---------------------------------------------------------------------------------


class Plan:
    """A method of one actor with its options: makes the `Call` of the actor's session."""

    def __init__(
        self,
        ref: ObjectRef[Any],
        session: int,
        descriptor: Descriptor,
        name: str,
        options: dict[str, Any],
        calls: dict[Any, Any] | None = None,
    ) -> None:
        self.ref = ref
        self.session = session
        self.descriptor = descriptor
        self.name = name
        self.options = options
        #: Calls by their options, for every plan of this method in this handle.
        self.calls: dict[Any, Any] = {} if calls is None else calls

    def prepare(self) -> Any:
        """What the Submitter is to call with the arguments."""
        session = check_session(self.session)
        key = options_key(self.options)
        call = self.calls.get(key)
        if call is None:
            call = self._prepare(session)
            if len(self.calls) < _MOST_CALLS:
                self.calls[key] = call
        return call

    def _prepare(self, session: Any) -> Any:
        options = self.full_options()
        count = functions.GENERATORS.get(options["num_returns"], options["num_returns"])
        name = options["name"] or f"{self.descriptor.class_name}.{self.name}"
        if connection.local is not None:
            from .local_actor import call_of

            return call_of(connection.local, self.ref, self.name, name, count, options)
        retry: Any = options["retry_exceptions"]
        function = self.descriptor.ref
        if retry:
            retry = tuple(retry) if isinstance(retry, (list, tuple)) else retry
            function = functions.publish(session, {"retry_exceptions": retry})
        return _core.Call(
            session,
            function=function,
            shape=0,
            name=name,
            num_returns=count,
            max_retries=options["max_task_retries"],
            retry_exceptions=bool(retry),
            actor=self.ref,
            method=self.name,
            group=options["concurrency_group"],
            max_pending=self.descriptor.options["max_pending_calls"],
            backlog=max(options["_generator_backpressure_num_objects"] or 0, 0),
        )

    def full_options(self) -> dict[str, Any]:
        """Every option of the call: of `.options()`, of `@method`, of the actor, by default."""
        method = self.descriptor.method(self.name)
        assert method is not None
        full = {
            "num_returns": "streaming" if method.generator else 1,
            "max_task_retries": self.descriptor.options["max_task_retries"],
            "retry_exceptions": False,
            "concurrency_group": "",
            "name": "",
            "_generator_backpressure_num_objects": None,
        }
        for given in (method.options, self.options):
            full.update((name, value) for name, value in given.items() if value is not None)
        return full


class ActorMethod:
    """A method of an actor: `handle.method.remote(*args, **kwargs)` gives a reference.

    `handle.method.options(...)` is the same method with other options.
    """

    #: Submit a call; TypeError if the arguments do not fit the method.
    remote: Callable[..., Any]

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        check = plan.descriptor.check(plan.name)
        # In `__dict__`: it is looked up in each call. It refers to the plan, not to this.
        self.remote = Submitter(plan.prepare, check, check.min_args, check.max_args)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options for its calls.

        Keyword Args:
            num_returns (int | str): How many references a call returns, or "streaming".
            name (str): What the call is called in logs and errors; "Class.method" by default.
            max_task_retries (int): How often it is run again when the actor was restarted; by
                default as the actor says.
            retry_exceptions (bool | list): Whether also when it raised; or what.
            concurrency_group (str): In which group of the actor it runs.

        Raises:
            TypeError, ValueError: an option is wrong.
        """
        plan = self._plan
        method = plan.descriptor.method(plan.name)
        assert method is not None
        found = call_options(options, generator=method.generator)
        group = found.get("concurrency_group")
        groups = plan.descriptor.options["concurrency_groups"]
        if group and group not in groups:
            raise ValueError(
                f"The concurrency group {group!r} is not one of the actor's: "
                f"{', '.join(groups) or 'it has none'}."
            )
        parts = plan.ref, plan.session, plan.descriptor, plan.name
        return ActorMethod(Plan(*parts, plan.options | found, plan.calls))

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Graphs of calls are not there yet."""
        raise NotImplementedError("bind() is not there yet: call .remote() with references")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._plan.name
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{name}()', try "
            f"'object.{name}.remote()'."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        plan = self._plan
        check_session(plan.session)
        return _method_of, (ActorHandle(plan.ref, plan.descriptor), plan.name, plan.options)

    def __repr__(self) -> str:
        return f"<method {self._plan.name} of actor {self._plan.ref.hex()}>"


def _method_of(handle: ActorHandle[Any], name: str, options: dict[str, Any]) -> ActorMethod:
    method: ActorMethod = getattr(handle, name)
    return method.options(**options) if options else method
