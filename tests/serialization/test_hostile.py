"""Bytes that no encoder wrote are an error: no crash, no hang, no flood of memory."""

from __future__ import annotations

import collections
import datetime
import gc
import random
import sys
import threading
import tracemalloc
from pickle import PickleBuffer
from typing import Any

import numpy as np
import pytest
from graphs import Color, Plain, Point, Record, Slots, WithState, random_graph
from handmade import (
    INT8,
    INT64,
    binary,
    column,
    indices,
    lists,
    message,
    node,
    text,
    union,
    varint,
)

from pyray.serialization import DeserializationError
from pyray.serialization._decoder import decode_message
from pyray.serialization._view import Lazy, LazyDict, LazyObject, view
from pyray.serialization.message import encode_message
from pyray.serialization.reference_decoder import decode_message as reference_decode
from pyray.serialization.reference_format import Kind

#: Harmless with any arguments, and small in memory.
ALLOWED = [Plain, Record, Point, Slots, WithState, Color, datetime.date, collections.deque]

shared: list[Any] = [1, 2]
loop: list[Any] = ["loop"]
loop.append((loop, {"loop": loop}))

OBJECTS: dict[str, Any] = {
    "int": 2**70,
    "str": "héllo",
    "mixed list": [(1, 2), "hello", 3, 4, np.array([5.0, 6.0])],
    "records": [{"id": i, "name": f"n{i}", "x": i * 0.5, "tags": ["a", "b"]} for i in range(5)],
    "tuples": [(i, str(i), None, True, -1.5) for i in range(9)],
    "sets": {"a": {1, 2}, "b": frozenset([3]), 7: {}},
    "leaves": [1j, 2**80, b"bytes", bytearray(b"y"), "\ud800x", 2**40, None, True],
    "shared": [shared, shared, "string", {"string": shared}],
    "loop": loop,
    "large bytes": [b"x" * 4096, bytearray(4096)],
    "buffers": [PickleBuffer(b"abc"), PickleBuffer(bytearray(b"def"))],
    "arrays": [
        np.arange(6).reshape(2, 3),
        np.array(["a"]),
        np.asfortranarray(np.eye(3)),
        np.eye(0),
    ],
    "instances": [Record("a", i, [i]) for i in range(4)],
    "reductions": [Point(1, "x"), collections.deque([1], 5), datetime.date(2020, 1, 2), Color.RED],
    "globals": [int, len, Plain],
}


def walk(v: Any, left: list[int]) -> None:
    """Touch what a view shows, up to so many parts."""
    left[0] -= 1
    if left[0] < 0 or not isinstance(v, Lazy):
        return
    repr(v)
    if isinstance(v, LazyDict):
        v.get("a"), v.get(7), (1, 2) in v
        for key, value in v.items():
            walk(key, left)
            walk(value, left)
    elif isinstance(v, LazyObject):
        for part in (v.name, v.arguments, v.state, v.list_items, v.dict_items):
            walk(part, left)
    else:
        for item in v:
            walk(item, left)


def read_all(data: Any) -> None:
    """Everything a reader can do, from which only exceptions of Python may come."""
    attempts = (
        lambda: decode_message(data, trusted=False, allow=ALLOWED),
        lambda: walk(view(data, trusted=False, allow=ALLOWED), [200]),
        lambda: view(data, trusted=False, allow=ALLOWED).materialize(),
    )
    for attempt in attempts:
        try:
            attempt()
        except SystemError:
            raise  # what the C API says about its misuse
        except Exception:
            pass


@pytest.mark.parametrize("name", OBJECTS)
def test_truncated(name: str) -> None:
    """At every length: it is DeserializationError if a columns message is cut off."""
    data = encode_message(OBJECTS[name])
    for size in range(len(data)):
        if data[0] == 0x1F and size:
            with pytest.raises(DeserializationError):
                decode_message(data[:size])
            with pytest.raises(DeserializationError):
                view(data[:size])
        else:
            read_all(data[:size])


@pytest.mark.parametrize("name", OBJECTS)
def test_shortened_with_a_size_that_fits(name: str) -> None:
    data = encode_message(OBJECTS[name])
    for size in range(16, len(data), 8):
        read_all(data[:8] + size.to_bytes(8, "little") + data[16:size])


@pytest.mark.parametrize("name", OBJECTS)
def test_each_bit_flipped(name: str) -> None:
    data = bytearray(encode_message(OBJECTS[name]))
    for i in range(min(len(data), 600)):
        for bit in range(8):
            data[i] ^= 1 << bit
            read_all(data)
            data[i] ^= 1 << bit


def mutated(data: bytes, rng: random.Random) -> bytearray:
    """A few bytes of it changed, most of them to what breaks offsets and indices."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        i = rng.randrange(len(out))
        words = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0", b"\7\0\0\0")
        what = rng.randrange(4)
        if what == 0:
            out[i] = rng.randrange(256)
        elif what == 1:
            out[i] = (out[i] + rng.choice([-1, 1])) % 256
        elif what == 2:
            out[i & ~3 : (i & ~3) + 4] = rng.choice(words)
        else:
            out[i] = out[rng.randrange(len(out))]
    return out


@pytest.mark.parametrize("name", OBJECTS)
def test_mutated(name: str) -> None:
    data = encode_message(OBJECTS[name])
    rng = random.Random(name)
    for _ in range(400):
        read_all(mutated(data, rng))


@pytest.mark.parametrize("seed", range(20))
def test_mutated_random_graphs(seed: int) -> None:
    data = encode_message(random_graph(seed))
    rng = random.Random(seed)
    for _ in range(200):
        read_all(mutated(data, rng))


# -- handmade ----------------------------------------------------------------------------------


def refused(data: bytes, why: str) -> None:
    with pytest.raises(DeserializationError, match=why):
        decode_message(data)


def test_handmade_messages_are_well_made() -> None:
    data = message(
        lists(Kind.LIST, 0, 4),
        union(2, [(0, 0), (1, 0), (1, 1), (0, 1)]),
        binary(Kind.UTF8, b"a", b"bc"),
        indices(Kind.REF, 0, 1),
        memo=[(0, 0, 1), (2, 1, 0)],
    )
    decoded = decode_message(data)
    assert decoded[0] == "a" and decoded[1] is decoded[3] and decoded[2] is decoded


def test_tuple_that_contains_itself() -> None:
    data = message(lists(Kind.TUPLE, 0, 1), indices(Kind.REF, 0), memo=[(0, 0, 0)])
    refused(data, "contains itself")


def test_tuples_that_contain_each_other() -> None:
    data = message(lists(Kind.TUPLE, 0, 1, 2), indices(Kind.REF, 1, 0), memo=[(0, 0, 0), (0, 1, 1)])
    refused(data, "contains itself")


def test_view_of_a_tuple_that_contains_itself() -> None:
    v = view(message(lists(Kind.TUPLE, 0, 1), indices(Kind.REF, 0), memo=[(0, 0, 0)]))
    assert len(v[0][0][0]) == 1
    with pytest.raises(DeserializationError, match="contains itself"):
        v.materialize()


def test_tuple_within_a_list_within_itself() -> None:
    """An honest circle: the list exists before its items."""
    data = message(
        lists(Kind.TUPLE, 0, 1),
        lists(Kind.LIST, 0, 1),
        indices(Kind.REF, 0),
        memo=[(0, 0, 0), (1, 0, 1)],
    )
    decoded = decode_message(data)
    assert decoded[0][0] is decoded


def chain(depth: int) -> bytes:
    """Tuples of one item, each a reference to the next."""
    return message(
        lists(Kind.TUPLE, *range(depth + 1), depth),
        indices(Kind.REF, *range(depth)),
        memo=[(0, i + 1, i) for i in range(depth)],
    )


def test_nested_beyond_the_stack() -> None:
    with pytest.raises(RecursionError):
        decode_message(chain(1_000_000))


def test_nested_beyond_the_stack_of_a_thread() -> None:
    outcome: list[Any] = []

    def run() -> None:
        for depth in (100, 100_000):
            try:
                decode_message(chain(depth))
                outcome.append("decoded")
            except RecursionError:
                outcome.append("refused")

    before = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert outcome == ["decoded", "refused"]


def test_nested_as_deep_as_the_recursion_limit() -> None:
    obj: Any = []
    for _ in range(sys.getrecursionlimit() - 100):
        obj = [obj] if len(obj) != 1 else {"a": obj}
    decoded = decode_message(encode_message(obj))
    depth = 0
    while decoded:
        decoded = decoded["a"] if type(decoded) is dict else decoded[0]
        depth += 1
    assert depth == sys.getrecursionlimit() - 100


def doubling(kind: Kind, levels: int) -> bytes:
    """Each list holds the next twice: 2**levels items of a few hundred bytes, without a memo."""
    nodes = []
    for _ in range(levels):
        nodes += [lists(kind, 0, 2), union(1, [(0, 0), (0, 0)])]
    return message(*nodes, node(Kind.NULL, 1, b"\0"))


@pytest.mark.parametrize("kind", [Kind.LIST, Kind.TUPLE])
def test_rows_used_twice_do_not_explode(kind: Kind) -> None:
    refused(doubling(kind, 30), "overlap")


def test_bytes_used_often_do_not_explode() -> None:
    rows = 20_000
    data = message(
        lists(Kind.LIST, 0, rows), union(1, [(0, 0)] * rows), binary(Kind.BYTES, bytes(100_000))
    )
    tracemalloc.start()
    try:
        refused(data, "overlap")
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data)
    finally:
        tracemalloc.stop()


def test_buffer_used_often_does_not_explode() -> None:
    rows = 20_000
    data = message(
        lists(Kind.LIST, 0, rows),
        indices(Kind.BYTES_BUFFER, *[0] * rows),
        buffers=[bytes(100_000)],
    )
    refused(data, "overlap")


def itself(obj: Any) -> Any:
    return obj


@pytest.mark.parametrize("decode", [decode_message, reference_decode])
def test_lists_that_are_extended_with_themselves(decode: Any) -> None:
    """The list items of a reduction have a memo number here, and are what it returns."""
    rows = 20
    data = message(
        lists(Kind.LIST, 0, rows),
        node(Kind.REDUCE, rows, extras=bytes([6, 1])),  # arguments, list items; the first global
        node(Kind.TUPLE_RECORD, rows, extras=bytes([1])),
        lists(Kind.LIST, *range(rows + 1)),
        indices(Kind.REF, *[0] * rows),
        node(Kind.INT8, rows, column(INT8, range(rows))),
        names=[(__name__, "itself")],
        memo=[(3, row, 0) for row in range(rows)],
    )
    decoded = decode(data)
    assert all(item is decoded[0] for item in decoded)
    assert len(decoded[0]) == 1 + rows


def test_tuple_of_what_the_memo_calls_a_bool_is_collected() -> None:
    """A bool with the memo number of the list around it: the cycle is the collector's to find."""
    decoded = decode_message(
        message(
            lists(Kind.LIST, 0, 2),
            union(2, [(0, 0), (1, 0)]),
            lists(Kind.TUPLE, 0, 1),
            indices(Kind.REF, 0),
            node(Kind.BOOL, 1, bytes([1])),
            memo=[(0, 0, 0), (4, 0, 0)],
        )
    )
    assert decoded[0][0] is decoded and decoded[1] is decoded
    assert gc.is_tracked(decoded[0])


def test_references_that_double() -> None:
    """Tuples of two references to the next tuple: shared when they are well made."""
    levels = 60
    data = message(
        lists(Kind.TUPLE, *range(0, 2 * levels + 1, 2), 2 * levels),
        indices(Kind.REF, *[i // 2 for i in range(2 * levels)]),
        memo=[(0, i + 1, i) for i in range(levels)],
    )
    decoded = decode_message(data)
    for _ in range(levels):
        assert decoded[0] is decoded[1]
        decoded = decoded[0]
    assert decoded == ()


def test_rows_beyond_the_message() -> None:
    refused(message(lists(Kind.LIST, 0, 1 << 20), node(Kind.NULL, 8, b"\0")), "offset")
    refused(message(node(Kind.NULL, 1 << 40, b"\0")), "more rows")
    refused(message(node(Kind.INT64, 1 << 61, bytes(8))), "more rows")


@pytest.mark.parametrize("offsets", [(1, 0), (-1, 1), (0, 3), (2**31 - 1, 2**31 - 1)])
def test_offsets(offsets: tuple[int, ...]) -> None:
    refused(message(lists(Kind.LIST, *offsets), node(Kind.INT8, 2, b"\1\2")), "offset")
    refused(
        message(
            node(Kind.UTF8, 1, column("i", offsets), b"ab", extras=varint(2)),
        ),
        "offset",
    )
    refused(
        message(lists(Kind.DICT, *offsets), node(Kind.INT8, 2, b"\1\2"), node(Kind.INT8, 2, b"ab")),
        "offset",
    )


def test_offsets_within_a_column_of_strings() -> None:
    """Also where a whole range is decoded at once."""
    strings = node(Kind.UTF8, 3, column("i", [0, 9, 1, 3]), b"abc", extras=varint(3))
    refused(message(lists(Kind.LIST, 0, 3), strings), "offset")
    strings = node(Kind.UTF8, 3, column("i", [0, 2, 1, 3]), b"abc", extras=varint(3))
    refused(message(lists(Kind.LIST, 0, 3), strings), "offset")


def test_keys_and_values_of_different_length() -> None:
    refused(
        message(lists(Kind.DICT, 0, 2), node(Kind.INT8, 2, b"\1\2"), node(Kind.INT8, 1, b"a")),
        "offset",
    )


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Kind.REF, "reference"),
        (Kind.GLOBAL, "global"),
        (Kind.NDARRAY, "tensor"),
        (Kind.BYTES_BUFFER, "buffer"),
        (Kind.BUFFER, "buffer"),
    ],
)
@pytest.mark.parametrize("index", [0, 1, 2**31 - 1, -1, -(2**31)])
def test_indices(kind: Kind, why: str, index: int) -> None:
    refused(message(indices(kind, index)), why)


@pytest.mark.parametrize("index", [1, -1, 2**31 - 1])
def test_index_of_a_string(index: int) -> None:
    refused(message(indices(Kind.DICTIONARY, index), binary(Kind.UTF8, b"a")), "string")


@pytest.mark.parametrize("row", [(1, 0), (-1, 0), (0, 1), (0, -1), (127, 0)])
def test_union_rows(row: tuple[int, int]) -> None:
    refused(message(union(1, [row]), node(Kind.NULL, 1, b"\0")), "union|offset")


def array_message(shape: list[int], data: bytes = bytes(24), **what: Any) -> bytes:
    tensor = (what.get("buffer", 0), what.get("dtype", 0), what.get("order", 0), shape)
    return message(
        indices(Kind.NDARRAY, 0),
        dtypes=[what.get("text", "<f8")],
        tensors=[tensor],
        buffers=[data],
    )


def test_array_message_is_well_made() -> None:
    array = decode_message(array_message([3]))
    assert array.shape == (3,) and array.dtype == np.float64


@pytest.mark.parametrize(
    "shape",
    [[], [2], [4], [-3], [3, 2**62], [2**32, 2**32], [2**61, 8, 0], [-1, -3], [3, 0], [1] * 65],
)
def test_array_shapes(shape: list[int]) -> None:
    refused(array_message(shape), "shape")


def test_empty_array_of_an_impossible_shape() -> None:
    refused(array_message([0, 2**40, 2**40], b""), "shape")


@pytest.mark.parametrize(
    "text",
    ["O", "|O8", "<f9", "f8,f8", "float64", "<f8[ns]", "<M8[", "", "<", "<V99999999999", "(2,)f8"],
)
def test_dtypes(text: str) -> None:
    refused(array_message([3], text=text), "dtype|shape")


def test_array_parts() -> None:
    refused(array_message([3], dtype=1), "dtype")
    refused(array_message([3], dtype=-1), "dtype")
    refused(array_message([3], order=2), "order")
    refused(array_message([3], buffer=1), "buffer")


def test_reductions_of_wrong_parts() -> None:
    def reduce(parts: int, *children: Any, name: tuple[str, str]) -> bytes:
        return message(
            node(Kind.REDUCE, 1, extras=bytes([parts]) + varint(1)), *children, names=[name]
        )

    one = node(Kind.INT8, 1, b"\1")
    none = lists(Kind.TUPLE, 0, 0), node(Kind.NULL, 0, b"")
    listed = ("builtins", "list")
    refused(reduce(2, one, name=listed), "not a tuple")
    refused(reduce(2 | 4, none[0], one, none[1], name=listed), "no list")
    refused(reduce(2 | 8, none[0], one, none[1], name=("builtins", "dict")), "no dict")
    refused(reduce(2 | 16, none[0], one, none[1], name=("graphs", "Plain")), "not a dict")


def test_instance_of_no_class() -> None:
    data = message(
        node(Kind.INSTANCE, 1, extras=varint(0)),
        node(Kind.NULL, 1, b"\0"),
        names=[("builtins", "len")],
    )
    refused(data, "not a class")


def test_text_that_is_not_utf8() -> None:
    refused(message(binary(Kind.UTF8, b"\xff")), "UTF-8")
    refused(b"\x15\xff", "UTF-8")
    refused(message(lists(Kind.LIST, 0, 2), binary(Kind.UTF8, "é".encode(), b"\xc3")), "UTF-8")
    # A character must not begin in one row and end in the next.
    refused(message(lists(Kind.LIST, 0, 2), binary(Kind.UTF8, b"a\xc3", b"\xa9b")), "UTF-8")
    record = node(Kind.DICT_RECORD, 1, extras=varint(1) + varint(1) + b"\xff")
    refused(message(record, node(Kind.INT8, 1, b"\1")), "UTF-8")


def test_int_without_bytes() -> None:
    refused(message(binary(Kind.BIGINT, b"")), "no bytes")
    refused(b"\x13", "no bytes")


def nested_records(depth: int, rows: int, **options: Any) -> bytes:
    """A list of records of one field, within records of one field, and so on; None innermost."""
    record = node(Kind.DICT_RECORD, rows, extras=varint(1) + text("a"))
    column_of_none = node(Kind.NULL, rows, bytes((rows + 7) // 8))
    return message(lists(Kind.LIST, 0, rows), *[record] * depth, column_of_none, **options)


READERS = [decode_message, view, reference_decode]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("depth", "rows"),
    [(2000, 8000), (63, 4096), (6, 1_000_000), (1, 200), (2, 100), (1, 2**40), (300, 2**60)],
)
def test_records_without_the_bytes_for_them(read: Any, depth: int, rows: int) -> None:
    """Records have no column, so the message must be as long as there are rows of them."""
    if rows > 2**30:
        record = node(Kind.TUPLE_RECORD, rows, extras=varint(1))
        data = message(
            lists(Kind.LIST, 0, 1), *[record] * depth, node(Kind.NULL, rows), padded=False
        )
    else:
        data = nested_records(depth, rows, padded=False)
    with pytest.raises(DeserializationError, match="rows|than its columns|last column|leaves"):
        read(data)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("missing", [8, 16, 1000])
def test_records_with_less_bytes_than_rows(read: Any, missing: int) -> None:
    data = nested_records(2, 2000)
    assert len(data) == 4000
    with pytest.raises(DeserializationError):
        read(data[:8] + (4000 - missing).to_bytes(8, "little") + data[16 : 4000 - missing])
    with pytest.raises(DeserializationError):
        read(data[:8] + (4000 + missing).to_bytes(8, "little") + data[16:] + bytes(missing))


def test_records_nested_deep() -> None:
    decoded = decode_message(nested_records(300, 40))
    for _ in range(300):
        decoded = [row["a"] for row in decoded]
    assert decoded == [None] * 40


def peak_of(data: bytes) -> int:
    """The most memory that decoding took, in bytes."""
    tracemalloc.start()
    try:
        decode_message(data)
        return tracemalloc.get_traced_memory()[1]
    except DeserializationError:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fields", [1, 5, 6, 8, 11, 16, 22, 43, 86, 171])
def test_memory_that_records_are_worth(fields: int) -> None:
    """Dicts of None: what the format says in the fewest bytes."""
    rows = 200_000 // fields
    names = b"".join(text(f"f{i}") for i in range(fields))
    data = message(
        lists(Kind.LIST, 0, rows),
        node(Kind.DICT_RECORD, rows, extras=varint(fields) + names),
        *[node(Kind.NULL, rows, bytes((rows + 7) // 8))] * fields,
    )
    peak = peak_of(data)
    assert 100 * len(data) < peak < 500 * len(data)


def test_memory_that_nested_records_are_worth() -> None:
    for depth, rows in ((60, 4096), (6, 20_000), (200, 1000)):
        data = nested_records(depth, rows)
        assert peak_of(data) < 300 * len(data)


def overlapping(filler: int, *row: tuple[bytes, list[bytes]], **tables: Any) -> bytes:
    """Lists that hold the next list twice, the innermost a hundred times the row that is given.

    `filler` rows of records and eight times as many of None make the message, and with it what a
    decoder lets it cost, as large as they can.
    """
    levels: list[Any] = []
    for _ in range(30):
        levels += [lists(Kind.LIST, 0, 2), union(1, [(0, 0), (0, 0)])]
    record = node(Kind.TUPLE_RECORD, filler, extras=varint(7))
    return message(
        union(2, [(0, 0)]),
        levels[0],
        record,
        levels[1],
        *[node(Kind.NULL, filler, bytes((filler + 7) // 8))] * 7,
        *levels[2:],
        lists(Kind.LIST, 0, 100),
        union(1, [(0, 0)] * 100),
        *row,
        **tables,
    )


def names_of(fields: int) -> bytes:
    return varint(fields) + b"".join(text(f"f{i}") for i in range(fields))


NONE = node(Kind.NULL, 1, b"\0")
ROWS: dict[str, Any] = {
    "None": [NONE],
    "record": [node(Kind.DICT_RECORD, 1, extras=names_of(1)), NONE],
    "records of 6": [node(Kind.DICT_RECORD, 1, extras=names_of(6)), *[NONE] * 6],
    "records of 11": [node(Kind.DICT_RECORD, 1, extras=names_of(11)), *[NONE] * 11],
    "records of 171": [node(Kind.DICT_RECORD, 1, extras=names_of(171)), *[NONE] * 171],
    "tuple": [node(Kind.TUPLE_RECORD, 1, extras=varint(1)), NONE],
    "empty list": [lists(Kind.LIST, 0, 0), node(Kind.NULL, 0)],
    "empty set": [lists(Kind.SET, 0, 0), node(Kind.NULL, 0)],
    "set": [lists(Kind.SET, 0, 1), NONE],
    "dict": [lists(Kind.DICT, 0, 1), NONE, NONE],
    "int": [node(Kind.INT16, 1, b"\0\x10")],
    "complex": [node(Kind.COMPLEX128, 1, bytes(16))],
    "str": [binary(Kind.UTF8, b"ab")],
    "bytearray": [binary(Kind.BYTEARRAY, b"")],
    "buffer": [indices(Kind.BUFFER, 0)],
}


@pytest.mark.parametrize("name", [*ROWS, "array"])
def test_memory_that_overlapping_rows_are_worth(name: str) -> None:
    tables: dict[str, Any] = {"buffers": [b""]} if name == "buffer" else {}
    if name == "array":
        shape = [1] * 31 + [0]
        tables = {"dtypes": ["<f8"], "buffers": [b""], "tensors": [(0, 0, 0, shape)]}
    data = overlapping(50_000, *ROWS.get(name, [indices(Kind.NDARRAY, 0)]), **tables)
    refused(data, "overlap")
    assert peak_of(data) < 2000 * len(data)


def test_deep_description() -> None:
    """Nodes nested as deep as a description can say."""
    depth = 200_000
    data = message(
        *[node(Kind.TUPLE_RECORD, 1, extras=varint(1)) for _ in range(depth)],
        node(Kind.NULL, 1, b"\0"),
    )
    with pytest.raises(RecursionError):
        decode_message(data)
    assert len(view(data)) == 1


def test_type_ids_are_signed() -> None:
    members = [node(Kind.NULL, 1, b"\0")] * 127
    data = node(Kind.UNION, 1, column(INT8, [-128]), column("i", [0]), extras=varint(127))
    refused(message(data, *members), "type id")


def test_large_offsets() -> None:
    def large(*offsets: int) -> bytes:
        described, columns = node(Kind.LIST, len(offsets) - 1, column(INT64, offsets))
        described = bytes([described[0] | 0x40]) + described[1:]
        return message((described, columns), node(Kind.INT8, 2, b"\1\2"))

    assert decode_message(large(0, 2)) == [1, 2]
    for offsets in ((0, 3), (-1, 1), (2**62, 2**62), (1, 0)):
        refused(large(*offsets), "offset")
