"""`kill -9`, wherever it hurts: nothing is left, and whoever lives goes on."""

import os
import threading

import numpy as np
import pytest
from peers import peer, run, until

from pyray.store import ObjectExistsError, ObjectID, ObjectNotFoundError, Store


def key(number):
    return ObjectID(number.to_bytes(20, "big"))


def buried(store):
    """Wait until all others are known to be dead."""
    until(lambda: store.stats()["processes"] == 1)


def test_views_of_a_killed_process(store):
    before = store.stats()
    with peer(
        """
        store = Store.connect("test")
        views = [store.get(key(n)) for n in range(10)]
        own = [store.get(key(n), copy_on_write=True) for n in range(10)]
        tell(1)
        hear()
        """
    ) as other:
        for n in range(10):
            store.put(np.arange(100000), key(n))
        other.told()
        store.delete([key(n) for n in range(10)])
        assert store.stats()["used"] >= 8000000
        other.kill()
    buried(store)
    after = store.stats()
    assert after["used"] == 0 and after["deaths"] == 1
    assert after["blocks"] == before["blocks"] and after["objects"] == 0


def test_between_create_and_seal(store):
    with peer(
        """
        store = Store.connect("test")
        for n in range(100):
            store.create(key(n), n * 1000)[:] = b"x" * (n * 1000)
        store.seal(key(0))
        tell(1)
        hear()
        """
    ) as other:
        other.told()
        assert len(store.list()) == 100
        other.kill()
    buried(store)
    assert list(store.list()) == [key(0)]
    store.delete(key(0))
    assert store.stats()["used"] == 0
    for n in range(100):
        store.put(n, key(n))


def test_while_somebody_waits_for_its_object(store):
    """Who waits, waits on: another may make it."""
    with peer("store = Store.connect('test'); store.create(key(1), 5); tell(1); hear()") as other:
        other.told()
        found = []
        thread = threading.Thread(target=lambda: found.append(store.get(key(1))))
        thread.start()
        until(lambda: store.list()[key(1)]["references"] == 2)
        other.kill()
        until(lambda: key(1) not in store.list())
        store.put("by another", key(1))
        thread.join()
        assert found == ["by another"]


def test_in_the_middle_of_a_put(store):
    """At any instant: what there is afterwards is whole."""
    program = """
        store = Store.connect("test")
        tell(1)
        for n in range(1, 1 << 30):
            store.put([np.full(20000, n), str(n)], key(n))
            if n > 5:
                store.delete(key(n - 5))
    """
    for kill in range(10):
        with peer(program) as other:
            other.told()
            until(lambda: len(store.list()) > kill % 5)
            other.kill()
        buried(store)
        left = store.list()
        assert len(left) <= 6
        for one in left:
            array, text = store.get(one)
            assert (array == int(text)).all() and key(int(text)) == one
            del array
            store.delete(one)
        assert store.stats()["used"] == 0 and store.stats()["blocks"] == 0


class TestWithoutTheMaker:
    """Those who have connected find the dead themselves."""

    MAKER = """
        store = Store.create("made", capacity=1 << 26)
        store.put(np.arange(1000), key(1))
        unsealed = store.create(key(2), 1000)
        tell(1)
        hear()
    """
    OTHER = """
        store = Store.connect("made")
        view = store.get(store.put(np.zeros(1 << 22), key(3)))
        store.create(key(4), 1 << 20)
        tell(1)
        hear()
    """

    @pytest.fixture
    def left(self):
        """A store whose maker was killed, as was another process that used it."""
        with peer(self.MAKER) as maker:
            maker.told()
            with peer(self.OTHER) as other:
                other.told()
                store = Store.connect("made")
                maker.kill()
                store.delete(key(3))
                other.kill()
        yield store
        store.close()

    def test_goes_on(self, left):
        assert (left.get(key(1)) == np.arange(1000)).all()
        assert left.get(left.put("still")) == "still"
        array = left.get(key(1), copy_on_write=True)
        array[:] = 0
        assert left.get(key(1)).sum() == 499500

    def test_finds_them_when_it_is_full(self, left):
        assert left.stats()["processes"] == 3
        first = left.put(np.zeros(7 << 20))  # 56 of 64 MB, of which the dead hold 33
        assert left.stats()["processes"] == 1 and left.stats()["deaths"] == 2
        assert left.list().keys() == {key(1), first}

    def test_finds_them_when_it_waits(self, left):
        with pytest.raises(ObjectNotFoundError):
            left.get(key(2), timeout=2)
        assert left.stats()["processes"] == 1

    @pytest.mark.parametrize("call", ["create", "put", "delete"])
    def test_finds_them_when_they_are_in_the_way(self, left, call):
        if call == "delete":
            with pytest.raises(ObjectNotFoundError):
                left.delete(key(2))
        else:
            left.create(key(2), 5) if call == "create" else left.put(5, key(2))
            with pytest.raises(ObjectExistsError):
                left.create(key(2), 5)
        assert left.stats()["processes"] == 1

    def test_name_is_free(self, left):
        with Store.create("made", capacity=1 << 20) as store:
            assert store.list() == {} and Store.connect("made").list() == {}
        assert key(1) in left


def test_found_by_who_connects(store):
    """Should the maker not notice."""
    store._link.recover = lambda: None
    with peer("s = Store.connect('test'); s.create(key(1), 1000); tell(1); hear()") as other:
        other.told()
        other.kill()
    assert store.stats()["processes"] == 2
    with Store.connect("test"):
        assert store.stats()["processes"] == 2 and store.stats()["deaths"] == 1
        assert store.list() == {}


def test_nothing_is_left_but_the_socket(place):
    before = os.listdir("/dev/shm")
    with peer(TestWithoutTheMaker.MAKER) as maker:
        maker.told()
        with peer(TestWithoutTheMaker.OTHER) as other:
            other.told()
            maker.kill()
            other.kill()
    assert set(os.listdir("/dev/shm")) <= set(before)
    assert os.listdir(place / f"pyray-{os.getuid()}" / "stores") == ["made"]


def test_deaths_at_random(store):
    """Many processes that are killed while they work on the same few ids."""
    program = """
        import random
        store = Store.connect("test")
        tell(1)
        while True:
            one = key(random.randrange(8))
            try:
                act = random.randrange(5)
                if act == 0:
                    store.put(np.full(random.randrange(30000), 7), one)
                elif act == 1:
                    buffer = store.create(one, random.randrange(30000))
                    buffer[:] = bytes(len(buffer))
                    del buffer
                    random.choice([store.seal, store.abort])(one)
                elif act == 2:
                    store.delete(one)
                elif act == 3:
                    (view,) = store.get_buffers([one], timeout=0)
                else:
                    store.list()
            except (ObjectExistsError, ObjectNotFoundError, ObjectNotSealedError):
                pass
    """
    running = [peer(program) for _ in range(2)]
    others = [one.__enter__() for one in running]
    try:
        for other in others:
            other.told()
        for round in range(8):
            number = round % len(others)
            for n in range(50):
                store.get_buffers([key(n % 8)], timeout=0)
            others[number].kill()
            running[number].__exit__(None, None, None)
            running[number] = peer(program)
            others[number] = running[number].__enter__()
            others[number].told()
        for other in others:
            other.kill()
    finally:
        for one in running:
            one.__exit__(None, None, None)
    buried(store)
    store.delete([one for one, known in store.list().items() if known["state"] == "sealed"])
    after = store.stats()
    assert after["used"] == after["objects"] == after["blocks"] == 0
    assert after["deaths"] == 10
    assert run("s = Store.connect('test'); print(s.get(s.put('works')))") == "works\n"
