"""Named actors and namespaces."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import pyray as ray
from pyray.exceptions import ActorAlreadyExistsError
from pyray.util import list_named_actors

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Store:
    def __init__(self, value=None):
        self.value = value

    def get(self):
        return self.value

    def pid(self):
        return os.getpid()


@pytest.fixture
def name(request):
    return request.node.name


def test_found_by_name(name):
    store = Store.options(name=name).remote(1)
    found = ray.get_actor(name)
    assert found == store and ray.get(found.get.remote()) == 1


def test_found_before_it_is_made(name):
    Blocked = Store.options(name=name, resources={"Custom": 5})
    store = Blocked.remote()
    assert ray.get_actor(name) == store


def test_free_again_before_it_is_made(name):
    Blocked = Store.options(name=name, resources={"Custom": 5})
    store = Blocked.remote()
    call = store.get.remote()
    ray.cancel(call)
    del store
    again = Store.options(name=name, get_if_exists=True).remote(2)
    assert ray.get(again.get.remote()) == 2


def test_found_in_tasks_and_actors(name):
    @ray.remote
    def read():
        return ray.get(ray.get_actor(name).get.remote())

    @ray.remote
    class Reader:
        def read(self):
            return ray.get(ray.get_actor(name).get.remote())

    store = Store.options(name=name).remote(3)
    assert ray.get([read.remote(), Reader.remote().read.remote()]) == [3, 3]


def test_made_in_a_task(name):
    @ray.remote
    def make():
        store = Store.options(name=name).remote(4)
        ray.get(store.get.remote())
        return [store]

    kept = ray.get(make.remote())
    assert ray.get(ray.get_actor(name).get.remote()) == 4
    assert kept[0] == ray.get_actor(name)


def test_unknown(name):
    with pytest.raises(ValueError, match=f"Failed to look up actor with name '{name}'") as caught:
        ray.get_actor(name)
    assert ray.get_runtime_context().namespace in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("",), ValueError, "Please supply a non-empty value to get_actor"),
        ((None,), ValueError, "Please supply a non-empty value"),
        ((3,), TypeError, "name must be None or a string"),
        (("x", ""), ValueError, '"" is not a valid namespace'),
        (("x", 1), TypeError, "namespace must be None or a string"),
    ],
)
def test_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        ray.get_actor(*arguments)


def test_taken(name):
    store = Store.options(name=name).remote()
    with pytest.raises(ActorAlreadyExistsError, match=f"The name {name} .* is already taken"):
        Store.options(name=name).remote()
    with pytest.raises(ValueError):
        Store.options(name=name).remote()
    assert ray.get(store.get.remote()) is None


def test_free_when_it_is_dead(name):
    store = Store.options(name=name).remote(1)
    ray.get(store.get.remote())
    ray.kill(store)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(store.get.remote())
    with pytest.raises(ValueError):
        ray.get_actor(name)
    assert ray.get(Store.options(name=name).remote(2).get.remote()) == 2


def test_free_when_its_constructor_failed(name):
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError

        def f(self): ...

    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(Broken.options(name=name).remote().f.remote())
    store = Store.options(name=name, get_if_exists=True).remote(1)
    assert ray.get(store.get.remote()) == 1


def test_namespaces_are_apart(name):
    own = Store.options(name=name).remote("own")
    other = Store.options(name=name, namespace="other").remote("other")
    assert ray.get_actor(name) == own
    assert ray.get_actor(name, namespace="other") == other
    assert ray.get_actor(name, namespace=ray.get_runtime_context().namespace) == own
    assert ray.get_actor(name, "other") != own


def test_name_and_namespace_are_not_confused():
    one = Store.options(name="c", namespace="a b").remote()
    two = Store.options(name="b c", namespace="a").remote()
    assert ray.get_actor("c", "a b") == one and ray.get_actor("b c", "a") == two
    assert one != two


class TestGetIfExists:
    def test_made_once(self, name):
        One = Store.options(name=name, get_if_exists=True)
        first = One.remote(1)
        assert One.remote(2) == first and ray.get(One.remote(3).get.remote()) == 1

    def test_needs_a_name(self):
        with pytest.raises(ValueError, match="name must be specified to use `get_if_exists`"):
            Store.options(get_if_exists=True)

    def test_checks_the_arguments(self, name):
        One = Store.options(name=name, get_if_exists=True)
        kept = One.remote(1)
        with pytest.raises(TypeError):
            One.remote(1, 2)

    def test_many_threads(self, name):
        together = threading.Barrier(8)

        def make(i):
            together.wait()
            return Store.options(name=name, get_if_exists=True).remote(i)

        with ThreadPoolExecutor(8) as pool:
            handles = list(pool.map(make, range(8)))
        assert len(set(handles)) == 1

    def test_many_tasks(self, name):
        @ray.remote
        def make(i):
            store = Store.options(name=name, get_if_exists=True).remote(i)
            return [store], ray.get(store.get.remote())

        found = ray.get([make.remote(i) for i in range(6)])
        assert len({handle for (handle,), _ in found}) == len({value for _, value in found})


class TestList:
    def test_own_namespace(self, name):
        kept = [Store.options(name=name).remote(), Store.remote()]
        other = Store.options(name=name + "-other", namespace="elsewhere").remote()
        assert name in list_named_actors()
        assert name + "-other" not in list_named_actors() and None not in list_named_actors()

    def test_all_namespaces(self, name):
        kept = Store.options(name=name, namespace="elsewhere").remote()
        own = Store.options(name=name).remote()
        found = list_named_actors(all_namespaces=True)
        assert {"name": name, "namespace": "elsewhere"} in found
        assert {"name": name, "namespace": ray.get_runtime_context().namespace} in found

    def test_the_dead_are_not_listed(self, name):
        store = Store.options(name=name).remote()
        ray.get(store.get.remote())
        ray.kill(store)
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(store.get.remote())
        assert name not in list_named_actors()


class TestDetached:
    def test_lives_without_handles(self, name):
        pid = ray.get(Store.options(name=name, lifetime="detached").remote(5).pid.remote())
        found = ray.get_actor(name)
        assert ray.get([found.get.remote(), found.pid.remote()]) == [5, pid]
        ray.kill(found)

    def test_made_in_a_task(self, name):
        @ray.remote
        def make():
            Store.options(name=name, lifetime="detached").remote(6)

        ray.get(make.remote())
        found = ray.get_actor(name)
        assert ray.get(found.get.remote()) == 6
        ray.kill(found)
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(found.get.remote())
        with pytest.raises(ValueError):
            ray.get_actor(name)


def test_namespace_of_init(no_session):
    ray.init(num_cpus=1, namespace="mine")
    assert ray.get_runtime_context().namespace == "mine"
    store = Store.options(name="x").remote()
    assert ray.get_actor("x", namespace="mine") == store
    assert list_named_actors(all_namespaces=True) == [{"name": "x", "namespace": "mine"}]


def test_names_end_with_the_session(no_session):
    ray.init(num_cpus=1, namespace="mine")
    store = Store.options(name="x", lifetime="detached").remote()
    ray.get(store.get.remote())
    ray.shutdown()
    ray.init(num_cpus=1, namespace="mine")
    with pytest.raises(ValueError):
        ray.get_actor("x")


def test_starts_a_session_if_there_is_none(no_session):
    with pytest.raises(ValueError, match="Failed to look up"):
        ray.get_actor("x")
    assert ray.is_initialized()
