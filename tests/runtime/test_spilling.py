"""Objects that do not fit into the store go to files, and are read from there."""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gates
import numpy as np
import pytest
from drivers import Watch, driver

import pyray as ray
from pyray.exceptions import ObjectLostError, ObjectStoreFullError
from pyray.runtime import session

MB = 1 << 20
STORE = 80 * MB


@pytest.fixture
def store(no_session, monkeypatch):
    """A small store, on a disk that others may use, too."""
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "30")
    ray.init(num_cpus=2, object_store_memory=STORE, log_to_driver=False)
    return session.current()


@pytest.fixture
def impatient_store(no_session, monkeypatch):
    """One that refuses soon what cannot be written."""
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "1")
    ray.init(num_cpus=2, object_store_memory=STORE, log_to_driver=False)


def array(number: int, size: int = 8 * MB) -> np.ndarray:
    return np.full(size // 8, number, dtype=np.int64)


def holds(value: np.ndarray, number: int) -> bool:
    return bool((value == number).all())


def put_many(n: int, size: int = 8 * MB) -> list[ray.ObjectRef]:
    return [ray.put(array(i, size)) for i in range(n)]


def stats() -> dict[str, int]:
    return session.current().core.stats()


def directory() -> str:
    return os.path.join(session.current().directory, "spill")


def files() -> list[str]:
    return sorted(os.path.join(directory(), name) for name in os.listdir(directory()))


def spiller() -> int:
    (pid,) = [p["pid"] for p in session.current().core.processes() if p["kind"] == "spiller"]
    return pid


def spilled(refs: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
    """Those that are read from files: reading takes no memory of the store then."""
    found = []
    for ref in refs:
        before = stats()["restored_objects"]
        value = ray.get(ref)
        if not session.current().core.pinned().get(os.getpid()):
            found.append(ref)
        assert stats()["restored_objects"] == before
        del value
    return found


# -- the whole -------------------------------------------------------------------------------


def test_five_times_the_store(store):
    refs = put_many(50)
    assert stats()["spilled_objects"] > 30
    assert stats()["used"] <= STORE
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    for i, ref in reversed(list(enumerate(refs))):
        assert holds(ray.get(ref), i)


def test_tasks_make_and_read_what_is_spilled(store):
    @ray.remote
    def make(number):
        return array(number)

    @ray.remote
    def add(a, b):
        return a + b

    made = [make.remote(i) for i in range(40)]
    sums = [add.remote(made[i], made[-1 - i]) for i in range(40)]
    for ref in sums:
        assert holds(ray.get(ref), 39)
    assert stats()["spilled_objects"] > 0


def test_references_inside_stay_good(store):
    inner = [ray.put(array(i)) for i in range(3)]
    outer = ray.put([array(7), inner])
    handles = [ref.hex() for ref in inner]
    del inner
    others = put_many(30)
    value, refs = ray.get(outer)
    assert holds(value, 7)
    assert [ref.hex() for ref in refs] == handles
    del value
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    del others, outer, refs
    gc.collect()
    gates.until(lambda: stats()["used"] < MB)


def test_small_objects_share_files(store):
    refs = [ray.put(os.urandom(8) + bytes(10_000)) for _ in range(20_000)]
    values = [ray.get(ref)[:8] for ref in refs]
    assert len(set(values)) == len(refs)
    assert len(files()) < 20
    assert stats()["spilled_objects"] > 10_000


def test_private_copies_of_what_is_spilled(store):
    refs = put_many(30)
    cold = spilled(refs)[0]
    mine = ray.get(cold, copy_on_write=True)
    before = mine[0]
    mine[:] = -1
    again = ray.get(cold)
    assert again[0] == before and not again.flags.writeable
    small = ray.put(np.arange(1000))
    more = put_many(30)
    mine = ray.get(small, copy_on_write=True)
    mine[0] = 5
    assert ray.get(small)[0] == 0
    del more


def test_what_is_got_stays_as_it_is_though_its_file_goes(store):
    refs = put_many(30)
    cold = spilled(refs)[0]
    number = refs.index(cold)
    value = ray.get(cold)
    del refs, cold
    gc.collect()
    gates.until(lambda: stats()["objects"] < 10)
    assert holds(value, number)


# -- files -----------------------------------------------------------------------------------


def test_files_are_private_and_go_with_their_objects(store):
    refs = put_many(40)
    assert os.stat(directory()).st_mode & 0o777 == 0o700
    for path in files():
        assert os.stat(path).st_mode & 0o777 == 0o600
    del refs
    gc.collect()
    gates.until(lambda: files() == [])


def test_files_go_with_the_session(store):
    refs = put_many(40)
    where = session.current().directory
    assert files()
    ray.shutdown()
    assert not os.path.exists(where)
    del refs


@pytest.mark.parametrize("victim", ["node", "driver", "both"])
def test_files_go_though_processes_are_killed(tmp_path, victim):
    program = f"""
    import numpy as np
    ray.init(num_cpus=1, object_store_memory={STORE}, object_spilling={str(tmp_path)!r})
    refs = [ray.put(np.zeros({MB})) for _ in range(40)]
    tell(**processes())
    hear()
    """
    with driver(program) as running:
        told = running.told()
        assert os.listdir(tmp_path)
        if victim in ("node", "both"):
            os.kill(told["node"], signal.SIGKILL)
        if victim in ("driver", "both"):
            running.kill()
        gates.until(lambda: not os.listdir(tmp_path))


@contextmanager
def stopped_while_it_writes(pid: int, place: str) -> Iterator[None]:
    """Stands still with a file open there that it is about to write; goes on afterwards."""

    def has_one_open() -> bool:
        return any(link.startswith(place) for link in open_files(pid))

    while True:
        gates.until(has_one_open)
        os.kill(pid, signal.SIGSTOP)
        gates.until(lambda: is_stopped(pid))
        if has_one_open():
            break
        os.kill(pid, signal.SIGCONT)
    try:
        yield
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # the node has killed it


def open_files(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass  # just closed
    return found


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("scheme", ["", "local://"])
@pytest.mark.parametrize("victim", ["node", "driver", "both"])
def test_nothing_is_left_if_processes_are_killed_while_a_file_is_written(tmp_path, scheme, victim):
    place = str(tmp_path)
    program = f"""
    import numpy as np

    def links():
        for name in os.listdir("/proc/self/fd"):
            if os.path.lexists("/proc/self/fd/" + name):
                yield os.readlink("/proc/self/fd/" + name)

    ray.init(num_cpus=1, object_store_memory={STORE}, object_spilling={scheme + place!r})
    refs = [ray.put(np.zeros({MB})) for _ in range(20)]
    all = session.current().core.processes()
    tell(spiller=[p["pid"] for p in all if p["kind"] == "spiller"], **processes())
    try:
        while True:
            refs = [*refs[-40:], ray.put(np.zeros({MB}))]
    except ray.exceptions.RaySystemError as error:
        tell(str(error))
    ray.shutdown()
    tell([link for link in links() if "memfd" in link or "socket" in link])
    hear()
    """
    with driver(program) as running:
        told = running.told()
        (spiller,) = told["spiller"]
        watch = Watch([spiller, told["node"], *told["workers"]])
        with stopped_while_it_writes(spiller, place):
            if victim in ("node", "both"):
                os.kill(told["node"], signal.SIGKILL)
            if victim in ("driver", "both"):
                running.kill()
            if victim == "node":
                assert "the session's node process died" in running.told()
                assert running.told() == []
                assert not os.path.exists(told["directory"])
        assert watch.ended()
        gates.until(lambda: not os.listdir(tmp_path))


def alter(path: str) -> None:
    gates.until(lambda: os.path.getsize(path) > MB)  # it may still be being written
    with open(path, "r+b") as file:
        file.seek(MB)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (alter, "altered"),
        (lambda path: os.truncate(path, MB), "cut"),
        (lambda path: os.truncate(path, 10), "cut"),
        (os.unlink, "cannot be opened"),
    ],
)
def test_what_is_not_as_it_was_written_is_lost(store, spoil, why):
    refs = put_many(30, 3 * MB + 8)
    cold = spilled(refs)
    for path in files():
        spoil(path)
    lost = 0
    for ref in cold:
        try:
            assert holds(ray.get(ref), refs.index(ref))
        except ObjectLostError as error:
            assert why in str(error)
            lost += 1
            with pytest.raises(ObjectLostError):
                ray.get(ref)
    assert lost
    assert holds(ray.get(ray.put(array(5))), 5)


def vanish(path: str) -> None:
    os.rename(path, path + ".away")


def become_a_file(path: str) -> None:
    vanish(path)
    with open(path, "w"):
        pass


def come_back(path: str) -> None:
    if os.path.isfile(path):
        os.unlink(path)
    os.rename(path + ".away", path)


@pytest.mark.parametrize("go", [vanish, become_a_file])
def test_nothing_is_lost_while_a_directory_is_away(store, go):
    refs = put_many(30)
    cold = spilled(refs)[0]
    go(directory())
    for _ in range(2):
        with pytest.raises(ObjectLostError, match="could not be read back: .*directory"):
            ray.get(cold)
    come_back(directory())
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)


def test_nothing_is_lost_when_a_directory_comes_back_meanwhile(store, monkeypatch):
    refs = put_many(30)
    cold = spilled(refs)[0]
    vanish(directory())
    there = os.open

    def open_and_come_back(*args, **options):
        try:
            return there(*args, **options)
        except FileNotFoundError:
            monkeypatch.undo()
            come_back(directory())
            raise

    monkeypatch.setattr(os, "open", open_and_come_back)
    assert holds(ray.get(cold), refs.index(cold))


@pytest.mark.parametrize("go", [vanish, become_a_file])
def test_files_that_could_not_be_removed_are_removed_later(store, go):
    refs = put_many(30)
    before = files()
    go(directory())
    del refs
    gc.collect()
    gates.until(lambda: stats()["used"] < MB)
    os.kill(spiller(), signal.SIGKILL)  # another one is told of them, too
    gates.until(has_spiller)
    come_back(directory())
    assert before
    gates.until(lambda: files() == [])


def has_spiller() -> bool:
    return any(p["kind"] == "spiller" for p in session.current().core.processes())


def test_a_file_that_is_only_touched_is_still_good(store):
    refs = put_many(30)
    for path in files():
        os.utime(path)
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)


def test_several_directories_in_turn(no_session, tmp_path):
    places = [tmp_path / name for name in ("a", "b", "c")]
    ray.init(num_cpus=1, object_store_memory=STORE, object_spilling=places)
    refs = put_many(60)
    for place in places:
        (own,) = place.iterdir()
        assert own.name == os.path.basename(session.current().directory)
        assert list(own.iterdir())
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    ray.shutdown()
    for place in places:
        assert list(place.iterdir()) == []


# -- no room ---------------------------------------------------------------------------------


def test_what_is_read_stays_and_who_reads_it_is_named(store):
    values = [ray.get(ref) for ref in put_many(8)]
    with pytest.raises(ObjectStoreFullError, match=rf"pid {os.getpid()} 671\d{{5}} bytes"):
        ray.put(array(0, 30 * MB))
    assert all(holds(value, i) for i, value in enumerate(values))
    del values
    gc.collect()
    assert holds(ray.get(ray.put(array(1, 30 * MB))), 1)


def test_what_can_never_fit_is_refused_at_once(store):
    with pytest.raises(ObjectStoreFullError, match="there is no room"):
        ray.put(array(0, STORE))
    assert stats()["spilled_objects"] == 0


def test_a_put_waits_for_a_reader_that_goes_on(no_session, tmp_path):
    ray.init(num_cpus=2, object_store_memory=STORE, log_to_driver=False)
    ref = ray.put(array(1, 50 * MB))

    @ray.remote
    def read(a, gate):
        gate.pass_through()
        return holds(a, 1)

    gate = gates.Gate(tmp_path)
    done = read.remote(ref, gate)
    gate.until_begun()
    results = []
    thread = threading.Thread(target=lambda: results.append(ray.put(array(2, 50 * MB))))
    thread.start()
    gates.until(lambda: stats()["waiting_for_room"] == 1)
    gate.open()
    assert ray.get(done)
    thread.join()
    assert holds(ray.get(results[0]), 2)


def test_puts_without_hope_are_refused_while_others_read(no_session, monkeypatch, tmp_path):
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "1")
    ray.init(num_cpus=4, object_store_memory=STORE, log_to_driver=False)

    @ray.remote
    def read(a, gate):
        gate.pass_through()
        return holds(a, 1)

    @ray.remote
    def refused():
        with pytest.raises(ObjectStoreFullError):
            ray.put(array(2, 50 * MB))

    gate = gates.Gate(tmp_path)
    done = read.remote(ray.put(array(1, 50 * MB)), gate)
    gate.until_begun()
    ray.get([refused.remote() for _ in range(3)])
    gate.open()
    assert ray.get(done)


def test_without_spilling(no_session):
    ray.init(num_cpus=1, object_store_memory=STORE, object_spilling=None)
    refs = put_many(9)
    with pytest.raises(ObjectStoreFullError):
        put_many(9)
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))


def test_many_threads_put_at_once(store):
    results: dict[int, list[ray.ObjectRef]] = {}

    def work(number):
        results[number] = [ray.put(array(number * 100 + i)) for i in range(10)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for number, refs in results.items():
        for i, ref in enumerate(refs):
            assert holds(ray.get(ref), number * 100 + i)


def test_interrupted_while_it_waits_for_room(tmp_path):
    program = f"""
    import numpy as np
    ray.init(num_cpus=1, object_store_memory={STORE}, log_to_driver=False)

    @ray.remote
    def read(a):
        time.sleep(600)

    ref = ray.put(np.zeros(5 * {MB}))
    read.remote(ref)
    while not session.current().core.pinned():
        pass

    def interrupt():
        while not session.current().core.stats()["waiting_for_room"]:
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        ray.put(np.zeros(7 * {MB}))
    except KeyboardInterrupt:
        tell(interrupted=True)
    tell(waiting=session.current().core.stats()["waiting_for_room"])
    tell(right=bool((ray.get(ray.put(np.ones({MB}))) == 1).all()))
    """
    with driver(program, {"PYRAY_object_store_full_timeout_s": "600"}) as running:
        assert running.told() == {"interrupted": True}
        assert running.told() == {"waiting": 0}
        assert running.told() == {"right": True}


# -- trouble ---------------------------------------------------------------------------------


def test_a_spiller_that_is_killed_is_replaced(store):
    refs = []
    for i in range(60):
        refs.append(ray.put(array(i)))
        if i % 10 == 9:
            first = spiller()
            os.kill(first, signal.SIGKILL)
            gates.until(lambda dead=first: dead not in [p["pid"] for p in store.core.processes()])
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    del refs, ref
    gc.collect()
    put_many(12)  # another one is there, which cleans up
    gates.until(lambda: files() == [])


def test_a_full_target_refuses_puts_until_there_is_room_again(impatient_store):
    refs = put_many(12)
    limits = resource.prlimit(spiller(), resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    with pytest.raises(ObjectStoreFullError, match="File too large"):
        for i in range(12, 40):
            refs.append(ray.put(array(i)))
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))
    resource.prlimit(spiller(), resource.RLIMIT_FSIZE, limits)
    for i in range(len(refs), 40):
        refs.append(ray.put(array(i)))
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))


def test_a_target_that_vanishes(no_session, tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "1")
    places = [tmp_path / "a", tmp_path / "b"]
    ray.init(num_cpus=1, object_store_memory=STORE, object_spilling=places)
    refs = put_many(10)
    (own,) = places[0].iterdir()
    os.rename(own, tmp_path / "away")
    refs += [ray.put(array(i)) for i in range(10, 40)]  # the other one is there
    os.rename(tmp_path / "away", own)
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (3, TypeError),
        ([], TypeError),
        ([3], TypeError),
        ("", TypeError),
        ("nonsense://bucket", ValueError),
        (__file__, ValueError),
    ],
)
def test_wrong_targets(no_session, asked, error):
    with pytest.raises(error, match="object_spilling"):
        ray.init(object_spilling=asked)
    assert not ray.is_initialized()
