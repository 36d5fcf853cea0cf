"""Objects of every native type and common reduced ones, for the tests of the Arrow export."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import uuid

import numpy as np


class Point:
    """An instance with attributes; importable, so that its class is a global."""

    def __init__(self, x, y):
        self.x = x
        self.y = y

    def __eq__(self, other):
        return type(other) is Point and (self.x, self.y) == (other.x, other.y)

    __hash__ = None


def nested_lists(depth):
    made = 0
    for i in range(depth):
        made = [made, i]
    return made


def nested_dicts(depth):
    made = {}
    for i in range(depth):
        made = {"below": made, "depth": i, (1, i): None}
    return made


def nested_tuples(depth):
    made = ()
    for _ in range(depth):
        made = (made,)
    return made


SHARED_TEXT = "a string met twice"
SHARED_LIST = [1]
EXAMPLE = [(1, 2), "hello", 3, 4, np.array([5.0, 6.0])]

#: Name -> object that JavaScript can rebuild and that equals what comes back.
NATIVE = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "int8": -128,
    "int16": 128,
    "int32": 2**31 - 1,
    "int64": -(2**63),
    "bigint": 2**63,
    "huge": -(2**200),
    "float": -1.5,
    "infinity": float("inf"),
    "negative zero": -0.0,
    "complex": 1 - 2j,
    "empty str": "",
    "str": "héllo \N{GRINNING FACE}",
    "surrogates": "\ud800x\N{GRINNING FACE}é\udfff",
    "bytes": b"\x00\xff",
    "large bytes": bytes(range(256)) * 16,
    "bytearray": bytearray(b"abc"),
    "large bytearray": bytearray(5000),
    "empty list": [],
    "empty tuple": (),
    "empty dict": {},
    "empty set": set(),
    "empty frozenset": frozenset(),
    "list in list": [[]],
    "bools": [True, False, True] * 7,
    "nones": [None] * 10,
    "ints": list(range(200)),
    "wide ints": [1, 2**40, -(2**62)],
    "mixed ints": [1, 2**70, -1],
    "floats": [0.5, float("-inf"), 1e300],
    "complexes": [1j, 2 + 0.5j],
    "strings": ["a", "bc", "", "é"],
    "same string": [SHARED_TEXT, "other", SHARED_TEXT],
    "string in two columns": [SHARED_TEXT, {SHARED_TEXT: [SHARED_TEXT, 1]}],
    "many bytes": [b"a", b"", b"ccc"],
    "sets": [{1, 2}, {3}, set()],
    "set of strings": {"a"},
    "frozenset": frozenset({1.5}),
    "list of lists": [[1, 2], [3], [], ["a"], [1.0], [None, 1], [[True]]],
    "long tuple": tuple(range(20)),
    "tuples": [(1, "a"), (2, "b"), (3, "c")],
    "ragged tuples": [(1,), (1, 2), ("x", None, ())],
    "dict": {1: 2, 3: 4},
    "dict of None": {None: 1},
    "dict with None": {None: 1, 2: 3, "x": None},
    "dict of tuples": {(1, 2): "a", (3, 4): "b"},
    "record": {"a": 1, "b": [1, 2]},
    "records": [{"a": i, "b": str(i), "c": [i] * (i % 3)} for i in range(50)],
    "padded records": [({"a": True}, None) for _ in range(300)],
    "padded before a buffer": [[{"a": True} for _ in range(300)], bytes(5000)],
    "nul in names": [{"a\0b": 1, "a\0c": 2}, {"a\0b": 3, "a\0c": 4}],
    "odd names": [{"": 1, "é": 2, "item": 3}, {"": 4, "é": 5, "item": 6}],
    "nested records": {"x": {"y": {"z": [1, {"q": 2}]}}},
    "json": [{"id": i, "tags": ["x", "y"], "at": {"lat": 0.5, "lon": i}} for i in range(5)],
    "everything": [1, "a", None, 2.0, True, 1j, b"x", (), [], {}, set(), 2**99, "\udc00"],
    "deep lists": nested_lists(150),
    "deep dicts": nested_dicts(40),
    "deep tuples": nested_tuples(120),
    "shared list": [SHARED_LIST, SHARED_LIST, (SHARED_LIST,)],
}

#: Name -> object that is made by a call, or that refers to a class or function.
REDUCED = {
    "class": int,
    "function": len,
    "classes": [int, str, len],
    "instance": Point(1, [2]),
    "instances": [Point(i, str(i)) for i in range(10)],
    "mixed instances": [Point(1, "a"), 5, datetime.date(2020, 1, 1), uuid.UUID(int=7)],
    "datetime": datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    "decimal": decimal.Decimal("1.5"),
    "fractions": [fractions.Fraction(1, 3), fractions.Fraction(2, 3)],
    "ordered dict": collections.OrderedDict(b=1, a=2),
    "deque": collections.deque([1, 2, "x"]),
    "counter": collections.Counter("abca"),
    "defaultdict": collections.defaultdict(list, {1: [2]}),
    "range": range(3),
    "slice": slice(1, None),
    "ellipsis": Ellipsis,
}

#: Name -> tensors, which are compared with their dtype and order.
TENSORS = {
    "float64": np.arange(10.0),
    "float32": np.arange(6, dtype="f4").reshape(2, 3),
    "float16": np.arange(3, dtype="f2"),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint8": np.arange(256).astype("u1"),
    "bool": np.array([True, False, True]),
    "complex128": np.array([1 + 2j, 3.5]),
    "datetime": np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
    "text": np.array(["ab", "c"]),
    "raw": np.array([b"ab", b"c"]),
    "big-endian": np.arange(4, dtype=">i4"),
    "0-d": np.array(3.5),
    "empty": np.zeros((2, 0)),
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "3-d": np.arange(24, dtype="i2").reshape(2, 3, 4),
}

ALL = {
    **NATIVE,
    **REDUCED,
    **TENSORS,
    "example": EXAMPLE,
    "list of tensors": list(TENSORS.values()),
}
