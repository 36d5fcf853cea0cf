"""What the fuzz target and the replay of its corpus decode with: names, errors, reading of views.

The allow-list holds only what is harmless with any arguments, small in memory too (no `range`, no
`list`, which would make much of little), and some classes that are as unhelpful as a class can be.
"""

from __future__ import annotations

import collections
import copyreg
import datetime
import decimal
import enum
import functools
import gc
import re
import sys
import types
from binascii import crc32
from typing import Any, NamedTuple

import numpy

from pyray.serialization import DeserializationError, _decoder, deserialize, dumps
from pyray.serialization._view import Lazy, LazyDict, LazyIndexed, LazyObject, view

# Messages name this module by this name, whatever it was imported as.
sys.modules["targets"] = sys.modules[__name__]

# Views of the message, of which fuzz_decoder.c reads each byte.
ndarray = numpy.ndarray
Buffer = _decoder.Buffer

# -- classes -------------------------------------------------------------------------------------


class Plain:
    """Attributes in `__dict__`, nothing else."""

    class Inner:
        pass


class Slots:
    __slots__ = ("left", "right")


class SlotsAndDict(Slots):
    pass


class WithState:
    def __setstate__(self, state: Any) -> None:
        self.state = state


class Reduced:
    """Takes every part of a reduction; has `append`, not `extend`."""

    def __init__(self, *content: Any) -> None:
        self.content = list(content)

    def append(self, item: Any) -> None:
        self.content.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.content.append((key, value))

    def __setstate__(self, state: Any) -> None:
        self.content.append(state)


class Eater:
    """Empties whatever it is given, the moment it is given something more."""

    def __init__(self, *victims: Any) -> None:
        self.victims = victims

    def append(self, item: Any) -> None:
        for victim in (*self.victims, item):
            clear(victim)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.append(key)
        self.append(value)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name != "victims":
            self.append(value)

    def __eq__(self, other: object) -> bool:
        self.append(other)
        return False

    def __hash__(self) -> int:
        return 1


class Elsewhere:
    """Its `__new__` does not make instances of it."""

    def __new__(cls, *arguments: Any) -> Any:
        return identity(*arguments) if arguments else Slots()


class Factory:
    """Makes classes, to which a state may be applied."""

    x = 0

    def __new__(cls, *arguments: Any) -> Any:
        return type("Made", (), {})


class Guarded:
    """Attributes with setters of their own, one of which always fails."""

    @property
    def x(self) -> int:
        return 1

    @x.setter
    def x(self, value: Any) -> None:
        self.__dict__["seen"] = value

    @property
    def name(self) -> str:
        raise ValueError("no name")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Guarded, ()


class ListSubclass(list):
    pass


class DictSubclass(dict):
    def __missing__(self, key: Any) -> Any:
        return None


class TupleSubclass(tuple):
    pass


class Point(NamedTuple):
    x: Any
    y: Any


class Color(enum.Enum):
    """Members outlive the message, so they take nothing from it."""

    RED = 1
    GREEN = "green"

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(name)
        object.__setattr__(self, name, value)

    def __setstate__(self, state: Any) -> None:
        pass


class Function:
    """As a function, but without attributes in which one message could leave things for others."""

    __slots__ = ("__qualname__", "call")

    def __init__(self, call: Any) -> None:
        object.__setattr__(self, "__qualname__", call.__name__)
        object.__setattr__(self, "call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def __setstate__(self, state: Any) -> None:
        pass

    def __reduce__(self) -> str:
        return self.__qualname__


LASTING = (type, types.FunctionType, types.BuiltinFunctionType, Function)


@Function
def identity(*arguments: Any) -> Any:
    """The argument, unless it outlives the message: nothing may be set there."""
    return arguments[0] if arguments and not isinstance(arguments[0], LASTING) else None


@Function
def set_content(obj: Any, content: Any) -> None:
    if not isinstance(obj, LASTING):
        obj.content = content


@Function
def clear(victim: Any) -> None:
    if type(victim) in (list, dict, set, bytearray, collections.deque, collections.OrderedDict):
        victim.clear()


OWN = (
    Plain,
    Plain.Inner,
    Slots,
    SlotsAndDict,
    WithState,
    Reduced,
    Eater,
    Elsewhere,
    Factory,
    Guarded,
    ListSubclass,
    DictSubclass,
    TupleSubclass,
    Point,
    Color,
    identity,
    set_content,
    clear,
)
FOREIGN = (
    collections.OrderedDict,
    collections.deque,
    collections.defaultdict,
    collections.Counter,
    datetime.datetime,
    datetime.timedelta,
    decimal.Decimal,
    functools.partial,
    object,
    complex,
    set,
    dict,
    slice,
    ValueError,
    types.SimpleNamespace,
    copyreg.__newobj__,  # type: ignore[attr-defined]
)

#: As text, so that the names do not depend on what this module was imported as.
ALLOW = tuple(f"targets.{item.__qualname__}" for item in OWN) + tuple(
    f"{item.__module__}.{item.__qualname__}" for item in FOREIGN
)

# -- errors --------------------------------------------------------------------------------------

#: What a reader of an untrusted message expects in any case.
EXPECTED = (DeserializationError, EOFError, RecursionError)

#: What a message that names no globals may raise besides: a list as a key of a dict, an out-of-band
#: buffer that cannot be hashed or is not what the message takes it for.
PLAIN_ERRORS = (TypeError, BufferError, ValueError)

#: What none may raise, not even by what it calls.
NEVER = (SystemError, MemoryError, ImportError, UnicodeError)

#: Out-of-band buffers, for messages that have some.
OUT_OF_BAND = [
    bytes(range(64)),
    memoryview(bytearray(64)),
    memoryview(bytes(64)).cast("d"),
    memoryview(bytes(64))[::2],
]

# -- views ---------------------------------------------------------------------------------------


#: Views read of one message, and items read of one view; both to keep runs short.
MOST_VIEWS = 6
MOST_ITEMS = 3
KEYS = ("a", "name", 1, -1, 2**70, 1.5, None, b"a", "\ud800", (1, 2), "x")
PLACES = (0, -1, 1, -2, 2**70, slice(1, -1), slice(None, None, -2), slice(2, 2), slice(1, 99, 3))


#: The dtype of an array whose items have no bytes, of which a message may have any number. Numpy
#: makes a bool for each item of an array that is compared.
NO_BYTES = re.compile(rb"[<>|=][SUV]0*(?![0-9])")


def read_view(source: Any, **options: Any) -> None:
    """Some of what views can do; the message's bytes choose. Errors of steps do not end it."""
    dice = crc32(source)
    compare = NO_BYTES.search(source) is None
    waiting = [view(source, **options)]
    for _ in range(MOST_VIEWS):
        if not waiting:
            break
        lazy = waiting.pop(dice % len(waiting))
        dice = dice * 0x5851F42D4C957F2D + 0x14057B7EF767814F & 0xFFFFFFFFFFFFFFFF
        if isinstance(lazy, Lazy):
            try:
                waiting.extend(read_one(lazy, dice >> 32, compare))
            except NEVER:
                raise
            except Exception:
                pass


def read_one(lazy: Any, dice: int, compare: bool) -> Any:
    """Touch one view, and return what came out of it."""
    action, which = dice & 7, dice >> 3
    if action == 0:
        return (lazy.materialize(),)
    if isinstance(lazy, LazyObject):
        if action == 1:
            repr(lazy)
        lazy.name
        return lazy.arguments, lazy.state, lazy.list_items, lazy.dict_items
    if action == 1:
        return repr(lazy), compare and lazy == lazy.materialize()
    if isinstance(lazy, LazyDict):
        if action < 4:
            return (lazy.get(KEYS[which % len(KEYS)]),)
        return (item for item, _ in zip((lazy.values, lazy.keys)[which & 1](), range(MOST_ITEMS)))
    if action == 2:
        return (compare and KEYS[which % len(KEYS)] in lazy,)
    if action < 6 and isinstance(lazy, LazyIndexed):
        found = lazy[PLACES[which % len(PLACES)]]
        return (found, found.materialize()) if action == 5 and isinstance(found, Lazy) else (found,)
    return (item for item, _ in zip(lazy, range(MOST_ITEMS)))


def warm_up() -> None:
    """Fill caches and import what decoding imports, so that a run's memory is its own."""
    for obj in (numpy.zeros(3), ("x", {"a": [1.5]}, Plain()), Color.RED):
        deserialize(dumps(obj), trusted=False, allow=ALLOW)
        read_view(dumps(obj), trusted=False, allow=ALLOW)
    gc.collect()
    gc.freeze()
