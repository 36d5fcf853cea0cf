"""Actor classes: what may be one, how it is used, what is refused before anything is sent."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import threading
from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import pytest

import pyray as ray
from pyray.actor import ActorClass, ActorClassInheritanceException
from pyray.exceptions import ActorDiedError

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Counter:
    """Counts."""

    STEP = 1

    def __init__(self, start=0, *, factor=1):
        self.value = start * factor

    def increment(self, by=1):
        self.value += by
        return self.value

    @staticmethod
    def double(x):
        return 2 * x

    @classmethod
    def named(cls):
        return cls.__name__, cls.STEP


class TestUse:
    def test_made_and_called(self):
        counter = Counter.remote(10)
        assert ray.get([counter.increment.remote(), counter.increment.remote(by=5)]) == [11, 16]

    def test_arguments_of_the_constructor_by_name_and_by_reference(self):
        counter = Counter.remote(ray.put(2), factor=ray.put(3))
        assert ray.get(counter.increment.remote()) == 7

    def test_remote_is_a_function_too(self):
        class Plain:
            def f(self):
                return 1

        assert ray.get(ray.remote(Plain).remote().f.remote()) == 1
        assert ray.get(ray.remote(num_cpus=0)(Plain).remote().f.remote()) == 1
        assert Plain().f() == 1

    def test_class_and_static_methods(self):
        counter = Counter.remote()
        assert ray.get(counter.double.remote(4)) == 8
        assert ray.get(counter.named.remote()) == ("Counter", 1)
        assert Counter.double(4) == 8
        assert Counter.named() == ("Counter", 1)
        assert Counter.STEP == 1

    def test_what_it_says_of_itself(self):
        assert isinstance(Counter, ActorClass)
        assert Counter.__name__ == "Counter" and Counter.__module__ == __name__
        assert Counter.__doc__ == "Counts." and Counter.options(num_cpus=1).__doc__ == "Counts."
        assert repr(Counter) == "ActorClass(Counter)"
        assert Counter.__ray_metadata__.class_name == "Counter"
        assert Counter.__ray_metadata__.modified_class.STEP == 1
        assert "increment" in dir(Counter) and "remote" in dir(Counter)

    def test_options_leave_the_class_as_it_was(self):
        other = Counter.options(num_cpus=1, name="of-the-options")
        assert Counter._default_options == {}
        assert other._default_options == {"num_cpus": 1, "name": "of-the-options"}
        assert ray.get(other.remote(1).increment.remote()) == 2

    def test_many_of_one_class(self):
        counters = [Counter.remote(i) for i in range(20)]
        assert ray.get([c.increment.remote() for c in counters]) == list(range(1, 21))


class TestInheritance:
    def test_super_and_overridden_methods(self):
        class Base:
            def __init__(self, x):
                self.x = x

            def f(self):
                return f"base {self.x}"

            def only_base(self):
                return self.f()

        class Middle(Base):
            def f(self):
                return f"middle {super().f()}"

        @ray.remote
        class Leaf(Middle):
            def __init__(self, x):
                super().__init__(x + 1)

            def f(self):
                return f"leaf {super().f()}"

        leaf = Leaf.remote(1)
        assert ray.get(leaf.f.remote()) == "leaf middle base 2"
        assert ray.get(leaf.only_base.remote()) == "leaf middle base 2"

    def test_constructor_of_the_base(self):
        class Base:
            def __init__(self, x):
                self.x = x

            def get(self):
                return self.x

        @ray.remote
        class Leaf(Base):
            pass

        assert ray.get(Leaf.remote(3).get.remote()) == 3
        with pytest.raises(TypeError, match="missing a required argument: 'x'"):
            Leaf.remote()

    def test_two_bases(self):
        class A:
            def a(self):
                return "a"

        class B:
            def b(self):
                return "b"

        @ray.remote
        class Both(A, B):
            pass

        both = Both.remote()
        assert ray.get([both.a.remote(), both.b.remote()]) == ["a", "b"]

    def test_a_method_that_is_taken_away(self):
        class Base:
            def f(self):
                return 1

        @ray.remote
        class Leaf(Base):
            f = None

        with pytest.raises(AttributeError, match="attribute of the class Leaf"):
            Leaf.remote().f

    def test_an_actor_class_cannot_be_inherited_from(self):
        with pytest.raises(ActorClassInheritanceException, match="actor class 'Counter'"):

            class Sub(Counter):
                pass

    def test_nor_beside_a_plain_class(self):
        class Plain:
            pass

        with pytest.raises(ActorClassInheritanceException):

            class Sub(Plain, Counter):
                pass

    def test_the_class_itself_can(self):
        class Sub(Counter.__ray_actor_class__):
            def twice(self):
                return self.increment(), self.increment()

        assert ray.get(ray.remote(Sub).remote().twice.remote()) == (1, 2)


class TestKindsOfClasses:
    def test_generic(self):
        @ray.remote
        class Box(Generic[T]):
            def __init__(self, value: T):
                self.value = value

            def get(self) -> T:
                return self.value

        assert ray.get(Box.remote(1).get.remote()) == 1
        assert ray.get(Box[int].remote(2).get.remote()) == 2
        with pytest.raises(TypeError, match="not subscriptable|not a generic class"):
            Counter[int]
        with pytest.raises(TypeError, match="not iterable"):
            list(Box)

    def test_dataclass(self):
        @ray.remote
        @dataclasses.dataclass
        class Point:
            x: int
            y: int = 2

            def total(self):
                return self.x + self.y

        assert ray.get(Point.remote(1).total.remote()) == 3
        assert ray.get(Point.remote(x=1, y=5).total.remote()) == 6
        with pytest.raises(TypeError, match="'x'"):
            Point.remote()

    def test_tuple_with_names(self):
        class Pair(NamedTuple):
            a: int
            b: int

            def total(self):
                return self.a + self.b

        Actor = ray.remote(Pair)
        assert ray.get(Actor.remote(1, 2).total.remote()) == 3
        with pytest.raises(TypeError, match="'b'"):
            Actor.remote(1)

    def test_of_a_builtin(self):
        @ray.remote
        class Table(dict):
            def put(self, key, value):
                self[key] = value

            def all(self):
                return dict(self)

        table = Table.remote({"a": 1}, b=2)
        table.put.remote("c", 3)
        assert ray.get(table.all.remote()) == {"a": 1, "b": 2, "c": 3}

    def test_slots(self):
        @ray.remote
        class Small:
            __slots__ = ("x",)

            def __init__(self):
                self.x = 1

            def get(self):
                return self.x

        assert ray.get(Small.remote().get.remote()) == 1

    def test_new_without_init(self):
        @ray.remote
        class Made:
            def __new__(cls, x):
                self = object.__new__(cls)
                self.x = x
                return self

            def get(self):
                return self.x

        assert ray.get(Made.remote(4).get.remote()) == 4
        with pytest.raises(TypeError, match="'x'"):
            Made.remote()

    def test_abstract(self):
        class Base(ABC):
            @abstractmethod
            def f(self): ...

            def g(self):
                return self.f()

        @ray.remote
        class Concrete(Base):
            def f(self):
                return "f"

        assert ray.get(Concrete.remote().g.remote()) == "f"
        with pytest.raises(ActorDiedError, match="abstract"):
            ray.get(ray.remote(Base).remote().g.remote())

    def test_decorated_methods(self):
        def twice(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return 2 * function(*args, **kwargs)

            return wrapper

        @ray.remote
        class Decorated:
            @twice
            def f(self, x):
                return x

            @ray.method(num_returns=2)
            @twice
            def two(self):
                return [1]

        actor = Decorated.remote()
        assert ray.get(actor.f.remote(3)) == 6
        with pytest.raises(TypeError, match="missing a required argument: 'x'"):
            actor.f.remote()
        assert ray.get(actor.two.remote()) == [1, 1]

    def test_nested_classes_and_recursion(self):
        @ray.remote
        class Node:
            def __init__(self, depth):
                self.below = Node.remote(depth - 1) if depth else None

            def count(self):
                return 1 + (ray.get(self.below.count.remote()) if self.below else 0)

        assert ray.get(Node.remote(2).count.remote()) == 3

    def test_class_that_uses_functions_and_values_around_it(self):
        offset = 5

        def add(x):
            return x + offset

        @ray.remote
        class Adder:
            def f(self, x):
                return add(x)

        assert ray.get(Adder.remote().f.remote(1)) == 6


class TestRefused:
    def test_called_directly(self):
        with pytest.raises(TypeError) as caught:
            Counter()
        assert str(caught.value) == (
            "Actors cannot be instantiated directly. Instead of 'Counter()', use "
            "'Counter.remote()'."
        )

    def test_method_of_the_class(self):
        with pytest.raises(AttributeError, match=r"handle = Counter.remote\(...\)"):
            Counter.increment
        with pytest.raises(AttributeError, match="'Counter' has no attribute 'nothing'"):
            Counter.nothing

    @pytest.mark.parametrize(
        ("args", "kwargs", "text"),
        [
            ((1, 2), {}, "too many positional arguments"),
            ((), {"stat": 1}, "unexpected keyword argument 'stat'"),
            ((1,), {"start": 1}, "multiple values for argument 'start'"),
        ],
    )
    def test_arguments_that_do_not_fit(self, args, kwargs, text):
        with pytest.raises(TypeError, match=text + r": the actor class is Counter\(start"):
            Counter.remote(*args, **kwargs)

    def test_arguments_of_a_class_without_a_constructor(self):
        @ray.remote
        class Empty:
            pass

        with pytest.raises(TypeError, match="too many positional"):
            Empty.remote(1)

    def test_argument_that_cannot_be_sent(self):
        with pytest.raises(TypeError, match="Could not serialize the argument 0"):
            Counter.remote(threading.Lock())

    def test_class_that_cannot_be_sent(self):
        lock = threading.Lock()

        @ray.remote
        class Locked:
            def f(self):
                return lock

        with pytest.raises(TypeError, match="Could not serialize the class .*Locked"):
            Locked.remote()

    def test_bind(self):
        with pytest.raises(NotImplementedError):
            Counter.bind()

    def test_options(self):
        with pytest.raises(ValueError, match="Invalid option keyword num_cpu for actors"):
            Counter.options(num_cpu=1)
        with pytest.raises(ValueError, match="Invalid option keyword max_retries for actors"):
            ray.remote(max_retries=1)(Counter.__ray_actor_class__)

    def test_group_that_is_not_there(self):
        with pytest.raises(ValueError, match="Worker.f is in the concurrency group 'io'.*none"):

            @ray.remote
            class Worker:
                @ray.method(concurrency_group="io")
                def f(self): ...

    def test_large_class_is_warned_of(self):
        table = bytes(2_000_000)

        @ray.remote
        class Large:
            def f(self):
                return len(table)

        with pytest.warns(UserWarning, match=r"The class .*Large is 2.0 MB.*table \(2.0 MB\)"):
            actor = Large.remote()
        assert ray.get(actor.f.remote()) == 2_000_000


class TestSent:
    def test_used_in_a_task(self):
        @ray.remote
        def make(n):
            return ray.get(Counter.remote(n).increment.remote())

        assert ray.get(make.remote(1)) == 2

    def test_as_an_argument(self):
        @ray.remote
        def make(cls):
            return ray.get(cls.options(num_cpus=0).remote(5).increment.remote())

        assert ray.get(make.remote(Counter)) == 6

    def test_defined_in_a_task(self):
        @ray.remote
        def make():
            @ray.remote
            class Inner:
                def f(self):
                    return "inner"

            return Inner.remote()

        assert ray.get(ray.get(make.remote()).f.remote()) == "inner"

    def test_serialized(self):
        copy = ray.loads(ray.dumps(Counter.options(num_cpus=1)))
        assert copy._default_options == {"num_cpus": 1}
        assert ray.get(copy.remote(1).increment.remote()) == 2

    def test_pickled(self):
        import cloudpickle

        copy = pickle.loads(cloudpickle.dumps(Counter))
        assert ray.get(copy.remote(1).increment.remote()) == 2


def test_session_after_session(no_session):
    for _ in range(2):
        ray.init(num_cpus=1)
        assert ray.get(Counter.remote(1).increment.remote()) == 2
        ray.shutdown()
