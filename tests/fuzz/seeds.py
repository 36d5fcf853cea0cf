"""Small messages of every kind of node, made by the encoder: what the fuzzer begins with."""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from pickle import PickleBuffer
from typing import Any

import numpy as np
import targets as t

from pyray.serialization import dumps
from pyray.serialization.reference_encoder import encode_message


def plain(cls: type = t.Plain, **attributes: Any) -> Any:
    obj = object.__new__(cls)
    obj.__dict__.update(attributes)
    return obj


def slotted(cls: type, **attributes: Any) -> Any:
    obj = cls()
    for name, value in attributes.items():
        setattr(obj, name, value)
    return obj


class Parts:
    """Reduced to whatever it is given."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def scalars() -> Iterator[Any]:
    yield from (None, True, False, 0, -1, 300, 2**40, -(2**70), 1.5, "", "a", "text", "é𝄞")
    yield from ("\ud800x", b"", b"bytes")


def leaves() -> Iterator[Any]:
    yield [None, None]
    yield [True, False, True]
    yield from ([1, 2], [300, -5], [70000], [2**40, -1], [2**70, -(2**70), 1])
    yield [1.5, 2.5j, -1j]
    yield ["a", "bc", "é", "", "bc", "\udc80"]
    yield ["repeated" if i % 2 else "other" for i in range(40)]
    yield [b"a", bytearray(b"bc"), b""]
    yield bytearray(b"abc")
    yield 3j


def containers() -> Iterator[Any]:
    yield from ([], (), {}, set(), frozenset())
    yield [[1, 2], [3], []]
    yield [(1, "a"), (2, "b"), (3, "c")]
    yield [{"a": 1, "b": 2.5}, {"a": 3, "b": 4.5}]
    yield [{"a": {"b": {"c": [1]}}}, {"a": {"b": {"c": [2, 3]}}}]
    yield {"a": 1, 2: "b", None: [1.5], (1, 2): {3}}
    yield {i: str(i) for i in range(300)}
    yield [{1, 2}, {"x"}, frozenset([1, (2, 3)])]
    yield [1, "a", None, 2.5, [1], (1,), {"k": "v"}, b"x", True, 2**70]
    yield [[[[[[1]]]]]]
    yield tuple(range(10))
    yield [{f"k{i}": i for i in range(20)} for _ in range(3)]


def shared() -> Iterator[Any]:
    item, pair, text = [1, 2], (3, [4]), "shared text"
    yield [item, item, pair, pair, text, text, {text: item}]
    cycle: list[Any] = [1]
    cycle.append(cycle)
    yield cycle
    knot: dict[str, Any] = {}
    knot["self"], knot["items"] = knot, [knot, {1}]
    yield knot
    inside: list[Any] = []
    inside.append((inside, {"t": inside}))
    yield inside
    yield (inside, inside[0])
    twins = plain(name="a")
    twins.other = plain(name="b", other=twins)
    yield [twins, twins.other, twins]
    both = frozenset([1, 2])
    yield [both, both, {both: both}, bytearray(b"x")] + [bytearray(b"same")] * 2


def objects() -> Iterator[Any]:
    yield [plain(x=i, y=str(i)) for i in range(4)]
    yield plain(inner=plain(), items=[plain(x=1)])
    yield [slotted(t.Slots, left=1, right=[2]), slotted(t.SlotsAndDict, left=1, more=2)]
    yield [t.Point(1, "a"), t.Point(2, "b")]
    yield [t.Color.RED, t.Color.GREEN, t.Color.RED]
    yield [t.ListSubclass([1, 2]), t.DictSubclass(a=1), t.TupleSubclass((1, 2))]
    yield [collections.OrderedDict(a=1), collections.deque([1, 2], 3), collections.Counter("aab")]
    yield collections.defaultdict(set, a={1})
    yield [datetime.datetime(2020, 1, 2), datetime.timedelta(1, 2), decimal.Decimal("1.5")]
    yield [functools.partial(t.identity, 1, x=2), slice(1, 2), types.SimpleNamespace(a=1)]
    yield [t.Plain, t.identity, dict, t.Plain.Inner, t.Plain]
    yield ValueError("a", 1)
    yield [Parts(t.Reduced, (1, "a"), [1], iter([1, 2]), iter([(1, 2), ("a", "b")])) for _ in "ab"]
    yield Parts(t.WithState, (), {"a": 1})
    yield [Parts(t.Plain, (), (None, {"a": 1}), None, None, t.set_content)]
    victim = [1, 2, 3]
    yield [victim, Parts(t.Eater, (victim,), {"a": victim}, iter(victim), iter([(1, victim)]))]
    yield [Parts(t.Elsewhere, (), {"a": i}) for i in range(3)]
    yield [plain(t.Elsewhere, left=i) for i in range(3)]
    yield [plain(t.Factory, x=i) for i in range(3)]
    yield [Parts(t.Guarded, (), {"x": i, "name": 1}) for i in range(2)]
    yield Parts(t.identity, ([1, {2: 3}],), None, iter([4]))
    loop: list[Any] = []
    loop.append(Parts(t.Reduced, (loop,), loop))
    yield loop


def arrays() -> Iterator[Any]:
    yield np.arange(4.0)
    yield [np.arange(6, dtype="i2").reshape(2, 3), np.zeros((3, 2), order="F", dtype="u1")]
    yield {"a": np.array(1.5), "b": np.zeros((0, 3)), "c": np.array(["a", "bcd"])}
    yield [np.array(["2020-01-01"], dtype="M8[D]"), np.zeros(2, dtype=">c8"), np.zeros(3, bool)]
    yield [np.arange(3), "x", np.arange(3), 1]
    yield [PickleBuffer(b"read only"), PickleBuffer(bytearray(b"writable"))]
    yield np.float64(1.5)


def out_of_band(obj: Any) -> bytes:
    return dumps(obj, buffer_callback=lambda buffer: None)


def messages() -> Iterator[bytes]:
    """Each of them by the compiled encoder; by the other one if that should differ."""
    for obj in (*scalars(), *leaves(), *containers(), *shared(), *objects(), *arrays()):
        message = dumps(obj)
        yield message
        slowly = encode_message(obj)
        if slowly != message:
            yield slowly
    yield out_of_band([np.arange(8.0), PickleBuffer(b"x" * 64), PickleBuffer(bytearray(64))])
    yield out_of_band([np.arange(8.0, dtype=">f8").reshape(2, 4, order="F")] * 2)
    yield dumps([b"x" * 4096, bytearray(4096)])


def main(folder: str) -> None:
    """Write each message to a file of its own."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for i, message in enumerate(messages()):
        (path / f"seed-{i:03}").write_bytes(message)


if __name__ == "__main__":
    main(sys.argv[1])
