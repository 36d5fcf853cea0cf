"""The encoder as a specification that runs: docs/format.md, section 7, in plain Python.

One depth-first walk puts every object it meets into a slot; `reference_columns` makes the bytes.
This is the oracle of the compiled encoder's tests, and the debugging backend, which logs what it
enters. May import the other `reference_*` files, `reduction`, `context` and `errors`.
"""

from __future__ import annotations

import copyreg
import logging
import reprlib
import sys
from collections import deque
from dataclasses import dataclass
from pickle import PickleBuffer
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import reduction
from .errors import PicklingError
from .reference_columns import (
    Column,
    Key,
    Slot,
    Tables,
    columns_message,
    dict_key,
    int_bytes,
    is_utf8,
    list_key,
    scalar_message,
    tuple_key,
)
from .reference_format import DTYPE_KINDS, OUT_OF_LINE, Kind, Part, logger, room_to_recurse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from .context import SerializationContext

__all__ = ["encode_message"]

#: From this many columns on, a container that needs another one is deferred (section 7.6).
MANY_COLUMNS = 1024
#: From this many members on, a UNION gets no more columns of one class or function (section 7.5).
MANY_MEMBERS = 40
#: NumPy's own types have smaller numbers than those that other packages add to it.
_NUMPY_TYPES = 24


def encode_message(
    obj: Any,
    *,
    context: SerializationContext | None = None,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
) -> bytes:
    """The message of an object.

    Raises:
        PicklingError, TypeError: some object in it cannot be serialized; the text says which.
        RecursionError: it is nested deeper than `sys.getrecursionlimit()`.
        Exception: whatever a reduction raised, with a note of the object's path.
    """
    message = scalar_message(obj)
    if message is not None:
        return message
    reduction.begin_message()
    try:
        with room_to_recurse() as limit:
            return Encoder(context, buffer_callback, limit).message(obj)
    finally:
        reduction.end_message()


# -- the way to an object --------------------------------------------------------------------


class Step(NamedTuple):
    """One step from a container to what is in it; put into words only when somebody reads it."""

    kind: str
    what: Any = None


_WORDS = {"value": "[{}]", "item": "[{}]", "key": ".key({})", "member": ".<item {}>"}


def path_text(path: Sequence[Step]) -> str:
    """`obj.workers[2].lock` and the like."""
    words = ["obj"]
    position = 0
    while position < len(path):
        step = path[position]
        taken = _attribute_steps(path, position)
        if taken:
            words.append(f".{path[position + taken - 1].what}")
        else:
            words.append(_WORDS.get(step.kind, f".<{step.kind}>").format(_brief(step.what)))
        position += taken or 1
    return "".join(words)


def _attribute_steps(path: Sequence[Step], start: int) -> int:
    """How many steps from `start` on are one attribute of an instance; 0 if they are not.

    That is a name in its state, or in the first or second half of its state if that has slots.
    """
    if path[start].kind != "state":
        return 0
    for position in (start + 1, start + 2):
        if position == len(path):
            break
        step = path[position]
        if step.kind == "value" and type(step.what) is str and step.what.isidentifier():
            return position + 1 - start
        if step.kind != "item":
            break
    return 0


def _brief(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except Exception:  # somebody else's __repr__
        return f"<{type_name(value)}>"


def type_name(obj: Any) -> str:
    cls = type(obj)
    return cls.__qualname__ if cls.__module__ == "builtins" else _full_name(cls)


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class _Naming:
    """While the code of an object runs: an error that leaves it gets the path of the object."""

    def __init__(self, encoder: Encoder, obj: Any) -> None:
        self._encoder = encoder
        self._obj = obj

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, RecursionError):
            return
        place = f"cannot serialize {type_name(self._obj)!r} at {path_text(self._encoder.path)}"
        if type(error) in (TypeError, PicklingError):
            raise type(error)(f"{place}: {error}") from error
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(place)


# -- what the walk remembers -----------------------------------------------------------------


@dataclass
class Known:
    """An object that was met and may be met again (section 7.4)."""

    obj: Any  # kept alive: its id is its key
    #: Column and row (of a string: value) that references lead to, once there is one.
    home: tuple[Column, int] | None = None
    number: int | None = None
    #: Deferred, and its turn has not come.
    waiting: bool = False
    #: Its row was begun, so that it must not be deferred any more.
    begun: bool = False


class Reduction(NamedTuple):
    """What an object is made of, as `reduction.check_reduce_value` returns it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    state: Any
    list_items: Iterable[Any] | None
    dict_items: Iterable[tuple[Any, Any]] | None
    setter: Callable[[Any, Any], Any] | None

    @property
    def parts(self) -> Part:
        """The parts that are put beside the function."""
        parts = Part.ARGUMENTS
        if self.list_items is not None:
            parts |= Part.LIST_ITEMS
        if self.dict_items is not None:
            parts |= Part.DICT_ITEMS
        if self.state is not None:
            parts |= Part.STATE
            if self.setter is not None:
                parts |= Part.SETTER
        return parts

    def is_new_object(self) -> bool:
        """Whether it says: an empty instance of a class, and its state."""
        if self.function is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return False
        others = (self.list_items, self.dict_items, self.setter)
        return len(self.arguments) == 1 and others == (None, None, None)


class Deferred(NamedTuple):
    """An object that waits for its row in the root slot (section 7.6)."""

    obj: Any
    reduction: Reduction | None
    path: list[Step]


# -- the walk --------------------------------------------------------------------------------


class Encoder:
    """One message being written."""

    def __init__(
        self,
        context: SerializationContext | None,
        buffer_callback: Callable[[PickleBuffer], Any] | None,
        depth_limit: int,
    ) -> None:
        self.context = context
        self.buffer_callback = buffer_callback
        self.depth_limit = depth_limit
        self.root = Slot()
        self.tables = Tables()
        self.path: list[Step] = []
        #: The containers whose rows are being filled, outermost first.
        self.open: list[Known] = []
        self.queue: deque[Deferred] = deque()
        self.has_deferred = False
        self.memo: dict[int, Known] = {}
        self.keep_alive: list[Any] = []
        self.n_columns = 0
        self.n_rows = 0
        self.n_numbers = 0
        self.n_out_of_band = 0
        self.global_indices: dict[tuple[str, str], int] = {}
        self.dtype_indices: dict[str, int] = {}
        #: id of a function or class -> index of the global, None if it goes by value.
        self.named: dict[int, int | None] = {}

    def message(self, obj: Any) -> bytes:
        self.put(self.root, obj)
        while self.queue:
            deferred = self.queue.popleft()
            self.path = deferred.path
            self.open.clear()
            self.known(deferred.obj).waiting = False
            if deferred.reduction is None:
                _PUT[type(deferred.obj)](self, self.root, deferred.obj, False)
            else:
                self.put_reduction(self.root, deferred.obj, deferred.reduction, False)
        return columns_message(self.root, self.tables)

    def put(self, slot: Slot, obj: Any, step: Step | None = None, may_defer: bool = True) -> None:
        """Give `slot` a row that is `obj`."""
        if step is not None:
            self.path.append(step)
        if len(self.path) > self.depth_limit:
            raise RecursionError("maximum recursion depth exceeded while serializing an object")
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s: %s, after %d rows", path_text(self.path), type_name(obj), self.n_rows)
        n_open = len(self.open)
        _PUT.get(type(obj), Encoder.put_other)(self, slot, obj, may_defer)
        del self.open[n_open:]
        if step is not None:
            self.path.pop()

    def add_row(self, slot: Slot, key: Key) -> Column:
        """Begin a row in the slot's column of this key, which is made if there is none."""
        if slot.find(key) is None:
            self.n_columns += slot.make(key)
        self.n_rows += 1
        return slot.add_row(key)

    # -- references ------------------------------------------------------------------------

    def known(self, obj: Any) -> Known:
        return self.memo.setdefault(id(obj), Known(obj))

    def refer(self, slot: Slot, obj: Any) -> bool:
        """Put a reference, if the object is one that can be referred to by now."""
        known = self.memo.get(id(obj))
        if known is None or (known.home is None and not known.waiting):
            return False
        self.add_row(slot, (Kind.REF,)).values.append(self.number(known))
        if self.has_deferred:
            self.number_open()
        return True

    def number_open(self) -> None:
        """Number what a reader that comes here again must not make again (section 7.6)."""
        for known in self.open:
            if known.home is not None:
                self.number(known)

    def number(self, known: Known) -> int:
        """The object's memo number, given now if it has none."""
        if known.number is None:
            known.number = self.n_numbers
            self.n_numbers += 1
            if known.home is not None:
                self.tables.memo.append((*known.home, known.number))
        return known.number

    def remember(self, obj: Any, column: Column, row: int | None = None) -> None:
        """Say that the object is this row (by default the column's last), maybe among others."""
        place = column, column.rows - 1 if row is None else row
        known = self.known(obj)
        if known.home is None:
            known.home = place
            if known.number is not None:
                self.tables.memo.append((*place, known.number))
        else:
            self.tables.memo.append((*place, self.number(known)))

    def container(
        self,
        slot: Slot,
        obj: Any,
        key: Key,
        may_defer: bool,
        reduction: Reduction | None = None,
    ) -> Column | None:
        """Begin the row of an object that holds others; None if it was deferred instead."""
        known = self.known(obj)
        if (
            may_defer
            and self.n_columns >= MANY_COLUMNS
            and slot is not self.root
            and not known.begun
            and slot.find(key) is None
        ):
            known.waiting = self.has_deferred = True
            self.queue.append(Deferred(obj, reduction, self.path.copy()))
            self.refer(slot, obj)
            return None
        known.begun = True
        self.open.append(known)
        return self.add_row(slot, key)

    # -- values without children -----------------------------------------------------------

    def put_none(self, slot: Slot, obj: None, _: bool) -> None:
        self.add_row(slot, (Kind.NULL,))

    def put_number(self, slot: Slot, obj: Any, _: bool) -> None:
        self.add_row(slot, (_NUMBER_KINDS[type(obj)],)).values.append(obj)

    def put_int(self, slot: Slot, obj: int, _: bool) -> None:
        if -(2**63) <= obj < 2**63:
            self.add_row(slot, (Kind.INT64,)).values.append(obj)
        else:
            self.add_row(slot, (Kind.BIGINT,)).values.append(int_bytes(obj))

    def put_str(self, slot: Slot, obj: str, _: bool) -> None:
        if not is_utf8(obj):
            self.put_leaf(slot, obj, Kind.SURROGATES, obj.encode(errors="surrogatepass"))
            return
        column = self.add_row(slot, (Kind.UTF8,))
        value = column.value_of.get(id(obj))
        if value is not None:
            column.is_dictionary = True
        else:
            value = len(column.values)
            column.values.append(obj.encode())
            if not _is_never_shared(obj):
                column.value_of[id(obj)] = value
                self.remember(obj, column, value)
        column.indices.append(value)

    def put_bytes(self, slot: Slot, obj: bytes | bytearray, _: bool) -> None:
        small, large = _BYTES_KINDS[type(obj)]
        if len(obj) < OUT_OF_LINE:
            self.put_leaf(slot, obj, small, bytes(obj))
        elif not self.refer(slot, obj):
            self.put_leaf(slot, obj, large, self.in_band(obj))

    def put_leaf(self, slot: Slot, obj: Any, kind: Kind, value: Any) -> None:
        """Put a value that is one entry of its column."""
        if _is_never_shared(obj):
            self.add_row(slot, (kind,)).values.append(value)
        elif not self.refer(slot, obj):
            column = self.add_row(slot, (kind,))
            column.values.append(value)
            self.remember(obj, column)

    # -- buffers ---------------------------------------------------------------------------

    def put_buffer(self, slot: Slot, obj: PickleBuffer, _: bool) -> None:
        if self.refer(slot, obj):
            return
        with _Naming(self, obj), memoryview(obj) as view:
            if not view.contiguous:
                raise PicklingError(
                    "PickleBuffer can not be pickled when pointing to a non-contiguous buffer"
                )
            kind = Kind.BUFFER if view.readonly else Kind.BUFFER_WRITABLE
            index = self.offer(obj)
        self.put_leaf(slot, obj, kind, index)

    def put_ndarray(self, slot: Slot, obj: Any, may_defer: bool) -> None:
        if self.refer(slot, obj):
            return
        contiguous = obj if obj.flags.forc else obj.copy("C")
        order = int(not contiguous.flags.c_contiguous)
        # NumPy exports no buffer of dates.
        exported = contiguous.view("i8") if obj.dtype.kind in "mM" else contiguous
        with _Naming(self, obj):
            buffer = self.offer(PickleBuffer(exported))
        dtype = obj.dtype.str
        if dtype not in self.dtype_indices:
            self.dtype_indices[dtype] = len(self.tables.dtypes)
            self.tables.dtypes.append(dtype)
        self.tables.tensors.append((buffer, self.dtype_indices[dtype], order, obj.shape))
        self.put_leaf(slot, obj, Kind.NDARRAY, len(self.tables.tensors) - 1)

    def offer(self, buffer: PickleBuffer) -> int:
        """The index of a buffer that the callback may take out of band."""
        if self.buffer_callback is not None and not self.buffer_callback(buffer):
            self.n_out_of_band += 1
            return -self.n_out_of_band
        return self.in_band(buffer.raw())

    def in_band(self, data: bytes | bytearray | memoryview) -> int:
        self.tables.buffers.append(bytes(data))
        return len(self.tables.buffers) - 1

    # -- containers ------------------------------------------------------------------------

    def put_list(self, slot: Slot, obj: list[Any], may_defer: bool) -> None:
        if self.refer(slot, obj):
            return
        items = self.keep(tuple(obj))
        column = self.container(slot, obj, list_key(slot, items), may_defer)
        if column is not None:
            self.remember(obj, column)
            self.put_items(column, items)
            _check_size("list", obj, items)

    def put_tuple(self, slot: Slot, obj: tuple[Any, ...], may_defer: bool) -> None:
        if not obj:
            self.add_row(slot, tuple_key(slot, obj)).close_row()
            return
        if self.refer(slot, obj):
            return
        column = self.container(slot, obj, tuple_key(slot, obj), may_defer)
        if column is None:
            return
        if column.kind is Kind.TUPLE_RECORD:
            for position, (child, item) in enumerate(zip(column.children, obj, strict=True)):
                self.put(child, item, Step("item", position))
        else:
            self.put_items(column, obj)
        self.remember(obj, column)

    def put_set(self, slot: Slot, obj: set[Any] | frozenset[Any], may_defer: bool) -> None:
        if self.refer(slot, obj):
            return
        kind = _SET_KINDS[type(obj)]
        column = self.container(slot, obj, (kind,), may_defer)
        if column is None:
            return
        if kind is Kind.SET:
            self.remember(obj, column)
        items = self.keep(tuple(obj))
        self.put_items(column, items, "member")
        _check_size("set", obj, items)
        if kind is Kind.FROZENSET:
            self.remember(obj, column)

    def put_dict(self, slot: Slot, obj: dict[Any, Any], may_defer: bool) -> None:
        if self.refer(slot, obj):
            return
        keys, values = self.keep((tuple(obj), tuple(obj.values())))
        column = self.container(slot, obj, dict_key(slot, keys), may_defer)
        if column is None:
            return
        self.remember(obj, column)
        if column.kind is Kind.DICT_RECORD:
            for name, child, value in zip(keys, column.children, values, strict=True):
                self.put(child, value, Step("value", name))
        else:
            self.put_pairs(column, keys, values)
        _check_size("dictionary", obj, keys)

    def put_items(self, column: Column, items: tuple[Any, ...], step: str = "item") -> None:
        """The children of a row of a list, tuple or set."""
        slot = column.children[0]
        slot.note_items(items)
        for position, item in enumerate(items):
            self.put(slot, item, Step(step, position))
        column.close_row()

    def put_pairs(self, column: Column, keys: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        """The children of a row of a dict."""
        key_slot, value_slot = column.children
        key_slot.note_items(keys)
        value_slot.note_items(values)
        for key, value in zip(keys, values, strict=True):
            self.put(key_slot, key, Step("key", key))
            self.put(value_slot, value, Step("value", key))
        column.close_row()

    # -- reductions and globals ------------------------------------------------------------

    def put_other(self, slot: Slot, obj: Any, may_defer: bool) -> None:
        """Put an object that has no column of its own, or an array."""
        array_type = getattr(sys.modules.get("numpy"), "ndarray", None)
        if type(obj) is array_type and _is_tensor_dtype(obj.dtype):
            self.put_ndarray(slot, obj, may_defer)
        elif not self.refer(slot, obj):
            reduced = self.reduce(obj)
            if isinstance(reduced, int):
                self.add_row(slot, (Kind.GLOBAL,)).values.append(reduced)
            else:
                self.put_reduction(slot, obj, reduced, may_defer)

    def reduce(self, obj: Any) -> int | Reduction:
        """Ask what the object is: the index of a global, or a reduction."""
        with _Naming(self, obj):
            rv = self.keep(reduction.reduce(obj, self.context))
            if isinstance(rv, str):
                return self.global_index(reduction.global_name(obj, rv))
            return Reduction(*self.keep(reduction.check_reduce_value(obj, rv)))

    def global_index(self, name: tuple[str, str]) -> int:
        if name not in self.global_indices:
            self.global_indices[name] = len(self.tables.globals)
            self.tables.globals.append(name)
        return self.global_indices[name]

    def global_of(self, obj: Any) -> int | None:
        """The index of a function or class that is found by name, None for all else."""
        if not _is_function_or_class(obj):
            return None
        if id(obj) not in self.named:
            reduced = self.reduce(self.keep(obj))
            self.named[id(obj)] = reduced if isinstance(reduced, int) else None
        return self.named[id(obj)]

    def put_reduction(self, slot: Slot, obj: Any, made: Reduction, may_defer: bool) -> None:
        column = self.container(slot, obj, self.reduction_key(slot, made), may_defer, made)
        if column is None:
            return
        if column.kind is Kind.INSTANCE:
            self.remember(obj, column)
            self.put(column.children[0], made.state, Step("state"))
        else:
            self.put_parts(column, obj, made)

    def reduction_key(self, slot: Slot, made: Reduction) -> Key:
        """INSTANCE or REDUCE, and of which class or function (section 7.5)."""
        key: Key | None = None
        if made.is_new_object():
            index = self.global_of(made.arguments[0])
            if index is not None:
                key = (Kind.INSTANCE, index)
        if key is None:
            index = self.global_of(made.function)
            if index is not None:
                key = (Kind.REDUCE, made.parts, index)
        if key is not None and (len(slot.members) < MANY_MEMBERS or slot.find(key) is not None):
            return key
        return (Kind.REDUCE, made.parts | Part.FUNCTION, None)

    def put_parts(self, column: Column, obj: Any, made: Reduction) -> None:
        """The children of a REDUCE row, in their order."""
        parts = [part for part in Part if part & column.key[1]]
        slots = dict(zip(parts, column.children, strict=True))
        if Part.FUNCTION in slots:
            self.put(slots[Part.FUNCTION], made.function, Step("function"))
        self.put(slots[Part.ARGUMENTS], made.arguments, Step("arguments"), may_defer=False)
        self.remember(obj, column)
        if made.list_items is not None:
            self.put_list_items(slots[Part.LIST_ITEMS], obj, made.list_items)
        if made.dict_items is not None:
            self.put_dict_items(slots[Part.DICT_ITEMS], obj, made.dict_items)
        if Part.STATE in slots:
            self.put(slots[Part.STATE], made.state, Step("state"))
        if Part.SETTER in slots:
            self.put(slots[Part.SETTER], made.setter, Step("setter"))

    def put_list_items(self, slot: Slot, obj: Any, iterator: Iterable[Any]) -> None:
        with _Naming(self, obj):
            items = self.keep(tuple(iterator))
        self.put_items(self.add_row(slot, list_key(slot, items)), items)

    def put_dict_items(self, slot: Slot, obj: Any, iterator: Iterable[tuple[Any, Any]]) -> None:
        with _Naming(self, obj):
            pairs = self.keep(tuple(iterator))
            if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
                raise TypeError("dict items iterator must return 2-tuples")
        keys, values = tuple(key for key, _ in pairs), tuple(value for _, value in pairs)
        self.put_pairs(self.add_row(slot, (Kind.DICT,)), keys, values)

    def keep(self, obj: Any) -> Any:
        """Keep a temporary object alive, so that no other gets its id; returns it."""
        self.keep_alive.append(obj)
        return obj


def _is_function_or_class(obj: Any) -> bool:
    """Whether it is something that a reduction may name as a global (section 7.5)."""
    cls = type(obj)
    # Each of Cython's modules may have a type of functions of its own.
    is_cython = cls.__name__ == "cython_function_or_method"
    return is_cython or issubclass(cls, (FunctionType, BuiltinFunctionType, type))


def _is_never_shared(obj: Any) -> bool:
    """Whether it is a string or bytes that may exist once only, whoever made it."""
    return (type(obj) is bytes and not obj) or (type(obj) is str and len(obj) < 2)


def _check_size(what: str, obj: Collection[Any], items: Collection[Any]) -> None:
    """Refuse a container that the code of something in it has changed meanwhile."""
    if len(obj) != len(items):
        raise RuntimeError(f"{what} changed size during iteration")


def _is_tensor_dtype(dtype: Any) -> bool:
    """Whether the dtype's text says all of it (section 5)."""
    return (
        dtype.kind in DTYPE_KINDS
        and dtype.num < _NUMPY_TYPES
        and not dtype.hasobject
        and dtype.fields is None
        and dtype.subdtype is None
        and dtype.metadata is None
    )


_NUMBER_KINDS = {bool: Kind.BOOL, float: Kind.FLOAT64, complex: Kind.COMPLEX128}
_BYTES_KINDS = {
    bytes: (Kind.BYTES, Kind.BYTES_BUFFER),
    bytearray: (Kind.BYTEARRAY, Kind.BYTEARRAY_BUFFER),
}
_SET_KINDS = {set: Kind.SET, frozenset: Kind.FROZENSET}
_PUT: dict[type, Callable[[Encoder, Slot, Any, bool], None]] = {
    type(None): Encoder.put_none,
    bool: Encoder.put_number,
    float: Encoder.put_number,
    complex: Encoder.put_number,
    int: Encoder.put_int,
    str: Encoder.put_str,
    bytes: Encoder.put_bytes,
    bytearray: Encoder.put_bytes,
    PickleBuffer: Encoder.put_buffer,
    list: Encoder.put_list,
    tuple: Encoder.put_tuple,
    set: Encoder.put_set,
    frozenset: Encoder.put_set,
    dict: Encoder.put_dict,
}
