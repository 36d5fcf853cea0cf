"""A store against a dict, for any sequence of operations by two that share it."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pyray.store import (
    ObjectExistsError,
    ObjectID,
    ObjectNotFoundError,
    ObjectNotSealedError,
    Store,
    StoreFullError,
)

CAPACITY = 1 << 20
KEYS = [ObjectID(bytes([number]) * 20) for number in range(6)]
names = itertools.count()

keys = st.sampled_from(KEYS)
sides = st.integers(0, 1)
values = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=200),
    st.binary(max_size=5000),
    st.lists(st.integers(-5, 5), max_size=50),
    st.integers(0, 20000).map(lambda size: np.arange(size, dtype=np.int64)),
)


def same(one, other):
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    return type(one) is type(other) and one == other


class Model(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        name = f"model-{next(names)}"
        made = Store.create(name, capacity=CAPACITY)
        self.stores = [made, Store.connect(name)]
        self.sealed: dict[ObjectID, object] = {}
        self.writing: dict[ObjectID, tuple[int, memoryview, bytes]] = {}
        self.views: list[tuple[object, object]] = []  # what was got, and what it must be

    def taken(self, key):
        return key in self.sealed or key in self.writing

    @rule(side=sides, key=keys, value=values)
    def put(self, side, key, value):
        try:
            self.stores[side].put(value, key)
        except ObjectExistsError:
            assert self.taken(key)
        except StoreFullError:
            pass
        else:
            assert not self.taken(key)
            self.sealed[key] = value

    @rule(side=sides, key=keys, data=st.binary(max_size=3000))
    def create(self, side, key, data):
        try:
            buffer = self.stores[side].create(key, len(data))
        except ObjectExistsError:
            assert self.taken(key)
        except StoreFullError:
            pass
        else:
            assert not self.taken(key)
            self.writing[key] = (side, buffer, data)

    @rule(side=sides, key=keys, seals=st.booleans())
    def end_writing(self, side, key, seals):
        store = self.stores[side]
        maker, buffer, data = self.writing.get(key, (None, None, None))
        if maker == side:
            buffer[:] = data
        del buffer
        try:
            (store.seal if seals else store.abort)(key)
        except ObjectExistsError:
            assert key in self.sealed
        except ObjectNotFoundError:
            assert key not in self.sealed and maker != side
        else:
            assert maker == side
            del self.writing[key]
            if seals:
                self.sealed[key] = memoryview(data)

    @rule(side=sides, key=keys)
    def delete(self, side, key):
        try:
            self.stores[side].delete(key)
        except ObjectNotFoundError:
            assert not self.taken(key)
        except ObjectNotSealedError:
            assert key in self.writing
        else:
            del self.sealed[key]

    @rule(side=sides, key=keys, keep=st.booleans(), copy_on_write=st.booleans())
    def get(self, side, key, keep, copy_on_write):
        expected = self.sealed.get(key)
        store = self.stores[side]
        try:
            if isinstance(expected, memoryview):
                (found,) = store.get_buffers([key], timeout=0)
                assert bytes(found) == expected
                expected = expected.tobytes()
            else:
                found = store.get(key, timeout=0, copy_on_write=copy_on_write)
                assert same(expected, found)
        except ObjectNotFoundError:
            assert not self.taken(key)
            return
        except ObjectNotSealedError:
            assert key in self.writing
            return
        if copy_on_write and isinstance(found, np.ndarray) and found.size:
            found[::3] = 0
            expected = expected.copy()
            expected[::3] = 0
        if keep:
            self.views.append((found, expected))

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def drop(self, data):
        self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))

    @rule()
    def second_leaves(self):
        """What it had begun goes; what it has got stays."""
        name = self.stores[0].name
        for key in [key for key, (side, _, _) in self.writing.items() if side == 1]:
            del self.writing[key]
        self.stores[1].close()
        self.stores[1] = Store.connect(name)

    @invariant()
    def is_as_expected(self):
        for store in self.stores:
            listed = store.list()
            assert {k for k, v in listed.items() if v["state"] == "sealed"} == set(self.sealed)
            assert {k for k, v in listed.items() if v["state"] == "created"} == set(self.writing)
            assert [store.contains(key) for key in KEYS] == [key in self.sealed for key in KEYS]
        for found, expected in self.views:
            if isinstance(found, memoryview):
                assert bytes(found) == expected
            else:
                assert same(expected, found)

    def teardown(self):
        if not hasattr(self, "stores"):
            return
        self.views.clear()
        first, second = self.stores
        second.close()
        for key, (side, _, _) in list(self.writing.items()):
            if side == 0:
                first.abort(key)
        self.writing.clear()
        first.delete(list(first.list()))
        assert first.stats()["used"] == 0 and first.stats()["processes"] == 1
        first.close()


class TestModel(Model.TestCase):
    settings = settings(
        max_examples=50,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
