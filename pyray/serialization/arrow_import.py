"""The way back from Arrow: a message's bytes from the arrays that `_arrow` exports.

Walks the columns breadth first, as a message lists its nodes, and writes each in the message's own
form. Arrays may have been sliced, or have been through IPC; null values, which a message has no
place for, are refused. docs/arrow.md has the table of types. May import `reference_format`, the
names of the format, `reference_columns`, and pyarrow.
"""

from __future__ import annotations

from collections import deque
from struct import pack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from .errors import DeserializationError
from .reference_columns import scalar_message, text, varint
from .reference_format import (
    BINARY_KINDS,
    LARGE,
    RECORD_KINDS,
    SEQUENCE_KINDS,
    VERSION,
    Kind,
    Tag,
    padding,
    record_padding,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["rebuild_message"]

_FIXED = {
    Kind.BOOL: pa.bool_(),
    Kind.INT8: pa.int8(),
    Kind.INT16: pa.int16(),
    Kind.INT32: pa.int32(),
    Kind.INT64: pa.int64(),
    Kind.FLOAT64: pa.float64(),
}
#: The kinds that are a struct of one number, and the number's name.
_INDEX = {
    Kind.REF: "ref",
    Kind.GLOBAL: "global",
    Kind.NDARRAY: "tensor",
    Kind.BYTES_BUFFER: "buffer",
    Kind.BYTEARRAY_BUFFER: "buffer",
    Kind.BUFFER: "buffer",
    Kind.BUFFER_WRITABLE: "buffer",
}
_PART_NAMES = ("function", "arguments", "list_items", "dict_items", "state", "setter")
_KINDS = {kind.name.encode(): kind for kind in Kind}


class Place(NamedTuple):
    """An array that is to become a node, with the field that says of what kind."""

    array: Any
    kind: Kind
    name: str
    metadata: dict[bytes, bytes]


class Node(NamedTuple):
    """A node in the message's form."""

    kind: int
    rows: int
    extras: bytes
    columns: list[Any]
    children: list[Place]


def refuse(what: str) -> DeserializationError:
    return DeserializationError(f"these Arrow data are not a pyray message: {what}")


# -- reading arrays, whatever their offset -----------------------------------------------------


def window(array: Any, index: int, dtype: Any, extra: int = 0) -> np.ndarray:
    """Buffer `index` of an array as numbers: as many as it has rows, and `extra` more."""
    dtype = np.dtype(dtype)
    buffer = array.buffers()[index]
    count = len(array) + extra
    if buffer is None or buffer.size == 0:
        # Arrow lets an array without rows leave out the one offset it has.
        if len(array):
            raise refuse("a column has no values")
        return np.zeros(extra, dtype)
    return np.frombuffer(buffer, dtype, count, array.offset * dtype.itemsize)


def values(array: Any, expected: Any) -> np.ndarray:
    """The values of a column of numbers."""
    if array.type != expected or array.null_count:
        raise refuse(f"{expected} without nulls expected, not {array.type}")
    return window(array, 1, expected.to_pandas_dtype())


def bitmap(array: Any) -> np.ndarray:
    bits = window_of_bits(array.buffers()[1], array.offset, len(array))
    return np.packbits(bits, bitorder="little")


def window_of_bits(buffer: Any, offset: int, count: int) -> np.ndarray:
    if count == 0 or buffer is None:
        return np.zeros(0, np.uint8)
    first = offset // 8
    stored = np.frombuffer(buffer, np.uint8, (offset + count + 7) // 8 - first, first)
    return np.unpackbits(stored, bitorder="little")[offset % 8 :][:count]


def offsets(array: Any, large: bool) -> tuple[np.ndarray, int, int]:
    """The offsets of a list or binary array counted from 0, and the range they had."""
    found = window(array, 1, np.int64 if large else np.int32, 1)
    begin, end = int(found[0]), int(found[-1])
    if begin < 0 or end < begin:
        raise refuse("offsets are out of order")
    return (found - found.dtype.type(begin) if begin else found), begin, end


def only_row(array: Any, what: str) -> Any:
    """The items of a list column of one row."""
    kind = getattr(array, "type", None)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or len(array) != 1:
        raise refuse(f"{what} must be a list column of one row")
    if array.null_count:
        raise refuse(f"{what} is null")
    _, begin, end = offsets(array, pa.types.is_large_list(kind))
    return array.values.slice(begin, end - begin)


# -- nodes -------------------------------------------------------------------------------------


def place(array: Any, field: Any, continued: dict[int, Any]) -> Place:
    """What a field's metadata say its array is."""
    metadata = field.metadata or {}
    if metadata.get(b"pyray:kind") == b"CONTINUED":
        array, field = follow(array, int(metadata[b"pyray:node"]), continued)
        metadata = {**metadata, **field.metadata}
    kind = _KINDS.get(metadata.get(b"pyray:kind", b""))
    if kind is None:
        raise refuse(f"field {field.name!r} has no known pyray:kind in its metadata")
    if kind is not Kind.NULL and array.null_count:
        raise refuse(f"field {field.name!r} has nulls")
    name = metadata[b"pyray:name"].decode() if b"pyray:name" in metadata else field.name
    return Place(array, kind, name, metadata)


def follow(array: Any, node: int, continued: dict[int, Any]) -> tuple[Any, Any]:
    """The column where a continued node's rows are. Each is asked for once: there are no loops."""
    column = continued.pop(node, None)
    if column is None:
        raise refuse(f"column {node} is not among the continued ones")
    items = only_row(column, f"continued column {node}")
    if len(items) != len(array):
        raise refuse(f"continued column {node} has another number of rows")
    return items, column.type.value_field


def plain_node(
    p: Place,
    columns: list[Any],
    extras: bytes = b"",
    large: bool = False,
    children: Sequence[Place] = (),
) -> Node:
    return Node(p.kind | (LARGE if large else 0), len(p.array), extras, columns, list(children))


def null_node(p: Place, _: dict[int, Any]) -> Node:
    if not pa.types.is_null(p.array.type):
        raise refuse(f"a null column expected, not {p.array.type}")
    return plain_node(p, [bytes((len(p.array) + 7) // 8)])


def fixed_node(p: Place, _: dict[int, Any]) -> Node:
    if p.kind is Kind.BOOL and pa.types.is_boolean(p.array.type):
        return plain_node(p, [bitmap(p.array)])
    return plain_node(p, [values(p.array, _FIXED[p.kind])])


def complex_node(p: Place, _: dict[int, Any]) -> Node:
    kind = p.array.type
    if not pa.types.is_fixed_size_list(kind) or kind.list_size != 2:
        raise refuse(f"fixed_size_list<double, 2> expected, not {kind}")
    parts = p.array.values.slice(2 * p.array.offset, 2 * len(p.array))
    return plain_node(p, [values(parts, pa.float64())])


def binary_node(p: Place, _: dict[int, Any]) -> Node:
    kind = p.array.type
    small, big = (
        (pa.string(), pa.large_string())
        if p.kind is Kind.UTF8
        else (pa.binary(), pa.large_binary())
    )
    if kind not in (small, big) or p.array.null_count:
        raise refuse(f"{small} without nulls expected, not {kind}")
    found, begin, end = offsets(p.array, kind == big)
    data = p.array.buffers()[2]
    data = memoryview(data if data is not None else b"")
    if end > data.nbytes:
        raise refuse("offsets lead out of the data")
    return plain_node(p, [found, data[begin:end]], varint(end - begin), kind == big)


def dictionary_node(p: Place, _: dict[int, Any]) -> Node:
    if not pa.types.is_dictionary(p.array.type):
        raise refuse(f"a dictionary column expected, not {p.array.type}")
    strings = Place(p.array.dictionary, Kind.UTF8, "", {})
    return plain_node(p, [values(p.array.indices, pa.int32())], children=[strings])


def index_node(p: Place, _: dict[int, Any]) -> Node:
    name = _INDEX[p.kind]
    kind = p.array.type
    if not pa.types.is_struct(kind) or kind.num_fields != 1 or kind.field(0).name != name:
        raise refuse(f"struct<{name}: int32> expected, not {kind}")
    return plain_node(p, [values(p.array.field(0), pa.int32())])


def items_node(p: Place, continued: dict[int, Any]) -> Node:
    kind = p.array.type
    large = pa.types.is_large_list(kind)
    if not (large or pa.types.is_list(kind) or (p.kind is Kind.DICT and pa.types.is_map(kind))):
        raise refuse(f"a list column expected, not {kind}")
    found, begin, end = offsets(p.array, large)
    items = p.array.values.slice(begin, end - begin)
    if p.kind is not Kind.DICT:
        children = [place(items, kind.value_field, continued)]
    elif pa.types.is_struct(items.type) and items.type.num_fields == 2 and not items.null_count:
        children = [place(items.field(i), items.type.field(i), continued) for i in (0, 1)]
    else:
        raise refuse(f"a list of keys and values expected, not {kind}")
    return plain_node(p, [found], large=large, children=children)


def struct_node(p: Place, continued: dict[int, Any]) -> Node:
    kind = p.array.type
    if not pa.types.is_struct(kind):
        raise refuse(f"a struct column expected, not {kind}")
    children = [place(p.array.field(i), kind.field(i), continued) for i in range(kind.num_fields)]
    return plain_node(p, [], struct_extras(p, children), children=children)


def struct_extras(p: Place, children: list[Place]) -> bytes:
    if p.kind is Kind.DICT_RECORD:
        return varint(len(children)) + b"".join(text(child.name) for child in children)
    if p.kind is Kind.TUPLE_RECORD:
        return varint(len(children))
    index = p.metadata.get(b"pyray:global")
    if p.kind is Kind.INSTANCE:
        if index is None or len(children) != 1:
            raise refuse("an instance needs its class and its state")
        return varint(int(index))
    parts = [_PART_NAMES.index(child.name) for child in children if child.name in _PART_NAMES]
    if len(parts) != len(children) or parts != sorted(set(parts)):
        raise refuse(f"a reduction has no parts {[child.name for child in children]}")
    mask = sum(1 << part for part in parts)
    return bytes([mask]) + varint(0 if index is None else int(index) + 1)


def union_node(p: Place, continued: dict[int, Any]) -> Node:
    kind = p.array.type
    if not pa.types.is_union(kind) or kind.mode != "dense":
        raise refuse(f"a dense union column expected, not {kind}")
    if list(kind.type_codes) != list(range(kind.num_fields)):
        raise refuse("the type ids of a union must count from 0")
    type_ids = window(p.array, 1, np.int8)
    rows = window(p.array, 2, np.int32)
    members = [p.array.field(i) for i in range(kind.num_fields)]
    if len(type_ids) != sum(map(len, members)):
        rows, members = cut_members(type_ids, rows, members)
    children = [place(member, kind.field(i), continued) for i, member in enumerate(members)]
    return plain_node(p, [type_ids, rows], varint(len(children)), children=children)


def cut_members(type_ids: Any, rows: Any, members: list[Any]) -> tuple[Any, list[Any]]:
    """A slice of a union still has all rows of its members: leave out those before and after."""
    rows = rows.copy()
    cut = []
    for type_id, member in enumerate(members):
        mine = type_ids == type_id
        used = rows[mine]
        begin, end = (int(used.min()), int(used.max()) + 1) if len(used) else (0, 0)
        if begin < 0 or end > len(member):
            raise refuse("an offset leads out of a union's member")
        rows[mine] -= begin
        cut.append(member.slice(begin, end - begin))
    return rows, cut


_BUILDERS: dict[Kind, Callable[[Place, dict[int, Any]], Node]] = {
    Kind.NULL: null_node,
    Kind.COMPLEX128: complex_node,
    Kind.DICTIONARY: dictionary_node,
    Kind.UNION: union_node,
    **dict.fromkeys(_FIXED, fixed_node),
    **dict.fromkeys(BINARY_KINDS, binary_node),
    **dict.fromkeys(_INDEX, index_node),
    **dict.fromkeys(SEQUENCE_KINDS, items_node),
    **dict.fromkeys((Kind.DICT_RECORD, Kind.TUPLE_RECORD, Kind.INSTANCE, Kind.REDUCE), struct_node),
}


def breadth_first(root: Place, continued: dict[int, Any]) -> list[Node]:
    nodes: list[Node] = []
    waiting = deque([root])
    while waiting:
        found = waiting.popleft()
        node = _BUILDERS[found.kind](found, continued)
        nodes.append(node)
        waiting.extend(node.children)
    return nodes


# -- tables ------------------------------------------------------------------------------------


class Tables(NamedTuple):
    """What a message has beside its nodes; columns in the message's order."""

    globals: list[bytes]
    dtypes: list[str]
    tensor_columns: list[np.ndarray]
    buffers: list[memoryview]
    memo_columns: list[np.ndarray]


def fields_of(batch: Any, column: str, names: Sequence[str]) -> list[Any]:
    """The named fields of a column `list<struct<...>>` of one row."""
    items = only_row(batch.column(column), column)
    if not pa.types.is_struct(items.type) or items.null_count:
        raise refuse(f"column {column!r} must be a list of structs")
    found = {items.type.field(i).name: items.field(i) for i in range(items.type.num_fields)}
    if set(found) != set(names):
        raise refuse(f"column {column!r} must have the fields {', '.join(names)}")
    return [found[name] for name in names]


def strings(array: Any) -> list[str]:
    if array.type != pa.string() or array.null_count:
        raise refuse(f"string without nulls expected, not {array.type}")
    return array.to_pylist()


def read_tensors(batch: Any) -> tuple[list[str], list[np.ndarray]]:
    names, shapes, order, buffer = fields_of(
        batch, "tensors", ("dtype", "shape", "order", "buffer")
    )
    if len(names) == 0:
        return [], []
    if not pa.types.is_list(shapes.type) or shapes.null_count:
        raise refuse("tensor shapes must be lists")
    number: dict[str, int] = {}
    dtypes = [number.setdefault(name, len(number)) for name in strings(names)]
    shape_offsets, begin, end = offsets(shapes, False)
    dims = values(shapes.values.slice(begin, end - begin), pa.int64())
    return list(number), [
        values(buffer, pa.int32()),
        np.array(dtypes, np.int32),
        values(order, pa.int8()),
        shape_offsets,
        dims,
    ]


def read_buffers(batch: Any) -> list[memoryview]:
    sizes, data = fields_of(batch, "buffers", ("size", "data"))
    if data.type != pa.large_binary() or data.null_count:
        raise refuse("buffers must be large_binary")
    starts = window(data, 1, np.int64, 1).tolist()
    stored = data.buffers()[2]
    stored = memoryview(stored if stored is not None else b"").cast("B")
    found = []
    for i, size in enumerate(values(sizes, pa.int64()).tolist()):
        if not 0 <= size <= starts[i + 1] - starts[i] or not 0 <= starts[i] <= len(stored) - size:
            raise refuse(f"buffer {i} is shorter than its size says")
        found.append(stored[starts[i] : starts[i] + size])
    return found


def read_tables(batch: Any) -> Tables:
    modules, names = map(strings, fields_of(batch, "globals", ("module", "qualname")))
    node, row, number = fields_of(batch, "memo", ("node", "row", "number"))
    dtypes, tensor_columns = read_tensors(batch)
    return Tables(
        [text(module) + text(name) for module, name in zip(modules, names, strict=True)],
        dtypes,
        tensor_columns,
        read_buffers(batch),
        [values(node, pa.int32()), values(row, pa.int64()), values(number, pa.int32())],
    )


def read_continued(batch: Any) -> dict[int, Any]:
    """Continued node -> its column."""
    if "continued" not in batch.schema.names:
        return {}
    column = batch.column("continued")
    if not pa.types.is_struct(column.type) or column.null_count:
        raise refuse("column 'continued' must be a struct")
    return {int(column.type.field(i).name): column.field(i) for i in range(column.type.num_fields)}


# -- writing -----------------------------------------------------------------------------------


def describe(nodes: list[Node], tables: Tables) -> bytes:
    dims = tables.tensor_columns[4] if tables.tensor_columns else ()
    tensors = tables.tensor_columns[0] if tables.tensor_columns else ()
    counts = (
        nodes,
        tables.globals,
        tables.dtypes,
        tensors,
        dims,
        tables.buffers,
        tables.memo_columns[0],
    )
    parts = [varint(len(count)) for count in counts]
    parts += [bytes([node.kind]) + varint(node.rows) + node.extras for node in nodes]
    parts += tables.globals
    parts += map(text, tables.dtypes)
    return b"".join(parts)


def aligned(size: int) -> Any:
    """A zeroed buffer that begins at a multiple of 64, as the buffers within a message want."""
    memory = np.zeros(size + 64, np.uint8)
    start = padding(memory.ctypes.data, 64)
    return memory[start : start + size]


def buffer_columns(buffers: list[memoryview]) -> list[np.ndarray]:
    starts, at = [], 0
    for buffer in buffers:
        starts.append(at)
        at += buffer.nbytes + padding(buffer.nbytes, 64)
    return [np.array(starts, np.int64), np.array([b.nbytes for b in buffers], np.int64)]


def lay_out(pieces: list[Any], at: int, alignment: int) -> tuple[list[int], int]:
    """Where each piece begins, the first at `at`, and where the last one's padding ends."""
    starts = []
    for piece in pieces:
        starts.append(at)
        at += len(piece)
        at += padding(at, alignment)
    return starts, at


def columns_message(nodes: list[Node], tables: Tables) -> np.ndarray:
    """The message of section 2: every piece where the one before it, padded, ends."""
    description = describe(nodes, tables)
    columns: list[Any] = [column for node in nodes for column in node.columns]
    columns += tables.tensor_columns
    if tables.buffers:
        columns += buffer_columns(tables.buffers)
    columns += tables.memo_columns

    pieces: list[Any] = [description]
    pieces += [memoryview(column).cast("B") for column in columns if len(column)]
    starts, at = lay_out(pieces, 16, 8)
    at += record_padding(at, sum(node.rows for node in nodes if node.kind in RECORD_KINDS))
    if tables.buffers:
        buffer_starts, at = lay_out(tables.buffers, at + padding(at, 64), 64)
        starts += buffer_starts
        pieces += tables.buffers

    message = aligned(at)
    head = pack("<BBHIQ", VERSION << 4 | Tag.COLUMNS, 0, 0, len(description), at)
    message[:16] = np.frombuffer(head, np.uint8)
    for start, data in zip(starts, pieces, strict=True):
        message[start : start + len(data)] = np.frombuffer(data, np.uint8)
    message.flags.writeable = False
    return message


def scalar_of(root: Place) -> bytes | None:
    """The short message of an object that needs no columns; None if it needs them."""
    value = root.array[0].as_py()
    if root.kind is Kind.BIGINT:
        value = int.from_bytes(value, "little", signed=True)
    elif root.kind is Kind.SURROGATES:
        value = value.decode(errors="surrogatepass")
    return scalar_message(value)


#: Kinds of objects that have a short message.
_SCALAR = frozenset((Kind.NULL, *_FIXED, Kind.UTF8, Kind.SURROGATES, Kind.BYTES, Kind.BIGINT))


def rebuild_message(batch: Any) -> bytes | np.ndarray:
    """The message that a record batch of one row was exported from, byte for byte.

    Raises:
        DeserializationError: the batch is not one that `to_arrow` makes.
    """
    try:
        return _rebuild(batch)
    except DeserializationError:
        raise
    except (pa.ArrowException, KeyError, IndexError, ValueError, OverflowError, TypeError) as error:
        raise refuse(str(error)) from error


def _rebuild(batch: Any) -> bytes | np.ndarray:
    version = (batch.schema.metadata or {}).get(b"pyray:version", b"%d" % VERSION)
    if version != b"%d" % VERSION:
        raise refuse(
            f"version {version.decode()} is not version {VERSION}, which this reader knows"
        )
    if batch.num_rows != 1:
        raise refuse(f"one row expected, not {batch.num_rows}")
    batch.validate(full=True)
    continued = read_continued(batch)
    tables = read_tables(batch)
    roots = batch.column("roots")
    root = place(only_row(roots, "roots"), roots.type.value_field, continued)
    nodes = breadth_first(root, continued)
    if nodes[0].rows < 1:
        raise refuse("the root has no rows")
    plain = len(nodes) == 1 and nodes[0].rows == 1 and not len(tables.memo_columns[0])
    short = scalar_of(root) if plain and root.kind in _SCALAR else None
    return columns_message(nodes, tables) if short is None else short
