"""The reduction protocol by itself, without a codec: who reduces what, names, checks, messages."""

from __future__ import annotations

import abc
import collections
import copyreg
import dataclasses
import io
import os
import pickle
import subprocess
import sys
import types
import typing

import pytest

from pyray.serialization import reduction
from pyray.serialization.reduction import (
    check_reduce_value,
    find_global,
    global_name,
    is_plain,
    reducer_for,
)


class Pickler(pickle.Pickler):
    """pickle's own opcodes for what our reductions return: what they mean apart from our codec."""

    def reducer_override(self, obj):
        return reduction.reduce(obj)


def trip(obj):
    with io.BytesIO() as file:
        reduction.begin_message()
        try:
            Pickler(file, 5).dump(obj)
        finally:
            reduction.end_message()
        return pickle.loads(file.getvalue())


class Plain:
    pass


class Reduces:
    def __reduce__(self):
        return Reduces, ()


# -- which classes the encoder may write natively --------------------------------------------------


@dataclasses.dataclass
class Data:
    a: int = 0


T = typing.TypeVar("T")


class GenericClass(typing.Generic[T]):
    pass


class Abstract(abc.ABC):  # noqa: B024
    pass


class EmptySlots:
    __slots__ = ()


class WithGetattr:
    def __getattr__(self, name):
        raise AttributeError(name)


@pytest.mark.parametrize("cls", [Plain, Data, GenericClass, Abstract, EmptySlots, object])
def test_plain(cls):
    assert is_plain(cls) and reducer_for(cls) is None
    obj = cls()
    if hasattr(obj, "__dict__"):
        obj.a = 1
    parts = (*obj.__reduce_ex__(5), None, None, None)[:3]
    assert parts[0] is copyreg.__newobj__ and parts[1] == (cls,)
    assert (parts[2] or None) == (getattr(obj, "__dict__", None) or None)


def test_getattr_matters_only_where_pickle_asks_the_instance():
    assert is_plain(WithGetattr) == (sys.version_info >= (3, 11))


def not_plain():
    def with_method(name, method=lambda self, *args: None):
        return type(f"With{name}", (), {name: method})

    for name in (
        "__reduce__",
        "__reduce_ex__",
        "__getstate__",
        "__setstate__",
        "__getnewargs__",
        "__getnewargs_ex__",
        "__getattribute__",
        "__new__",
    ):
        yield with_method(name)
    yield type("Slotted", (), {"__slots__": ("a",)})
    yield type("SlottedChild", (type("Slotted", (), {"__slots__": ("a",)}),), {})
    yield type("OwnDict", (), {"__dict__": property(lambda self: {})})
    yield type("List", (list,), {})
    yield type("Dict", (dict,), {})
    yield type("Tuple", (tuple,), {})
    yield type("Int", (int,), {})
    yield type("Deque", (collections.deque,), {})
    yield type("Module", (types.ModuleType,), {})
    yield Reduces
    yield types.SimpleNamespace
    yield types.GeneratorType


@pytest.mark.parametrize("cls", list(not_plain()), ids=lambda cls: cls.__name__)
def test_not_plain(cls):
    assert not is_plain(cls)
    assert reducer_for(cls) is not None


def test_state_in_c_is_refused_as_pickle_refuses_it():
    import threading

    lock = threading.Lock()
    assert reducer_for(type(lock)) is reduction.reduce_ex
    with pytest.raises(TypeError, match="cannot pickle"):
        reduction.reduce(lock)


# -- order -----------------------------------------------------------------------------------------


def test_copyreg_comes_before_the_object_s_own():
    copyreg.pickle(Reduces, lambda obj: "by copyreg")
    try:
        assert reduction.reduce(Reduces()) == "by copyreg"
    finally:
        del copyreg.dispatch_table[Reduces]
    assert reduction.reduce(Reduces()) == (Reduces, ())


def test_the_instance_is_asked_not_the_class():
    obj = Plain()
    obj.__dict__["__reduce_ex__"] = lambda protocol: ("asked", protocol)
    assert reduction.reduce_ex(obj) == ("asked", 5)

    class NoWay:
        __reduce_ex__ = None

        def __reduce__(self):
            return "name"

    # So a class says that it cannot be pickled.
    for reduce_ex in (reduction.reduce_ex, pickle.dumps):
        with pytest.raises(TypeError, match="not callable"):
            reduce_ex(NoWay())


def test_context_comes_first():
    class Context:
        def reduce(self, obj):
            return ("context", ()) if type(obj) is Reduces else NotImplemented

    assert reduction.reduce(Reduces(), Context()) == ("context", ())
    assert reduction.reduce(len, Context()) == "len"


def test_what_needs_no_cloudpickle_does_not_import_it():
    program = """
import sys, collections, datetime
from pyray.serialization import reduction
heavy = {"numpy", "cloudpickle", "pyarrow", "pandas", "torch", "pickle", "inspect", "re"}
before = heavy & set(sys.modules)
for obj in (datetime.date(1, 1, 1), collections.deque(), ValueError(), object(), len, [].append,
            collections.OrderedDict, collections.namedtuple, ..., int, memoryview(b"x")):
    rv = reduction.reduce(obj)
    if isinstance(rv, str):
        reduction.global_name(obj, rv)
print(sorted((heavy & set(sys.modules)) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# -- names -----------------------------------------------------------------------------------------


class Outer:
    class Inner:
        def method(self):
            pass


def test_global_name():
    assert global_name(Outer.Inner) == (__name__, "Outer.Inner")
    assert global_name(Outer.Inner.method) == (__name__, "Outer.Inner.method")
    assert global_name(len) == ("builtins", "len")
    assert global_name(..., "Ellipsis") == ("builtins", "Ellipsis")
    assert find_global(__name__, "Outer.Inner") is Outer.Inner


def test_global_name_is_not_found():
    gone = type("Gone", (), {"__module__": __name__})
    with pytest.raises(pickle.PicklingError, match=r"it's not found as .*Gone"):
        global_name(gone)
    gone.__module__ = "no_such_module_at_all"
    with pytest.raises(pickle.PicklingError, match=r"it's not found as no_such_module_at_all.Gone"):
        global_name(gone)

    def local():
        pass

    with pytest.raises(pickle.PicklingError, match="not found as"):
        global_name(local)


def test_global_name_finds_another_object():
    impostor = type("Plain", (), {"__module__": __name__})
    with pytest.raises(pickle.PicklingError, match=r"it's not the same object as .*Plain"):
        global_name(impostor)


def test_find_global_raises_what_import_raises():
    with pytest.raises(ModuleNotFoundError):
        find_global("no_such_module_at_all", "x")
    with pytest.raises(AttributeError):
        find_global("builtins", "no_such_name")


def test_find_global_can_be_audited():
    program = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" else None)
from pyray.serialization.reduction import find_global
find_global("builtins", "len")
print(seen)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )
    assert done.stdout.strip() == "[('builtins', 'len')]", done.stderr


@pytest.mark.parametrize("cls", [type(None), type(...), type(NotImplemented)])
def test_types_of_singletons(cls):
    function, args = reduction.reduce(cls)
    assert function is type and type(args[0]) is cls


def test_metaclass_with_a_reducer():
    class Meta(type):
        def __eq__(cls, other):
            return cls is other

        __hash__ = None  # cloudpickle cannot even be asked

    cls = Meta("Plain", (), {})
    copyreg.pickle(Meta, lambda cls: (Meta, (cls.__name__, (), {})))
    try:
        assert reduction.reduce(cls) == (Meta, ("Plain", (), {}))
    finally:
        del copyreg.dispatch_table[Meta]


# -- what a reduction may return -------------------------------------------------------------------


def test_checked_value_has_six_parts_and_whole_iterators():
    items = iter([1, 2])
    parts = check_reduce_value(None, (list, (), None, items))
    assert parts == (list, (), None, items, None, None)
    assert list(items) == [1, 2]
    assert check_reduce_value(None, (list, (), 0, None, None, None))[2] == 0


@pytest.mark.parametrize(
    ("rv", "words"),
    [
        (5, "must return a string or tuple"),
        (None, "must return a string or tuple"),
        ((list,), "2 through 6 elements"),
        ((list, (), 1, None, None, None, None), "2 through 6 elements"),
        ((5, ()), "first item .* must be callable"),
        ((list, []), "second item .* must be a tuple"),
        ((list, (), None, [1]), "fourth element .* must be an iterator, not list"),
        ((list, (), None, None, {}), "fifth element .* must be an iterator, not dict"),
        ((list, (), None, None, None, 5), "sixth element .* must be a function, not int"),
        ((copyreg.__newobj__, ()), "arglist is empty"),
        ((copyreg.__newobj__, (Plain,)), "wrong class"),
        ((copyreg.__newobj_ex__, (Plain,)), "exactly 3, not 1"),
        ((copyreg.__newobj_ex__, (Plain, (), {})), "wrong class"),
    ],
)
def test_wrong_values_in_pickle_s_words(rv, words):
    with pytest.raises(pickle.PicklingError, match=words):
        check_reduce_value(object(), rv)


# -- functions of one message ----------------------------------------------------------------------


def make_pair():
    namespace = {"__name__": "made_up", "x": 1}
    exec("def put(v):\n    global x\n    x = v\ndef get():\n    return x", namespace)
    return namespace["put"], namespace["get"]


def test_functions_of_a_message_share_globals():
    put, get = trip(make_pair())
    put(5)
    assert get() == 5 and put.__globals__ is get.__globals__


def test_messages_do_not_share_with_each_other():
    put, get = make_pair()
    reduction.begin_message()
    outer = reduction.reduce_by_cloudpickle(put)[1][1]
    reduction.begin_message()
    inner = reduction.reduce_by_cloudpickle(get)[1][1]
    reduction.end_message()
    again = reduction.reduce_by_cloudpickle(get)[1][1]
    reduction.end_message()
    assert outer is again and outer is not inner
    assert reduction.reduce_by_cloudpickle(get)[1][1] is not outer


def test_closures_share_variables():
    count = 0

    def increment():
        nonlocal count
        count += 1

    def read():
        return count

    increment2, read2 = trip((increment, read))
    increment2()
    increment2()
    assert read2() == 2 and count == 0


def test_empty_cell_stays_empty():
    def outer():
        def inner():
            return late

        yield inner
        late = 1  # noqa: F841

    inner = trip(next(outer()))
    with pytest.raises(NameError):
        inner()
