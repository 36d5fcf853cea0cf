"""Actor classes: what `@remote` makes of a class.

`Class.remote(...)` checks the arguments, publishes the class and its descriptor once a session, and
submits the creation; the handle is there before the actor. May import `actor_descriptor`,
`actor_handle`, `named_actors`, `options`, `placement`, `resources`, `functions`, `signature`,
`runtime_env`, `connection`, and `local_actor` in local mode.
"""

from __future__ import annotations

from time import sleep
from typing import Any, Generic, NoReturn, TypeVar

from . import _core, actor_descriptor, connection, functions, named_actors, placement, runtime_env
from ._core import session_number
from .actor_descriptor import Descriptor, describe, is_function
from .actor_handle import ActorHandle
from .exceptions import ActorAlreadyExistsError, ActorUnschedulableError
from .options import (
    DEFAULT_ASYNC_CONCURRENCY,
    actor_options,
    actor_with_defaults,
    options_key,
)
from .resources import of_actor
from .signature import ArgumentCheck, parameters_of

__all__ = ["ActorClass", "ActorClassInheritanceException", "make"]

T = TypeVar("T")

#: How many sets of options a class's creations are kept for.
_MOST_CREATIONS = 100

#: The core counts with 32 bits.
_MOST_TIMES = (1 << 31) - 1

#: Options of an actor that its calls depend on.
_OF_CALLS = ("max_task_retries", "max_pending_calls")


class ActorClassInheritanceException(TypeError):
    """An actor class was to be inherited from."""


class Definition:
    """A class, and what is known of it whatever its options are."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self._check: ArgumentCheck | None = None
        self._described: tuple[dict[str, Any], dict[str, str]] | None = None
        #: Creations of unnamed actors and descriptors by options, in the session of this number.
        self.creations: dict[Any, Any] = {}
        self.descriptors: dict[Any, Descriptor] = {}
        self.session = -1

    # Looked at when they are needed first: a class that is being decoded has no methods yet.

    @property
    def check(self) -> ArgumentCheck:
        if self._check is None:
            self._check = _constructor_check(self.cls)
        return self._check

    @property
    def described(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Its methods, and what else it has."""
        if self._described is None:
            self._described = describe(self.cls)
        return self._described

    @property
    def asynchronous(self) -> bool:
        """Whether the actor has an event loop: any method is an `async def`."""
        return any(method.asynchronous for method in self.described[0].values())

    def descriptor(self, session: Any, options: dict[str, Any]) -> Descriptor:
        """What handles of actors with these options (all of them) know, published."""
        of_calls = {name: min(options[name], _MOST_TIMES) for name in _OF_CALLS}
        of_calls["max_pending_calls"] = of_calls["max_pending_calls"] or -1
        of_calls["concurrency_groups"] = tuple(options["concurrency_groups"] or ())
        key = tuple(of_calls.values())
        found = self.descriptors.get(key)
        if found is None:
            cls = self.cls
            found = Descriptor(cls.__name__, cls.__module__, *self.described, of_calls)
            actor_descriptor.publish(session, found)
            self.descriptors[key] = found
        return found


def _constructor_check(cls: type) -> ArgumentCheck:
    constructor: Any = cls.__init__  # type: ignore[misc]
    if constructor is object.__init__ and cls.__new__ is not object.__new__:
        constructor = cls.__new__
    if constructor is object.__init__:
        found = parameters_of(lambda self: None)
    else:
        found = parameters_of(constructor)
    return ArgumentCheck(found.without_first(), cls.__name__, "actor class")


class Plan:
    """A class with its options: makes actors."""

    def __init__(self, definition: Definition, options: dict[str, Any]) -> None:
        self.definition = definition
        self.options = options

    def create(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ActorHandle[Any]:
        """A new actor, or with `get_if_exists` the one that has the name."""
        self.definition.check(args, kwargs)
        options = self.options
        while True:
            session = connection.ensure()
            if options.get("get_if_exists"):
                found = named_actors.find(options["name"], options.get("namespace"))
                if found is not None:
                    return found
            creation, descriptor = self._prepared(session)
            try:
                return ActorHandle(creation.submit(args, kwargs), descriptor)
            except _core.NameTaken:
                if not options.get("get_if_exists"):
                    raise _taken(options["name"], options.get("namespace")) from None
                sleep(0.001)  # that actor may be about to end

    def _prepared(self, session: Any) -> tuple[Any, Descriptor]:
        definition = self.definition
        number = session_number()
        if definition.session != number:
            definition.session = number
            definition.creations, definition.descriptors = {}, {}
        key = None if self.options.get("name") else options_key(self.options)
        found = definition.creations.get(key)
        if found is None:
            found = self._prepare(session)
            if key is not None and len(definition.creations) < _MOST_CREATIONS:
                definition.creations[key] = found
        return found

    def _prepare(self, session: Any) -> tuple[Any, Descriptor]:
        definition = self.definition
        options = actor_with_defaults(self.options, asynchronous=definition.asynchronous)
        descriptor = definition.descriptor(session, options)
        name = options["name"]
        namespace = options["namespace"] or named_actors.own_namespace()
        description = descriptor.ref, name, namespace
        key = named_actors.key_of(name, namespace) if name else None
        demand = of_actor(options, session.total_resources())
        if connection.local is not None:
            from .local_actor import LocalCreation

            parts = definition.cls, description, key, demand, options
            return LocalCreation(connection.local, *parts), descriptor
        of_worker = worker_options(options, definition.asynchronous)
        made = _core.Creation(
            session,
            function=functions.published(session, definition.cls, of_worker),
            shape=placement.shape(session, options, demand, ActorUnschedulableError),
            name=descriptor.class_name,
            max_restarts=min(options["max_restarts"], _MOST_TIMES),
            description=description,
            key=key,
            detached=options["lifetime"] == "detached",
            ordered=not options["allow_out_of_order_execution"],
        )
        return made, descriptor


def worker_options(options: dict[str, Any], asynchronous: bool) -> dict[str, Any]:
    """What the worker of an actor with these options (all of them) gets along with the class.

    Whether it has an event loop, how many calls run at once, and how many of each concurrency
    group. What is as it is without threads is left out.
    """
    found: dict[str, Any] = {"asynchronous": True} if asynchronous else {}
    if options["max_concurrency"] != (DEFAULT_ASYNC_CONCURRENCY if asynchronous else 1):
        found["max_concurrency"] = options["max_concurrency"]
    if options["concurrency_groups"]:
        found["concurrency_groups"] = dict(options["concurrency_groups"])
    return found


def _taken(name: str, namespace: str | None) -> ActorAlreadyExistsError:
    return ActorAlreadyExistsError(
        f"The name {name} (namespace={namespace}) is already taken. Please use a different name or "
        f"get the existing actor using get_actor('{name}', namespace={namespace!r})"
    )


class _Metadata:
    """What programs look up in `Class.__ray_metadata__`."""

    def __init__(self, cls: type) -> None:
        self.modified_class = cls
        self.class_name = cls.__qualname__


class ActorClass(Generic[T]):
    """A class whose instances, `Class.remote(...)`, live in processes of their own.

    `Class.options(...)` is the same class with other options. Constants, class methods and static
    methods can be used here as those of any class.
    """

    def __init__(self, plan: Plan) -> None:
        self._ray_plan = plan

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[T]:
        """Make an actor; its handle is returned at once.

        The arguments are those of the class. If its constructor raises, so do all calls.

        Raises:
            TypeError: the arguments do not fit the constructor, or cannot be sent.
            ValueError: there is an actor of this name (ActorAlreadyExistsError).
            ActorUnschedulableError: it asks for another node.
        """
        return self._ray_plan.create(args, kwargs)

    def options(self, **options: Any) -> ActorClass[T]:
        """The same class with other options, which are those of `@remote`.

        Raises:
            TypeError, ValueError: an option is wrong; `concurrency_groups` cannot be changed.
        """
        plan = self._ray_plan
        found = actor_options(options, before=plan.options)
        if options.get("runtime_env") is not None:
            found["runtime_env"] = runtime_env.validate(options["runtime_env"])
        return _made(Plan(plan.definition, found))

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Graphs of calls are not there yet."""
        raise NotImplementedError("bind() is not there yet: call .remote()")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self.__name__
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise ActorClassInheritanceException(
            f"Attempted to define subclass of actor class '{self.__name__}'. Inheriting from actor "
            "classes is not currently supported. You can instead inherit from a non-actor base "
            "class and make the derived class an actor class (with @remote)."
        )

    def __getitem__(self, parameters: Any) -> ActorClass[T]:
        """`Class[int]` of a generic class: at run time it is the same class."""
        self.__ray_actor_class__[parameters]  # type: ignore[index]
        return self

    __iter__ = None  # which there would be by __getitem__

    # -- what there is of the class itself ----------------------------------------------------

    @property
    def __ray_actor_class__(self) -> type[T]:
        """The class itself."""
        return self._ray_plan.definition.cls

    @property
    def __ray_metadata__(self) -> _Metadata:
        return _Metadata(self.__ray_actor_class__)

    @property
    def _default_options(self) -> dict[str, Any]:
        return self._ray_plan.options

    def __getattr__(self, name: str) -> Any:
        if name == "_ray_plan":
            raise AttributeError(name)  # half made
        cls = self.__ray_actor_class__
        if name in ("__name__", "__qualname__"):
            return getattr(cls, name)
        if name == "__wrapped__":
            return cls
        if name.startswith("__"):
            raise AttributeError(f"an actor class has no attribute {name!r}")
        value = getattr(cls, name)  # AttributeError, with the name of the class
        if is_function(value) and not isinstance(_static(cls, name), staticmethod):
            raise AttributeError(
                f"{name!r} is a method of {cls.__qualname__}: call it through the handle of an "
                f"actor, handle = {cls.__qualname__}.remote(...); handle.{name}.remote(...)"
            )
        return value

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self.__ray_actor_class__)})

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.__ray_actor_class__, self._ray_plan.options)

    def __repr__(self) -> str:
        return f"ActorClass({self.__name__})"


def _static(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def _made(plan: Plan) -> ActorClass[Any]:
    self: ActorClass[Any] = ActorClass(plan)
    self.__doc__ = plan.definition.cls.__doc__
    self.__module__ = plan.definition.cls.__module__
    return self


def _remake(cls: type, options: dict[str, Any]) -> ActorClass[Any]:
    # The class may be half made: it is looked at when it is first used.
    return ActorClass(Plan(Definition(cls), options))


def make(cls: type, options: dict[str, Any]) -> ActorClass[Any]:
    """The actor class of `@remote(**options)`.

    Raises:
        TypeError, ValueError: an option is wrong, or does not go with the methods.
    """
    found = actor_options(options)
    if found.get("runtime_env") is not None:
        found["runtime_env"] = runtime_env.validate(found["runtime_env"])
    definition = Definition(cls)
    groups = found.get("concurrency_groups") or {}
    for name, method in definition.described[0].items():
        group = method.options.get("concurrency_group")
        if group and group not in groups:
            raise ValueError(
                f"The method {cls.__qualname__}.{name} is in the concurrency group {group!r}, "
                f"which is not one of the actor's: {', '.join(groups) or 'it has none'}. Groups "
                "are given to @remote(concurrency_groups={name: how many calls run at once})."
            )
    actor_with_defaults(found, asynchronous=definition.asynchronous)
    return _made(Plan(definition, found))
