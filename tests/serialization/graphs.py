"""Random object graphs with sharing and cycles, and whether two graphs are the same.

`graphs()` is a hypothesis strategy; `random_graph(seed)` makes the same kind of graph much faster
and does not shrink. `difference(a, b)` says where two graphs differ, in values, types or in which
of their parts are one object.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import random
import struct
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pickle import PickleBuffer
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

# -- classes of the graphs -------------------------------------------------------------------


class Plain:
    """Attributes in `__dict__`, nothing else."""


class Other:
    """A second such class."""


class Slots:
    __slots__ = ("left", "right")


class SlotsAndDict(Slots):
    """State is a tuple of two dicts."""


@dataclass
class Record:
    name: Any = ""
    size: Any = 0
    items: Any = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    x: Any = 0
    y: Any = ""


class WithState:
    """A state of its own making."""

    def __getstate__(self) -> Any:
        return ["state", dict(self.__dict__)]

    def __setstate__(self, state: Any) -> None:
        assert state[0] == "state"
        self.__dict__.update(state[1])


class Holder:
    """Rebuilt by a call with its content, which may contain the holder."""

    def __init__(self, content: Any = None) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return Holder, (self.content,)


class Reduced:
    """Uses all parts of a reduction but the setter."""

    def __init__(self, tag: Any = None) -> None:
        self.tag = tag
        self.items: list[Any] = []
        self.pairs: list[Any] = []
        self.state: Any = None

    def append(self, item: Any) -> None:
        self.items.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Reduced, (self.tag,), self.state, iter(self.items), iter(self.pairs)


def set_content(obj: WithSetter, content: Any) -> None:
    obj.content = content


class WithSetter:
    content: Any = None

    def __reduce__(self) -> Any:
        return WithSetter, (), self.content, None, None, set_content


class ListSubclass(list):
    pass


class DictSubclass(dict):
    pass


class SetSubclass(set):
    pass


class TupleSubclass(tuple):
    pass


class IntSubclass(int):
    pass


class StrSubclass(str):
    pass


class Point(NamedTuple):
    x: Any
    y: Any


class Color(enum.Enum):
    RED = 1
    GREEN = "green"


class Bits(enum.IntFlag):
    A = 1
    B = 2


def function(x: Any) -> Any:
    return x


GLOBALS = (
    len, print, function, Plain, Slots, Color, dict, datetime.datetime, collections.OrderedDict,
    Point, np.add, np.float32, np.ndarray, ..., NotImplemented,
)  # fmt: skip

# -- choosing --------------------------------------------------------------------------------


class Chooser:
    """Where the choices come from: hypothesis, which shrinks them, or a random generator."""

    def __init__(self, below: Callable[[int], int]) -> None:
        #: A number from 0 to n - 1; 0 is the simplest choice.
        self.below = below

    def of(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def chance(self, one_in: int) -> bool:
        return self.below(one_in) == one_in - 1


def _fresh(text: str) -> str:
    """The same text as a new object; CPython keeps strings of one character."""
    return text[:1] + text[1:] if len(text) > 1 else text


INTS = (
    0, 1, -1, 5, 127, 128, -128, -129, 255, 2**15 - 1, 2**15, -(2**15), -(2**15) - 1, 2**31 - 1,
    2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 2**200,
    -(2**99),
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.5, -1e300, 5e-324, float("inf"), float("-inf"), float("nan"))
COMPLEXES = (0j, complex(-0.0, 1), complex(float("nan"), float("inf")))
STRINGS = (
    "", "a", "b", "é", "name", "key", "value", "日本", "😀", "x😀y", "\x00", "a\x00b", "\ud800",
    "a\udfff", "\ud83d\ude00", "word " * 30,
)  # fmt: skip
BYTES = (b"", b"a", b"\x00\xff", b"bytes" * 7, b"q" * 4095, b"q" * 4096, b"z" * 5000)
NAMES = ("a", "b", "name", "size", "value", "é", "x y")
DTYPES = (
    "f8", "i4", "u1", "?", "c16", ">i2", "f2", "M8[ns]", "m8[s]", "U3", "S2", "V5", "g", "<M8[2D]",
)  # fmt: skip


def make_array(choose: Chooser) -> Any:
    """An ndarray of some dtype, shape and order; sometimes one that has no buffer."""
    if choose.chance(8):
        return np.array([1, "two", None], dtype=object)
    if choose.chance(8):
        return np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])
    dtype = np.dtype(choose.of(DTYPES))
    shape = choose.of(((3,), (0,), (), (2, 3), (3, 2, 2), (1, 4), (2, 0)))
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    data = np.arange(n_bytes, dtype="u4") * 7 % 120
    if dtype.kind == "U":  # all code points must be valid
        data = np.resize(np.array([65, 0, 0, 0], "u1"), n_bytes)
    made = np.frombuffer(data.astype("u1").tobytes(), "u1").copy().view(dtype).reshape(shape)
    order = choose.below(4)
    if order == 1:
        return np.asfortranarray(made)
    if order == 2:
        return made.T
    # pickle loses the byte order of an array that is not contiguous
    return made[..., ::2] if order == 3 and made.ndim and dtype.isnative else made


def make_leaf(choose: Chooser) -> Any:
    """A value without parts."""
    kind = choose.below(20)
    if kind <= 3:
        return choose.of(INTS)
    if kind <= 7:
        return _fresh(choose.of(STRINGS))
    if kind == 8:
        return choose.of((None, True, False))
    if kind <= 10:
        return choose.of(FLOATS)
    if kind == 11:
        return choose.of(COMPLEXES)
    if kind == 12:
        return choose.of(BYTES)[:]
    if kind == 13:
        return bytearray(choose.of(BYTES))
    if kind == 14:
        return make_array(choose)
    if kind == 15:
        return choose.of(GLOBALS)
    if kind == 16:
        return PickleBuffer(choose.of((bytes, bytearray))(choose.of(BYTES)))
    return make_stdlib(choose)


def make_stdlib(choose: Chooser) -> Any:
    """A value of a class that is not ours."""
    return choose.of(
        (
            lambda: datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
            lambda: datetime.date(2021, 1, 1),
            lambda: datetime.timedelta(1, 2, 3),
            lambda: datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
            lambda: decimal.Decimal("1.50"),
            lambda: fractions.Fraction(1, 3),
            lambda: Color.GREEN,
            lambda: Bits.A | Bits.B,
            lambda: IntSubclass(7),
            lambda: StrSubclass("text"),
            lambda: range(1, 9, 2),
            lambda: slice(1, None, 2),
            lambda: np.float32(1.5),
            lambda: np.dtype("f4"),
            lambda: array.array("i", [1, 2]),
            lambda: Frozen(1, "frozen"),
            lambda: frozenset(),
            lambda: (),
        )
    )()


def make_hashable(choose: Chooser, depth: int = 2) -> Any:
    """A value that may be a key; its hash depends on nothing that is decoded late."""
    kind = choose.below(10)
    if kind == 7 and depth:
        return tuple(make_hashable(choose, depth - 1) for _ in range(choose.below(4)))
    if kind == 8 and depth:
        return frozenset(make_hashable(choose, depth - 1) for _ in range(choose.below(4)))
    if kind == 9:
        return choose.of((Color.RED, Frozen(2, "key"), IntSubclass(9), Plain(), function, Plain))
    if kind == 6:
        return choose.of((None, True, 1.5, b"bytes", 2**70, 1j, "a\ud800"))
    if kind >= 4:
        return choose.of(INTS)
    return _fresh(choose.of(STRINGS))


# -- graphs ----------------------------------------------------------------------------------


class Grower:
    """Grows one graph. Containers are known before they are filled, so that cycles arise."""

    def __init__(self, choose: Chooser, size: int) -> None:
        self.choose = choose
        self.left = size
        self.made: list[Any] = []

    def graph(self) -> Any:
        wanted = not self.choose.chance(10)
        root = self.choose.of(self.CONTAINERS)(self, 5) if wanted else self.value(5)
        containers = [obj for obj in self.made if type(obj) in (list, dict, Plain, Holder)]
        for _ in range(self.choose.below(4)):
            if containers:
                self.connect(self.choose.of(containers), self.choose.of(self.made))
        return root

    def connect(self, container: Any, obj: Any) -> None:
        """One more edge, to anything: also from inside a tuple to itself."""
        if type(container) is list:
            container.append(obj)
        elif type(container) is dict:
            container["edge"] = obj
        else:
            # A holder that leads to itself through holders and tuples alone cannot be pickled.
            target = container if type(container) is Plain else Plain()
            target.edge = obj  # type: ignore[attr-defined]

    def know(self, obj: Any) -> Any:
        self.made.append(obj)
        return obj

    def value(self, depth: int) -> Any:
        """Some value: a leaf, one that was made before, or a container of values."""
        choose = self.choose
        self.left -= 1
        if self.left < 0 or depth == 0 or choose.chance(4):
            leaf = make_leaf(choose)
            return leaf if leaf is None else self.know(leaf)
        if self.made and choose.chance(5):
            return choose.of(self.made)
        if choose.chance(4):
            return self.alike(depth)
        return choose.of(self.CONTAINERS)(self, depth - 1)

    def values(self, depth: int, most: int = 5) -> list[Any]:
        return [self.value(depth) for _ in range(self.choose.below(most))]

    # -- containers ------------------------------------------------------------------------

    def a_list(self, depth: int) -> Any:
        made = self.know(self.choose.of((list, list, list, ListSubclass, collections.deque))())
        for _ in range(self.choose.below(5)):
            made.append(self.value(depth))
        return made

    def a_tuple(self, depth: int) -> Any:
        size = 8 + self.choose.below(13) if self.choose.chance(8) else self.choose.below(5)
        items = [self.value(depth) for _ in range(size)]
        return self.know(self.choose.of((tuple, tuple, tuple, TupleSubclass))(items))

    def a_dict(self, depth: int) -> Any:
        makers = (dict, dict, dict, DictSubclass, collections.OrderedDict)
        factories = (int, list, None)
        if self.choose.chance(8):
            made: Any = collections.defaultdict(self.choose.of(factories))
        else:
            made = self.choose.of(makers)()
        self.know(made)
        keys = self.choose.below(4)
        for _ in range(self.choose.below(5)):
            key = make_hashable(self.choose) if keys == 3 else _fresh(self.choose.of(NAMES))
            made[self.choose.below(9) if keys == 2 else key] = self.value(depth)
        return made

    def a_set(self, depth: int) -> Any:
        items = [make_hashable(self.choose) for _ in range(self.choose.below(5))]
        return self.know(self.choose.of((set, frozenset, SetSubclass))(items))

    def an_instance(self, depth: int) -> Any:
        obj = self.know(self.choose.of((Plain, Other, WithState, SlotsAndDict))())
        for _ in range(self.choose.below(4)):
            setattr(obj, self.choose.of(NAMES), self.value(depth))
        return obj

    def a_reduced(self, depth: int) -> Any:
        obj = Reduced(self.value(depth))
        self.know(obj)
        obj.items = self.values(depth)
        obj.pairs = [(make_hashable(self.choose), self.value(depth)) for _ in obj.items]
        if self.choose.chance(2):
            obj.state = self.value(depth)
        return obj

    def a_holder(self, depth: int) -> Any:
        """A holder of a list that the holder may be in."""
        content: list[Any] = []
        holder = self.know(Holder(content))
        for _ in range(self.choose.below(3)):
            content.append(self.value(depth))
        return holder

    def an_other(self, depth: int) -> Any:
        choice = self.choose.below(7)
        if choice == 0:
            slots = self.know(Slots())
            slots.left = self.value(depth)
            return slots
        if choice == 1:
            with_setter = self.know(WithSetter())
            with_setter.content = self.value(depth)
            return with_setter
        made = self.value(depth), self.value(depth)
        return self.know(
            (
                lambda: Point(*made),
                lambda: functools.partial(function, *made),
                lambda: types.SimpleNamespace(a=made[0], b=made[1]),
                lambda: Record(*made),
                lambda: ValueError(*made),
            )[choice - 2]()
        )

    CONTAINERS = (
        a_list, a_list, a_tuple, a_tuple, a_dict, a_dict, an_instance, a_set, a_reduced, a_holder,
        an_other,
    )  # fmt: skip

    # -- many of a kind --------------------------------------------------------------------

    def alike(self, depth: int) -> Any:
        """A container of values of one shape, sometimes with one that does not fit."""
        make = self.shape(depth - 1)
        items = [make() for _ in range(self.choose.below(8))]
        if items and self.choose.chance(3):
            items[self.choose.below(len(items))] = self.value(depth - 1)
        form = self.choose.below(4)
        if form <= 1:
            return self.know(items)
        return self.know(tuple(items) if form == 2 else dict(enumerate(items)))

    def shape(self, depth: int) -> Callable[[], Any]:
        """A maker of values of one shape."""
        choose = self.choose
        kind = choose.below(10)
        if kind <= 5 or depth <= 0:
            return choose.of(
                (
                    lambda: choose.of(INTS[:-7]),
                    lambda: choose.of(FLOATS),
                    lambda: _fresh(choose.of(STRINGS[:8])),
                    lambda: choose.of(STRINGS),
                    lambda: choose.below(2) == 1,
                    lambda: choose.of(BYTES[:4]),
                    lambda: choose.of(COMPLEXES),
                )
            )
        shapes = [self.shape(depth - 1) for _ in range(1 + choose.below(3))]
        if kind == 6:
            return lambda: tuple(shape() for shape in shapes)
        if kind == 7:
            return lambda: {name: shape() for name, shape in zip(NAMES, shapes)}
        if kind == 8:
            return lambda: [shapes[0]() for _ in range(choose.below(4))]
        cls = choose.of((Plain, Other, Record))

        def instance() -> Any:
            obj = cls()
            for name, shape in zip(NAMES, shapes):
                setattr(obj, name, shape())
            return obj

        return instance


@st.composite
def graphs(draw: Callable[[Any], Any], size: int = 30) -> Any:
    """A strategy of graphs of up to about `size` values."""
    numbers: dict[int, Any] = {}

    def below(n: int) -> int:
        if n not in numbers:
            numbers[n] = st.integers(0, n - 1)
        return draw(numbers[n])

    return Grower(Chooser(below), size).graph()


def random_graph(seed: int, size: int = 30) -> Any:
    """A graph that depends on the seed alone."""
    generator = random.Random(seed)
    return Grower(Chooser(lambda n: int(generator.random() * n)), size).graph()


# -- sameness --------------------------------------------------------------------------------


class Differs(Exception):
    """Two graphs are not the same; the text says where."""


def difference(a: Any, b: Any) -> str | None:
    """Where the graphs differ, None if they do not.

    Same are graphs of equal values, of exactly the same types, in which two places lead to one
    object in one graph if and only if they do in the other. Of immutable objects only those that
    were one must be one, and strings need not.
    """
    try:
        _Comparison().compare(a, b, "obj")
    except Differs as error:
        return str(error)
    return None


def same_graph(a: Any, b: Any) -> bool:
    return difference(a, b) is None


_VIEW_TYPES = {"memoryview", "Buffer"}
_CONSTANT_TYPES = (
    type, types.FunctionType, types.BuiltinFunctionType, enum.Enum, np.ufunc, types.ModuleType,
    type(None), bool, type(...), type(NotImplemented),
)  # fmt: skip


class _Comparison:
    def __init__(self) -> None:
        self.there: dict[int, Any] = {}
        self.back: dict[int, Any] = {}
        self.keep_alive: list[Any] = []

    def compare(self, a: Any, b: Any, path: str) -> None:
        if isinstance(a, _CONSTANT_TYPES):
            self.require(a is b, path, a, b)
        elif isinstance(a, PickleBuffer):
            # pickle makes bytes or bytearray of it, pyray a view
            self.require(a.raw() == memoryview(b).cast("B"), path, a, b)
        elif type(a).__name__ in _VIEW_TYPES and type(b).__name__ in _VIEW_TYPES:
            self.require(bytes(a) == bytes(b), path, a, b)
        else:
            self.require(type(a) is type(b), path, type(a), type(b))
            if not self.met(a, b, path):
                self.compare_parts(a, b, path)

    def require(self, condition: bool, path: str, a: Any, b: Any) -> None:
        if not condition:
            raise Differs(f"{path}: {a!r:.200} became {b!r:.200}")

    def met(self, a: Any, b: Any, path: str) -> bool:
        """Whether the two were compared before; whether they are one in both graphs."""
        constant = type(a) is tuple and not a
        if constant or isinstance(a, (int, float, complex, str, np.dtype)):
            return False
        immutable = type(a) in (tuple, frozenset, bytes)
        if id(a) in self.there:
            self.require(self.there[id(a)] is b, path, "one object", "two")
            return True
        if not immutable:
            self.require(id(b) not in self.back, path, "two objects", "one")
            self.back[id(b)] = a
        self.there[id(a)] = b
        self.keep_alive.append((a, b))
        return False

    def compare_parts(self, a: Any, b: Any, path: str) -> None:
        cls = type(a)
        if cls is float:
            self.require(struct.pack("d", a) == struct.pack("d", b), path, a, b)
        elif cls is complex:
            same = struct.pack("dd", a.real, a.imag) == struct.pack("dd", b.real, b.imag)
            self.require(same, path, a, b)
        elif isinstance(a, np.dtype):
            self.require(a == b and a.str == b.str, path, a, b)
        elif cls in (int, str, bytes, bytearray):
            self.require(a == b, path, a, b)
        elif cls is list or cls is tuple:
            self.compare_items(a, b, path)
        elif cls is dict:
            self.compare_items(list(a), list(b), f"{path}.keys")
            for key, value, other in zip(a, a.values(), b.values()):
                self.compare(value, other, f"{path}[{key!r:.40}]")
        elif isinstance(a, (set, frozenset)):
            self.compare_sets(a, b, path)
        elif cls is np.ndarray and not a.dtype.hasobject:
            self.compare_arrays(a, b, path)
        else:
            self.compare_reductions(a, b, path)

    def compare_items(self, a: Any, b: Any, path: str) -> None:
        self.require(len(a) == len(b), path, a, b)
        for position, (item, other) in enumerate(zip(a, b)):
            self.compare(item, other, f"{path}[{position}]")

    def compare_sets(self, a: Any, b: Any, path: str) -> None:
        """Pair the items; their order says nothing."""
        self.require(len(a) == len(b), path, a, b)
        rest = list(b)
        for item in a:
            for other in rest:
                before = self.there.copy(), self.back.copy()
                try:
                    self.compare(item, other, path)
                except Differs:
                    self.there, self.back = before
                else:
                    rest = [one for one in rest if one is not other]
                    break
            else:
                raise Differs(f"{path}: {item!r:.100} is missing")
        if hasattr(a, "__dict__"):
            self.compare(a.__dict__, b.__dict__, path)

    def compare_arrays(self, a: Any, b: Any, path: str) -> None:
        self.require(a.dtype == b.dtype and a.dtype.str == b.dtype.str, path, a.dtype, b.dtype)
        self.require(a.shape == b.shape, path, a.shape, b.shape)
        self.require(a.tobytes() == b.tobytes(), path, a, b)
        if a.flags.forc:
            self.require(a.flags.f_contiguous == b.flags.f_contiguous, path, a.flags, b.flags)

    def compare_reductions(self, a: Any, b: Any, path: str) -> None:
        ours, theirs = a.__reduce_ex__(5), b.__reduce_ex__(5)
        if isinstance(ours, str):
            self.require(a is b, path, a, b)
            return
        self.keep_alive.append((ours, theirs))
        self.require(len(ours) == len(theirs), path, ours, theirs)
        names = ("function", "arguments", "state", "list items", "dict items", "setter")
        for name, one, other in zip(names, ours, theirs):
            if name.endswith("items") and one is not None:
                one, other = list(one), list(other)
                self.keep_alive.append((one, other))
            self.compare(one, other, f"{path}.<{name}>")
