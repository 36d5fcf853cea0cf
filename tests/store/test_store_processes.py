"""Processes that have nothing in common but the store's name."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from peers import peer, run

from pyray.store import ObjectID, Store, StoreClosedError

POOL = """
import multiprocessing

import numpy as np

from pyray.store import Store


def work(store, key):
    return float(store.get(key).sum()), store.put("from a worker")


if __name__ == "__main__":
    store = Store.connect("test")
    key = store.put(np.ones(1000))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for total, answer in pool.starmap(work, [(store, key)] * 4):
            assert total == 1000 and store.get(answer) == "from a worker"
"""


def key(number):
    return ObjectID(number.to_bytes(20, "big"))


class TestSharing:
    def test_values_come_and_go(self, store):
        with peer(
            """
            store = Store.connect("test")
            array = store.get(key(1))
            tell(float(array.sum()))
            store.put({"doubled": array * 2, "by": os.getpid()}, key(2))
            hear()
            """
        ) as other:
            store.put(np.arange(100000.0), key(1))
            assert other.told() == 4999950000.0
            answer = store.get(key(2))
            assert answer["by"] == other.pid and answer["doubled"].sum() == 9999900000.0
            listed = store.list()
            assert listed[key(1)]["creator"] == os.getpid()
            assert listed[key(1)]["references"] == 1  # the other's array
            assert listed[key(2)]["creator"] == other.pid
            other.go_on()
            other.end()
        assert store.list()[key(1)]["references"] == 0

    def test_sees_what_is_sealed_only(self, store):
        with peer(
            """
            store = Store.connect("test")
            buffer = store.create(key(1), 1000)
            buffer[:500] = b"x" * 500
            tell(1)
            hear()
            buffer[500:] = b"y" * 500
            store.seal(key(1))
            hear()
            """
        ) as other:
            other.told()
            assert store.get_buffers([key(1)], timeout=0) == [None]
            other.go_on()
            assert store.get_buffers([key(1)]) == [b"x" * 500 + b"y" * 500]
            other.go_on()
            other.end()

    def test_memory_goes_with_the_last_view_of_any(self, store):
        with peer(
            """
            store = Store.connect("test")
            array = store.get(key(1))
            tell(1)
            hear()
            tell(float(array.sum()))
            del array
            tell(2)
            hear()
            """
        ) as other:
            store.put(np.ones(100000), key(1))
            other.told()
            store.delete(key(1))
            assert store.stats()["used"] > 0
            store.put(np.zeros(100000), key(2))
            other.go_on()
            assert other.told() == 100000.0 and other.told() == 2
            store.delete(key(2))
            assert store.stats()["used"] == 0
            other.go_on()
            other.end()

    def test_copy_on_write_is_seen_by_nobody_else(self, store):
        program = """
            store = Store.connect("test")
            array = store.get(key(1), copy_on_write=True)
            array[::7] = os.getpid()
            tell(1)
            hear()
            tell(bool((array[::7] == os.getpid()).all() and not array[1::7].any()))
        """
        store.put(np.zeros(1 << 20), key(1))
        with peer(program) as one, peer(program) as two:
            one.told(), two.told()
            assert not store.get(key(1)).any()
            one.go_on(), two.go_on()
            assert one.told() and two.told()
            one.end(), two.end()

    def test_writing_through_an_address_faults(self, store):
        """In the process that does it: nobody else notices."""
        store.put(np.zeros(100000), key(1))
        with peer(
            """
            store = Store.connect("test")
            array = store.get(key(1))
            tell(1)
            hear()
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # also under a sanitizer
            ctypes.memset(array.ctypes.data, 1, 8)
            """
        ) as other:
            other.told()
            other.go_on()
            other.end(-signal.SIGSEGV)
        assert not store.get(key(1)).any()
        assert store.get(store.put(5)) == 5

    def test_stores_of_a_capacity_beyond_the_memory(self):
        """Memory is the system's until it is written."""
        with Store.create("large", capacity=1 << 39) as store:
            store.put(np.ones(1000), key(1))
            out = run("print(Store.connect('large').get(key(1)).sum())")
            assert out == "1000.0\n"

    def test_many_clients_at_once(self, store):
        program = """
            store = Store.connect("test", timeout=None)
            number = store.get(key(0))
            for i in range(300):
                own = store.put(np.full(i, os.getpid()))
                assert (store.get(own) == os.getpid()).all()
                store.delete(own)
            store.put(number, ObjectID(os.getpid().to_bytes(20, "big")))
        """
        others = [peer(program) for _ in range(4)]
        running = [other.__enter__() for other in others]
        try:
            store.put(42, key(0))
            for one in running:
                assert store.get(key(one.pid)) == 42
                one.end()
        finally:
            for other in others:
                other.__exit__(None, None, None)
        store.delete(list(store.list()))
        assert store.stats()["used"] == 0


class TestLeaving:
    def test_objects_stay(self, store):
        run("store = Store.connect('test'); store.put('left', key(1)); store.close()")
        run("Store.connect('test').put('left, too', key(2))")
        assert store.get([key(1), key(2)]) == ["left", "left, too"]
        assert store.stats()["processes"] == 1 and store.stats()["deaths"] == 0

    def test_the_maker_may_leave_first(self):
        program = """
            store = Store.create("made", capacity=1 << 26)
            store.put(np.arange(1000), key(1))
            tell(1)
            hear()
            store.close()
            tell(2)
            hear()
        """
        with peer(program) as maker:
            maker.told()
            one, two = Store.connect("made"), Store.connect("made")
            array = one.get(key(1))
            maker.go_on()
            maker.told()
            assert (array == np.arange(1000)).all()
            assert two.get(one.put("still there")) == "still there"
            with Store.create("made", capacity=1 << 20) as another:
                assert another.list() == {}
            maker.go_on()
            maker.end()
        assert one.stats()["processes"] == 2
        one.delete(list(one.list()))
        del array
        assert one.stats()["used"] == 0


class TestForks:
    def test_a_child_has_to_connect_itself(self, store):
        store.put(np.arange(1000), key(1))
        view = store.get(key(1))
        with Store.connect("test") as other:
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    for inherited in (store, other):
                        with pytest.raises(StoreClosedError, match="has to connect itself"):
                            inherited.get(key(1))
                        inherited.close()
                    assert view.sum() == 499500
                    own = Store.connect("test")
                    assert own.get(key(1)).sum() == 499500
                    own.put(os.getpid(), key(2))
                    own.close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0) == (pid, 0)
            assert store.get(key(2)) == pid
            assert other.get(key(1)).sum() == 499500
        assert store.stats()["processes"] == 1

    def test_a_child_does_not_take_the_name_along(self):
        """It ends as Python does, and it lives on when the maker is killed."""
        program = """
            store = Store.create("made", capacity=1 << 20)
            child = os.fork()
            if not child:
                {child}
            os.waitpid(child, 0) if {wait} else None
            tell(child)
            hear()
        """
        with peer(program.format(child="sys.exit()", wait=True)) as maker:
            maker.told()
            assert Store.connect("made").list() == {}
            maker.go_on()
            maker.end()
        with peer(program.format(child="tell(0); hear(); os._exit(0)", wait=False)) as maker:
            maker.told(), maker.told()
            maker.send(signal.SIGKILL)
            maker.process.wait()
            with Store.create("made", capacity=1 << 20) as store:
                assert store.list() == {}
            maker.go_on()

    def test_a_child_keeps_no_memory(self):
        """But for the views it has inherited."""
        out = run(
            """
            def in_child():
                if not os.fork():
                    maps = open("/proc/self/maps").read()
                    files = [os.readlink(f.path) for f in os.scandir("/proc/self/fd")
                             if os.path.lexists(f.path)]
                    print("pyray-arena" in maps, any("pyray-arena" in f for f in files))
                    sys.stdout.flush()
                    os._exit(0)
                os.wait()

            store = Store.create("a", capacity=1 << 20)
            other = Store.connect("a")
            store.create(key(1), 1000)
            in_child()
            view = store.get(store.put(np.zeros(1000)))
            in_child()
            """
        )
        assert out == "False False\nTrue True\n"

    def test_pools_that_spawn(self, store, tmp_path):
        """A store that is handed to another process connects there."""
        script = tmp_path / "pool.py"
        script.write_text(POOL)
        path = os.pathsep.join(sys.path)
        subprocess.run([sys.executable, script], check=True, env={**os.environ, "PYTHONPATH": path})


class TestWaiting:
    def test_signals_interrupt_at_once(self, store):
        with peer(
            """
            store = Store.connect("test")
            for call in (lambda: store.get(key(1)), lambda: store.get_buffers([key(1)])):
                try:
                    tell("waiting")
                    call()
                except KeyboardInterrupt:
                    tell("interrupted")
            tell(store.get(store.put(5)))
            """
        ) as other:
            for _ in range(2):
                assert other.told() == "waiting"
                other.send(signal.SIGINT)
                assert other.told() == "interrupted"
            assert other.told() == 5
            other.end()

    def test_several_threads_wait_for_several_objects(self, store):
        def wait(number):
            found[number] = store.get(key(number))

        found = {}
        threads = [threading.Thread(target=wait, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        run(
            """
            store = Store.connect("test")
            for number in reversed(range(8)):
                if number % 2:
                    store.put(number * 10, key(number))
                else:
                    import pyray
                    message = pyray.serialize([number * 10])
                    message.write_to(store.create(key(number), message.total_bytes))
            for number in (4, 2, 6, 0):
                store.seal(key(number))
            """
        )
        for thread in threads:
            thread.join()
        assert found == {n: n * 10 if n % 2 else [n * 10] for n in range(8)}

    def test_what_is_aborted_may_come_yet(self, store):
        with peer(
            """
            store = Store.connect("test")
            tell(1)
            tell(store.get(key(1)))
            """
        ) as other:
            store.create(key(1), 1000)
            other.told()
            store.abort(key(1))
            store.create(key(1), 10)
            store.abort(key(1))
            store.put("at last", key(1))
            assert other.told() == "at last"
            other.end()
