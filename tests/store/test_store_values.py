"""Python values: put, got as views, written by their reader alone."""

import gc
import threading
import weakref

import numpy as np
import pytest

import pyray
from pyray.store import (
    ObjectExistsError,
    ObjectID,
    ObjectNotFoundError,
    Store,
    StoreClosedError,
)

KEY = ObjectID(b"k" * 20)

VALUES = {
    "none": None,
    "bool": True,
    "int": -5,
    "large int": 10**1000,
    "float": 1.5,
    "str": "text",
    "long str": "text" * 5000,
    "bytes": b"bytes",
    "long bytes": b"bytes" * 5000,
    "list": [1, "two", (3.0, None)],
    "dict": {"a": {1, 2}, "b": b"x" * 100},
    "many": list(range(100000)),
    "complex": 1j,
}


def address(array):
    return array.__array_interface__["data"][0]


class TestPut:
    @pytest.mark.parametrize("name", VALUES)
    def test_any_value(self, store, name):
        value = VALUES[name]
        key = store.put(value)
        found = store.get(key)
        assert found == value and type(found) is type(value)
        store.delete(key)
        assert store.stats()["used"] == 0

    def test_functions_and_classes_of_main(self, store):
        factor = 3
        assert store.get(store.put(lambda x: factor * x))(2) == 6

    def test_given_id(self, store):
        assert store.put([1], KEY) == KEY
        assert store.get(KEY) == [1]
        with pytest.raises(ObjectExistsError):
            store.put([2], KEY)
        assert store.get(KEY) == [1] and len(store.list()) == 1

    def test_is_written_once(self, store):
        array = np.arange(1 << 20)
        store.put(array)
        assert array.nbytes < store.stats()["peak"] < array.nbytes + 5000

    def test_what_cannot_be_serialized(self, store):
        with pytest.raises(TypeError, match=r"obj\[1\]"):
            store.put([np.zeros(1000), threading.Lock()])
        assert store.list() == {} and store.stats()["used"] == 0
        assert store.get(store.put(5)) == 5

    def test_code_that_runs_meanwhile_may_use_the_store(self, store):
        class Nested:
            def __reduce__(self):
                return ObjectID, (store.put(np.ones(1000)).binary(),)

        key = store.get(store.put([Nested(), Nested()]))[1]
        assert store.get(key).sum() == 1000

    def test_code_that_runs_meanwhile_may_take_the_id(self, store):
        class Rival:
            def __reduce__(self):
                store.put("rival", KEY)
                return list, ()

        with pytest.raises(ObjectExistsError):
            store.put(Rival(), KEY)
        assert store.get(KEY) == "rival" and len(store.list()) == 1

    def test_code_that_runs_meanwhile_may_close_it(self, store):
        class Closing:
            def __reduce__(self):
                other.close()
                return list, ()

        other = Store.connect("test")
        with pytest.raises(StoreClosedError):
            other.put([Closing(), np.zeros(1000)])
        assert store.list() == {} and store.stats()["used"] == 0
        assert store.stats()["processes"] == 1

    def test_closing_while_it_is_copied(self, store):
        for _ in range(20):
            other = Store.connect("test")
            started = threading.Event()
            outcome = []

            def put(other=other, started=started, outcome=outcome):
                started.set()
                try:
                    outcome.append(other.put(np.ones(1 << 22)))
                except StoreClosedError as error:
                    outcome.append(error)

            thread = threading.Thread(target=put)
            thread.start()
            started.wait()
            other.close()
            thread.join()
            if isinstance(outcome[0], ObjectID):
                assert store.get(outcome[0]).sum() == 1 << 22
                store.delete(outcome[0])
            assert store.list() == {} and store.stats()["used"] == 0
            assert store.stats()["processes"] == 1


class TestGet:
    def test_several(self, store):
        keys = [store.put(i) for i in range(10)]
        assert store.get(keys) == list(range(10))
        assert store.get(tuple(keys[:2])) == [0, 1]
        assert store.get([]) == []
        with pytest.raises(ObjectNotFoundError, match=KEY.hex()):
            store.get([*keys, KEY], timeout=0)

    def test_nothing_is_copied(self, store):
        key = store.put(np.arange(1000))
        one, two = store.get([key, key])
        assert one is not two and address(one) == address(two)
        with Store.connect("test") as other:
            assert (other.get(key) == one).all()

    def test_identity_is_kept(self, store):
        value = [np.zeros(42)] * 99
        found = store.get(store.put(value))
        assert len(found) == 99 and all(item is found[0] for item in found)
        assert store.stats()["used"] < 2000

    def test_recursion_is_kept(self, store):
        value = {}
        value["self"] = [value]
        found = store.get(store.put(value))
        assert found["self"][0] is found

    def test_arrays_are_read_only(self, store):
        array = store.get(store.put(np.zeros(1000)))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError):
            array.flags.writeable = True

    def test_messages_and_buffers_are_the_same_thing(self, store):
        key = store.put({"a": np.arange(1000)})
        (message,) = store.get_buffers([key])
        assert (pyray.deserialize(message)["a"] == np.arange(1000)).all()
        assert pyray.view(message)["a"][5] == 5
        other = pyray.serialize(["made", "by", np.ones(10)])
        other.write_to(store.create(KEY, other.total_bytes))
        store.seal(KEY)
        assert store.get(KEY)[2].sum() == 10

    def test_what_is_no_message(self, store):
        for data in (b"", b"no message", bytes(1000)):
            store.create(KEY, len(data))[:] = data
            store.seal(KEY)
            with pytest.raises((pyray.DeserializationError, EOFError)):
                store.get(KEY)
            store.delete(KEY)
        gc.collect()
        assert store.stats()["used"] == 0


class TestViews:
    """What was got stays: after its id, after the store is closed, after the Store is gone."""

    def test_outlive_the_id(self, store):
        key = store.put(np.arange(10000))
        array = store.get(key)
        store.delete(key)
        for number in range(20):
            store.put(np.full(10000, number))
        assert (array == np.arange(10000)).all()

    def test_memory_goes_with_the_last(self, store):
        key = store.put({"a": np.arange(10000), "b": np.arange(10000)})
        part = store.get(key)["a"][10:20]
        store.delete(key)
        gc.collect()
        assert store.stats()["used"] > 0
        del part
        gc.collect()
        assert store.stats()["used"] == 0

    @pytest.mark.parametrize("copy_on_write", [False, True])
    def test_outlive_the_store(self, store, copy_on_write):
        key = store.put(np.arange(100000))
        other = Store.connect("test")
        array = other.get(key, copy_on_write=copy_on_write)
        other.close()
        reference = weakref.ref(other)
        del other
        gc.collect()
        assert reference() is None
        store.delete(key)
        store.put(np.zeros(100000))
        assert (array == np.arange(100000)).all()
        assert store.stats()["processes"] == 2
        del array
        assert store.stats()["processes"] == 1

    def test_outlive_the_maker(self):
        store = Store.create("test", capacity=1 << 26)
        array = store.get(store.put(np.arange(100000)))
        store.close()
        del store
        gc.collect()
        assert (array == np.arange(100000)).all()
        with Store.create("test", capacity=1 << 20) as store:
            assert store.list() == {}


class TestCopyOnWrite:
    @pytest.mark.parametrize("size", [1, 1000, 100000, 1 << 20])
    def test_arrays(self, store, size):
        key = store.put({"x": np.zeros(size), "y": np.arange(size)})
        mine = store.get(key, copy_on_write=True)
        also_mine = store.get([key], copy_on_write=True)[0]
        mine["x"][:] = 1
        also_mine["y"][::2] = 0
        mine["y"] += 1
        theirs = store.get(key)
        assert not theirs["x"].any() and (theirs["y"] == np.arange(size)).all()
        assert (mine["x"] == 1).all() and (mine["y"] == np.arange(size) + 1).all()
        assert not also_mine["x"].any() and not also_mine["y"][::2].any()

    def test_keeps_the_object(self, store):
        key = store.put(np.arange(100000))
        mine = store.get(key, copy_on_write=True)
        mine[:1000] = 0
        store.delete(key)
        store.put(np.zeros(100000))
        assert (mine[1000:] == np.arange(1000, 100000)).all()
        assert store.stats()["objects"] == 1 and store.stats()["blocks"] == 2
        del mine
        assert store.stats()["blocks"] == 1

    def test_small_values(self, store):
        for value in (None, 5, "x", [1, 2]):
            assert store.get(store.put(value), copy_on_write=True) == value

    def test_dataframes(self, store):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"a": np.arange(50000.0), "b": np.arange(50000), "c": "text"})
        key = store.put(frame)
        mine = store.get(key, copy_on_write=True)
        values = mine["a"].to_numpy(copy=False)
        assert np.shares_memory(values, mine["a"].array)
        mine.loc[0, "a"] = -1.0
        mine["b"] += 1
        mine["d"] = 5
        assert mine.loc[0, "a"] == -1 and mine["b"][1] == 2
        pd.testing.assert_frame_equal(store.get(key), frame)

    def test_tensors_always_are(self, store):
        torch = pytest.importorskip("torch")
        tensor = torch.arange(100000, dtype=torch.float32)
        key = store.put({"weights": [tensor, tensor]})
        one, two = store.get(key)["weights"], store.get(key)["weights"]
        assert one[0] is one[1]
        one[0].add_(1)
        assert torch.equal(one[0], tensor + 1) and torch.equal(two[0], tensor)
        assert torch.equal(store.get(key)["weights"][0], tensor)
