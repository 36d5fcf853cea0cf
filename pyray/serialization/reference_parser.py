"""Parsing a columns message: docs/format.md, sections 2 to 6, with every check that a reader needs.

What `parse` returns has been checked completely: offsets, type ids, indices and shapes lead
nowhere but into the message. May import `reference_format` and `errors`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from struct import calcsize, unpack_from
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import DeserializationError
from .reference_format import (
    BINARY_KINDS,
    LARGE,
    NUMBER_CODES,
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
    from collections.abc import Iterator

__all__ = ["Message", "Node", "Tensor", "check_version", "describe", "fail", "parse"]

_PREFIX = 16
_MAX_MEMBERS = 127
_ALL_PARTS = sum(Part)
#: Kinds whose rows only lead to an object that is a row elsewhere.
_INDIRECT_KINDS = frozenset({Kind.UNION, Kind.REF, Kind.DICTIONARY})
_BUFFER_KINDS = frozenset(
    {Kind.BYTES_BUFFER, Kind.BYTEARRAY_BUFFER, Kind.BUFFER, Kind.BUFFER_WRITABLE}
)


def fail(why: str) -> NoReturn:
    raise DeserializationError(f"malformed message: {why}")


def check(condition: bool, why: str) -> None:
    if not condition:
        fail(why)


def check_version(view: memoryview) -> None:
    """Refuse an empty message and one of another version."""
    check(len(view) > 0, "it is empty")
    version = view[0] >> 4
    if version != VERSION:
        raise DeserializationError(
            f"the message has format version {version}, this reader knows version {VERSION}"
        )


# -- what a message consists of --------------------------------------------------------------


@dataclass
class Node:
    """One node: its description, its columns, the numbers of its children."""

    kind: Kind
    large: bool
    rows: int
    data_size: int = 0
    names: list[str] = field(default_factory=list)
    #: Arity of a TUPLE_RECORD, members of a UNION.
    count: int = 0
    parts: int = 0
    #: Class of an INSTANCE or function of a REDUCE; None: the function is a child.
    global_index: int | None = None
    children: range = range(0)
    #: One a row: numbers, indices, type ids, truth values.
    values: tuple[Any, ...] = ()
    offsets: tuple[int, ...] = ()
    data: memoryview = field(default_factory=lambda: memoryview(b""))

    @property
    def n_children(self) -> int:
        if self.kind is Kind.DICT_RECORD:
            return len(self.names)
        if self.kind is Kind.TUPLE_RECORD or self.kind is Kind.UNION:
            return self.count
        if self.kind is Kind.REDUCE:
            return self.parts.bit_count()
        if self.kind is Kind.DICT:
            return 2
        has_child = self.kind in SEQUENCE_KINDS or self.kind in (Kind.DICTIONARY, Kind.INSTANCE)
        return int(has_child)


@dataclass
class Tensor:
    buffer: int
    dtype: int
    order: int
    shape: tuple[int, ...]


@dataclass
class Message:
    """A parsed message; `view` is all of it."""

    view: memoryview
    nodes: list[Node] = field(default_factory=list)
    globals: list[tuple[str, str]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    #: The in-band buffers.
    buffers: list[memoryview] = field(default_factory=list)
    #: Number of each row that has one, and the first row of each number.
    memo: dict[tuple[int, int], int] = field(default_factory=dict)
    first_row: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def total_rows(self) -> int:
        return sum(node.rows for node in self.nodes)

    @property
    def record_rows(self) -> int:
        return sum(node.rows for node in self.nodes if node.kind in RECORD_KINDS)


def parse(view: memoryview) -> Message:
    """Parse a columns message.

    Raises:
        DeserializationError: something in it is not as the format has it.
    """
    check(len(view) >= _PREFIX, "it ends within its prefix")
    first, zero, zeros, description_size, total_size = unpack_from("<BBHIQ", view)
    check(first == VERSION << 4 | Tag.COLUMNS, "it is no columns message")
    check(zero == 0 and zeros == 0, "reserved bytes of the prefix are not zero")
    check(total_size <= len(view), f"it has {len(view)} bytes and says {total_size}")
    check(total_size % 8 == 0, "its size is not a multiple of 8")
    view = view[:total_size]  # what follows is not of this message
    message = Message(view)
    end = _PREFIX + description_size
    check(end <= len(view), "the description leaves the message")
    description = _Description(view, _PREFIX, end)
    n_dims, n_buffers, n_memo, n_tensors = description.read(message)
    columns = _Columns(view, end)
    for node in message.nodes:
        columns.read_node(node)
    if n_tensors:
        columns.read_tensors(message, n_tensors, n_dims)
    else:
        check(n_dims == 0, "dimensions without tensors")
    starts, sizes = columns.numbers("q", n_buffers), columns.numbers("q", n_buffers)
    entries = [columns.numbers(code, n_memo) for code in "iqi"]
    columns.skip(record_padding(columns.position, message.record_rows))
    columns.read_buffers(message, starts, sizes)
    check(columns.position == len(view), "something follows the last column")
    for node in message.nodes:
        _check_node(message, node)
    _read_memo(message, entries)
    _check_references(message)
    return message


# -- description -----------------------------------------------------------------------------


class _Description:
    """A cursor over the description (section 3)."""

    def __init__(self, view: memoryview, begin: int, end: int) -> None:
        self._view = view
        self._position = begin
        self._end = end

    def read(self, message: Message) -> tuple[int, int, int, int]:
        """Fill in nodes, globals and dtypes; returns what else the description counts."""
        counts = [self.varint() for _ in range(7)]
        n_nodes, n_globals, n_dtypes, n_tensors, n_dims, n_buffers, n_memo = counts
        check(n_nodes >= 1, "no nodes")
        next_child = 1
        for index in range(n_nodes):
            check(index < next_child, "a node that is no node's child")
            node = self.node()
            node.children = range(next_child, next_child + node.n_children)
            next_child += node.n_children
            check(next_child <= n_nodes, "a child that is no node")
            message.nodes.append(node)
        check(next_child == n_nodes, "a node that is no node's child")
        check(message.nodes[0].rows >= 1, "the root has no rows")
        for _ in range(n_globals):
            message.globals.append((self.text(), self.text()))
        for _ in range(n_dtypes):
            message.dtypes.append(self.text())
        check(self._position == self._end, "the description does not end where it says")
        for node in message.nodes:
            known = node.global_index is None or node.global_index < n_globals
            check(known, "a class or function that is no global")
        return n_dims, n_buffers, n_memo, n_tensors

    def node(self) -> Node:
        byte = self.byte()
        try:
            kind = Kind(byte & ~LARGE)
        except ValueError:
            fail(f"unknown node kind {byte}")
        has_offsets = kind in SEQUENCE_KINDS or kind in BINARY_KINDS or kind is Kind.UNION
        check(has_offsets or not byte & LARGE, f"large offsets in a {kind.name}, which has none")
        node = Node(kind, bool(byte & LARGE), self.varint())
        if kind in BINARY_KINDS:
            node.data_size = self.varint()
        elif kind is Kind.DICT_RECORD:
            n_names = self.varint()
            check(n_names >= 1, "a record without fields")
            node.names = [self.text() for _ in range(n_names)]
        elif kind is Kind.TUPLE_RECORD:
            node.count = self.varint()
            check(node.count >= 1, "a record without fields")
        elif kind is Kind.INSTANCE:
            node.global_index = self.varint()
        elif kind is Kind.REDUCE:
            self.reduce_extras(node)
        elif kind is Kind.UNION:
            node.count = self.varint()
            check(1 <= node.count <= _MAX_MEMBERS, f"a union of {node.count} members")
        return node

    def reduce_extras(self, node: Node) -> None:
        node.parts = self.byte()
        function = self.varint()
        check(not node.parts & ~_ALL_PARTS, "unknown parts of a reduction")
        check(bool(node.parts & Part.ARGUMENTS), "a reduction without arguments")
        has_child = bool(node.parts & Part.FUNCTION)
        check(has_child == (function == 0), "a reduction needs one function")
        node.global_index = None if has_child else function - 1

    def byte(self) -> int:
        check(self._position < self._end, "the description ends early")
        self._position += 1
        return self._view[self._position - 1]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                check(value < 1 << 63, "a number of more than 63 bits")
                return value
        fail("a varint of more than ten bytes")

    def text(self) -> str:
        size = self.varint()
        check(size <= self._end - self._position, "a text leaves the description")
        data = self._view[self._position : self._position + size]
        self._position += size
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise DeserializationError("malformed message: a text is not UTF-8") from error


# -- columns ---------------------------------------------------------------------------------


class _Columns:
    """A cursor over what follows the description (sections 4 to 6)."""

    def __init__(self, view: memoryview, begin: int) -> None:
        self._view = view
        self.position = begin
        self.pad(8)

    def skip(self, size: int) -> None:
        self.position += size
        check(self.position <= len(self._view), "the message has fewer bytes than rows of records")

    def pad(self, alignment: int) -> None:
        self.position += padding(self.position, alignment)
        check(self.position <= len(self._view), "a column leaves the message")

    def take(self, size: int) -> memoryview:
        """The next column, and the padding after it."""
        check(size <= len(self._view) - self.position, "a column leaves the message")
        column = self._view[self.position : self.position + size]
        self.position += size
        self.pad(8)
        return column

    def numbers(self, code: str, count: int) -> tuple[Any, ...]:
        column = self.take(calcsize(f"<{code}") * count)
        return unpack_from(f"<{count}{code}", column)

    def read_node(self, node: Node) -> None:
        kind, rows = node.kind, node.rows
        offset_code = "q" if node.large else "i"
        if kind in NUMBER_CODES:
            node.values = self.numbers(NUMBER_CODES[kind], rows)
        elif kind is Kind.COMPLEX128:
            halves = self.numbers("d", 2 * rows)
            node.values = tuple(map(complex, halves[::2], halves[1::2]))
        elif kind is Kind.NULL:
            self.take((rows + 7) // 8)
        elif kind is Kind.BOOL:
            bits = self.take((rows + 7) // 8)
            node.values = tuple(bool(bits[row // 8] >> row % 8 & 1) for row in range(rows))
        elif kind in BINARY_KINDS:
            node.offsets = self.numbers(offset_code, rows + 1)
            node.data = self.take(node.data_size)
        elif kind in SEQUENCE_KINDS:
            node.offsets = self.numbers(offset_code, rows + 1)
        elif kind is Kind.UNION:
            node.values = self.numbers("b", rows)
            node.offsets = self.numbers(offset_code, rows)

    def read_tensors(self, message: Message, n_tensors: int, n_dims: int) -> None:
        lengths = {"shape_offsets": n_tensors + 1, "shapes": n_dims}
        columns = {
            name: self.numbers(code, lengths.get(name, n_tensors))
            for name, code in TENSOR_CODES.items()
        }
        _check_offsets(columns["shape_offsets"], n_dims, "shape offsets")
        for tensor in range(n_tensors):
            begin, end = columns["shape_offsets"][tensor : tensor + 2]
            shape = columns["shapes"][begin:end]
            check(all(size >= 0 for size in shape), "a negative shape")
            dtype, order = columns["dtype"][tensor], columns["order"][tensor]
            check(0 <= dtype < len(message.dtypes), "a tensor of unknown dtype")
            check(order in (0, 1), "a tensor of unknown order")
            message.tensors.append(Tensor(columns["buffer"][tensor], dtype, order, shape))

    def read_buffers(
        self, message: Message, starts: tuple[int, ...], sizes: tuple[int, ...]
    ) -> None:
        if not starts:
            return
        self.pad(64)
        base = self.position
        for start, size in zip(starts, sizes, strict=True):
            check(start == self.position - base, "a buffer that does not follow the one before it")
            check(0 <= size <= len(self._view) - self.position, "a buffer leaves the message")
            message.buffers.append(self._view[self.position : self.position + size])
            self.position += size
            self.pad(64)


# -- checks ----------------------------------------------------------------------------------


def _check_offsets(offsets: tuple[int, ...], end: int, what: str) -> None:
    check(offsets[0] == 0, f"{what} do not start at 0")
    check(offsets[-1] == end, f"{what} do not end at {end}")
    check(all(low <= high for low, high in pairwise(offsets)), f"{what} decrease")


def _check_node(message: Message, node: Node) -> None:
    """Check what a node's rows lead to, references excepted."""
    kind = node.kind
    children = [message.nodes[child] for child in node.children]
    if kind in SEQUENCE_KINDS:
        for child in children:
            _check_offsets(node.offsets, child.rows, f"offsets of a {kind.name}")
    elif kind in BINARY_KINDS:
        _check_offsets(node.offsets, node.data_size, f"offsets of a {kind.name}")
    elif kind is Kind.UNION:
        _check_union(node, children)
    elif kind is Kind.DICTIONARY:
        check(children[0].kind is Kind.UTF8, "a dictionary of other values than strings")
        _check_indices(node, children[0].rows)
    elif kind is Kind.GLOBAL:
        _check_indices(node, len(message.globals))
    elif kind is Kind.NDARRAY:
        _check_indices(node, len(message.tensors))
    elif kind in _BUFFER_KINDS:
        check(all(i < len(message.buffers) for i in node.values), "an unknown buffer")
    else:
        check(all(child.rows == node.rows for child in children), f"rows of a {kind.name} differ")


def _check_union(node: Node, members: list[Node]) -> None:
    check(all(member.kind is not Kind.UNION for member in members), "a union in a union")
    for type_id, offset in zip(node.values, node.offsets, strict=True):
        check(0 <= type_id < len(members), "an unknown type id")
        check(0 <= offset < members[type_id].rows, "a union's offset leaves its member")


def _check_indices(node: Node, count: int) -> None:
    known = all(0 <= index < count for index in node.values)
    check(known, f"an index of a {node.kind.name} is out of range")


def _read_memo(message: Message, entries: list[tuple[int, ...]]) -> None:
    """Section 6."""
    last = (-1, -1)
    for index, row, number in zip(*entries, strict=True):
        check((index, row) > last, "memo entries are not sorted")
        last = index, row
        check(0 <= index < len(message.nodes), "a memo entry of an unknown node")
        node = message.nodes[index]
        check(node.kind not in _INDIRECT_KINDS, f"a memo entry of a {node.kind.name}")
        check(0 <= row < node.rows, "a memo entry of an unknown row")
        message.memo[index, row] = number
        message.first_row.setdefault(number, (index, row))
    known = set(message.memo.values())
    check(known == set(range(len(known))), "memo numbers have gaps")


def _check_references(message: Message) -> None:
    for node in message.nodes:
        if node.kind is Kind.REF:
            _check_indices(node, len(message.first_row))
    for tensor in message.tensors:
        check(tensor.buffer < len(message.buffers), "a tensor of an unknown buffer")
        check(prod(tensor.shape) < 1 << 63, "a tensor too large")


# -- for people ------------------------------------------------------------------------------


def describe(buffer: Any) -> str:
    """The nodes of a message as an indented tree, one a line: kind, rows, extras."""
    view = memoryview(buffer).cast("B")
    check_version(view)
    if view[0] & 15 != Tag.COLUMNS:
        try:
            return f"{Tag(view[0] & 15).name}, {len(view)} bytes"
        except ValueError:
            fail(f"unknown tag {view[0] & 15}")
    message = parse(view)
    lines = [f"{len(view)} bytes, {len(message.nodes)} nodes, {message.total_rows} rows"]
    lines += _tree(message)
    for index, (module, qualname) in enumerate(message.globals):
        lines.append(f"global {index}: {module}.{qualname}")
    for index, tensor in enumerate(message.tensors):
        dtype, order = message.dtypes[tensor.dtype], "CF"[tensor.order]
        lines.append(f"tensor {index}: {dtype} {tensor.shape} {order}, buffer {tensor.buffer}")
    for index, data in enumerate(message.buffers):
        lines.append(f"buffer {index}: {len(data)} bytes")
    for (index, row), number in message.memo.items():
        lines.append(f"memo {number}: node {index} row {row}")
    return "\n".join(lines)


def _tree(message: Message) -> Iterator[str]:
    """One line a node, depth first."""
    stack = [(0, "root", 0)]
    while stack:
        index, name, level = stack.pop()
        node = message.nodes[index]
        words = [f"{'  ' * level}{name}: {index} {node.kind.name}", f"rows {node.rows}"]
        if node.large:
            words.append("large")
        if node.kind in BINARY_KINDS:
            words.append(f"{node.data_size} bytes")
        if node.global_index is not None:
            words.append(".".join(message.globals[node.global_index]))
        yield " ".join(words)
        children = [
            (child, child_name, level + 1)
            for child, child_name in zip(node.children, _child_names(node), strict=True)
        ]
        stack += reversed(children)


def _child_names(node: Node) -> list[str]:
    if node.kind is Kind.DICT_RECORD:
        return [repr(name) for name in node.names]
    if node.kind is Kind.REDUCE:
        return [part.name.lower() for part in Part if part & node.parts and part.name]
    if node.kind is Kind.DICT:
        return ["keys", "values"]
    if node.kind is Kind.INSTANCE:
        return ["state"]
    if node.kind in SEQUENCE_KINDS:
        return ["items"]
    if node.kind is Kind.DICTIONARY:
        return ["values"]
    return [str(position) for position in range(len(node.children))]
