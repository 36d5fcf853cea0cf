"""The golden messages in tests/data/golden: what object each holds, and how it was made.

    python tests/serialization/make_golden.py            # adds what is missing
    python tests/serialization/make_golden.py --rewrite  # only with a change of the format

A message that is there is never written again: whoever reads version 1 reads it for ever.
ENCODED are what our encoders write; HAND_WRITTEN are what another writer may write.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import functools
import json
import operator
import struct
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from pickle import PickleBuffer
from string import Formatter
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "data" / "golden"
MANIFEST = DATA / "manifest.json"

Make = Callable[[], Any]
ENCODED: dict[str, Make] = {}


def golden(make: Make) -> Make:
    ENCODED[make.__name__] = make
    return make


def text(value: str) -> str:
    """A str object of its own: two literals in one module may be one object."""
    return "".join(list(value))


def values(**objects: Make) -> None:
    ENCODED.update(objects)


# -- scalars, section 1 ----------------------------------------------------------------------

values(
    none=lambda: None,
    false=lambda: False,
    true=lambda: True,
    int_zero=lambda: 0,
    int_byte=lambda: -128,
    int_two_bytes=lambda: 128,
    int_64_bits=lambda: -(2**63),
    int_huge=lambda: 3**200,
    float=lambda: -1.5e300,
    float_negative_zero=lambda: -0.0,
    str_empty=lambda: "",
    str=lambda: "héllo, wörld \U0001f40d",
    str_surrogates=lambda: "a\ud800b\udfff",
    bytes_empty=lambda: b"",
    bytes=lambda: bytes(range(256)),
)

# -- leaf columns, section 4 -----------------------------------------------------------------

values(
    nulls=lambda: [None] * 9,
    bools=lambda: [True, False, False, True, True, False, True, False, True],
    int8=lambda: [-128, 0, 127],
    int16=lambda: [-129, 128],
    int32=lambda: [2**15, -(2**31)],
    int64=lambda: [2**31, -(2**63), 2**63 - 1],
    bigint=lambda: [2**63, -(2**63) - 1, 10**50],
    ints_of_all_sizes=lambda: [1, 2**40, 2**70, -1],
    float64=lambda: [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324],
    complex128=lambda: [1 + 2j, complex(-0.0, float("inf"))],
    utf8=lambda: ["", "a", "two", "ünï", "日本語", "\U0001f40d" * 3, "nul\0inside"],
    surrogates=lambda: ["\ud800", "ok\udc80"],
    bytes_column=lambda: [b"", b"a", b"\0\xff"],
    bytearrays=lambda: [bytearray(), bytearray(b"xyz")],
    mixed=lambda: [None, True, 1, 2.5, 3j, "four", b"five", bytearray(b"six"), [7], (8,), {9: 9}],
)

# -- containers ------------------------------------------------------------------------------

values(
    list_empty=lambda: [],
    list_of_lists=lambda: [[], [1, 2], [], ["a", "b"], [[3.5]], [None]],
    tuple_empty=lambda: (),
    tuple_short=lambda: (1, "two", 3.0),
    tuple_long=lambda: tuple(range(20)),
    tuple_records=lambda: [(1, "one"), (2, "two"), (3, "three")],
    tuple_records_of_many_arities=lambda: [(0,) * n for n in range(1, 13)],
    sets=lambda: [set(), {1, 2, 3}, {None}],
    frozensets=lambda: [frozenset(), frozenset({1, 2, 3}), frozenset({(1, 2)})],
    dict=lambda: {1: "one", "two": 2, (3, 4): None},
    dict_empty=lambda: {},
    dict_records=lambda: [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}],
    dict_records_and_others=lambda: [
        {"id": 1, "name": "ann"},
        {"id": 2, "name": "bob"},
        {"name": "cid", "id": 3},
        {},
        {"id": 4},
        {5: "five"},
    ],
    records_padded=lambda: [{"even": n % 2 == 0, "none": {"x": None}} for n in range(300)],
    records_padded_before_buffers=lambda: [
        [(n % 3 == 0, {"x": None}) for n in range(200)],
        np.arange(10, dtype="<i8"),
    ],
    records_in_records=lambda: [
        {"at": (1.5, 2.5), "tags": {"kind": text("ab"), "size": n}, "more": [(n, n), (n, n)]}
        for n in range(3)
    ],
)

# -- references, section 7.4 -----------------------------------------------------------------


@golden
def shared_list():
    one = [1, 2, 3]
    return [one, [1, 2, 3], one, {"again": one}]


@golden
def shared_leaves():
    data, array, big, name = b"shared", bytearray(b"shared"), b"x" * 4096, "sh\udc80"
    return [data, array, big, name, data, array, big, name]


@golden
def shared_empty():
    return [(), (), b"", b"", [], []]


@golden
def repeated_strings():
    red, green = text("red"), text("green")
    return [red, green, red, red, text("blue"), green, text("red")]


@golden
def strings_shared_by_columns():
    name = text("shared")
    return {"a": [name, text("other")], "b": (name, [name, name]), name: 1}


@golden
def cyclic_list():
    a: list[Any] = [1]
    a.append(a)
    return a


@golden
def cyclic_dict():
    a: dict[Any, Any] = {}
    a["self"] = a
    a["list"] = [a, {"b": a}]
    return a


@golden
def cyclic_tuple():
    """The inner copy of the tuple and the outer one are entries of one number."""
    a: list[Any] = []
    b = (a, "b")
    a.append(b)
    return [b, a, b]


@golden
def cyclic_frozenset():
    """string.Formatter stands for any class whose instances have attributes and are hashable."""
    a: Any = Formatter()
    a.owner = frozenset([a])
    return a.owner


@golden
def cyclic_reduction():
    """A slice that is reached again while its arguments are written: two rows, one number."""
    a: Any = Formatter()
    a.slice = slice(a, None)
    return [a.slice, a]


@golden
def deferred():
    """A record of 32 records of 32 columns leaves no room: the lists after it are deferred."""
    last = ["the last"]
    row: dict[str, Any] = {f"a{i}": {f"b{j}": i * j for j in range(32)} for i in range(31)}
    row["late"] = [["one"], (last, {"tuple": [2.5]}), last, {1: row}]
    return [row, {"other": last}]


# -- globals, instances, reductions ----------------------------------------------------------


class Reduces:
    """Reduces to what it is told to; the message knows nothing of this class."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return self.value


#: What a message makes, where that is not what was encoded.
EXPECTED: dict[str, Make] = {
    "reduce_setter": lambda: [1, 2, "s"],
    "reduce_all_parts": lambda: ["zero", 2, "s"],
    "reduce_by_an_object": lambda: (3, 2),
}

values(
    globals=lambda: [len, int, collections.OrderedDict, len, operator.itemgetter],
    global_alone=lambda: collections.OrderedDict,
    instances=lambda: [Namespace(x=n, y=str(n) * 2) for n in range(3)],
    instances_of_two_shapes=lambda: [Namespace(x=1), Namespace(y=[2], z=Namespace(x=3))],
    reduce_arguments=lambda: [decimal.Decimal("1.50"), decimal.Decimal("-Infinity")],
    reduce_list_items=lambda: [collections.deque([1, 2, 3]), collections.deque(["a"], maxlen=5)],
    reduce_dict_items=lambda: collections.OrderedDict([("b", 1), ("a", [2])]),
    reduce_counter=lambda: collections.Counter({"a": 3, "b": 1}),
    reduce_default_dict=lambda: collections.defaultdict(list, {1: [2]}),
    reduce_state=lambda: functools.partial(int, base=2),
    reduce_setter=lambda: Reduces((list, (), ["s"], iter([1, 2]), None, operator.iconcat)),
    reduce_all_parts=lambda: Reduces(
        (
            functools.partial(list, ()),
            (),
            ["s"],
            iter([1, 2]),
            iter([(0, "zero")]),
            operator.iconcat,
        )
    ),
    reduce_by_an_object=lambda: Reduces((functools.partial(divmod, 17), (5,))),
    dates=lambda: [
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 30, 15, 999999, tzinfo=datetime.timezone.utc),
        datetime.timedelta(days=-1, microseconds=1),
    ],
    range_slice_and_friends=lambda: [range(1, 10, 3), slice(1, None), Ellipsis, NotImplemented],
    exception=lambda: ValueError("what", 42),
)

# -- arrays and buffers, section 5 -----------------------------------------------------------

DTYPES = (
    "?,i1,<i2,<i4,<i8,u1,<u2,<u4,<u8,<f2,<f4,<f8,<c8,<c16,>i4,>f8,>u2,"
    "<M8[ns],<M8[D],<m8[us],S5,<U3,>U2,V4"
)


def numbers(dtype: str) -> Any:
    """Six bytes a value, then cut into the dtype: no two alike, none a NaN."""
    dtype_ = np.dtype(dtype)
    return np.resize(np.arange(65, 65 + 24, dtype="u1"), 6 * dtype_.itemsize).view(dtype_)


values(
    arrays_of_all_dtypes=lambda: [
        numbers(name) if name != "?" else np.array([True, False, True])
        for name in DTYPES.split(",")
    ],
    arrays_of_all_orders=lambda: [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        np.array(7, "<i2"),
        np.zeros((0, 3), "<f4"),
        np.zeros((2, 0, 5), "S3"),
        np.zeros((1,) * 12, "u1"),
    ],
    array_alone=lambda: np.arange(5, dtype="<i4"),
    arrays_in_records=lambda: [{"x": np.arange(n, dtype="<f4"), "n": n} for n in range(3)],
    array_structured=lambda: np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")]),
    large_bytes=lambda: [bytes(range(256)) * 16, bytearray(4097), b"small"],
    buffers=lambda: [PickleBuffer(b"read-only"), PickleBuffer(bytearray(b"writable"))],
)


@golden
def shared_array():
    a = np.arange(3, dtype="<i8")
    return [a, {"again": a}]


#: Messages whose buffers travel beside them, in DATA/NAME.0, DATA/NAME.1, ...
OUT_OF_BAND: dict[str, Make] = {
    "out_of_band_arrays": lambda: [
        np.arange(4, dtype="<i4"),
        np.asfortranarray(np.arange(6, dtype="<f8").reshape(2, 3)),
        np.array(["2024-02-29"], "<M8[D]"),
    ],
    "out_of_band_buffers": lambda: [
        PickleBuffer(b"read-only"),
        PickleBuffer(bytearray(b"writable")),
        b"x" * 4096,
    ],
}

# -- what no encoder of ours writes ----------------------------------------------------------


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def words(value: str) -> bytes:
    return varint(len(value.encode())) + value.encode()


def pad(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


LARGE = 0x40


@dataclass
class Node:
    """A node by hand: struct codes and values of its columns, or bytes of a data column."""

    kind: int
    rows: int
    columns: list[tuple[str, list[int]] | bytes] = field(default_factory=list)
    extras: bytes = b""


def by_hand(
    nodes: list[Node],
    *,
    names: list[tuple[str, str]] | None = None,
    memo: list[tuple[int, int, int]] | None = None,
    buffers: list[bytes] | None = None,
    behind: bytes = b"",
) -> bytes:
    """A columns message, by docs/format.md and not by our code."""
    names, memo, buffers = names or [], memo or [], buffers or []
    description = b"".join(map(varint, [len(nodes), len(names), 0, 0, 0, len(buffers), len(memo)]))
    for node in nodes:
        description += bytes([node.kind]) + varint(node.rows) + node.extras
    for module, name in names:
        description += words(module) + words(name)
    body = pad(bytes(16) + description, 8)
    for node in nodes:
        for column in node.columns:
            if not isinstance(column, bytes):
                code, cells = column
                column = struct.pack(f"<{len(cells)}{code}", *cells)
            body = pad(body + column, 8)
    if buffers:
        starts, at = [], 0
        for buffer in buffers:
            starts.append(at)
            at += len(pad(buffer, 64))
        body = pad(body + struct.pack(f"<{len(starts)}q", *starts), 8)
        body = pad(body + struct.pack(f"<{len(starts)}q", *map(len, buffers)), 8)
    for position, code in enumerate("iqi" if memo else ""):
        cells = [entry[position] for entry in memo]
        body = pad(body + struct.pack(f"<{len(cells)}{code}", *cells), 8)
    rows = sum(node.rows for node in nodes if 26 <= node.kind <= 29)
    body = pad(body.ljust(rows, b"\0"), 8)
    if buffers:
        body = pad(body, 64)
        for buffer in buffers:
            body += pad(buffer, 64)
    prefix = struct.pack("<BBHIQ", 0x1F, 0, 0, len(description), len(body))
    return prefix + body[16:] + behind


def large(kind: int, data: list[bytes]) -> bytes:
    """A list of one column of data, all offsets of 64 bits."""
    ends = [0]
    for item in data:
        ends.append(ends[-1] + len(item))
    joined = b"".join(data)
    return by_hand(
        [
            Node(21 | LARGE, 1, [("q", [0, len(data)])]),
            Node(kind | LARGE, len(data), [("q", ends), joined], varint(len(joined))),
        ]
    )


def large_sequence(kind: int, n_children: int = 1) -> bytes:
    """A tuple, set, ... of the numbers 1 to 3 (a dict to themselves), offsets of 64 bits."""
    children = [Node(2, 3, [("b", [1, 2, 3])]) for _ in range(n_children)]
    return by_hand([Node(kind | LARGE, 1, [("q", [0, 3])]), *children])


#: Name -> what it makes, and the message.
HAND_WRITTEN: dict[str, tuple[Make, Callable[[], bytes]]] = {
    "large_utf8": (lambda: ["a", "", "ünï"], lambda: large(8, [b"a", b"", "ünï".encode()])),
    "large_surrogates": (lambda: ["\ud800"], lambda: large(10, [b"\xed\xa0\x80"])),
    "large_bytes_column": (lambda: [b"ab", b""], lambda: large(11, [b"ab", b""])),
    "large_bytearray": (lambda: [bytearray(b"ab")], lambda: large(12, [b"ab"])),
    "large_bigint": (lambda: [2**64, -1], lambda: large(13, [bytes(8) + b"\x01", b"\xff"])),
    "large_list": (lambda: [1, 2, 3], lambda: large_sequence(21)),
    "large_tuple": (lambda: (1, 2, 3), lambda: large_sequence(22)),
    "large_set": (lambda: {1, 2, 3}, lambda: large_sequence(23)),
    "large_frozenset": (lambda: frozenset({1, 2, 3}), lambda: large_sequence(24)),
    "large_dict": (lambda: {1: 1, 2: 2, 3: 3}, lambda: large_sequence(25, 2)),
    "large_union": (
        lambda: [7, None, 8],
        lambda: by_hand(
            [
                Node(21, 1, [("i", [0, 3])]),
                Node(30 | LARGE, 3, [("b", [0, 1, 0]), ("q", [0, 0, 1])], varint(2)),
                Node(2, 2, [("b", [7, 8])]),
                Node(0, 1, [b"\0"]),
            ]
        ),
    ),
    "wide_integers": (
        lambda: [1, 2, 3],
        lambda: by_hand([Node(21, 1, [("i", [0, 3])]), Node(5, 3, [("q", [1, 2, 3])])]),
    ),
    "union_of_one": (
        lambda: [1],
        lambda: by_hand(
            [
                Node(21, 1, [("i", [0, 1])]),
                Node(30, 1, [("b", [0]), ("i", [0])], varint(1)),
                Node(2, 1, [("b", [1])]),
            ]
        ),
    ),
    "rows_in_any_order": (
        lambda: ["b", "a", "b", ["c"]],
        lambda: by_hand(
            [
                Node(21, 1, [("i", [0, 4])]),
                Node(30, 4, [("b", [1, 1, 1, 0]), ("i", [2, 0, 1, 0])], varint(2)),
                Node(21, 1, [("i", [0, 1])]),
                Node(14, 3, [("i", [1, 0, 0])]),
                Node(8, 1, [("i", [0, 1]), b"c"], varint(1)),
                Node(8, 2, [("i", [0, 1, 2]), b"ba"], varint(2)),
            ]
        ),
    ),
    "reference_before_its_object": (
        lambda: (lambda one: [one, one])([5]),
        lambda: by_hand(
            [
                Node(21, 1, [("i", [0, 2])]),
                Node(30, 2, [("b", [0, 1]), ("i", [0, 0])], varint(2)),
                Node(15, 1, [("i", [0])]),
                Node(21, 1, [("i", [0, 1])]),
                Node(2, 1, [("b", [5])]),
            ],
            memo=[(3, 0, 0)],
        ),
    ),
    "root_of_many_rows": (
        lambda: [1],
        lambda: by_hand([Node(21, 3, [("i", [0, 1, 2, 2])]), Node(2, 2, [("b", [1, 9])])]),
    ),
    "small_buffers": (
        lambda: [b"ab", bytearray(b"cd"), b""],
        lambda: by_hand(
            [
                Node(21, 1, [("i", [0, 3])]),
                Node(30, 3, [("b", [0, 1, 0]), ("i", [0, 0, 1])], varint(2)),
                Node(17, 2, [("i", [0, 2])]),
                Node(18, 1, [("i", [1])]),
            ],
            buffers=[b"ab", b"cd", b""],
        ),
    ),
    "bytes_behind": (
        lambda: [1],
        lambda: by_hand([Node(21, 1, [("i", [0, 1])]), Node(2, 1, [("b", [1])])], behind=b"more"),
    ),
    "float_with_bytes_behind": (lambda: 1.5, lambda: b"\x14" + struct.pack("<d", 1.5) + b"more"),
    "int_with_leading_zeros": (lambda: 5, lambda: b"\x13\x05\0\0"),
    "call_of_a_row": (
        lambda: 3,
        lambda: by_hand(
            [
                Node(29, 1, [], bytes([3]) + varint(0)),
                Node(16, 1, [("i", [0])]),
                Node(27, 1, [], varint(1)),
                Node(8, 1, [("i", [0, 3]), b"abc"], varint(3)),
            ],
            names=[("builtins", "len")],
        ),
    ),
}


# -- files -----------------------------------------------------------------------------------


def expected(name: str) -> Any:
    """The object that the message of that name makes."""
    if name in HAND_WRITTEN:
        return HAND_WRITTEN[name][0]()
    return (EXPECTED.get(name) or OUT_OF_BAND.get(name) or ENCODED[name])()


def write(name: str, encode: Callable[..., bytes]) -> tuple[bytes, list[bytes]]:
    """The message of that name as it is written today, and its out-of-band buffers."""
    if name in HAND_WRITTEN:
        return HAND_WRITTEN[name][1](), []
    if name in OUT_OF_BAND:
        buffers: list[bytes] = []
        message = encode(
            OUT_OF_BAND[name](), buffer_callback=lambda b: buffers.append(bytes(b.raw()))
        )
        return message, buffers
    return encode(ENCODED[name]()), []


def names() -> list[str]:
    return [*ENCODED, *OUT_OF_BAND, *HAND_WRITTEN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rewrite", action="store_true", help="write all of them again")
    rewrite = parser.parse_args().rewrite
    from pyray.serialization.message import encode_message

    DATA.mkdir(parents=True, exist_ok=True)
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.exists() and not rewrite else {}
    for name in names():
        if name in manifest:
            continue
        message, buffers = write(name, encode_message)
        for i, data in enumerate([message, *buffers]):
            (DATA / (f"{name}.{i - 1}" if i else name)).write_bytes(data)
        manifest[name] = {
            "by": "hand" if name in HAND_WRITTEN else "encoder",
            "bytes": len(message),
            "buffers": len(buffers),
            "sha256": sha256(message).hexdigest(),
        }
        print(f"{name}: {len(message)} bytes", file=sys.stderr)
    MANIFEST.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
