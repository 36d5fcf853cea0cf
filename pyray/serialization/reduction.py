"""The reduction protocol: what an object that has no column of its own is made of.

Order: context, registered serializer, adapter, cloudpickle (functions, classes and what else it
knows), `copyreg.dispatch_table`, `__reduce_ex__(5)`. Both codecs call into this file and follow no
other rule. May import `registry`, `errors` and `adapters`; cloudpickle is imported when the first
object is met that needs it.
"""

from __future__ import annotations

import copyreg
import sys
from _thread import _local
from types import CellType, FunctionType, GetSetDescriptorType, MethodType

from . import adapters, registry
from .errors import PicklingError

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .context import SerializationContext

    Reduced = str | tuple[Any, ...]
    Reducer = Callable[[Any], Reduced]

__all__ = [
    "begin_message",
    "check_reduce_value",
    "end_message",
    "find_global",
    "global_name",
    "reduce",
    "reduce_by_cloudpickle",
    "reducer_for",
]

#: The pickle protocol whose reduction values we ask for.
PROTOCOL = 5

_MISSING: Any = object()


# -- which reducer ---------------------------------------------------------------------------


def reducer_for(cls: type) -> Reducer | None:
    """What reduces an instance of exactly `cls`.

    `None` means that the reduction value is always `(copyreg.__newobj__, (cls,), obj.__dict__ or
    None)` and that whoever rebuilds it need only make the instance and fill its `__dict__`, so the
    encoder may write the instance natively.

    The answer holds while `registry.version` and `len(copyreg.dispatch_table)` stay the same.
    """
    reducer: Reducer | None = registry.registered.get(cls)
    if reducer is not None:
        return reducer
    reducer = adapters.reducer_for(cls)
    if reducer is not None:
        return reducer
    if issubclass(cls, type) or issubclass(cls, FunctionType):
        return reduce_by_cloudpickle
    if cls is MethodType:
        return reduce_method
    if f"{cls.__module__}.{cls.__name__}" in _CLOUDPICKLE_NAMES:
        reducer = _cloudpickle_reducer(cls)
        if reducer is not None:
            return reducer
    reducer = copyreg.dispatch_table.get(cls)
    if reducer is not None:
        return reducer
    return None if is_plain(cls) else reduce_ex


def reduce(obj: Any, context: SerializationContext | None = None) -> Reduced:
    """Reduce one object completely, for callers that keep no cache of reducers.

    Returns the name of a global or a tuple that `check_reduce_value` has not yet seen.
    Raises whatever the object's own reduction raises.
    """
    if context is not None:
        rv = context.reduce(obj)
        if rv is not NotImplemented:
            return rv
    reducer = reducer_for(type(obj))
    return reduce_ex(obj) if reducer is None else reducer(obj)


def reduce_ex(obj: Any) -> Reduced:
    """The object's own reduction, asked of the instance as pickle does."""
    # A method that is None is called all the same: so a class says that it cannot be pickled.
    method = getattr(obj, "__reduce_ex__", _MISSING)
    if method is not _MISSING:
        return method(PROTOCOL)
    method = getattr(obj, "__reduce__", _MISSING)
    if method is not _MISSING:
        return method()
    raise PicklingError(f"can't pickle {type(obj).__name__!r} object: {obj!r}")


def is_plain(cls: type) -> bool:
    """Whether `object.__reduce_ex__` in its plain form is all that pickles instances of `cls`.

    Errs on the side of no: what is not plain costs a call, what is wrongly plain costs data.
    """
    lookup = cls.__getattribute__
    if lookup is not object.__getattribute__ or cls.__new__ is not object.__new__:
        return False
    if cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not object.__reduce__:
        return False
    if getattr(cls, "__getstate__", None) is not _OBJECT_GETSTATE:
        return False
    if _OBJECT_GETSTATE is None and hasattr(cls, "__getattr__"):
        return False  # before 3.11 pickle asks the instance, so __getattr__ may answer
    for name in ("__getnewargs__", "__getnewargs_ex__", "__setstate__"):
        if hasattr(cls, name):
            return False
    # The rule by which object.__reduce_ex__ refuses types with state in C: see
    # object_getstate_default in CPython's Objects/typeobject.c. A dictionary kept in front of
    # the object (3.12, or 3.11 with a negative offset) takes no room behind its head.
    size = object.__basicsize__
    size += _POINTER * (cls.__dictoffset__ > 0) + _POINTER * (cls.__weakrefoffset__ > 0)
    if cls.__itemsize__ or cls.__basicsize__ > size:
        return False
    if copyreg._slotnames(cls):  # type: ignore[attr-defined]
        return False
    for base in cls.__mro__:
        descriptor = base.__dict__.get("__dict__")
        if descriptor is not None:
            return type(descriptor) is GetSetDescriptorType
    return True


_OBJECT_GETSTATE = getattr(object, "__getstate__", None)
_POINTER = (sys.maxsize.bit_length() + 1) // 8


# -- cloudpickle -----------------------------------------------------------------------------

# Types of the standard library that cloudpickle has a reducer for. Only a name listed here makes
# us import cloudpickle and ask, so that an ordinary object never pays for the import.
_CLOUDPICKLE_TYPES = {
    "builtins": (
        "classmethod staticmethod property cell code getset_descriptor module mappingproxy "
        "dict_keys dict_values dict_items odict_keys odict_values odict_items"
    ),
    "abc": "abstractclassmethod abstractstaticmethod abstractproperty",
    "_io": "TextIOWrapper",
    "logging": "Logger RootLogger",
    "typing": "TypeVar",
    "_weakrefset": "WeakSet",
    "dataclasses": "_FIELD_BASE",
}
_CLOUDPICKLE_NAMES = {
    f"{module}.{name}" for module, names in _CLOUDPICKLE_TYPES.items() for name in names.split()
}


class _ByValue:
    """What functions of one message share: cloudpickle's pickler, and their closures' cells."""

    def __init__(self) -> None:
        from _io import BytesIO

        from cloudpickle import Pickler

        self.pickler = Pickler(BytesIO(), PROTOCOL)
        self.cells: dict[int, tuple[Any, CellType]] = {}

    def reduce(self, obj: Any) -> Any:
        """cloudpickle's reduction of a function or class, NotImplemented if it goes by name.

        cloudpickle rebuilds each function with new empty cells, then fills them. One such cell
        here stands for one cell there, so that functions that share a variable still do.
        """
        rv = self.pickler.reducer_override(obj)
        closure = getattr(obj, "__closure__", None)
        if rv is NotImplemented or not closure or not isinstance(obj, FunctionType):
            return rv
        function, args, *rest = rv
        *first, cells = args
        if type(cells) is not tuple or len(cells) != len(closure):
            return rv
        return function, (*first, tuple(map(self._empty_cell, closure))), *rest

    def _empty_cell(self, cell: CellType) -> CellType:
        return self.cells.setdefault(id(cell), (cell, CellType()))[1]


class _Messages(_local):
    """The messages that this thread is encoding, outermost first; None until one is needed."""

    def __init__(self) -> None:
        self.stack: list[_ByValue | None] = []


_messages = _Messages()


def begin_message() -> None:
    """Start a message on this thread: functions met until `end_message` keep sharing."""
    _messages.stack.append(None)


def end_message() -> None:
    """End the message that the last `begin_message` on this thread began."""
    _messages.stack.pop()


def _by_value() -> _ByValue:
    """What this message's functions share; nothing outside any message."""
    stack = _messages.stack
    if not stack:
        return _ByValue()
    shared = stack[-1]
    if shared is None:
        shared = stack[-1] = _ByValue()
    return shared


def _cloudpickle_reducer(cls: type) -> Reducer | None:
    from cloudpickle import Pickler

    reducer: Reducer | None = Pickler.dispatch_table.get(cls)
    return reducer


def reduce_by_cloudpickle(obj: Any) -> Reduced:
    """Reduce a function or a class: its name if it can be imported, else by value.

    What lives in `__main__` or in a module given to `cloudpickle.register_pickle_by_value` goes by
    value. Between `begin_message` and `end_message` functions that share their globals, or the
    variables around them, still do once they are rebuilt.
    """
    if type(obj) is not type:  # a metaclass may have its own reducer, as in pickle
        reducer = copyreg.dispatch_table.get(type(obj))
        if reducer is not None:
            return reducer(obj)
    if not _is_importable(obj):
        rv = _by_value().reduce(obj)
        if rv is not NotImplemented:
            return rv
    return _qualname(obj)


def reduce_method(method: MethodType) -> tuple[Any, ...]:
    """Reduce a bound method: looked up by name as pickle does, if its class can be imported.

    A class that travels by value may not have its attributes yet when the method is rebuilt, and
    the name of a private method (`__name`) is not what finds it: these go as function and self.
    """
    owner, function = method.__self__, method.__func__
    name = getattr(function, "__name__", None)
    if type(name) is str and _is_importable(owner if isinstance(owner, type) else type(owner)):
        try:
            if getattr(owner, name) == method:
                return getattr, (owner, name)
        except Exception:
            pass  # whatever it is, the name does not find the method
    return MethodType, (function, owner)


def _is_importable(obj: Any) -> bool:
    """Whether a reader finds `obj` by name, decided without loading cloudpickle."""
    if obj is _NONE_TYPE or obj is _ELLIPSIS_TYPE or obj is _NOT_IMPLEMENTED_TYPE:
        return False
    module_name = getattr(obj, "__module__", None)
    if type(module_name) is not str or module_name in _MAIN_MODULES:
        return False
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    if cloudpickle is not None and getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", True):
        return False  # some modules travel by value: let cloudpickle decide
    module = sys.modules.get(module_name)
    if module is None:
        return False
    try:
        return _nested_attribute(module, _qualname(obj)) is obj
    except AttributeError:
        return False


_MAIN_MODULES = ("__main__", "__mp_main__")
_NONE_TYPE, _ELLIPSIS_TYPE, _NOT_IMPLEMENTED_TYPE = map(type, (None, ..., NotImplemented))


# -- globals by name -------------------------------------------------------------------------


def global_name(obj: Any, name: str | None = None) -> tuple[str, str]:
    """The `(module, qualified name)` under which an import finds exactly `obj`.

    `name` is the name that a reduction returned; by default the object's own.

    Raises:
        PicklingError: no import finds it, or it finds another object.
    """
    if name is None:
        name = _qualname(obj)
    module_name = _module_of(obj, name)
    try:
        found = find_global(module_name, name)
    except (ImportError, KeyError, AttributeError) as error:
        raise PicklingError(
            f"Can't pickle {obj!r}: it's not found as {module_name}.{name}"
        ) from error
    if found is not obj:
        raise PicklingError(
            f"Can't pickle {obj!r}: it's not the same object as {module_name}.{name}"
        )
    return module_name, name


def find_global(module: str, qualname: str) -> Any:
    """Import `module` and return what `qualname` names in it.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: it has no such attribute.
    """
    sys.audit("pickle.find_class", module, qualname)
    __import__(module)
    return _nested_attribute(sys.modules[module], qualname)


def _qualname(obj: Any) -> str:
    name = getattr(obj, "__qualname__", None)
    return obj.__name__ if name is None else name


def _module_of(obj: Any, name: str) -> str:
    """The module that `obj` says it is of, else the first loaded one that has it under `name`."""
    module_name = getattr(obj, "__module__", None)
    if module_name is not None:
        return module_name
    # A copy: looking an attribute up may import a module.
    for module_name, module in sys.modules.copy().items():
        if module is None or module_name in _MAIN_MODULES:
            continue
        try:
            if _nested_attribute(module, name) is obj:
                return module_name
        except AttributeError:
            pass
    return "__main__"


def _nested_attribute(obj: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        if part == "<locals>":
            raise AttributeError(f"Can't get local attribute {qualname!r} on {obj!r}")
        obj = getattr(obj, part)
    return obj


# -- reduction values ------------------------------------------------------------------------


def check_reduce_value(
    obj: Any, rv: Any
) -> tuple[
    Callable[..., Any],
    tuple[Any, ...],
    Any,
    Iterator[Any] | None,
    Iterator[tuple[Any, Any]] | None,
    Callable[[Any, Any], Any] | None,
]:
    """The six parts of a reduction value, absent ones as None; consumes no iterator.

    Raises:
        PicklingError: `rv` is not what a reduction may return, in pickle's words.
    """
    if not isinstance(rv, tuple):
        raise PicklingError("__reduce__ must return a string or tuple")
    if not 2 <= len(rv) <= 6:
        raise PicklingError("tuple returned by __reduce__ must contain 2 through 6 elements")
    func, args, state, listitems, dictitems, setter = rv + (None,) * (6 - len(rv))
    if not callable(func):
        raise PicklingError("first item of the tuple returned by __reduce__ must be callable")
    if not isinstance(args, tuple):
        raise PicklingError("second item of the tuple returned by __reduce__ must be a tuple")
    for ordinal, items in (("fourth", listitems), ("fifth", dictitems)):
        if items is not None and not hasattr(items, "__next__"):
            raise PicklingError(
                f"{ordinal} element of the tuple returned by __reduce__ must be an iterator, "
                f"not {type(items).__name__}"
            )
    if setter is not None and not callable(setter):
        raise PicklingError(
            "sixth element of the tuple returned by __reduce__ must be a function, "
            f"not {type(setter).__name__}"
        )
    name = getattr(func, "__name__", None)
    if name == "__newobj__":
        _check_new_arguments(obj, name, args)
    elif name == "__newobj_ex__":
        if len(args) != 3:
            raise PicklingError(
                f"length of the NEWOBJ_EX argument tuple must be exactly 3, not {len(args)}"
            )
        _check_new_arguments(obj, name, args)
        for ordinal, item, kind in (("second", args[1], tuple), ("third", args[2], dict)):
            if not isinstance(item, kind):
                raise PicklingError(
                    f"{ordinal} item from NEWOBJ_EX argument tuple must be a {kind.__name__}, "
                    f"not {type(item).__name__}"
                )
    return func, args, state, listitems, dictitems, setter


def _check_new_arguments(obj: Any, name: str, args: tuple[Any, ...]) -> None:
    """pickle's checks of the class that `copyreg.__newobj__` and `__newobj_ex__` get."""
    if not args:
        raise PicklingError(f"{name} arglist is empty")
    if not hasattr(args[0], "__new__"):
        raise PicklingError(f"args[0] from {name} args does not have __new__")
    if obj is not None and obj.__class__ is not args[0]:
        raise PicklingError(f"args[0] from {name} args has the wrong class")
