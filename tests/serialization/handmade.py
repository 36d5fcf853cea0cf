"""Columns messages written by hand, to say what no encoder says. The layout is docs/format.md."""

from __future__ import annotations

from array import array
from typing import Any

from pyray.serialization.reference_format import RECORD_KINDS, Kind

#: `array` codes of columns by the names this file gives them.
INT8, INT32, INT64, FLOAT64 = "b", "i", "q", "d"


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def text(string: str) -> bytes:
    return varint(len(string.encode())) + string.encode()


def column(code: str, values: Any) -> bytes:
    return array(code, values).tobytes()


def node(kind: Kind, rows: int, *columns: bytes, extras: bytes = b"") -> tuple[bytes, list[bytes]]:
    """One node: its part of the description, and its columns."""
    return bytes([kind]) + varint(rows) + extras, list(columns)


def binary(kind: Kind, *values: bytes) -> tuple[bytes, list[bytes]]:
    """A node of bytes-like rows."""
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value))
    data = b"".join(values)
    return node(kind, len(values), column(INT32, offsets), data, extras=varint(len(data)))


def lists(kind: Kind, *offsets: int) -> tuple[bytes, list[bytes]]:
    """A node of lists, tuples, sets or dicts."""
    return node(kind, len(offsets) - 1, column(INT32, offsets))


def indices(kind: Kind, *values: int) -> tuple[bytes, list[bytes]]:
    """A node of REF, GLOBAL, DICTIONARY, NDARRAY or buffer rows."""
    return node(kind, len(values), column(INT32, values))


def union(members: int, rows: list[tuple[int, int]]) -> tuple[bytes, list[bytes]]:
    """A UNION node of (type id, offset) rows."""
    types, offsets = zip(*rows, strict=True)
    return node(
        Kind.UNION, len(rows), column(INT8, types), column(INT32, offsets), extras=varint(members)
    )


def message(
    *nodes: tuple[bytes, list[bytes]],
    names: list[tuple[str, str]] = [],
    dtypes: list[str] = [],
    tensors: list[tuple[int, int, int, list[int]]] = [],
    buffers: list[bytes] = [],
    memo: list[tuple[int, int, int]] = [],
    padded: bool = True,
) -> bytes:
    """The message of these nodes; `tensors` are (buffer, dtype, order, shape).

    With `padded` it has the bytes that its rows of records ask for.
    """
    shapes = [length for tensor in tensors for length in tensor[3]]
    counts = (
        len(nodes), len(names), len(dtypes), len(tensors), len(shapes), len(buffers), len(memo)
    )  # fmt: skip
    description = b"".join(map(varint, counts)) + b"".join(described for described, _ in nodes)
    description += b"".join(text(module) + text(name) for module, name in names)
    description += b"".join(map(text, dtypes))
    columns = [data for _, of_node in nodes for data in of_node]
    if tensors:
        ends = [sum(len(tensor[3]) for tensor in tensors[:i]) for i in range(len(tensors) + 1)]
        for code, values in (
            (INT32, [tensor[0] for tensor in tensors]),
            (INT32, [tensor[1] for tensor in tensors]),
            (INT8, [tensor[2] for tensor in tensors]),
            (INT32, ends),
            (INT64, shapes),
        ):
            columns.append(column(code, values))
    if buffers:
        starts = [sum(-(-len(b) // 64) * 64 for b in buffers[:i]) for i in range(len(buffers))]
        columns += [column(INT64, starts), column(INT64, map(len, buffers))]
    if memo:
        for code, values in zip((INT32, INT64, INT32), zip(*memo, strict=True), strict=True):
            columns.append(column(code, values))
    record_rows = sum(_rows(described) for described, _ in nodes if described[0] in RECORD_KINDS)
    return _assembled(description, columns, buffers, record_rows if padded else 0)


def _rows(described: bytes) -> int:
    """What `node` has said of its rows: the varint after its kind."""
    size = next(i for i, byte in enumerate(described[1:], 1) if byte < 0x80)
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(described[1 : size + 1]))


def _assembled(
    description: bytes, columns: list[bytes], buffers: list[bytes], record_rows: int
) -> bytes:
    out = bytearray(16) + description
    for data in [b"", *columns]:
        out += data
        out += bytes(-len(out) % 8)
    out += bytes(max(0, record_rows - len(out)))
    out += bytes(-len(out) % (64 if buffers else 8))
    for data in buffers:
        out += data + bytes(-len(data) % 64)
    out[0] = 0x1F
    out[4:8] = len(description).to_bytes(4, "little")
    out[8:16] = len(out).to_bytes(8, "little")
    return bytes(out)
