"""Columns under construction, and the message they become: docs/format.md, sections 2 to 7.3.

A `Slot` is a place for a node and decides nothing but which column of its own a row goes to; the
walk that fills slots is `reference_encoder`. May import `reference_format`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import pack
from typing import TYPE_CHECKING, Any, NamedTuple

from .reference_format import (
    BINARY_KINDS,
    LARGE,
    NUMBER_CODES,
    OUT_OF_LINE,
    RECORD_KINDS,
    SEQUENCE_KINDS,
    TENSOR_CODES,
    VERSION,
    Kind,
    Part,
    Tag,
    padding,
    record_padding,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: A node kind and, for some kinds, what else tells two columns of a slot apart (section 7.1).
Key = tuple[Any, ...]

# The second half of a LIST's or a TUPLE's key.
BOOL, INT, FLOAT, STR, OTHER, SHORT = "bool", "int", "float", "str", "other", "short"
_CLASSES: dict[type, str] = {bool: BOOL, int: INT, float: FLOAT, str: STR}

#: The level that a slot of like items gets, and the arguments of a reduction.
RECORD_LEVEL = 3
_MAX_ARITIES = 8
_MAX_ARITY = 16
_MAX_FIELDS = 32
_MAX_SHORT = 7


def class_of(first_item: Any) -> str:
    """The class of a list or long tuple that begins with this item."""
    return _CLASSES.get(type(first_item), OTHER)


# -- columns and slots -----------------------------------------------------------------------


class Column:
    """One node: its rows so far, and the slots of its children."""

    def __init__(self, key: Key, children: list[Slot]) -> None:
        self.key = key
        self.kind: Kind = key[0]
        self.children = children
        self.rows = 0
        #: One a row: a number, an index, or bytes. Unused in kinds that have offsets.
        self.values: list[Any] = []
        #: One a row and one more, for the kinds whose rows are stretches of their child's.
        self.offsets = [0]
        #: UTF8 only: the value that each row is, where each shared string is, and whether a
        #: string was met twice.
        self.indices: list[int] = []
        self.value_of: dict[int, int] = {}
        self.is_dictionary = False

    def close_row(self) -> None:
        """Say that the last row of a sequence ends here."""
        self.offsets.append(self.children[0].rows)


class Union(Column):
    """The node of a slot that got values of more than one key."""

    def __init__(self) -> None:
        super().__init__((Kind.UNION,), [])
        self.members: list[Column] = []
        self.type_ids: list[int] = []
        self.row_of: list[int] = []


class Slot:
    """A place for a node; empty at first (section 7.1)."""

    def __init__(self, level: int | None = None, *, union_at_once: bool = False) -> None:
        #: The record level, None if unset (section 7.2).
        self.level = level
        self.column: Column | None = None
        #: The LIST that got a row last.
        self.last_list: Column | None = None
        self._union_at_once = union_at_once

    @property
    def rows(self) -> int:
        return 0 if self.column is None else self.column.rows

    @property
    def members(self) -> list[Column]:
        """The columns that hold values, in order."""
        if isinstance(self.column, Union):
            return self.column.members
        return [] if self.column is None else [self.column]

    def find(self, key: Key) -> Column | None:
        """The column with this key."""
        return next((member for member in self.members if member.key == key), None)

    def make(self, key: Key) -> int:
        """Give the slot a column of this key; returns how many nodes that took."""
        column = Column(key, _child_slots(key, self.level))
        if self.column is None and not self._union_at_once:
            self.column = column
            return 1
        if isinstance(self.column, Union):
            self.column.members.append(column)
            return 1
        union = Union()
        if self.column is not None:
            union.rows = self.column.rows
            union.members.append(self.column)
            union.type_ids = [0] * union.rows
            union.row_of = list(range(union.rows))
        union.members.append(column)
        self.column = union
        return 2

    def add_row(self, key: Key) -> Column:
        """Begin a row in the column with this key, which exists; its index is `rows - 1`."""
        column = self.find(key)
        assert column is not None
        union = self.column
        if isinstance(union, Union):
            union.type_ids.append(union.members.index(column))
            union.row_of.append(column.rows)
            union.rows += 1
        column.rows += 1
        if column.kind is Kind.LIST:
            self.last_list = column
        return column

    def note_items(self, items: Sequence[Any]) -> None:
        """A row of these items begins here: if the first two are alike, make records of them."""
        if self.level is None and len(items) >= 2 and type(items[0]) is type(items[1]):
            self.level = RECORD_LEVEL


def _child_slots(key: Key, level: int | None) -> list[Slot]:
    """The slots of a column of this key that is made in a slot of this level."""
    kind = key[0]
    if kind is Kind.TUPLE:
        return [Slot(level, union_at_once=key[1] is SHORT)]
    if kind is Kind.DICT:
        return [Slot(level), Slot(level)]
    if kind in SEQUENCE_KINDS or kind is Kind.INSTANCE:
        return [Slot(level)]
    if kind is Kind.TUPLE_RECORD or kind is Kind.DICT_RECORD:
        assert level is not None
        count = key[1] if kind is Kind.TUPLE_RECORD else len(key[1])
        return [Slot(level - 1) for _ in range(count)]
    if kind is Kind.REDUCE:
        argument_level = RECORD_LEVEL if level is None else level
        return [
            Slot(argument_level if part is Part.ARGUMENTS else level)
            for part in Part
            if key[1] & part
        ]
    return []


# -- keys that depend on the slot ------------------------------------------------------------


def list_key(slot: Slot, items: Sequence[Any]) -> Key:
    """The key of a list (section 7.3)."""
    if not items:
        return (Kind.LIST, OTHER) if slot.last_list is None else slot.last_list.key
    key = (Kind.LIST, class_of(items[0]))
    if slot.find(key) is None:
        # A column that has seen only empty lists has not chosen its class yet.
        for member in slot.members:
            if member.kind is Kind.LIST and not member.children[0].rows:
                member.key = key
                break
    return key


def tuple_key(slot: Slot, items: tuple[Any, ...]) -> Key:
    """The key of a tuple (sections 7.1 and 7.2)."""
    if slot.level and 1 <= len(items) <= _MAX_ARITY:
        key = (Kind.TUPLE_RECORD, len(items))
        arities = sum(member.kind is Kind.TUPLE_RECORD for member in slot.members)
        if slot.find(key) is not None or arities < _MAX_ARITIES:
            return key
    return (Kind.TUPLE, SHORT if len(items) <= _MAX_SHORT else class_of(items[0]))


def dict_key(slot: Slot, keys: tuple[Any, ...]) -> Key:
    """The key of a dict with these keys (section 7.2)."""
    if slot.level and 1 <= len(keys) <= _MAX_FIELDS and all(map(_is_field_name, keys)):
        key = (Kind.DICT_RECORD, keys)
        if slot.find(key) is not None:
            return key
        if not any(member.kind is Kind.DICT_RECORD for member in slot.members):
            return key
    return (Kind.DICT,)


def _is_field_name(key: Any) -> bool:
    return type(key) is str and is_utf8(key)


def is_utf8(text: str) -> bool:
    """Whether a str has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- scalars ---------------------------------------------------------------------------------


def int_bytes(value: int) -> bytes:
    """Two's complement, as short as the format has it."""
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def scalar_message(obj: Any) -> bytes | None:
    """The whole message of an object that needs no columns, None for any other (section 1)."""
    cls = type(obj)
    if obj is None:
        return _tagged(Tag.NONE)
    if cls is bool:
        return _tagged(Tag.TRUE if obj else Tag.FALSE)
    if cls is int:
        return _tagged(Tag.INT, int_bytes(obj))
    if cls is float:
        return _tagged(Tag.FLOAT, pack("<d", obj))
    if cls is str:
        if is_utf8(obj):
            return _tagged(Tag.STR, obj.encode())
        return _tagged(Tag.SURROGATES, obj.encode(errors="surrogatepass"))
    if cls is bytes and len(obj) < OUT_OF_LINE:
        return _tagged(Tag.BYTES, obj)
    return None


def _tagged(tag: Tag, rest: bytes = b"") -> bytes:
    return bytes([VERSION << 4 | tag]) + rest


# -- from columns to nodes -------------------------------------------------------------------


class Node(NamedTuple):
    """A finished node (section 4): what the description says of it, and its columns."""

    kind: int  # with the LARGE bit
    rows: int
    extras: bytes
    columns: list[bytes]
    children: list[Any]  # Column, or None for a slot that is empty, or Node
    column: Column | None  # whose memo entries name this node


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: str) -> bytes:
    data = value.encode()
    return varint(len(data)) + data


def numbers(code: str, values: Sequence[Any]) -> bytes:
    """Little-endian values of one struct code."""
    return pack(f"<{len(values)}{code}", *values)


def _offsets(kind: Kind, values: Sequence[int]) -> tuple[int, bytes]:
    """The kind byte and the offsets column: 64 bits wide only if some offset needs it."""
    if max(values, default=0) < 2**31:
        return kind, numbers("i", values)
    return kind | LARGE, numbers("q", values)


def node_of(column: Column | None) -> Node:
    """The node that a slot's column becomes."""
    if column is None:
        return Node(Kind.NULL, 0, b"", [b""], [], None)
    if isinstance(column, Union):
        return _union_node(column)
    kind = column.kind
    if kind is Kind.UTF8:
        return _string_node(column)
    if kind in BINARY_KINDS:
        return _binary_node(column, column.values)
    if kind in SEQUENCE_KINDS:
        kind_byte, offsets = _offsets(kind, column.offsets)
        return Node(kind_byte, column.rows, b"", [offsets], _children(column), column)
    if kind is Kind.INT64:
        kind = narrowest(column.values)
    if kind in NUMBER_CODES:
        data = numbers(NUMBER_CODES[kind], column.values)
    elif kind is Kind.COMPLEX128:
        data = numbers("d", [half for z in column.values for half in (z.real, z.imag)])
    elif kind is Kind.BOOL:
        data = _bitmap(column.values)
    elif kind is Kind.NULL:
        data = bytes((column.rows + 7) // 8)
    else:  # records, INSTANCE and REDUCE have no column of their own
        return Node(kind, column.rows, _extras(column.key), [], _children(column), column)
    return Node(kind, column.rows, b"", [data], [], column)


def _children(column: Column) -> list[Any]:
    return [slot.column for slot in column.children]


def _extras(key: Key) -> bytes:
    kind = key[0]
    if kind is Kind.DICT_RECORD:
        return varint(len(key[1])) + b"".join(map(text, key[1]))
    if kind is Kind.REDUCE:
        return bytes([key[1]]) + varint(0 if key[2] is None else key[2] + 1)
    return varint(key[1])  # the arity of a TUPLE_RECORD, the global of an INSTANCE


def _union_node(union: Union) -> Node:
    kind_byte, offsets = _offsets(Kind.UNION, union.row_of)
    columns = [numbers("b", union.type_ids), offsets]
    extras = varint(len(union.members))
    return Node(kind_byte, union.rows, extras, columns, list(union.members), None)


def _binary_node(column: Column, values: list[bytes]) -> Node:
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value))
    kind_byte, packed = _offsets(column.kind, offsets)
    columns = [packed, b"".join(values)]
    return Node(kind_byte, len(values), varint(offsets[-1]), columns, [], column)


def _string_node(column: Column) -> Node:
    """UTF8, or DICTIONARY over it if a string was met twice (section 7.4)."""
    values = _binary_node(column, column.values)
    if not column.is_dictionary:
        return values
    indices = numbers(NUMBER_CODES[Kind.DICTIONARY], column.indices)
    return Node(Kind.DICTIONARY, column.rows, b"", [indices], [values], None)


def narrowest(values: Sequence[int]) -> Kind:
    """The first of INT8 to INT64 that holds all values."""
    low, high = min(values), max(values)
    for kind, bits in ((Kind.INT8, 8), (Kind.INT16, 16), (Kind.INT32, 32)):
        if -(1 << bits - 1) <= low and high < 1 << bits - 1:
            return kind
    return Kind.INT64


def _bitmap(values: Sequence[bool]) -> bytes:
    bits = bytearray((len(values) + 7) // 8)
    for row, value in enumerate(values):
        bits[row // 8] |= value << row % 8
    return bytes(bits)


# -- from nodes to bytes ---------------------------------------------------------------------


@dataclass
class Tables:
    """What a message holds beside its nodes (sections 3, 5 and 6)."""

    globals: list[tuple[str, str]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    #: Buffer index, dtype index, order and shape of each tensor.
    tensors: list[tuple[int, int, int, tuple[int, ...]]] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=list)
    #: Column, row in it, memo number.
    memo: list[tuple[Column, int, int]] = field(default_factory=list)


def columns_message(root: Slot, tables: Tables) -> bytes:
    """The whole message (section 2)."""
    nodes, index_of = _breadth_first(root)
    description = _description(nodes, tables)
    columns = [column for node in nodes for column in node.columns]
    columns += _tensor_columns(tables)
    columns += _buffer_columns(tables)
    columns += _memo_columns(tables, index_of)

    body = bytearray(bytes(16) + description)
    _pad(body, 8)
    for column in columns:
        body += column
        _pad(body, 8)
    record_rows = sum(node.rows for node in nodes if node.kind in RECORD_KINDS)
    body += bytes(record_padding(len(body), record_rows))
    if tables.buffers:
        _pad(body, 64)
        for buffer in tables.buffers:
            body += buffer
            _pad(body, 64)
    body[:16] = pack("<BBHIQ", VERSION << 4 | Tag.COLUMNS, 0, 0, len(description), len(body))
    return bytes(body)


def _pad(body: bytearray, alignment: int) -> None:
    body += bytes(padding(len(body), alignment))


def _breadth_first(root: Slot) -> tuple[list[Node], dict[int, int]]:
    """The nodes in the order of the message, and each column's place among them."""
    nodes: list[Node] = []
    index_of: dict[int, int] = {}
    queue: list[Any] = [root.column]
    for item in queue:  # which grows meanwhile
        node = item if isinstance(item, Node) else node_of(item)
        if node.column is not None:
            index_of[id(node.column)] = len(nodes)
        nodes.append(node)
        queue.extend(node.children)
    return nodes, index_of


def _description(nodes: list[Node], tables: Tables) -> bytes:
    counts = (
        len(nodes),
        len(tables.globals),
        len(tables.dtypes),
        len(tables.tensors),
        sum(len(shape) for *_, shape in tables.tensors),
        len(tables.buffers),
        len(tables.memo),
    )
    parts: list[bytes] = [varint(count) for count in counts]
    parts += [bytes([node.kind]) + varint(node.rows) + node.extras for node in nodes]
    parts += [text(module) + text(qualname) for module, qualname in tables.globals]
    parts += [text(dtype) for dtype in tables.dtypes]
    return b"".join(parts)


def _tensor_columns(tables: Tables) -> Iterable[bytes]:
    if not tables.tensors:
        return []
    shape_offsets = [0]
    for *_, shape in tables.tensors:
        shape_offsets.append(shape_offsets[-1] + len(shape))
    columns = {
        "buffer": [tensor[0] for tensor in tables.tensors],
        "dtype": [tensor[1] for tensor in tables.tensors],
        "order": [tensor[2] for tensor in tables.tensors],
        "shape_offsets": shape_offsets,
        "shapes": [size for *_, shape in tables.tensors for size in shape],
    }
    return [numbers(code, columns[name]) for name, code in TENSOR_CODES.items()]


def _buffer_columns(tables: Tables) -> Iterable[bytes]:
    position, positions = 0, []
    for buffer in tables.buffers:
        positions.append(position)
        position += len(buffer)
        position += padding(position, 64)
    return [numbers("q", positions), numbers("q", [len(buffer) for buffer in tables.buffers])]


def _memo_columns(tables: Tables, index_of: dict[int, int]) -> Iterable[bytes]:
    entries = sorted((index_of[id(column)], row, number) for column, row, number in tables.memo)
    nodes, rows, memo_numbers = zip(*entries, strict=True) if entries else ((), (), ())
    return [numbers("i", nodes), numbers("q", rows), numbers("i", memo_numbers)]
