"""What handles know of an actor's class: its methods, their parameters and options.

A descriptor says nothing of what the methods do, so that a handle can be used where the class
cannot be imported. It is published once, as functions are, and each process reads it once. May
import the core, `functions`, `options`, `signature`.
"""

from __future__ import annotations

from types import FunctionType, MethodType

from . import _core, functions
from .options import METHOD_OPTIONS, option_attribute
from .signature import ArgumentCheck, Parameters, is_asynchronous, parameters_of, yields

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Descriptor", "Method", "describe", "forget", "publish", "read"]

#: So many descriptors are kept in a process.
_MOST_KNOWN = 1000


class Method:
    """One method: what may be passed to it, and what it is."""

    __slots__ = ("asynchronous", "generator", "options", "parameters")

    def __init__(
        self,
        parameters: Parameters,
        generator: bool = False,
        asynchronous: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.parameters = parameters
        self.generator = generator  # asynchronous or not
        self.asynchronous = asynchronous
        self.options = options or {}  # those of @method

    def __reduce__(self) -> tuple[Any, ...]:
        return Method, (self.parameters, self.generator, self.asynchronous, self.options)


#: Methods that every actor has, served by its worker.
COMMON_METHODS = {
    "__ray_ready__": Method(Parameters((), 0, 0, (), (), ("", ""))),
    "__ray_terminate__": Method(Parameters((), 0, 0, (), (), ("", ""))),
    "__ray_call__": Method(Parameters(("fn",), 1, 1, (), (), ("args", "kwargs"))),
}


class Descriptor:
    """An actor's class as those see it who call it, and the options that concern its calls."""

    def __init__(
        self,
        class_name: str,
        module: str,
        methods: dict[str, Method],
        others: dict[str, str],
        options: dict[str, Any],
    ) -> None:
        self.class_name = class_name
        self.module = module
        self.methods = methods
        self.others = others  # what else the class has, by name, and what that is
        self.options = options
        self.ref: Any = None  # to where it was published
        self._checks: dict[str, ArgumentCheck] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.class_name, self.module, self.methods, self.others, self.options)
        return Descriptor, parts

    def method(self, name: str) -> Method | None:
        return self.methods.get(name) or COMMON_METHODS.get(name)

    @property
    def asynchronous(self) -> bool:
        """Whether the actor has an event loop."""
        return any(method.asynchronous for method in self.methods.values())

    def check(self, name: str) -> ArgumentCheck:
        """Whether arguments fit the method of that name."""
        found = self._checks.get(name)
        if found is None:
            parameters = (self.methods.get(name) or COMMON_METHODS[name]).parameters
            found = ArgumentCheck(parameters, f"{self.class_name}.{name}", "actor method")
            self._checks[name] = found
        return found


# -- reading a class -------------------------------------------------------------------------


def describe(cls: type) -> tuple[dict[str, Method], dict[str, str]]:
    """The methods of a class, and what else it has: what that is, by name."""
    methods: dict[str, Method] = {}
    others: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        attributes.update(base.__dict__)
    for name, value in attributes.items():
        method = None if name in ("__init__", "__new__") else _method(value)
        if method is not None:
            methods[name] = method
        elif not name.startswith("__"):
            others[name] = _kind(value)
    return methods, others


def _method(value: Any) -> Method | None:
    bound = not isinstance(value, staticmethod)
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if isinstance(function, MethodType):
        function = function.__func__
    if not is_function(function):
        return None
    parameters = parameters_of(function)
    inner = _unwrapped(function)
    return Method(
        parameters.without_first() if bound else parameters,
        yields(function) or yields(inner),
        is_asynchronous(function) or is_asynchronous(inner),
        {**_options_of(function), **_options_of(value)},
    )


def is_function(value: Any) -> bool:
    """Whether it was made by `def` or `lambda`, compiled or not."""
    return isinstance(value, FunctionType) or type(value).__name__ == "cython_function_or_method"


def _unwrapped(function: Any) -> Any:
    seen = set()
    while hasattr(function, "__wrapped__") and id(function) not in seen:
        seen.add(id(function))
        function = function.__wrapped__
    return function


def _options_of(function: Any) -> dict[str, Any]:
    """Those of `@method`."""
    found = {}
    for name in METHOD_OPTIONS:
        value = getattr(function, option_attribute(name), None)
        if value is not None:
            found[name] = value
    return found


def _kind(value: Any) -> str:
    if isinstance(value, property) or type(value).__name__ == "cached_property":
        return "property"
    return "class" if isinstance(value, type) else "attribute"


# -- there and back --------------------------------------------------------------------------


def publish(session: Any, descriptor: Descriptor) -> Any:
    """A reference to the descriptor, which every process of the session can read."""
    descriptor.ref = functions.publish(session, {"actor": descriptor})
    return descriptor.ref


#: What this process has read, by the reference to it, in the session of this number.
_known: dict[Any, Descriptor] = {}
_session = -1


def read(ref: Any) -> Descriptor:
    """The descriptor that was published as that."""
    global _session
    if _session != _core.session_number():
        _known.clear()
        _session = _core.session_number()
    found = _known.get(ref)
    if found is None:
        session: Any = _core.get_session()
        slot = int.from_bytes(ref.binary()[-4:], "big")
        _, options = functions.load(session, 0, session.function(slot))
        found = options["actor"]
        found.ref = ref
        for old in list(_known)[: _MOST_KNOWN // 2] if len(_known) >= _MOST_KNOWN else ():
            del _known[old]
        _known[ref] = found
    return found


def forget() -> None:
    """The session has ended."""
    _known.clear()
