"""How an exception travels between processes, and the class that is both RayTaskError and its own.

An exception is taken apart into class, args, what its C base keeps, and attributes, and put
together without calling its `__init__`, so that a constructor with other parameters than `args`
does no harm. What cannot be serialized is left out, never the whole. May import
`pyray.serialization`.
"""

from __future__ import annotations

import builtins
from types import GetSetDescriptorType, MemberDescriptorType

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["dual", "pack", "remote_traceback", "unpack"]

_DESCRIPTORS = (MemberDescriptorType, GetSetDescriptorType)
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # from 3.11 on

# How the parts of a packed exception are to be read.
_WHOLE, _PARTS, _GROUP_PARTS = 0, 1, 2


# -- there and back --------------------------------------------------------------------------


def pack(error: BaseException) -> bytes:
    """A message that `unpack` makes an equal exception of; there is always one."""
    if _GROUP and isinstance(error, _GROUP):
        text = error.message
        inner = [pack(part) for part in error.exceptions]
        return _message((_GROUP_PARTS, _carried_class(error), text, inner, _attributes(error)))
    if not _reduces_by_default(type(error)):
        blob = _checked_message((_WHOLE, error))
        if blob is not None:
            return blob
    args = _args(error)
    blob = _checked_message((_PARTS, type(error), args, _members(error), _dict(error)))
    if blob is not None:
        return blob
    args = tuple(arg if _travels(arg) else _text(arg) for arg in args)
    members = _members(error, checked=True)
    return _message((_PARTS, _carried_class(error), args, members, _attributes(error)))


def unpack(blob: bytes) -> BaseException:
    """The exception that was packed.

    Raises whatever keeps its class from being found here.
    """
    from ..serialization import loads

    kind, *parts = loads(blob)
    if kind == _WHOLE:
        return parts[0]
    if kind == _GROUP_PARTS:
        cls, text, inner, attributes = parts
        return build(cls, (text, [unpack(part) for part in inner]), {}, attributes)
    return build(*parts)


def build(cls: type, args: Any, members: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """An instance of exactly `cls` with these contents; no code of the user's class runs."""
    self = _new(cls, tuple(args))
    for name, value in members.items():
        _set_member(self, name, value)
    object.__getattribute__(self, "__dict__").update(attributes)
    _set_args(self, tuple(args))
    return self


def _args(error: BaseException) -> tuple[Any, ...]:
    # Not error.args: a user's class may have a property of that name.
    return BaseException.args.__get__(error)  # type: ignore[attr-defined]


def _set_args(error: BaseException, args: tuple[Any, ...]) -> None:
    BaseException.args.__set__(error, args)  # type: ignore[attr-defined]


def _new(cls: type, args: tuple[Any, ...]) -> Any:
    """An empty exception, made by the built-in class that knows how it is laid out."""
    problem: TypeError | None = None
    for base in cls.__mro__:
        if base.__module__ != "builtins" or not issubclass(base, BaseException):
            continue
        for given in (args, ()) if args else ((),):
            try:
                self: Any = base.__new__(cls, *given)
            except TypeError as error:
                problem = problem or error
                continue
            try:
                base.__init__(self, *given)
            except TypeError:
                pass  # it wants other arguments than it keeps: its members are set one by one
            return self
    raise problem or TypeError(f"{cls!r} is no exception class")


def _reduces_by_default(cls: type) -> bool:
    """Whether no class of the user says how its instances are pickled."""
    return not any(
        name in base.__dict__
        for base in cls.__mro__
        if base.__module__ != "builtins"
        for name in ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    )


def _member_names(cls: type) -> Iterator[str]:
    """What classes in C and `__slots__` keep outside `__dict__`."""
    for base in cls.__mro__:
        if base in (BaseException, object):
            continue
        for name, descriptor in base.__dict__.items():
            if isinstance(descriptor, _DESCRIPTORS) and not name.startswith("__"):
                yield name


def _members(error: BaseException, checked: bool = False) -> dict[str, Any]:
    found = {}
    for name in _member_names(type(error)):
        try:
            value = getattr(error, name)
        except Exception:
            continue  # not set
        if value is not None and (not checked or _travels(value)):
            found[name] = value
    return found


def _set_member(self: Any, name: str, value: Any) -> None:
    for base in type(self).__mro__:
        descriptor = base.__dict__.get(name)
        if isinstance(descriptor, _DESCRIPTORS):
            try:
                descriptor.__set__(self, value)
            except (AttributeError, TypeError):
                pass  # it is computed
            return


def _dict(error: BaseException) -> dict[str, Any]:
    return dict(getattr(error, "__dict__", {}))


def _attributes(error: BaseException) -> dict[str, Any]:
    """The attributes that can be serialized."""
    return {name: value for name, value in _dict(error).items() if _travels(value)}


def _carried_class(error: BaseException) -> type:
    """The closest class of the exception that can be sent."""
    return next(cls for cls in type(error).__mro__ if _travels(cls))


def _travels(value: Any) -> bool:
    return _checked_message(value) is not None


def _message(value: Any) -> bytes:
    from ..serialization import dumps

    return dumps(value)


def _checked_message(value: Any) -> bytes | None:
    """The message of `value`, None if it cannot be written or read again."""
    from ..serialization import loads

    try:
        blob = _message(value)
        loads(blob)
    except Exception:
        return None
    return blob


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


# -- both classes at once --------------------------------------------------------------------

#: Made once for the classes that are there for ever.
_duals: dict[tuple[type, type], type] = {}


def dual(base: type, cause: BaseException) -> Any:
    """An exception that is a `base` and whatever `cause` is, with the attributes of `cause`.

    Raises:
        TypeError: no class can inherit from both.
    """
    cls = type(cause)
    both = _duals.get((base, cls)) or _dual_class(base, cls)
    if cls.__module__ == "builtins":
        _duals[base, cls] = both
    args = _args(cause)
    if _GROUP and isinstance(cause, _GROUP):
        args = (cause.message, cause.exceptions)
    self = build(both, args, _members(cause), _dict(cause))
    _set_args(self, (cause,))
    return self


def _dual_class(base: type, cls: type) -> type:
    name = f"{base.__name__}({cls.__name__})"
    namespace = {"__module__": base.__module__, "__qualname__": name, "__getattr__": _of_the_cause}
    metaclass = type(cls) if issubclass(type(cls), type(base)) else type(base)
    try:
        return metaclass(name, (base, cls), namespace)
    except Exception:
        # A class that refuses to be inherited from does so in __init_subclass__ or its metaclass;
        # neither is asked when bases are assigned.
        both = type(name, (base, Exception), namespace)
        both.__bases__ = (base, cls)
        return both


def _of_the_cause(self: Any, name: str) -> Any:
    """What an instance of the dual class does not have by itself, its cause has."""
    if name.startswith("__") or name == "cause":
        raise AttributeError(name)
    return getattr(self.cause, name)


# -- the text of a traceback -----------------------------------------------------------------

_OURS = __file__.rpartition("/")[0] + "/"


def remote_traceback(error: BaseException) -> str:
    """The traceback of `error` and of what caused it, without our own frames."""
    from traceback import TracebackException

    try:
        trace = TracebackException.from_exception(error)
        _hide_our_frames(trace, set())
        return "".join(trace.format()).rstrip("\n")
    except Exception as problem:  # a __str__ that fails, say
        return f"{type(error).__qualname__}: <its traceback cannot be written: {problem!r}>"


def _hide_our_frames(trace: Any, seen: set[int]) -> None:
    if trace is None or id(trace) in seen:
        return
    seen.add(id(trace))
    from traceback import StackSummary

    trace.stack = StackSummary.from_list([f for f in trace.stack if not _is_ours(f.filename)])
    _hide_our_frames(trace.__cause__, seen)
    _hide_our_frames(trace.__context__, seen)
    for part in getattr(trace, "exceptions", None) or ():
        _hide_our_frames(part, seen)


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "pyray/runtime/"))
