"""The decoder as a specification that runs: docs/format.md in plain Python.

`reference_parser` checks the message; here its rows become objects, each found by its node and
row alone. This is the oracle of the compiled decoder's tests. May import the other `reference_*`
files, `reduction`, `context` and `errors`.
"""

from __future__ import annotations

import gc
import re
import sys
from contextlib import contextmanager
from pickle import PickleBuffer
from struct import unpack
from typing import TYPE_CHECKING, Any

from . import reduction
from .context import ALWAYS_ALLOWED, use
from .errors import DeserializationError
from .reference_format import Kind, Part, Tag, logger, room_to_recurse
from .reference_parser import Message, Node, check, check_version, describe, fail, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from .context import SerializationContext

__all__ = ["decode_message", "describe"]

#: An honest message repeats a row only where objects that contain themselves are tuples or
#: reductions; a hostile one could lead to one row along very many ways.
_REPEATS = 4
_SLACK = 1000

_DTYPE = re.compile(r"[<>|=]?[biufcmMSUV]\d*(\[[^\]]*\])?")


def decode_message(
    buffer: Any,
    *,
    context: SerializationContext | None = None,
    trusted: bool = True,
    allow: Collection[Any] = (),
    buffers: Iterable[Any] | None = None,
) -> Any:
    """The object of a message.

    `allow` are the globals, themselves or as "module.qualname", that a message which is not
    `trusted` may name. `buffers` are what `buffer_callback` got, in order.

    Raises:
        DeserializationError: the message is malformed or names what is not allowed.
        RecursionError: it is nested deeper than `sys.getrecursionlimit()`.
        Exception: whatever a function that the message calls raised.
    """
    view = memoryview(buffer).cast("B").toreadonly()
    check_version(view)
    if view[0] & 15 != Tag.COLUMNS:
        return _scalar(view[0] & 15, bytes(view[1:]))
    message = parse(view)
    if not trusted:
        _check_allowed(message, allow)
    with room_to_recurse() as limit, _paused_gc(), use(context):
        return Decoder(message, buffers, limit).object()


def _scalar(tag: int, data: bytes) -> Any:
    """Section 1."""
    constants = {Tag.NONE: None, Tag.FALSE: False, Tag.TRUE: True}
    if tag in constants:
        return constants[Tag(tag)]
    if tag == Tag.INT:
        check(bool(data), "an int without bytes")
        return int.from_bytes(data, "little", signed=True)
    if tag == Tag.FLOAT:
        check(len(data) >= 8, "a float that has not 8 bytes")
        return unpack("<d", data[:8])[0]
    if tag == Tag.STR:
        return _string(data)
    if tag == Tag.SURROGATES:
        return _string(data, "surrogatepass")
    if tag == Tag.BYTES:
        return data
    fail(f"unknown tag {tag}")


def _string(data: Any, errors: str = "strict") -> str:
    try:
        return str(data, "utf-8", errors)
    except UnicodeDecodeError as error:
        raise DeserializationError(f"malformed message: {error}") from error


def _check_allowed(message: Message, allow: Collection[Any]) -> None:
    """Refuse a message that names a global which is not allowed, before anything runs."""
    allowed = {".".join(name) for name in ALWAYS_ALLOWED}
    for item in allow:
        allowed.add(item if isinstance(item, str) else ".".join(reduction.global_name(item)))
    for module, qualname in message.globals:
        name = f"{module}.{qualname}"
        if name not in allowed:
            raise DeserializationError(f"the message names {name}, which is not allowed")


@contextmanager
def _paused_gc() -> Iterator[None]:
    """New containers are all alive: looking for garbage among them would cost time only."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Decoder:
    """One message being read."""

    def __init__(self, message: Message, buffers: Iterable[Any] | None, depth_limit: int) -> None:
        self._message = message
        self._out_of_band = None if buffers is None else iter(buffers)
        self._handed_in: list[Any] = []
        self._depth_limit = depth_limit
        self._depth = 0
        self._total_rows = message.total_rows
        self._budget = _REPEATS * self._total_rows + _SLACK
        #: The objects of memo numbers, as far as they exist.
        self._objects: dict[int, Any] = {}
        self._globals: dict[int, Any] = {}
        self._strings: dict[tuple[int, int], str] = {}

    def object(self) -> Any:
        logger.debug("decoding %d rows", self._total_rows)
        return self.decode(0, 0)

    def decode(self, index: int, row: int) -> Any:
        """The object that is this row of this node."""
        number = self._message.memo.get((index, row))
        if number in self._objects:
            return self._objects[number]
        self._spend_row()
        node = self._message.nodes[index]
        decode = _DECODE.get(node.kind)
        if decode is None:
            value = node.values[row]
        elif node.kind in _CONTAINERS:
            self._depth += 1
            if self._depth > self._depth_limit:
                raise RecursionError("maximum recursion depth exceeded while decoding a message")
            value = decode(self, index, row)
            self._depth -= 1
        else:
            value = decode(self, index, row)
        return self._exists(index, row, value)

    def _spend_row(self) -> None:
        self._budget -= 1
        check(self._budget >= 0, "its rows repeat without end")

    def _exists(self, index: int, row: int, obj: Any) -> Any:
        """Say that a row's object exists; returns the one that existed before, if one did."""
        number = self._message.memo.get((index, row))
        return obj if number is None else self._objects.setdefault(number, obj)

    # -- leaves ----------------------------------------------------------------------------

    def _null(self, index: int, row: int) -> None:
        return None

    def _data(self, index: int, row: int) -> memoryview:
        node = self._message.nodes[index]
        return node.data[node.offsets[row] : node.offsets[row + 1]]

    def _utf8(self, index: int, row: int) -> str:
        # Kept, so that all rows of a dictionary which name it are one object.
        if (index, row) not in self._strings:
            self._strings[index, row] = _string(self._data(index, row))
        return self._strings[index, row]

    def _surrogates(self, index: int, row: int) -> str:
        return _string(self._data(index, row), "surrogatepass")

    def _bytes(self, index: int, row: int) -> bytes:
        return bytes(self._data(index, row))

    def _bytearray(self, index: int, row: int) -> bytearray:
        return bytearray(self._data(index, row))

    def _bigint(self, index: int, row: int) -> int:
        return int.from_bytes(self._data(index, row), "little", signed=True)

    # -- rows that lead elsewhere ----------------------------------------------------------

    def _dictionary(self, index: int, row: int) -> str:
        node = self._message.nodes[index]
        return self.decode(node.children[0], node.values[row])

    def _ref(self, index: int, row: int) -> Any:
        number = self._message.nodes[index].values[row]
        if number in self._objects:
            return self._objects[number]
        return self.decode(*self._message.first_row[number])

    def _union(self, index: int, row: int) -> Any:
        node = self._message.nodes[index]
        return self.decode(node.children[node.values[row]], node.offsets[row])

    def _global(self, index: int, row: int) -> Any:
        return self._find_global(self._message.nodes[index].values[row])

    def _find_global(self, index: int) -> Any:
        if index not in self._globals:
            module, qualname = self._message.globals[index]
            try:
                self._globals[index] = reduction.find_global(module, qualname)
            except ValueError as error:  # no module can have such a name
                raise DeserializationError(f"no module is named {module!r}") from error
        return self._globals[index]

    # -- buffers ---------------------------------------------------------------------------

    def _buffer(self, number: int) -> Any:
        """An in-band buffer, read-only, or an out-of-band one as it was handed in."""
        if number >= 0:
            return self._message.buffers[number]
        if self._out_of_band is None:
            raise DeserializationError("the message has out-of-band buffers: pass buffers=")
        # A message has not more buffers than rows that name one.
        check(-number <= self._total_rows, "an out-of-band buffer that cannot be")
        while len(self._handed_in) < -number:
            try:
                self._handed_in.append(next(self._out_of_band))
            except StopIteration:
                raise DeserializationError("not enough out-of-band buffers") from None
        return self._handed_in[-number - 1]

    def _bytes_buffer(self, index: int, row: int) -> bytes:
        return bytes(self._buffer(self._message.nodes[index].values[row]))

    def _bytearray_buffer(self, index: int, row: int) -> bytearray:
        return bytearray(self._buffer(self._message.nodes[index].values[row]))

    def _buffer_view(self, index: int, row: int) -> Any:
        number = self._message.nodes[index].values[row]
        buffer = self._buffer(number)
        if number < 0 and self._message.nodes[index].kind is Kind.BUFFER:
            with memoryview(buffer) as view:
                return buffer if view.readonly else view.toreadonly()
        # A copy, as the `obj` of the view must be these bytes and not the whole message.
        return buffer if number < 0 else memoryview(bytes(buffer))

    def _ndarray(self, index: int, row: int) -> Any:
        import numpy

        tensor = self._message.tensors[self._message.nodes[index].values[row]]
        text = self._message.dtypes[tensor.dtype]
        check(_DTYPE.fullmatch(text) is not None, f"dtype {text!r}")
        try:
            buffer = _bytes_of(self._buffer(tensor.buffer))
            dtype = numpy.dtype(text)
            size = dtype.itemsize
            for length in tensor.shape:
                size *= length
            check(size == buffer.nbytes, "a tensor that does not fill its buffer")
            order: Any = "CF"[tensor.order]
            array: Any = numpy.ndarray(tensor.shape, dtype, buffer, order=order)
        except (BufferError, TypeError, ValueError) as error:
            raise DeserializationError(f"malformed message: no such tensor: {error}") from error
        return array

    # -- containers ------------------------------------------------------------------------

    def _rows(self, node: Node, row: int) -> range:
        return range(node.offsets[row], node.offsets[row + 1])

    def _list(self, index: int, row: int) -> list[Any]:
        node = self._message.nodes[index]
        items: list[Any] = self._exists(index, row, [])
        for child_row in self._rows(node, row):
            items.append(self.decode(node.children[0], child_row))
        return items

    def _tuple(self, index: int, row: int) -> tuple[Any, ...]:
        node = self._message.nodes[index]
        items = []
        for child_row in self._rows(node, row):
            items.append(self.decode(node.children[0], child_row))
        return tuple(items)

    def _set(self, index: int, row: int) -> set[Any]:
        node = self._message.nodes[index]
        items: set[Any] = self._exists(index, row, set())
        for child_row in self._rows(node, row):
            item = self.decode(node.children[0], child_row)
            with _hashing():
                items.add(item)
        return items

    def _frozenset(self, index: int, row: int) -> frozenset[Any]:
        items = self._tuple(index, row)
        with _hashing():
            return frozenset(items)

    def _dict(self, index: int, row: int) -> dict[Any, Any]:
        items: dict[Any, Any] = self._exists(index, row, {})
        for key, value in self._pairs(index, row):
            with _hashing():
                items[key] = value
        return items

    def _pairs(self, index: int, row: int) -> Iterator[tuple[Any, Any]]:
        node = self._message.nodes[index]
        keys, values = node.children
        for child_row in self._rows(node, row):
            yield self.decode(keys, child_row), self.decode(values, child_row)

    def _dict_record(self, index: int, row: int) -> dict[str, Any]:
        node = self._message.nodes[index]
        items: dict[str, Any] = self._exists(index, row, {})
        for name, child in zip(node.names, node.children, strict=True):
            items[name] = self.decode(child, row)
        return items

    def _tuple_record(self, index: int, row: int) -> tuple[Any, ...]:
        items = []
        for child in self._message.nodes[index].children:
            items.append(self.decode(child, row))
        return tuple(items)

    # -- reductions ------------------------------------------------------------------------

    def _instance(self, index: int, row: int) -> Any:
        node = self._message.nodes[index]
        assert node.global_index is not None
        cls = self._find_global(node.global_index)
        check(isinstance(cls, type), f"an instance of {cls!r}, which is no class")
        obj = self._exists(index, row, cls.__new__(cls))
        _set_state(obj, self.decode(node.children[0], row))
        return obj

    def _reduce(self, index: int, row: int) -> Any:
        """Section 4.1."""
        node = self._message.nodes[index]
        parts = [part for part in Part if part & node.parts]
        children = dict(zip(parts, node.children, strict=True))
        if node.global_index is None:
            function = self.decode(children[Part.FUNCTION], row)
        else:
            function = self._find_global(node.global_index)
        arguments = self.decode(children[Part.ARGUMENTS], row)
        check(isinstance(arguments, tuple), "arguments that are no tuple")
        number = self._message.memo.get((index, row))
        if number in self._objects:  # it was made of a copy of itself among its arguments
            return self._objects[number]
        check(callable(function), f"a call of {function!r}")
        obj = self._exists(index, row, function(*arguments))
        if Part.LIST_ITEMS in children:
            _extend(obj, self._new_items(children[Part.LIST_ITEMS], row))
        if Part.DICT_ITEMS in children:
            self._set_items(obj, children[Part.DICT_ITEMS], row)
        if Part.STATE in children:
            state = self.decode(children[Part.STATE], row)
            if Part.SETTER in children and state is not None:
                setter = self.decode(children[Part.SETTER], row)
                check(callable(setter), f"a call of {setter!r}")
                setter(obj, state)
            else:
                _set_state(obj, state)
        return obj

    def _new_items(self, index: int, row: int) -> list[Any]:
        """The list items of a reduction: a list of their own, whatever the memo says."""
        node = self._message.nodes[index]
        if node.kind is Kind.UNION:
            index, row = node.children[node.values[row]], node.offsets[row]
            node = self._message.nodes[index]
        check(node.kind is Kind.LIST, "list items that are no list")
        return [self.decode(node.children[0], child_row) for child_row in self._rows(node, row)]

    def _set_items(self, obj: Any, index: int, row: int) -> None:
        check(self._message.nodes[index].kind is Kind.DICT, "dict items that are no dict")
        for key, value in self._pairs(index, row):
            obj[key] = value


def _bytes_of(buffer: Any) -> memoryview:
    """The memory of a contiguous buffer, in whichever order it is."""
    if isinstance(buffer, memoryview) and buffer.c_contiguous:
        # Never a view that exports another view: CPython 3.11 crashes on cyclic garbage of both.
        return buffer.cast("B")
    return PickleBuffer(buffer).raw()


@contextmanager
def _hashing() -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise DeserializationError(f"malformed message: {error}") from error


def _extend(obj: Any, items: list[Any]) -> None:
    extend = getattr(obj, "extend", None)
    if extend is not None:
        extend(items)
        return
    for item in items:
        obj.append(item)


#: None is a __setstate__ as well, which cannot be called.
_MISSING: Any = object()


def _set_state(obj: Any, state: Any) -> None:
    """What pickle does with a state when there is no setter."""
    if state is None:
        return
    setstate = getattr(obj, "__setstate__", _MISSING)
    if setstate is not _MISSING:
        setstate(state)
        return
    slot_state = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slot_state = state
    if state:
        check(isinstance(state, dict), "a state that is no dict")
        attributes = obj.__dict__
        for name, value in state.items():
            attributes[sys.intern(name) if type(name) is str else name] = value
    if slot_state:
        check(isinstance(slot_state, dict), "a slot state that is no dict")
        for name, value in slot_state.items():
            setattr(obj, name, value)


_CONTAINERS = frozenset(
    {
        Kind.LIST,
        Kind.TUPLE,
        Kind.SET,
        Kind.FROZENSET,
        Kind.DICT,
        Kind.DICT_RECORD,
        Kind.TUPLE_RECORD,
        Kind.INSTANCE,
        Kind.REDUCE,
    }
)
#: How a row of each kind is decoded; the kinds that are missing have their objects in `values`.
_DECODE: dict[Kind, Callable[[Decoder, int, int], Any]] = {
    Kind.NULL: Decoder._null,
    Kind.UTF8: Decoder._utf8,
    Kind.SURROGATES: Decoder._surrogates,
    Kind.BYTES: Decoder._bytes,
    Kind.BYTEARRAY: Decoder._bytearray,
    Kind.BIGINT: Decoder._bigint,
    Kind.DICTIONARY: Decoder._dictionary,
    Kind.REF: Decoder._ref,
    Kind.UNION: Decoder._union,
    Kind.GLOBAL: Decoder._global,
    Kind.BYTES_BUFFER: Decoder._bytes_buffer,
    Kind.BYTEARRAY_BUFFER: Decoder._bytearray_buffer,
    Kind.BUFFER: Decoder._buffer_view,
    Kind.BUFFER_WRITABLE: Decoder._buffer_view,
    Kind.NDARRAY: Decoder._ndarray,
    Kind.LIST: Decoder._list,
    Kind.TUPLE: Decoder._tuple,
    Kind.SET: Decoder._set,
    Kind.FROZENSET: Decoder._frozenset,
    Kind.DICT: Decoder._dict,
    Kind.DICT_RECORD: Decoder._dict_record,
    Kind.TUPLE_RECORD: Decoder._tuple_record,
    Kind.INSTANCE: Decoder._instance,
    Kind.REDUCE: Decoder._reduce,
}
