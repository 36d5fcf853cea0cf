"""Values that are lost, and made again by the tasks that made them; eviction."""

from __future__ import annotations

import os
import signal
import threading

import gates
import numpy as np
import pytest

import pyray as ray
from pyray import internal
from pyray.exceptions import (
    GetTimeoutError,
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectReconstructionFailedLineageEvictedError,
    ObjectStoreFullError,
    RayTaskError,
)
from pyray.runtime import session
from pyray.runtime.spill_process import DEATHS

MB = 1 << 20
STORE = 80 * MB


@pytest.fixture
def store(no_session):
    ray.init(num_cpus=2, object_store_memory=STORE, log_to_driver=False)


@pytest.fixture
def evicting_store(no_session, monkeypatch):
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "30")
    ray.init(num_cpus=2, object_store_memory=STORE, object_spilling=None, log_to_driver=False)


@pytest.fixture
def runs(tmp_path):
    """Where tasks note that they run."""
    return tmp_path / "runs"


def noted(runs) -> list[str]:
    return sorted(runs.read_text().split()) if runs.exists() else []


def note(runs, what: object) -> None:
    with open(runs, "a") as file:
        file.write(f"{what} ")


def stats() -> dict[str, int]:
    return session.current().core.stats()


def array(number: int, size: int = MB) -> np.ndarray:
    return np.full(size // 8, number, dtype=np.int64)


def holds(value: np.ndarray, number: int) -> bool:
    return bool((value == number).all())


@ray.remote
def make(runs, number, *_, size=MB):
    note(runs, number)
    return array(number, size)


@ray.remote
def add(runs, name, *values):
    note(runs, name)
    return sum(values[1:], values[0])


def over(n: int) -> None:
    """Until so many tasks are kept: a result is there a moment before its task is over."""
    gates.until(lambda: stats()["lineage_tasks"] == n)


# -- made again ------------------------------------------------------------------------------------


def test_freed(store, runs):
    ref = make.remote(runs, 7)
    assert holds(ray.get(ref), 7)
    for times in range(1, 6):  # more often than max_retries: nothing has failed
        assert noted(runs) == ["7"] * times
        used = stats()["used"]
        internal.free(ref)
        assert stats()["used"] < used - MB
        assert holds(ray.get(ref), 7)


def test_only_what_is_needed(store, runs):
    refs = [make.remote(runs, i) for i in range(4)]
    total = add.remote(runs, "sum", *refs)
    assert holds(ray.get(total), 6)
    internal.free([refs[2], total])
    assert holds(ray.get(total), 6)
    assert noted(runs) == ["0", "1", "2", "2", "3", "sum", "sum"]


def test_what_nobody_refers_to_is_made_again_for_others(store, runs):
    ref = make.remote(runs, 1)
    for i in range(5):
        ref = add.remote(runs, f"step{i}", ref, ref)
    assert holds(ray.get(ref), 32)
    over(6)
    gates.until(lambda: stats()["used"] < 2 * MB)  # the values in between are not kept
    internal.free(ref)
    assert holds(ray.get(ref), 32)
    assert noted(runs) == sorted(["1", *(f"step{i}" for i in range(5))] * 2)
    over(6)
    del ref
    over(0)
    assert stats()["lineage_bytes"] == 0


def test_once_though_many_ask(store, runs, tmp_path):
    gate = gates.Gate(tmp_path)

    @ray.remote
    def slow(first):
        if os.path.exists(first):
            gate.pass_through()
        note(runs, "slow")
        open(first, "w").close()
        return array(3)

    @ray.remote
    def read(refs):
        return int(ray.get(refs[0])[0])

    @ray.remote
    def take(value):
        return int(value[0])

    ref = slow.remote(tmp_path / "first")
    ray.get(ref)
    internal.free(ref)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(int(ray.get(ref)[0]))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    gate.until_begun()
    tasks = [read.remote([ref]), take.remote(ref)]
    gate.open()
    for thread in threads:
        thread.join()
    assert results + ray.get(tasks) == [3] * 5
    assert noted(runs) == ["slow", "slow"]


def test_a_task_whose_argument_is_lost(store, runs):
    ref = make.remote(runs, 5)
    ray.get(ref)
    internal.free(ref)
    assert holds(ray.get(add.remote(runs, "sum", ref, ref)), 10)
    assert noted(runs) == ["5", "5", "sum"]


def test_several_results(store, runs):
    @ray.remote(num_returns=3)
    def three():
        note(runs, "three")
        return array(1), 2, array(3)

    a, b, c = three.remote()
    kept = ray.get(a)
    ray.get([b, c])
    internal.free([b, c])  # b is small: it stays
    assert ray.get(b) == 2
    assert noted(runs) == ["three"]
    assert holds(ray.get(c), 3)
    assert holds(kept, 1)
    assert holds(ray.get(a), 1)
    assert noted(runs) == ["three", "three"]


def test_references_in_results_and_arguments(store, runs):
    @ray.remote
    def outer(refs, number):
        note(runs, "outer")
        return [ray.put(array(number)), refs[0], array(number)]

    inner = make.remote(runs, 4)
    ray.get(inner)
    ref = outer.remote([inner], 9)
    first = ray.get(ref)
    assert holds(ray.get(first[0]), 9)
    del first
    internal.free([ref, inner])
    again = ray.get(ref)
    assert holds(ray.get(again[0]), 9)
    assert holds(ray.get(again[1]), 4)
    assert again[1] == inner
    assert noted(runs) == ["4", "4", "outer", "outer"]


def test_references_in_arguments_do_not_keep_values(store, runs):
    @ray.remote
    def join(refs):
        note(runs, "join")
        return array(sum(int(value[0]) for value in ray.get(refs)))

    parts = [make.remote(runs, i, size=4 * MB) for i in range(3)]
    ref = join.remote(parts)
    assert holds(ray.get(ref), 3)
    over(4)
    del parts
    gates.until(lambda: stats()["used"] < 4 * MB)
    internal.free(ref)
    assert holds(ray.get(ref), 3)
    assert noted(runs) == sorted(["0", "1", "2", "join"] * 2)


@pytest.mark.parametrize("spoil", [os.unlink, lambda path: os.truncate(path, 100)])
def test_a_file_is_lost(no_session, runs, spoil):
    ray.init(num_cpus=2, object_store_memory=STORE, log_to_driver=False)
    refs = [make.remote(runs, i, size=8 * MB) for i in range(20)]
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    folder = os.path.join(session.current().directory, "spill")
    for name in os.listdir(folder):
        spoil(os.path.join(folder, name))
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    assert stats()["reconstructed_tasks"]


def slow_again(runs, gate) -> ray.ObjectRef:
    """A result. When it is made again its task stops at the gate, once."""

    @ray.remote
    def slow():
        note(runs, "slow")
        if len(noted(runs)) == 2:
            gate.pass_through()
        return array(3)

    ref = slow.remote()
    ray.get(ref)
    return ref


def lost_and_slow(runs, gate) -> ray.ObjectRef:
    ref = slow_again(runs, gate)
    internal.free(ref)
    return ref


def test_the_worker_is_killed_while_it_makes_it_again(store, runs, tmp_path):
    gate = gates.Gate(tmp_path)

    ref = lost_and_slow(runs, gate)
    values = []
    thread = threading.Thread(target=lambda: values.append(ray.get(ref)))
    thread.start()
    os.kill(gate.until_begun(), signal.SIGKILL)
    thread.join()
    assert holds(values[0], 3)
    assert noted(runs) == ["slow"] * 3


def test_timeout(store, runs, tmp_path):
    gate = gates.Gate(tmp_path)

    ref = lost_and_slow(runs, gate)
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.01)
    with pytest.raises(GetTimeoutError):
        ray.get([ref], timeout=0.01)
    gate.until_begun()
    gate.open()
    assert holds(ray.get(ref, timeout=60), 3)


def test_timeout_when_its_file_turns_out_lost(store, runs, tmp_path):
    gate = gates.Gate(tmp_path)
    ref = slow_again(runs, gate)
    others = [ray.put(array(i, 16 * MB)) for i in range(6)]
    assert stats()["spilled_objects"]
    folder = os.path.join(session.current().directory, "spill")
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    for timeout in (0, 0.01):
        with pytest.raises(GetTimeoutError):
            ray.get(ref, timeout=timeout)
    gate.until_begun()
    gate.open()
    assert holds(ray.get(ref, timeout=60), 3)
    del others


def test_it_raises_this_time(store, runs):
    @ray.remote
    def once():
        note(runs, "once")
        if len(noted(runs)) > 1:
            raise KeyError("not again")
        return array(3)

    ref = once.remote()
    ray.get(ref)
    internal.free(ref)
    for _ in range(2):
        with pytest.raises(KeyError, match="not again") as caught:
            ray.get(ref)
        assert isinstance(caught.value, RayTaskError)


def test_generator(store, runs):
    @ray.remote(num_returns="streaming")
    def numbers(n):
        note(runs, "begun")
        for i in range(n):
            note(runs, i)
            yield array(i)

    refs = list(numbers.remote(5))
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))
    over(1)
    internal.free([refs[1], refs[3]])
    assert holds(ray.get(refs[3]), 3)
    assert holds(ray.get(refs[1]), 1)
    assert noted(runs).count("begun") == 2
    assert noted(runs).count("3") == 2
    assert noted(runs).count("4") == 1  # it is not needed: the generator is closed before
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))
    del refs
    over(0)


def test_another_item_is_lost_while_they_are_made_again(store, runs, tmp_path):
    """Made again it is once the generator is over, however long that takes."""
    gate = gates.Gate(tmp_path)

    @ray.remote(num_returns="streaming")
    def numbers():
        note(runs, "begun")
        if len(noted(runs)) == 2:
            gate.pass_through()
        yield array(0)
        yield array(1)

    refs = list(numbers.remote())
    over(1)
    internal.free(refs[0])
    with pytest.raises(GetTimeoutError):
        ray.get(refs[0], timeout=0)
    gate.until_begun()
    internal.free(refs[1])
    with pytest.raises(GetTimeoutError):
        ray.get(refs[1], timeout=0.01)
    gate.open()
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))


def test_generator_yields_less_or_raises_this_time(store, runs):
    @ray.remote(num_returns="streaming")
    def numbers(raises):
        note(runs, "begun")
        again = noted(runs).count("begun") > 1
        for i in range(1 if again else 3):
            yield array(i)
        if raises and again:
            raise KeyError("no more")

    for raises, error in ((False, ValueError), (True, KeyError)):
        if runs.exists():
            runs.unlink()
        refs = list(numbers.remote(raises))
        ray.get(refs)
        over(1)
        internal.free(refs[:2])
        with pytest.raises(error):
            ray.get(refs[1])
        assert holds(ray.get(refs[0]), 0)
        assert holds(ray.get(refs[2]), 2)
        del refs
        over(0)


def test_dynamic_returns(store):
    @ray.remote(num_returns="dynamic")
    def numbers():
        yield array(1)

    (ref,) = ray.get(numbers.remote())
    ray.get(ref)
    internal.free(ref)
    with pytest.raises(ObjectLostError, match=r"put\(\)"):
        ray.get(ref)


# -- what cannot be --------------------------------------------------------------------------------


def test_put_and_freed(store):
    ref = ray.put(array(1))
    internal.free(ref)
    for _ in range(2):
        with pytest.raises(ObjectFreedError, match=rf"{ref.hex()}.*freed.*put\(\)"):
            ray.get(ref)


def test_no_retries(store):
    ref = make.options(max_retries=0).remote("/dev/null", 1)
    ray.get(ref)
    internal.free(ref)
    with pytest.raises(ObjectReconstructionFailedError, match="max_retries=0"):
        ray.get(ref)


def test_actor(store):
    @ray.remote
    class Maker:
        def make(self):
            return array(1)

    maker = Maker.remote()
    ref = maker.make.remote()
    ray.get(ref)
    internal.free(ref)
    with pytest.raises(ObjectReconstructionFailedError, match="actor"):
        ray.get(ref)


def test_an_argument_is_lost(store, runs):
    argument = ray.put(array(1))
    ref = add.remote(runs, "sum", argument, argument)
    ray.get(ref)
    over(1)
    internal.free([argument, ref])
    with pytest.raises(
        ObjectReconstructionFailedError, match=rf"needs the object {argument.hex()}.*put\(\)"
    ):
        ray.get(ref)
    assert noted(runs) == ["sum"]


def test_lineage_is_not_kept(no_session, runs, monkeypatch):
    monkeypatch.setenv("PYRAY_max_lineage_bytes", "0")
    ray.init(num_cpus=1, object_store_memory=STORE)
    ref = make.remote(runs, 1)
    ray.get(ref)
    assert stats()["lineage_tasks"] == 0
    internal.free(ref)
    with pytest.raises(ObjectReconstructionFailedLineageEvictedError, match="max_lineage_bytes"):
        ray.get(ref)


def test_lineage_is_limited(no_session, runs, monkeypatch):
    monkeypatch.setenv("PYRAY_max_lineage_bytes", str(3 * MB))
    ray.init(num_cpus=1, object_store_memory=STORE)
    argument = b"x" * (MB // 2)
    refs = [make.remote(runs, i, argument) for i in range(10)]
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    gates.until(lambda: stats()["lineage_dropped"] == 5)
    assert stats()["lineage_bytes"] <= 3 * MB
    internal.free(refs)
    with pytest.raises(ObjectReconstructionFailedLineageEvictedError, match="not known any more"):
        ray.get(refs[0])
    assert holds(ray.get(refs[9]), 9)


def test_what_a_dropped_one_needed(no_session, runs, monkeypatch):
    monkeypatch.setenv("PYRAY_max_lineage_bytes", str(MB))
    ray.init(num_cpus=1, object_store_memory=STORE)
    parent = make.remote(runs, 1, b"x" * (MB - 1000))
    child = add.remote(runs, "sum", parent, parent)
    assert holds(ray.get(child), 2)
    del parent
    other = [make.remote(runs, i, b"x" * 1000) for i in range(5)]
    ray.get(other)
    gates.until(lambda: stats()["lineage_dropped"])
    internal.free(child)
    with pytest.raises(ObjectReconstructionFailedLineageEvictedError, match="needs the object"):
        ray.get(child)


def test_free_checks_its_arguments(store):
    with pytest.raises(TypeError, match="list of ObjectRef"):
        internal.free("x")
    with pytest.raises(TypeError, match="not an ObjectRef"):
        internal.free([1])
    internal.free([])
    small = ray.put(1)
    view = ray.get(array_ref := ray.put(array(2)))
    internal.free([small])
    assert ray.get(small) == 1
    internal.free([array_ref])  # it is being read
    assert holds(view, 2)
    assert holds(ray.get(array_ref), 2)


# -- eviction --------------------------------------------------------------------------------------


def test_results_are_evicted(evicting_store, runs):
    refs = [make.remote(runs, i, size=8 * MB) for i in range(30)]
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    for i, ref in reversed(list(enumerate(refs))):
        assert holds(ray.get(ref), i)
    assert stats()["evicted_objects"]
    assert stats()["spilled_objects"] == 0
    assert len(noted(runs)) > 30
    assert stats()["used"] <= STORE
    assert not os.path.exists(os.path.join(session.current().directory, "spill"))


def test_evicted_ones_are_made_from_evicted_ones(evicting_store, runs):
    parts = [make.remote(runs, i, size=8 * MB) for i in range(12)]
    sums = [add.remote(runs, f"s{i}", parts[i], parts[i - 1]) for i in range(12)]
    for i, ref in enumerate(sums):
        assert holds(ray.get(ref), i + (i - 1) % 12)
    for i, ref in enumerate(parts):
        assert holds(ray.get(ref), i)
    for i, ref in enumerate(sums):
        assert holds(ray.get(ref), i + (i - 1) % 12)


def test_what_was_put_is_not_evicted(evicting_store, runs, monkeypatch):
    kept = [ray.put(array(i, 8 * MB)) for i in range(5)]
    refs = [make.remote(runs, i, size=8 * MB) for i in range(20)]
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)
    for i, ref in enumerate(kept):
        assert holds(ray.get(ref), i)


def test_what_cannot_be_made_again_is_not_evicted(evicting_store, runs):
    argument = ray.put(array(4))
    kept = add.remote(runs, "kept", argument, argument)
    ray.get(kept)
    over(1)
    internal.free(argument)
    for i in range(20):
        assert holds(ray.get(make.remote(runs, i, size=8 * MB)), i)
    refs = [make.remote(runs, i, size=8 * MB) for i in range(20)]
    assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))
    assert stats()["evicted_objects"]
    assert holds(ray.get(kept), 8)


def test_who_evicts_may_be_killed_again_and_again(evicting_store, runs):
    core = session.current().core
    for _ in range(DEATHS + 2):
        before = stats()["evicted_objects"]
        refs = [make.remote(runs, i, size=8 * MB) for i in range(12)]
        assert all(holds(ray.get(ref), i) for i, ref in enumerate(refs))
        assert stats()["evicted_objects"] > before
        del refs
        (spiller,) = (p["pid"] for p in core.processes() if p["kind"] == "spiller")
        os.kill(spiller, signal.SIGKILL)
        gates.until(lambda dead=spiller: dead not in [p["pid"] for p in core.processes()])


def test_full_of_what_was_put(no_session, runs, monkeypatch):
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "1")
    ray.init(num_cpus=1, object_store_memory=STORE, object_spilling=None)
    refs = []
    with pytest.raises(ObjectStoreFullError):
        for i in range(20):
            refs.append(ray.put(array(i, 8 * MB)))
    assert len(refs) >= 8
    for i, ref in enumerate(refs):
        assert holds(ray.get(ref), i)


def test_nothing_is_left(store, runs):
    used, objects = stats()["used"], stats()["objects"]
    refs = [make.remote(runs, i) for i in range(20)]
    sums = [add.remote(runs, i, *refs) for i in range(3)]
    ray.get(sums)
    internal.free([*refs[::2], *sums])
    with pytest.raises(ObjectLostError):
        ray.get(_freed())
    ray.get(sums)
    del refs, sums
    gates.until(lambda: stats()["lineage_tasks"] == 0)
    gates.until(lambda: stats()["objects"] <= objects + 8)  # functions
    assert stats()["used"] <= used + 20_000


def _freed() -> ray.ObjectRef:
    ref = ray.put(array(1))
    internal.free(ref)
    return ref
