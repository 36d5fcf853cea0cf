"""Functions and their labels are in the store as long as somebody may want them, and no longer."""

import gc

import pytest
from gates import Gate

import pyray as ray
from pyray.runtime import _core, functions

COUNT = functions.SWEEP_COUNT


@pytest.fixture
def core(session):
    return _core.get_session()


def objects(core) -> int:
    """How many there are when those are swept away that nobody refers to."""
    gc.collect()
    core.sweep()
    return core.stats()["objects"]


def call_new_functions(n: int) -> None:
    for i in range(n):
        assert ray.get(ray.remote(eval(f"lambda: {i}")).remote()) == i


def test_functions_that_are_gone_leave_nothing(core):
    call_new_functions(1)
    before, used = objects(core), core.stats()["used"]
    most = 0
    for _ in range(5):
        call_new_functions(COUNT)
        most = max(most, core.stats()["objects"])
    assert objects(core) == before
    assert core.stats()["used"] == used
    assert most < before + 3 * COUNT


def test_large_ones_are_swept_away_by_the_next(core):
    before, most = objects(core), 0
    for i in range(5):
        large = str(i) * 5_000_000
        assert ray.get(ray.remote(lambda x=large: x[0]).remote()) == str(i)
        most = max(most, core.stats()["used"])
    del large
    assert most < 11_000_000
    assert objects(core) == before


def test_the_same_function_is_the_same_object(core):
    def make():
        return ray.remote(lambda x: x + 1)

    first = make()
    assert ray.get(first.remote(1)) == 2
    before = objects(core)
    others = [make() for _ in range(10)]
    assert ray.get([f.remote(1) for f in others]) == [2] * 10
    assert objects(core) == before + 10  # labels


def test_names_of_options(core):
    f = ray.remote(lambda: ray.get_runtime_context().get_task_name())
    before = objects(core)
    for i in range(300):
        assert ray.get(f.options(name=f"name {i}").remote()) == f"name {i}"
    # A function keeps the calls of a hundred sets of options, each with its name.
    assert objects(core) == before + 101
    del f
    assert objects(core) == before


def test_a_task_keeps_its_function(core, tmp_path):
    gate = Gate(tmp_path)
    refs = []
    first = ray.put(1)

    @ray.remote(num_cpus=2)
    def blocker():
        gate.pass_through()

    blocked = blocker.remote()
    gate.until_begun()
    data = b"x" * 200_000
    waiting = ray.remote(lambda x, y=data: len(y) + x).options(name="waits").remote(first)
    dependent = ray.remote(lambda x, y=data: len(y) + x + 1).remote(waiting)
    del data
    gc.collect()
    gate.open()
    assert ray.get([waiting, dependent]) == [200_001, 400_002]
    ray.get(blocked)


def test_a_worker_does_not_take_one_function_for_another(core):
    """Slots of functions that are gone are used again: by other functions, too."""
    for round in range(200):
        made = [ray.remote(eval(f"lambda: ({round}, {i})")) for i in range(5)]
        assert ray.get([f.remote() for f in made]) == [(round, i) for i in range(5)]


def test_functions_that_submit_themselves_and_each_other(core):
    def again(n):
        @ray.remote
        def even(k):
            return True if k == 0 else ray.get(odd.remote(k - 1))

        @ray.remote
        def odd(k):
            return False if k == 0 else ray.get(even.remote(k - 1))

        @ray.remote
        def down(k):
            return n if k == 0 else ray.get(down.remote(k - 1))

        assert ray.get([even.remote(4), odd.remote(4), down.remote(4)]) == [True, False, n]

    for n in range(20):
        again(n)


def test_a_task_that_is_tried_again(core):
    refs = []
    for i in range(5):
        task = ray.remote(eval(f"lambda pid: {i} if __import__('os').getpid() != pid else 1 / 0"))
        pid = ray.get(ray.remote(lambda: __import__("os").getpid()).remote())
        refs.append(task.options(retry_exceptions=True, max_retries=-1, num_cpus=1).remote(0))
        del task
    assert ray.get(refs) == list(range(5))


@pytest.mark.leaves("tasks that can never run, of sessions that end with the test")
class TestLimits:
    def test_sets_of_resources(self, no_session):
        ray.init(num_cpus=1)
        with pytest.raises(RuntimeError, match="1024 different sets of resources.*round them"):
            for i in range(1100):
                ray.remote(lambda: 1).options(num_cpus=0.001 * i).remote()

    def test_kinds_of_resources(self, no_session):
        ray.init(num_cpus=1)
        with pytest.raises(RuntimeError, match="'kind 2.'.*at most 32 kinds.*fewer names"):
            for i in range(40):
                ray.remote(lambda: 1).options(resources={f"kind {i}": 1}).remote()

    def test_kinds_that_one_task_wants(self, no_session):
        ray.init(num_cpus=1, resources={f"kind {i}": 1 for i in range(8)})
        with pytest.raises(ValueError, match="at most 8 kinds of resources, this one wants 9"):
            ray.remote(lambda: 1).options(resources={f"kind {i}": 1 for i in range(8)}).remote()
