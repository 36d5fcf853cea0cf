"""What runs in a worker for pools and executors, and how functions and large arrays get there.

A function that workers cannot import is put into the store once, and loaded once a worker. Large
arrays that are arguments of several calls are put once. May import the public API alone.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import FunctionType
from weakref import WeakKeyDictionary, ref

import pyray as ray

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = [
    "Arrays",
    "Functions",
    "cause_of",
    "loaded",
    "placed",
    "placed_by_name",
    "run_call",
    "run_items",
    "run_tuples",
    "size_of",
]

#: Arrays of so many bytes are looked for among arguments, to be put once.
LARGE = 1 << 20
#: A function that captures an array of so many bytes is not kept by workers.
_CAPTURED = 100_000
#: How many functions a worker keeps.
_KEPT = 8


# -- in a worker -----------------------------------------------------------------------------


def run_call(function: Any, args: Any, kwargs: dict[str, Any], *arrays: Any) -> Any:
    """`function(*args, **kwargs)`."""
    if arrays:
        args, kwargs = placed(args, arrays), placed_by_name(kwargs, arrays)
    return loaded(function)(*args, **kwargs)


def run_items(function: Any, items: Iterable[Any], *arrays: Any) -> list[Any]:
    """`function` of each item."""
    if arrays:
        items = placed(items, arrays)
    function = loaded(function)
    return [function(item) for item in items]


def run_tuples(function: Any, items: Iterable[Any], *arrays: Any) -> list[Any]:
    """`function` of the arguments that each item is."""
    if arrays:
        items = (placed(item, arrays) for item in items)
    function = loaded(function)
    return [function(*item) for item in items]


class Once:
    """A function in the store, which a worker loads when it first meets it."""

    __slots__ = ("ref",)

    def __init__(self, ref: Any) -> None:
        self.ref = ref


_functions: OrderedDict[Any, Any] = OrderedDict()


def loaded(function: Any) -> Any:
    """What `Functions` has sent, as the function."""
    if type(function) is not Once:
        return function
    key = function.ref
    try:
        found = _functions[key]
    except KeyError:
        found = _functions[key] = ray.get(key)
        if len(_functions) > _KEPT:
            _functions.popitem(last=False)
    else:
        _functions.move_to_end(key)
    return found


class _Place:
    """Where a large array belongs, that came as an argument of its own."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def placed(values: Iterable[Any], arrays: tuple[Any, ...]) -> list[Any]:
    """`values` with the arrays that `Arrays` has taken out."""
    return [arrays[value.index] if type(value) is _Place else value for value in values]


def placed_by_name(values: dict[str, Any], arrays: tuple[Any, ...]) -> dict[str, Any]:
    """The same for keyword arguments."""
    return dict(zip(values, placed(values.values(), arrays), strict=True))


# -- functions -------------------------------------------------------------------------------


class Functions:
    """How the functions that a pool calls are sent.

    One that is sent by value is as it was when it was first called.
    """

    def __init__(self) -> None:
        self._sent: Any = WeakKeyDictionary()

    def sent(self, function: Callable[..., Any]) -> Any:
        """What to pass as the function of a call.

        Raises:
            TypeError: it cannot be serialized.
        """
        if type(function) is not FunctionType or _importable(function):
            return function
        found = self._sent.get(function)
        if found is None:
            found = ray.put(function)
            if not _captures_arrays(function):
                found = Once(found)
            self._sent[function] = found
        return found

    def sent_once(self, function: Callable[..., Any]) -> Any:
        """The same for a function that many calls share: an object is put, with what it holds."""
        found = self.sent(function)
        if found is function and not _by_name(function):
            return ray.put(function)
        return found


def _importable(function: FunctionType) -> bool:
    module = sys.modules.get(function.__module__)
    if module is None or function.__module__ == "__main__":
        return False
    return getattr(module, function.__qualname__, None) is function


def _by_name(function: Any) -> bool:
    return isinstance(function, (FunctionType, type, type(len)))


def _captures_arrays(function: FunctionType) -> bool:
    known = function.__globals__
    values = [known.get(name) for name in function.__code__.co_names]
    values += function.__defaults__ or ()
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            pass  # not yet set
    return any(size_of(value) > _CAPTURED for value in values)


# -- large arrays ----------------------------------------------------------------------------


def size_of(value: Any) -> int:
    """About how many bytes an argument has, if it is an array or the like."""
    if type(value) in (bytes, bytearray):
        return len(value)
    size = getattr(value, "nbytes", 0)
    return size if type(size) is int else 0


class Arrays:
    """Large arrays among the arguments of calls: one that comes again is put, and sent no more.

    As with joblib's memory maps, an array is not to be changed between two calls that get it.
    """

    def __init__(self) -> None:
        # By id: a weak reference to the array, and one to its object in the store.
        self._seen: dict[int, tuple[Any, Any]] = {}

    def taken_out(self, values: Iterable[Any], found: list[Any]) -> list[Any]:
        """`values` with places in the place of large arrays, whose references `found` gets."""
        return [self._place(value, found) if _is_large(value) else value for value in values]

    def _place(self, array: Any, found: list[Any]) -> Any:
        key, seen = id(array), self._seen
        known, there = seen.get(key, (None, None))
        if known is None or known() is not array:
            seen[key] = ref(array, lambda _: seen.pop(key, None)), None
            return array
        if there is None:
            try:
                there = ray.put(array)
            except ray.exceptions.ObjectStoreFullError:
                return array  # the call waits for room
            seen[key] = known, there
        found.append(there)
        return _Place(len(found) - 1)


def _is_large(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and value.nbytes >= LARGE


# -- failures --------------------------------------------------------------------------------


def cause_of(error: BaseException, trace: Any) -> BaseException:
    """What a call raised in a worker, caused by `trace` of its traceback there.

    What the runtime itself raises is as it is.
    """
    if not isinstance(error, ray.exceptions.RayTaskError):
        return error
    cause: BaseException = error.cause
    cause.__cause__ = trace(f'\n"""\n{error.traceback_str}\n"""')
    return cause
