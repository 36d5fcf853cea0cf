"""Every type of the standard library that issue 2 lists comes back as it went."""

from __future__ import annotations

import array
import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import math
import operator
import os
import pathlib
import pickle
import random
import re
import socket
import sys
import threading
import types
import typing
import uuid

import pytest

from pyray.serialization.message import dumps, loads


def trip(obj):
    return loads(dumps(obj))


# -- types defined at the top of a module, which travel by name ----------------------------------

Point = collections.namedtuple("Point", "x y")


class TypedPoint(typing.NamedTuple):
    x: int
    y: str = "default"


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Data:
    a: int
    b: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __eq__(self, other):
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __repr__(self):
        return f"Plain({self.__dict__})"

    def method(self):
        return self

    def __private(self):
        return "private"

    def bound_private(self):
        return self.__private

    @classmethod
    def make(cls):
        return cls()

    @staticmethod
    def static():
        return "static"


class Slots:
    __slots__ = ("__weakref__", "a", "b")

    def __eq__(self, other):
        return [getattr(self, n, None) for n in "ab"] == [getattr(other, n, None) for n in "ab"]


class SlotsAndDict(Slots):
    pass


class WithGetNewArgs:
    def __new__(cls, first):
        self = super().__new__(cls)
        self.first = first
        return self

    def __getnewargs__(self):
        return (self.first,)


class WithGetNewArgsEx:
    def __new__(cls, *, first):
        self = super().__new__(cls)
        self.first = first
        return self

    def __getnewargs_ex__(self):
        return (), {"first": self.first}


class WithState:
    def __getstate__(self):
        return "state"

    def __setstate__(self, state):
        self.restored = state


class ListSub(list):
    pass


class DictSub(dict):
    pass


class SetSub(set):
    pass


class TupleSub(tuple):
    pass


class StrSub(str):
    pass


class IntSub(int):
    pass


class Reduced:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return Reduced, self.parts


class Singleton:
    def __reduce__(self):
        return "SINGLETON"


SINGLETON = Singleton()


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class Outer:
    class Inner:
        pass


class CustomError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


def top_level(x):
    return x + 1


def generator_function(n):
    yield from range(n)


async def coroutine_function():
    return 1


# -- values that compare equal ---------------------------------------------------------------------

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    -(2**63),
    2**63,
    -(2**200),
    10**1000,
    0.0,
    1e308,
    math.inf,
    1 + 2j,
    "",
    "text",
    "é\U0001f600\x00",
    "\ud800lone",
    b"",
    b"\x00\xff",
    b"x" * 100_000,
    bytearray(b"abc"),
    bytearray(),
    [],
    [1, "a", None],
    (),
    (1,),
    (1, (2, (3,))),
    {},
    {"a": 1, 2: "b", None: None, (1, 2): 3},
    set(),
    {1, "a"},
    frozenset(),
    frozenset({1, "a"}),
    collections.deque([1, 2], maxlen=3),
    collections.deque(),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.defaultdict(list, {"a": [1]}),
    collections.Counter("abca"),
    collections.ChainMap({"a": 1}, {"b": 2}),
    collections.UserDict(a=1),
    Point(1, [2]),
    TypedPoint(3),
    Data(1, [2]),
    Frozen(1),
    Color.RED,
    Level.LOW,
    Permission.READ | Permission.WRITE,
    range(10),
    range(5, -5, -2),
    slice(1, None, 2),
    ...,
    NotImplemented,
    datetime.date(2020, 1, 2),
    datetime.time(1, 2, 3, 4, fold=1),
    datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
    datetime.timedelta(days=-1, microseconds=5),
    datetime.timezone(datetime.timedelta(hours=2), "name"),
    decimal.Decimal("1.50"),
    decimal.Decimal("-Infinity"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=5),
    pathlib.PurePosixPath("/a/b"),
    pathlib.Path("a"),
    array.array("d", [1.5, 2.5]),
    types.SimpleNamespace(a=1),
    types.MappingProxyType({"a": 1}),
    re.compile("a+", re.IGNORECASE),
    Plain(),
    Plain(a=1, b=[2]),
    ListSub([1]),
    DictSub(a=1),
    SetSub({1}),
    TupleSub((1, 2)),
    StrSub("s"),
    IntSub(3),
    list[int],
    typing.Optional[int],  # noqa: UP045
    int | str,
    operator.itemgetter(1),
    os.stat_result(range(10)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_value_comes_back_equal_and_of_its_type(value):
    back = trip(value)
    assert type(back) is type(value)
    if isinstance(value, (operator.itemgetter, os.stat_result)):
        assert repr(back) == repr(value)
    else:
        assert back == value
    assert repr(trip([value, value])) == repr([value, value])


def test_nan_and_negative_zero_keep_their_bits():
    assert math.isnan(trip(math.nan))
    assert math.copysign(1, trip(-0.0)) == -1
    assert math.copysign(1, trip([-0.0, 1.5])[0]) == -1


def test_bool_int_and_float_stay_apart_in_one_list():
    back = trip([True, 1, 1.0, False, 0])
    assert [type(x) for x in back] == [bool, int, float, bool, int]


def test_dict_and_ordered_dict_keep_order():
    keys = [f"k{i}" for i in range(100)]
    random.Random(1).shuffle(keys)
    assert list(trip(dict.fromkeys(keys))) == keys
    assert list(trip(collections.OrderedDict.fromkeys(keys))) == keys


def test_ordered_dict_keeps_attributes():
    value = collections.OrderedDict(a=1)
    value.note = "x"
    assert trip(value).note == "x"


def test_defaultdict_keeps_its_factory_and_deque_its_bound():
    assert trip(collections.defaultdict(list))["new"] == []
    assert trip(collections.deque([1], 5)).maxlen == 5


def test_subclasses_of_containers_keep_attributes():
    for value in (ListSub([1]), DictSub(a=1), SetSub({1}), TupleSub((1,)), StrSub("s"), IntSub(1)):
        value.extra = [1]
        back = trip(value)
        assert back == value and type(back) is type(value) and back.extra == [1]


@pytest.mark.parametrize("value", [Color.RED, Level.LOW, Permission.WRITE, ..., NotImplemented])
def test_singletons_are_the_same_object(value):
    assert trip(value) is value
    assert trip([value, {"a": value}])[1]["a"] is value


@pytest.mark.parametrize("value", [type(None), type(...), type(NotImplemented)])
def test_types_without_a_name(value):
    assert trip(value) is value
    assert trip([value, value]) == [value, value]


# -- buffers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abc"),
        memoryview(b""),
        memoryview(bytearray(b"abc")),
        memoryview(array.array("d", [1, 2, 3])),
        memoryview(bytes(24)).cast("i", [2, 3]),
        memoryview(bytes(range(24)))[::3],
        memoryview(bytes(8)).cast("d", []),
    ],
    ids=lambda view: f"{view.format}{view.shape}{view.strides}",
)
def test_memoryview(view):
    back = trip(view)
    assert type(back) is memoryview
    assert (back.format, back.shape) == (view.format, view.shape)
    assert back.tolist() == view.tolist()


def test_memoryview_is_a_read_only_view_of_the_message():
    data = dumps([memoryview(bytearray(100_000))])
    (back,) = loads(data)
    assert back.readonly
    with pytest.raises(TypeError):
        back[0] = 1


def test_pickle_buffer_comes_back_as_a_buffer():
    back = trip([pickle.PickleBuffer(b"abc")])[0]
    assert bytes(back) == b"abc"


def test_buffers_out_of_band_are_not_copied():
    source = bytearray(b"z" * 100_000)
    buffers = []
    data = dumps([pickle.PickleBuffer(source)], buffer_callback=buffers.append)
    assert len(data) < 1000
    assert len(buffers) == 1
    source[0] = 1
    assert bytes(memoryview(loads(data, buffers=buffers)[0]))[0] == 1


# -- instances -------------------------------------------------------------------------------------


def test_slots_unset_ones_stay_unset():
    value = Slots()
    value.a = [1]
    back = trip(value)
    assert back.a == [1] and not hasattr(back, "b")


def test_slots_with_dict():
    value = SlotsAndDict()
    value.a, value.c = 1, 2
    back = trip(value)
    assert (back.a, back.c) == (1, 2)


@pytest.mark.parametrize("make", [WithGetNewArgs, lambda x: WithGetNewArgsEx(first=x)])
def test_getnewargs(make):
    assert trip(make([1])).first == [1]


def test_getstate_and_setstate():
    back = trip(WithState())
    assert back.__dict__ == {"restored": "state"}


def test_falsy_state_still_reaches_setstate():
    class Falsy:
        def __getstate__(self):
            return 0

        def __setstate__(self, state):
            self.got = state

    assert trip(Falsy()).got == 0


def test_reduce_to_a_call_and_to_a_name():
    assert trip(Reduced(1, [2])).parts == (1, [2])
    assert trip(SINGLETON) is SINGLETON
    assert trip([SINGLETON, SINGLETON])[1] is SINGLETON


def test_reduce_with_items_and_state_setter():
    class Everything:
        def __init__(self):
            self.log = []

        def extend(self, items):
            self.log += [("item", item) for item in items]

        def append(self, item):
            self.extend([item])

        def __setitem__(self, key, value):
            self.log.append((key, value))

        def __reduce__(self):
            pairs = iter([("k", "v")])
            return Everything, (), "state", iter([1, 2]), pairs, set_state

    def set_state(obj, state):
        obj.log.append(("state", state))

    back = trip(Everything())
    assert back.log == [("item", 1), ("item", 2), ("k", "v"), ("state", "state")]


def test_copyreg_dispatch_table_is_asked():
    class Registered:
        pass

    copyreg.pickle(Registered, lambda obj: (str, ("registered",)))
    try:
        assert trip([Registered()]) == ["registered"]
    finally:
        del copyreg.dispatch_table[Registered]


def test_instances_do_not_run_init():
    class Init:
        def __init__(self):
            raise AssertionError("called")

    value = Init.__new__(Init)
    value.x = 1
    assert trip(value).x == 1


# -- identity, sharing, recursion ----------------------------------------------------------------


def test_sharing_across_native_and_reduced_objects():
    shared = [1]
    value = [
        shared,
        (shared, shared),
        {"k": shared},
        Plain(a=shared),
        collections.deque([shared]),
        functools.partial(print, shared),
        Reduced(shared),
        Point(shared, 0),
        CustomError(shared, "text"),
    ]
    back = trip(value)
    first = back[0]
    assert back[1][0] is first and back[1][1] is first
    assert back[2]["k"] is first and back[3].a is first and back[4][0] is first
    assert back[5].args[0] is first and back[6].parts[0] is first and back[7].x is first
    assert back[8].args[0] is first


@pytest.mark.parametrize(
    "make",
    [
        lambda: [0],
        lambda: {0: 0},
        lambda: {1, 2},
        lambda: frozenset({3}),
        lambda: (1, [2]),
        lambda: bytearray(b"x"),
        lambda: bytes(bytearray(b"xyz" * 50)),
        lambda: "".join(["a", "b"] * 50),
        lambda: Plain(a=1),
        lambda: collections.OrderedDict(a=1),
        lambda: datetime.datetime.now(),
        lambda: uuid.uuid4(),
        lambda: Slots(),
        lambda: lambda: 0,
        lambda: type("Dynamic", (), {}),
        lambda: ValueError("x"),
    ],
)
def test_equal_objects_stay_apart_and_the_same_stays_the_same(make):
    a, b = make(), make()
    back = trip([a, b, a])
    assert back[0] is back[2]
    assert back[0] is not back[1]


def test_recursive_list_dict_instance():
    items: list = [1]
    items.append(items)
    back = trip(items)
    assert back[1] is back

    mapping: dict = {}
    mapping["self"] = mapping
    back = trip(mapping)
    assert back["self"] is back

    plain = Plain()
    plain.me, plain.items = plain, [plain]
    back = trip(plain)
    assert back.me is back and back.items[0] is back


def test_recursive_tuple_through_list():
    items: list = []
    value = (items, 1)
    items.append(value)
    back = trip(value)
    assert back[0][0] is back
    back = trip(items)
    assert back[0][0] is back


def test_recursive_set_through_instance():
    plain = Slots()
    plain.__class__.__hash__ = object.__hash__
    group = {plain}
    plain.a = group
    back = trip(plain)
    (member,) = back.a
    assert member is back
    frozen = Slots()
    frozen.a = frozenset([frozen])
    back = trip(frozen)
    assert next(iter(back.a)) is back


def test_recursion_between_reduced_and_native_objects():
    queue: collections.deque = collections.deque()
    plain = Plain(queue=queue)
    queue.append([plain])
    back = trip(plain)
    assert back.queue[0][0] is back
    ordered: collections.OrderedDict = collections.OrderedDict()
    ordered["x"] = {"y": ordered}
    back = trip(ordered)
    assert back["x"]["y"] is back
    default: collections.defaultdict = collections.defaultdict(list)
    default["x"].append(default)
    back = trip(default)
    assert back["x"][0] is back


def test_recursive_partial():
    partial = functools.partial(print)
    partial.__setstate__((print, (partial,), {}, {}))
    try:
        back = trip(partial)
        assert back.args[0] is back
        back.__setstate__((print, (), {}, {}))
    finally:
        partial.__setstate__((print, (), {}, {}))


def test_deep_nesting_within_pickle_s_own_limits():
    value: list = []
    for _ in range(200):
        value = [value]
    back = trip(value)
    for _ in range(200):
        (back,) = back
    assert back == []


# -- what cannot be carried ------------------------------------------------------------------------


def running_generator():
    generator = generator_function(3)
    next(generator)
    return generator


@pytest.mark.parametrize(
    "make", [threading.Lock, running_generator, socket.socket, lambda: sys._getframe()]
)
def test_refused_with_a_type_error(make):
    obj = make()
    try:
        with pytest.raises(TypeError, match=r"pickle|serialize"):
            dumps(obj)
        with pytest.raises(TypeError, match=r"pickle|serialize"):
            dumps({"deep": [Plain(a=obj)]})
    finally:
        if isinstance(obj, socket.socket):
            obj.close()


def test_refusal_names_the_path():
    with pytest.raises(TypeError) as error:
        dumps({"workers": [0, 1, Plain(lock=threading.Lock())]})
    text = str(error.value)
    assert "workers" in text and "2" in text and "lock" in text


def test_wrong_reductions_are_refused():
    for rv in (1, (), (1,), ("x", ()), (list, 1), (list, (), None, 3), (list, (), None, None, 3)):

        class Wrong:
            def __reduce__(self, rv=rv):
                return rv

        with pytest.raises(pickle.PicklingError):
            dumps(Wrong())


def test_name_that_finds_another_object():
    class Liar:
        def __reduce__(self):
            return "SINGLETON"

    Liar.__module__ = __name__
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        dumps(Liar())


def test_errors_do_not_break_the_next_message():
    with pytest.raises(TypeError):
        dumps([lambda: 0, threading.Lock()])
    assert trip([1, "a"]) == [1, "a"]


def test_serializing_while_serializing():
    class Nested:
        def __reduce__(self):
            return loads, (dumps([lambda: 5, [1, 2]]),)

    back = trip([1, Nested(), lambda: 6])
    assert back[1][0]() == 5 and back[1][1] == [1, 2] and back[2]() == 6
