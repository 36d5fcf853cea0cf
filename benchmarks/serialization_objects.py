"""The objects that the serialization benchmark measures, and what it calls the same object.

Imported by the driver and by the workers of every peer, each in an environment of
its own: only numpy is needed, other libraries are imported by the rows that use them.
"""

from __future__ import annotations

import json
import os
import random
import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

# The driver decompresses the document once and names the file here, so that
# the peers' environments need not have the package that it comes from.
DOCUMENT_VARIABLE = "PYRAY_BENCHMARK_DOCUMENT"


@dataclass
class Row:
    """One line of the table: how to make the object and how to describe it."""

    title: str
    make: Callable[[], Any]
    # Microseconds, not milliseconds: timed in an inner loop, memory not measured.
    small: bool = False
    # Called with (original, copy) in place of the general comparison.
    same: Callable[[Any, Any], bool] | None = None


@dataclass
class Reading:
    """An element of the dataclass row."""

    station: int
    name: str
    value: float
    flags: list


ARRAYS = 100
ARRAY_ITEMS = 50_000


def array_list(count: int = ARRAYS) -> list:
    generator = np.random.default_rng(1)
    return [generator.standard_normal(ARRAY_ITEMS) for _ in range(count)]


def array_dict() -> dict:
    return {f"weight-{i}": array for i, array in enumerate(array_list())}


def sets() -> dict:
    return {i: {f"string1{i}", f"string2{i}"} for i in range(100_000)}


def strings() -> list:
    return [f"string{i}" for i in range(200_000)]


def floats() -> list:
    generator = random.Random(2)
    return [generator.random() for _ in range(1_000_000)]


def records() -> list:
    return [{"id": i, "name": f"name{i}", "x": i * 0.5, "tags": ["a", "b"]} for i in range(100_000)]


def tuples() -> list:
    return [(i, str(i), i * 0.5, None, True) for i in range(200_000)]


def readings() -> list:
    return [Reading(i, f"name{i}", i * 0.5, [i, i + 1]) for i in range(100_000)]


def dataframe():
    import pandas as pd

    generator = np.random.default_rng(3)
    length = 1_000_000
    columns = {f"x{i}": generator.standard_normal(length) for i in range(10)}
    numbers = generator.integers(0, 1000, length)
    columns["city"] = [f"city {n}" for n in numbers]
    columns["code"] = [f"{i:07d}" for i in range(length)]
    return pd.DataFrame(columns)


def document() -> Any:
    with open(os.environ[DOCUMENT_VARIABLE], "rb") as file:
        return json.loads(file.read())


def closure() -> types.FunctionType:
    scale, offsets = 2.5, [1, 2, 3]

    def outer(a):
        bias = {"a": a}

        def middle(b):
            weights = np.arange(4.0)

            def inner(c):
                return scale * c + b + bias["a"] + sum(offsets) + float(weights.sum())

            return inner

        return middle

    return outer(1)(2)


def state_dict():
    import torch

    torch.manual_seed(4)
    layers = []
    for _ in range(24):
        layers += [torch.nn.Linear(512, 512), torch.nn.LayerNorm(512)]
    return torch.nn.Sequential(*layers).state_dict()


def same_closure(a: Any, b: Any) -> bool:
    return type(b) is types.FunctionType and a(3) == b(3) and a.__qualname__ == b.__qualname__


def same_state_dict(a: Any, b: Any) -> bool:
    import torch

    return (
        type(a) is type(b)
        and list(a) == list(b)
        and all(type(a[k]) is type(b[k]) and torch.equal(a[k], b[k]) for k in a)
        # torch keeps the versions of the layers in an attribute of the dict.
        and getattr(a, "_metadata", None) == getattr(b, "_metadata", None)
    )


def same_dataframe(a: Any, b: Any) -> bool:
    import pandas as pd

    if type(a) is not type(b):
        return False
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    return True


# Equal values of these, of the same type, are the same.
SCALARS = {type(None), bool, int, float, str, bytes}


def same(a: Any, b: Any) -> bool:
    """Whether two trees are equal in values and in every type."""
    if type(a) is not type(b):
        return False
    if type(a) in SCALARS:
        return a == b
    if isinstance(a, (list, tuple)):
        types_in_a = list(map(type, a))
        if set(types_in_a) <= SCALARS:  # a million numbers, at the speed of C
            return a == b and types_in_a == list(map(type, b))
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, (set, frozenset)):
        return a == b and {type(item) for item in a} == {type(item) for item in b}
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b


ROWS: dict[str, Row] = {
    # The four of the Ray and Arrow article of 2017.
    "array-list": Row("list of 100 float64 arrays of 50,000", array_list),
    "array-dict": Row("dict of 100 such arrays", array_dict),
    "sets": Row("dict of 100,000 int to set of 2 str", sets),
    "strings": Row("list of 200,000 str", strings),
    # Plain Python.
    "ints": Row("list of 1,000,000 int", lambda: list(range(1_000_000))),
    "floats": Row("list of 1,000,000 float", floats),
    "dicts": Row("list of 100,000 dict of 4 keys", records),
    "tuples": Row("list of 200,000 tuple of 5", tuples),
    "dataclasses": Row("list of 100,000 dataclass instances", readings),
    "document": Row("JSON document of 4 MB (the EC2 API)", document),
    # Libraries.
    "dataframe": Row(
        "DataFrame, 10 float and 2 str columns of 1,000,000", dataframe, same=same_dataframe
    ),
    "state-dict": Row("torch state_dict of 48 layers", state_dict, same=same_state_dict),
    # Small ones.
    "closure": Row("closure of 3 levels", closure, small=True, same=same_closure),
    "mixed-array": Row(
        "[(1, 2), 'hello', 3, 4, np.array([5., 6.])]",
        lambda: [(1, 2), "hello", 3, 4, np.array([5.0, 6.0])],
        small=True,
    ),
    "mixed": Row(
        "[(1, 2), 'hello', 3, 4, {'a': 1.5}]",
        lambda: [(1, 2), "hello", 3, 4, {"a": 1.5}],
        small=True,
    ),
    "int": Row("a bare int", lambda: 12345, small=True),
}
