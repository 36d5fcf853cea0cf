"""What must not leak: every type that is carried, each way to write and read it, each way to fail.

`CASES` maps a name to a function that makes one round trip. Run as a program, this measures
cases in a process of their own; test_leaks.py starts it.

    python leak_cases.py COUNT NAME ...
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import gc
import io
import json
import os
import random
import sys
import threading
import uuid
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePosixPath
from pickle import PickleBuffer
from typing import Any, NamedTuple

import numpy as np

import pyray
from pyray.serialization import message

Case = Callable[[], object]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


# -- every type that is carried --------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Record:
    name: str
    items: list


class Slots:
    __slots__ = ("a", "b")


class Listing(list):
    pass


class Handle:
    pass


def scalars() -> Any:
    return [None, True, 5, 2**80, -1.5, 2j, "text", "ünï" * 9, "\ud800x", b"bytes", bytearray(b"x")]


def containers() -> Any:
    return [
        [1, [2.5, ["three"]]],
        (1, (2, ())),
        {"a": {"b": 1}, 2: [3]},
        {1, 2, frozenset({3})},
        [{"id": i, "name": str(i) * 3} for i in range(5)],
        [(i, str(i) * 3) for i in range(5)],
    ]


def cycles() -> Any:
    a: list[Any] = [{}]
    a[0]["a"] = a
    b = (a, [a])
    a.append(b)
    n = Namespace(a=a)
    n.n = n
    return [a, b, n, a]


def standard_library() -> Any:
    return [
        collections.deque([1, 2], 5),
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.Counter("hello"),
        range(3),
        slice(1, 2),
        ...,
        NotImplemented,
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
        datetime.timedelta(3),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        PurePosixPath("/a/b"),
        functools.partial(int, base=2),
        Point(1, 2),
        Color.RED,
        memoryview(b"abc"),
    ]


def instances() -> Any:
    s = Slots()
    s.a, s.b = [1], "two"
    listing = Listing([1, [2]])
    listing.attribute = {"k": listing}
    return [Namespace(x=1, y=[2]), Record("r", [1]), s, listing, Handle()]


def exceptions() -> Any:
    try:
        try:
            raise ValueError("inner", [1])
        except ValueError as inner:
            raise KeyError("outer") from inner
    except KeyError as error:
        found = error
    found.__traceback__ = found.__cause__.__traceback__ = None
    return found


def functions() -> Any:
    shared = [1]

    def outer(x: int = 5) -> Any:
        return lambda: (x, shared)

    class Made:
        def method(self) -> Any:
            return shared, Made

    return [outer, outer(), lambda: shared, Made(), Made().method, len, Record, os]


def arrays() -> Any:
    return [
        np.arange(10),
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.asfortranarray(np.ones((2, 3))),
        np.array(5),
        np.zeros((0, 2)),
        np.array(["a", "bc"]),
        np.array(["2024-01-01"], "M8[D]"),
        np.arange(3, dtype=">i4"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.array([None, [1]], object),
        np.ma.array([1, 2], mask=[True, False]),
        np.float64(1.5),
        np.dtype("f4"),
    ]


def buffers() -> Any:
    return [b"x" * 5000, bytearray(5000), PickleBuffer(b"abc"), PickleBuffer(bytearray(b"abc"))]


def deferred() -> Any:
    wide = {f"a{i}": {f"b{j}": j for j in range(32)} for i in range(32)}
    return [wide, {"other": [["late"], ("late", [wide])]}]


OBJECTS: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        scalars, containers, cycles, standard_library, instances, exceptions, functions, arrays,
        buffers, deferred,
    )
}  # fmt: skip


def _pandas() -> Any:
    import pandas

    frame = pandas.DataFrame(
        {"a": [1.5, 2.5], "b": ["x", "y"], "c": pandas.Categorical(["p", "q"])}
    )
    return [frame, frame["a"], frame.index]


def _scipy() -> Any:
    import scipy.sparse

    return scipy.sparse.csr_matrix(np.eye(3))


def _pyarrow() -> Any:
    import pyarrow

    return [pyarrow.table({"a": [1, 2]}), pyarrow.array(["x", None]), pyarrow.py_buffer(b"abc")]


def _polars() -> Any:
    import polars

    return polars.DataFrame({"a": [1, 2], "b": ["x", "y"]})


for name, make in {
    "pandas": _pandas,
    "scipy": _scipy,
    "pyarrow": _pyarrow,
    "polars": _polars,
}.items():
    if find_spec(name) is not None:
        OBJECTS[name] = make


def round_trip(make: Callable[[], Any]) -> Case:
    def run() -> object:
        obj = make()
        return pyray.loads(pyray.dumps(obj))

    return run


for name, make in OBJECTS.items():
    CASES[f"carries {name}"] = round_trip(make)


#: Cases whose libraries' own caches are not full after some hundred runs.
SLOW_TO_SETTLE = ["carries pandas", "carries polars", "carries pyarrow", "carries scipy", "arrow"]

# -- each way to write and read --------------------------------------------------------------


def everything() -> Any:
    return [OBJECTS[name]() for name in ("scalars", "containers", "cycles", "instances", "arrays",
                                         "buffers")]  # fmt: skip


@case
def serialized_object() -> object:
    s = pyray.serialize(everything())
    s.write_to(bytearray(s.total_bytes))
    s.write_to(io.BytesIO())
    again = pyray.SerializedObject.from_components(s.to_components())
    return again.deserialize(), s.to_buffer()


@case
def files() -> object:
    file = io.BytesIO()
    pyray.dump(everything(), file)
    pyray.dump(5, file)
    file.seek(0)
    return pyray.load(file), pyray.load(file)


@case
def out_of_band() -> object:
    taken: list[Any] = []
    data = pyray.dumps([*buffers(), np.arange(5)], buffer_callback=taken.append)
    return pyray.loads(data, buffers=taken)


@case
def views() -> object:
    view = pyray.view(pyray.dumps({"rows": containers(), "arrays": arrays(), "cycles": cycles()}))
    rows = view["rows"]
    return list(rows), rows[1:3], len(rows), view.get("none"), "rows" in view, view["arrays"][0]


@case
def view_materialized() -> object:
    return pyray.view(pyray.dumps(everything())).materialize()


@case
def arrow() -> object:
    s = pyray.serialize([1, "two", {"three": np.arange(3)}])
    out = s.to_arrow()
    stream = io.BytesIO()
    s.to_arrow_ipc(stream)
    return pyray.from_arrow(out), s.__arrow_c_array__()


@case
def registered() -> object:
    pyray.register_serializer(Handle, serializer=lambda obj: [1], deserializer=list)
    try:
        return pyray.loads(pyray.dumps([Handle(), Handle()]))
    finally:
        pyray.deregister_serializer(Handle)


@case
def context() -> object:
    made = pyray.SerializationContext()
    made.register_type(
        Handle, "handle", custom_serializer=lambda obj: [1], custom_deserializer=lambda x: Handle()
    )
    return made.deserialize(made.serialize([Handle(), Record("r", [])]).to_buffer())


@case
def inspected() -> object:
    lock = threading.Lock()
    return pyray.inspect_serializability(lambda: lock, print_file=io.StringIO())


@case
def nested_messages() -> object:
    return pyray.loads(pyray.dumps([Nested([1, "two"]), Nested([Nested(3)])]))


class Nested:
    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return _nested, (message.encode_message(self.content),)


def _nested(data: bytes) -> Nested:
    return Nested(message.decode_message(data))


# -- each way to fail ------------------------------------------------------------------------


class Failing:
    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def explode(*args: object) -> None:
    raise KeyError(*args)


def expect_failure(function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    try:
        function(*args, **kwargs)
    except Exception:
        return
    raise AssertionError(f"{function} was to fail")


@case
def failing_to_encode() -> None:
    kept = [1, "kept", np.arange(3), bytes(5000)]
    lock = threading.Lock()
    for bad in (lock, Failing(ValueError("x")), Failing(42), Failing((list, 5)), {kept[1]: lock}):
        expect_failure(pyray.dumps, [kept, {"k": [kept, ("t", kept)]}, Namespace(x=bad), kept])
        expect_failure(pyray.serialize, [cycles(), (kept, {"bad": (bad, [1])})])


@case
def failing_by_depth() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep, "x"]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)  # each level of the traceback takes its time
    try:
        expect_failure(pyray.dumps, deep)
    finally:
        sys.setrecursionlimit(limit)


@case
def failing_callback() -> None:
    expect_failure(pyray.dumps, [bytes(5000), np.arange(3)], buffer_callback=explode)


@case
def failing_to_change() -> None:
    d: dict[Any, Any] = {}
    d.update(a=[1], b=Changing(d), c=[2])
    expect_failure(pyray.dumps, [d])


class Changing:
    def __init__(self, d: dict[Any, Any]) -> None:
        self.d = d

    def __reduce__(self) -> Any:
        self.d.clear()
        return list, ()


def raising_message(*parts: Any) -> bytes:
    return pyray.dumps([containers(), arrays(), {"bad": Failing(parts)}, instances()])


RAISING = [
    raising_message(explode, (1, [2])),
    raising_message(list, (), None, None, iter([(5, 6)])),
    raising_message(list, (), 1, None, None, explode),
    raising_message(dict, (), None, iter([1, 2])),
    raising_message(Slots, (), {"no": 1}),
]


@case
def failing_while_decoding() -> None:
    for data in RAISING:
        expect_failure(pyray.loads, data)
        expect_failure(lambda: pyray.view(data).materialize())


@case
def failing_for_want_of_trust() -> None:
    expect_failure(pyray.deserialize, pyray.dumps([1, Record("r", [])]), trusted=False)


@case
def failing_for_want_of_buffers() -> None:
    data = pyray.dumps([np.arange(3), [1]], buffer_callback=lambda buffer: None)
    expect_failure(pyray.loads, data)
    expect_failure(pyray.loads, data, buffers=[b"short"])


WHOLE = pyray.dumps([scalars(), containers(), cycles(), standard_library(), instances(), arrays()])
CHOICES = random.Random(1)


@case
def hostile() -> None:
    """Messages that are altered in a few places, or cut off: some are still sound."""
    data = bytearray(WHOLE)
    for _ in range(CHOICES.randint(1, 4)):
        data[CHOICES.randrange(len(data))] = CHOICES.randrange(256)
    for altered in (data, data[: CHOICES.randrange(len(data))]):
        for read in (pyray.loads, lambda data: pyray.view(data).materialize()):
            try:
                # None but these: altered names call what they like.
                pyray.deserialize(altered, trusted=False, allow=ALLOWED)
            except Exception:
                pass


ALLOWED = [
    collections.deque, collections.OrderedDict, range, slice, Namespace, Record, Point,
    fractions.Fraction,
]  # fmt: skip

# -- the proof that the measurement can fail -------------------------------------------------

KEPT: list[Any] = []


@case
def leaking_objects() -> None:
    KEPT.append([object()])


@case
def leaking_memory() -> None:
    """Memory that Python's allocator knows nothing of, as a forgotten free would leave it."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.memset(ctypes.c_void_p(libc.malloc(4096)), 1, 4096)


LEAKING = ["leaking_objects", "leaking_memory"]


# -- measuring -------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(run: Case, count: int) -> dict[str, float]:
    """What `count` runs leave behind: blocks and references for each, bytes of memory for all.

    Of five rounds the least counts: what is left once, a cache or a freelist that grows, is in
    some of them, a leak is in all.
    """
    for _ in range(max(count // 5, 100)):
        run()
    collect()
    memory = resident()
    left: dict[str, list[float]] = {"blocks": [], "references": []}
    for _ in range(ROUNDS):
        before = counts()
        for _ in range(count // ROUNDS):
            run()
        collect()
        for name, value in counts().items():
            left[name].append((value - before[name]) / (count // ROUNDS))
    return {name: min(values) for name, values in left.items()} | {"memory": resident() - memory}


ROUNDS = 5


def counts() -> dict[str, int]:
    references = sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0
    return {"blocks": sys.getallocatedblocks(), "references": references}


def collect() -> None:
    """All garbage, also what only the callbacks of other garbage let go."""
    for _ in range(3):
        gc.collect()


def main(count: str, *names: str) -> None:
    for name in names:
        print(json.dumps([name, measure(CASES[name], int(count))]), flush=True)


if __name__ == "__main__":
    # Not this module but one that can be imported: the classes in it are to go by name.
    import leak_cases

    leak_cases.main(*sys.argv[1:])
