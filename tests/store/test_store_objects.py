"""Objects of bytes: created, sealed, found, listed, deleted; in one process."""

import os
import threading

import numpy as np
import pytest

from pyray.store import (
    ObjectExistsError,
    ObjectID,
    ObjectNotFoundError,
    ObjectNotSealedError,
    Store,
    StoreClosedError,
    StoreError,
    StoreFullError,
)

KEY = ObjectID(b"k" * 20)
OTHER = ObjectID(b"o" * 20)

#: In a slot, in a small block, in pages of its own.
SIZES = [0, 1, 80, 81, 5000, 1 << 20]


def fill(store, key, data):
    store.create(key, len(data))[:] = data
    store.seal(key)


def bytes_of(store, key):
    (view,) = store.get_buffers([key], timeout=0)
    return None if view is None else bytes(view)


class TestCreate:
    @pytest.mark.parametrize("size", SIZES)
    def test_is_read_as_it_was_written(self, store, size):
        data = os.urandom(size)
        buffer = store.create(KEY, size)
        assert buffer.nbytes == size and not buffer.readonly
        buffer[:] = data
        store.seal(KEY)
        (view,) = store.get_buffers([KEY])
        assert view == data and view.readonly

    def test_is_not_there_before_it_is_sealed(self, store):
        store.create(KEY, 10)
        assert not store.contains(KEY) and KEY not in store
        assert store.get_buffers([KEY], timeout=0) == [None]
        with pytest.raises(ObjectNotSealedError, match=KEY.hex()):
            store.get(KEY, timeout=0)
        with pytest.raises(ObjectNotSealedError, match="abort"):
            store.delete(KEY)
        store.seal(KEY)
        assert store.contains(KEY) and KEY in store

    def test_id_is_taken_from_the_beginning(self, store):
        store.create(KEY, 10)
        for _ in range(2):
            with pytest.raises(ObjectExistsError, match=KEY.hex()):
                store.create(KEY, 10)
            with pytest.raises(ObjectExistsError, match=KEY.hex()):
                store.put(1, KEY)
            if not store.contains(KEY):
                store.seal(KEY)

    def test_new_views_are_read_only_once_it_is_sealed(self, store):
        buffer = store.create(KEY, 100)
        store.seal(KEY)
        assert memoryview(buffer.obj).readonly

    def test_array_in_place(self, store):
        array = np.frombuffer(store.create(KEY, 8000), dtype=np.float64)
        array[:] = np.arange(1000)
        store.seal(KEY)
        assert np.array_equal(np.frombuffer(store.get_buffers([KEY])[0]), np.arange(1000))

    def test_views_that_are_left_keep_the_memory(self, store):
        buffer = store.create(KEY, 5000)
        store.seal(KEY)
        store.delete(KEY)
        fill(store, OTHER, b"x" * 5000)
        buffer[:] = b"y" * 5000  # wrong, but nobody else's memory
        assert bytes_of(store, OTHER) == b"x" * 5000
        del buffer
        store.delete(OTHER)
        assert store.stats()["used"] == 0

    @pytest.mark.parametrize("size", [-1, "5", None, 2.5])
    def test_sizes_are_checked(self, store, size):
        with pytest.raises((TypeError, ValueError)):
            store.create(KEY, size)
        assert store.list() == {}


class TestSeal:
    def test_twice(self, store):
        store.create(KEY, 1)
        store.seal(KEY)
        with pytest.raises(ObjectExistsError, match="sealed already"):
            store.seal(KEY)
        with pytest.raises(ObjectExistsError, match="sealed already"):
            store.abort(KEY)

    def test_what_is_not_there(self, store):
        with pytest.raises(ObjectNotFoundError, match=KEY.hex()):
            store.seal(KEY)

    def test_anothers(self, store):
        with Store.connect("test") as other:
            other.create(KEY, 1)
            for call in (store.seal, store.abort):
                with pytest.raises(ObjectNotFoundError, match="not created through this Store"):
                    call(KEY)

    def test_abort(self, store):
        buffer = store.create(KEY, 5000)
        store.abort(KEY)
        assert store.list() == {}
        fill(store, KEY, b"again")
        assert bytes_of(store, KEY) == b"again"
        buffer[:] = bytes(5000)
        del buffer
        store.delete(KEY)
        assert store.stats()["used"] == 0
        with pytest.raises(ObjectNotFoundError):
            store.abort(KEY)


class TestDelete:
    def test_id_goes_at_once_and_memory_with_the_last_view(self, store):
        fill(store, KEY, b"x" * 5000)
        (view,) = store.get_buffers([KEY])
        array = np.frombuffer(view, dtype=np.uint8)
        store.delete(KEY)
        assert not store.contains(KEY) and store.list() == {}
        assert store.stats()["used"] > 0
        fill(store, KEY, b"y" * 5000)
        assert bytes(view) == b"x" * 5000 and bytes_of(store, KEY) == b"y" * 5000
        store.delete(KEY)
        del view
        assert store.stats()["used"] > 0
        del array
        assert store.stats()["used"] == 0

    def test_several(self, store):
        keys = [ObjectID.from_random() for _ in range(100)]
        for key in keys:
            fill(store, key, b"x" * 1000)
        store.delete(keys)
        assert store.list() == {} and store.stats()["used"] == 0

    def test_what_is_not_there(self, store):
        with pytest.raises(ObjectNotFoundError, match=KEY.hex()):
            store.delete(KEY)
        fill(store, KEY, b"")
        store.delete(KEY)
        with pytest.raises(ObjectNotFoundError, match=KEY.hex()):
            store.delete([KEY])


class TestGetBuffers:
    def test_several_of_which_some_are_there(self, store):
        fill(store, KEY, b"x" * 100)
        one, none, again = store.get_buffers([KEY, OTHER, KEY], timeout=0)
        assert one == again == b"x" * 100 and none is None
        assert store.get_buffers([], timeout=0) == []

    def test_time_passes_once_for_all(self, store):
        missing = [ObjectID.from_random() for _ in range(1000)]
        assert store.get_buffers(missing, timeout=0.001) == [None] * 1000

    @pytest.mark.parametrize("timeout", [-1, -0.001])
    def test_negative_timeout(self, store, timeout):
        with pytest.raises(ValueError, match="None waits for ever"):
            store.get_buffers([KEY], timeout=timeout)
        with pytest.raises(ValueError, match="None waits for ever"):
            store.get(KEY, timeout=timeout)

    def test_waits_for_another_thread(self, store):
        def make():
            waiting.wait()
            buffer = store.create(KEY, 5)
            buffer[:] = b"later"
            store.seal(KEY)

        waiting = threading.Event()
        thread = threading.Thread(target=make)
        thread.start()
        waiting.set()
        assert store.get_buffers([KEY]) == [b"later"]
        thread.join()


class TestLooking:
    def test_list(self, store):
        assert store.list() == {}
        fill(store, KEY, b"x" * 1000)
        writing = store.create(OTHER, 5)
        common = {"creator": os.getpid()}
        assert store.list() == {
            KEY: {"size": 1000, "state": "sealed", "references": 0, **common},
            OTHER: {"size": 5, "state": "created", "references": 1, **common},
        }
        views = store.get_buffers([KEY, KEY])
        assert store.list()[KEY]["references"] == 1  # processes, not views
        with Store.connect("test") as other:
            more = other.get_buffers([KEY])
            assert store.list()[KEY]["references"] == 2
            assert other.list() == store.list()
            del more
            assert store.list()[KEY]["references"] == 1
        del writing
        store.abort(OTHER)

    def test_stats(self, store):
        before = store.stats()
        assert before["capacity"] == 1 << 26
        assert before["used"] == before["objects"] == before["blocks"] == before["deaths"] == 0
        assert before["processes"] == 1
        fill(store, KEY, bytes(1 << 20))
        after = store.stats()
        assert after["used"] == after["peak"] == 1 << 20 and after["objects"] == 1
        assert after["touched"] >= 1 << 20
        assert after["largest_free"] <= after["capacity"] - after["used"]
        with Store.connect("test"):
            assert store.stats()["processes"] == 2
        assert store.stats()["processes"] == 1
        store.delete(KEY)
        assert store.stats()["used"] == 0 and store.stats()["peak"] == 1 << 20

    def test_many(self, store):
        keys = [store.put(number) for number in range(10000)]
        assert store.list().keys() == set(keys)
        store.delete(keys)
        assert store.list() == {}


class TestFull:
    def test_raises_and_recovers(self, store):
        kept = {}
        with pytest.raises(StoreFullError, match=r"no room for an object of 1000\d{3} bytes"):
            while True:
                value = np.full(1000000, len(kept), dtype=np.uint8)
                kept[store.put(value)] = value[0]
        assert len(kept) > 60
        for key, first in kept.items():
            assert (store.get(key) == first).all()
        first = next(iter(kept))
        store.delete(first)
        del kept[first]
        kept[store.put(np.zeros(1000000, dtype=np.uint8))] = 0
        store.delete(kept)
        assert store.stats()["used"] == 0

    def test_create(self, store):
        for size in (1 << 26, 1 << 40, 2**63 - 1):
            with pytest.raises(StoreFullError) as caught:
                store.create(KEY, size)
            assert isinstance(caught.value, MemoryError)
        assert store.list() == {} and store.stats()["used"] == 0

    def test_put_leaves_nothing(self, store):
        with pytest.raises(StoreFullError):
            store.put([np.zeros(1 << 26, dtype=np.uint8), "x" * 1000])
        assert store.list() == {} and store.stats()["used"] == 0


class TestMemory:
    def test_is_flat_over_many_objects(self, store):
        def rounds(number):
            for i in range(number):
                store.delete(store.put(b"x" * (i % 5000)))

        def resident():
            return os.fstat(store._client.session.control_fd).st_blocks, store.stats()["touched"]

        rounds(10000)
        before = resident()
        rounds(90000)
        blocks, touched = resident()
        assert touched == before[1]
        # Names are hashed: now and then one is the first in its page of the buckets.
        assert blocks <= before[0] + 2048
        assert store.stats()["used"] == 0

    def test_many_at_once(self, store):
        for _ in range(3):
            keys = [store.put(i) for i in range(100000)]
            assert store.get(keys[::1000]) == list(range(0, 100000, 1000))
            store.delete(keys)
        assert store.stats()["used"] == 0


class TestClosed:
    def calls(self, store):
        return [
            lambda: store.put(1),
            lambda: store.put(np.zeros(1000)),
            lambda: store.get(KEY),
            lambda: store.get([KEY]),
            lambda: store.get_buffers([KEY]),
            lambda: store.create(KEY, 1),
            lambda: store.seal(KEY),
            lambda: store.abort(KEY),
            lambda: store.contains(KEY),
            lambda: store.delete(KEY),
            store.list,
            store.stats,
        ]

    def test_says_so(self, store):
        store.close()
        store.close()
        assert store.closed and "closed" in repr(store)
        for call in self.calls(store):
            with pytest.raises(StoreClosedError, match="has closed the store"):
                call()

    def test_gives_back_what_was_not_sealed(self, store):
        with Store.connect("test") as other:
            other.create(KEY, 5000)
            other.put(np.zeros(1000), OTHER)
        assert list(store.list()) == [OTHER]

    def test_writers_view_stays(self, store):
        other = Store.connect("test")
        buffer = other.create(KEY, 5000)
        other.close()
        assert store.list() == {} and store.stats()["used"] > 0
        buffer[:] = b"x" * 5000
        assert store.stats()["processes"] == 2
        del buffer
        assert store.stats()["used"] == 0 and store.stats()["processes"] == 1

    def test_wakes_who_waits(self, store):
        def wait():
            started.set()
            try:
                other.get(KEY)
            except StoreError as error:
                caught.append(error)

        caught = []
        started = threading.Event()
        other = Store.connect("test")
        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        other.close()
        thread.join()
        assert isinstance(caught[0], StoreClosedError)
        assert store.stats()["processes"] == 1

    def test_garbage_is_closed(self, store):
        Store.connect("test")
        assert store.stats()["processes"] == 1


def test_stores_are_made_by_name():
    with pytest.raises(TypeError, match="Store.create"):
        Store()


def test_wrong_ids(store):
    for wrong in (b"k" * 20, "k" * 20, 5, None):
        for call in (store.get, store.contains, store.seal, store.abort):
            with pytest.raises(TypeError, match="ObjectID"):
                call(wrong)
        with pytest.raises(TypeError):
            store.delete(wrong)
        with pytest.raises(TypeError, match="ObjectID"):
            store.create(wrong, 5)
    with pytest.raises(TypeError, match="ObjectID"):
        store.put(1, b"k" * 20)


def test_threads(store):
    """Any thread may call any method."""

    def work(number):
        for i in range(300):
            key = store.put(np.full(i * 10, number))
            array = store.get(key)
            store.delete(key)
            assert (array == number).all() and len(array) == i * 10
            own = ObjectID(bytes([number]) * 20)
            fill(store, own, bytes([number]) * i)
            assert bytes_of(store, own) == bytes([number]) * i
            store.delete(own)
        done.append(number)

    done = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3]
    assert store.list() == {} and store.stats()["used"] == 0
