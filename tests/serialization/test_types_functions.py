"""Functions, methods, classes and modules: by name if a reader can import them, else by value."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import io
import logging
import math
import operator
import os
import subprocess
import sys
import textwrap
import types
import typing
import weakref

import cloudpickle
import pytest

from pyray.serialization.message import dumps, loads


def trip(obj):
    return loads(dumps(obj))


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

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


class Color(enum.Enum):
    RED = 1


class Outer:
    class Inner:
        pass


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


def top_level(x):
    return x + 1


def generator_function(n):
    yield from range(n)


async def coroutine_function():
    return 1


# -- functools, methods, builtins ------------------------------------------------------------------


def test_partial():
    back = trip(functools.partial(top_level, 2))
    assert back.func is top_level and back() == 3
    assert trip(functools.partial(int, base=2))("11") == 3


def test_bound_methods():
    plain = Plain(a=1)
    back = trip([plain, plain.method])
    assert back[1]() is back[0]
    assert trip(Plain.make) == Plain.make
    assert trip(plain.bound_private())() == "private"
    assert trip(Plain.static)() == "static"
    assert trip([1, 2].append).__self__ == [1, 2]


def test_bound_method_kept_in_its_own_instance():
    plain = Plain()
    plain.callback = plain.method
    back = trip(plain)
    assert back.callback() is back
    back = trip(plain.callback)
    assert back() is back.__self__ and back.__self__.callback() is back.__self__


@pytest.mark.parametrize(
    "value",
    [
        len,
        print,
        math.sin,
        str.upper,
        dict.fromkeys,
        operator.add,
        os.path.join,
        top_level,
        Plain,
        Plain.method,
        Outer.Inner,
        Meta,
        WithMeta,
        Color,
        int,
        collections.OrderedDict,
        generator_function,
        coroutine_function,
        abc.ABC,
        typing.Any,
    ],
    ids=str,
)
def test_what_can_be_imported_goes_by_name(value):
    back = trip(value)
    assert back is value or back == value
    assert len(dumps(value)) < 500


@pytest.mark.parametrize("module", [math, os.path, collections, sys.modules[__name__]], ids=str)
def test_modules_go_by_name(module):
    assert trip(module) is module
    assert trip([module])[0] is module


# -- functions and classes by value ---------------------------------------------------------------


def test_lambda_and_closure():
    n = [5]
    add = lambda x, y=2, *, z=3: x + y + z + n[0]
    back = trip(add)
    assert back is not add
    assert back(1) == 11 and back(1, 1, z=1) == 8


def test_three_level_closure():
    def a(x):
        def b(y):
            def c(z):
                return x + y + z

            return c

        return b

    assert trip(a)(1)(2)(3) == 6
    assert trip(a(1)(2))(3) == 6


def test_function_that_refers_to_itself():
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    back = trip(factorial)
    assert back(5) == 120
    assert back.__closure__[0].cell_contents is back


def test_functions_that_share_a_cell_still_do():
    count = 0

    def increment():
        nonlocal count
        count += 1

    def read():
        return count

    increment2, read2 = trip([increment, read])
    increment2()
    assert read2() == 1 and read() == 0


def test_functions_share_globals_within_a_message():
    namespace = {"__name__": "made_up"}
    exec("x = 1\ndef put(v):\n    global x\n    x = v\ndef get():\n    return x", namespace)
    put, get = trip([namespace["put"], namespace["get"]])
    assert put.__globals__ is get.__globals__
    put(7)
    assert get() == 7
    assert namespace["x"] == 1


def test_function_attributes_defaults_and_metadata():
    def f(a: int, b: str = "x") -> float:
        "doc"

    f.tag = ["t"]
    back = trip(f)
    assert (back.__name__, back.__doc__, back.__defaults__) == ("f", "doc", ("x",))
    assert back.tag == ["t"] and back.__annotations__ == f.__annotations__
    assert back.__qualname__ == f.__qualname__


def test_generator_and_coroutine_functions_made_at_run_time():
    def generate(n):
        yield from range(n)

    async def answer():
        return 42

    assert list(trip(generate)(3)) == [0, 1, 2]
    coroutine = trip(answer)()
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == 42


def test_class_made_at_run_time():
    class Base:
        shared = [1]

        def __init__(self, x):
            self.x = x

        @property
        def double(self):
            return self.x * 2

        @classmethod
        def make(cls):
            return cls(4)

        @staticmethod
        def static():
            return "s"

    class Derived(Base):
        def __init__(self, x):
            super().__init__(x + 1)

        def me(self):
            return Derived

    back = trip(Derived)
    assert back is not Derived or back(1).x == 2
    assert back(1).double == 4 and back.make().x == 5 and back.static() == "s"
    assert back(1).me() is back
    instance, cls, again = trip([Derived(3), Derived, Derived(5)])
    assert type(instance) is cls and type(again) is cls
    assert instance.x == 4 and again.double == 12


def test_class_that_holds_its_own_instance_and_method():
    class Node:
        def name(self):
            return "node"

    Node.default = Node()
    Node.callback = Node.default.name
    back = trip(Node)
    assert type(back.default) is back or back is Node
    assert back.default.name() == "node"


def test_dynamic_enum_and_dataclass_and_namedtuple():
    class Shape(enum.Enum):
        ROUND = 1

    @dataclasses.dataclass
    class Record:
        a: int
        b: list = dataclasses.field(default_factory=list)

    Pair = collections.namedtuple("Pair", "l r")
    shape, record, pair = trip([Shape.ROUND, Record(1), Pair(1, 2)])
    assert (shape.name, shape.value) == ("ROUND", 1)
    assert (record.a, record.b) == (1, []) and repr(record).endswith("Record(a=1, b=[])")
    assert pair == (1, 2) and pair.l == 1


def test_dynamic_abstract_class_and_metaclass():
    class M(type):
        def hello(cls):
            return cls.__name__

    class A(abc.ABC):
        @abc.abstractmethod
        def f(self): ...

    class B(A, metaclass=type("MixedMeta", (M, abc.ABCMeta), {})):
        def f(self):
            return 1

    back_a, back_b = trip([A, B])
    assert issubclass(back_b, back_a) and back_b.hello() == "B" and back_b().f() == 1
    with pytest.raises(TypeError):
        back_a()


def test_dynamic_module():
    module = types.ModuleType("made_at_run_time")
    exec("x = [1]\ndef f():\n    return x", module.__dict__)
    back = trip(module)
    assert back.__name__ == "made_at_run_time" and back.f() == [1] and back.f() is back.x


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_defined_in_main_is_read_by_another_process(tmp_path):
    path = str(tmp_path / "message")
    run(
        """
        import sys
        from pyray.serialization.message import dumps
        factor = 3
        def helper(x): return x * factor
        class Thing:
            def __init__(self, x): self.x = x
            def scaled(self): return helper(self.x)
            def same(self): return type(self) is Thing
        things = [Thing(1), Thing(2)]
        value = (things, things[0].scaled, lambda x: helper(x) + 1, Thing)
        open(sys.argv[1], "wb").write(dumps(value))
        """,
        path,
    )
    out = run(
        """
        import sys
        from pyray.serialization.message import loads
        things, scaled, function, Thing = loads(open(sys.argv[1], "rb").read())
        print([t.scaled() for t in things], scaled(), function(2), things[0].same(),
              type(things[1]) is Thing)
        """,
        path,
    )
    assert out.split("\n")[0] == "[3, 6] 3 7 True True"


def test_module_registered_by_value(tmp_path, monkeypatch):
    (tmp_path / "pyray_by_value.py").write_text("def f():\n    return 'by value'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import pyray_by_value  # type: ignore[import-not-found]

    by_name = dumps(pyray_by_value.f)
    cloudpickle.register_pickle_by_value(pyray_by_value)
    try:
        back = trip(pyray_by_value.f)
        assert back is not pyray_by_value.f and back() == "by value"
        assert len(dumps(pyray_by_value.f)) > len(by_name)
    finally:
        cloudpickle.unregister_pickle_by_value(pyray_by_value)
    assert trip(pyray_by_value.f) is pyray_by_value.f


def test_what_else_cloudpickle_knows():
    logger = logging.getLogger("pyray.test")
    assert trip(logger) is logger
    assert trip(logging.getLogger()) is logging.getLogger()
    assert list(trip({"a": 1}.keys())) == ["a"]
    assert list(trip({"a": 1}.values())) == [1]
    assert list(trip(collections.OrderedDict(a=1).items())) == [("a", 1)]
    assert trip(top_level.__code__) == top_level.__code__
    assert trip(property(top_level)).fget is top_level
    kept = Plain(a=1)
    kept.__class__.__hash__ = object.__hash__
    back = trip([kept, weakref.WeakSet([kept])])
    assert list(back[1]) == [back[0]]


def test_text_file_opened_for_reading(tmp_path):
    (tmp_path / "f").write_text("hello")
    with open(tmp_path / "f") as file:
        file.read(2)
        back = trip(file)
    assert isinstance(back, io.IOBase | io.StringIO) and back.read() == "llo"


def test_threads_do_not_share_what_functions_of_a_message_share():
    import threading

    namespace = {"__name__": "made_up", "x": 0}
    exec("def put(v):\n    global x\n    x = v\ndef get():\n    return x", namespace)
    pair = (namespace["put"], namespace["get"])
    results: list = []

    def work(number):
        for _ in range(20):
            put, get = trip(pair)
            put(number)
            results.append(get() == number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80
