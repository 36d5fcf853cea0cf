"""What keeps objects, as `pyray.util.state` tells it of a real session."""

import os

import numpy as np
import pytest
from gates import Gate

import pyray as ray
from pyray.runtime import session as sessions
from pyray.util.state import ObjectState, RayStateApiException, list_objects

SIZE = 200_000


@pytest.fixture(autouse=True)
def alone():
    """Nothing but what the test makes is there."""
    before = {(one.object_id, one.held_by) for one in list_objects(limit=10**6)}
    yield lambda: [
        one for one in list_objects(limit=10**6) if (one.object_id, one.held_by) not in before
    ]


def of(ref):
    return list_objects(filters=[("object_id", "=", ref.hex())])


def kinds(ref):
    return sorted((one.reference_type, one.pid) for one in of(ref))


@ray.remote
def take(values, gate):
    gate.pass_through()
    return np.zeros(10)


class TestWhatKeepsAnObject:
    def test_a_reference(self, alone):
        ref = ray.put(b"x" * SIZE)
        (one,) = of(ref)
        assert isinstance(one, ObjectState)
        assert SIZE <= one.object_size < SIZE + 1000
        assert one.asdict() == {
            "object_id": ref.hex(),
            "object_size": one.object_size,
            "task_status": "FINISHED",
            "attempt_number": 1,
            "reference_type": "LOCAL_REFERENCE",
            "call_site": "disabled",
            "type": "DRIVER",
            "pid": os.getpid(),
            "ip": "127.0.0.1",
            "state": "SEALED",
            "held_by": f"reference of the driver {os.getpid()}",
        }
        assert alone() == [one]
        del ref
        assert alone() == []

    def test_a_view_that_is_left(self, alone):
        ref = ray.put(np.zeros(SIZE))
        array = ray.get(ref)
        me = os.getpid()
        assert kinds(ref) == [("PINNED_IN_MEMORY", me)]
        name = ref.hex()
        del ref
        (one,) = alone()
        assert one.object_id == name and one.held_by == f"view of the driver {me}"
        assert array.sum() == 0
        del array
        assert alone() == []

    def test_the_reference_that_a_view_leaves(self):
        ref = ray.put(np.zeros(SIZE))
        arrays = [ray.get(ref) for _ in range(3)]
        del arrays
        assert kinds(ref) == [("LOCAL_REFERENCE", os.getpid())]

    def test_a_task_that_runs(self, gate):
        ref = ray.put(np.zeros(SIZE))
        result = take.remote(ref, gate)
        worker = gate.until_begun()
        me = os.getpid()
        assert kinds(ref) == [
            ("LOCAL_REFERENCE", me),
            ("PINNED_IN_MEMORY", worker),
            ("USED_BY_PENDING_TASK", me),
        ]
        assert "dependency of the task take" in [one.held_by for one in of(ref)]
        (one,) = of(result)
        assert one.task_status == "RUNNING" and one.state == "PENDING" and one.object_size == 0
        gate.open()
        ray.get(result)
        (one,) = of(result)
        assert one.task_status == "FINISHED" and one.object_size > 0

    def test_a_task_that_waits_for_another(self, gate):
        first = take.remote(None, gate)
        second = take.remote(first, gate)
        gate.until_begun()
        (one,) = of(second)
        assert one.task_status == "PENDING_ARGS_AVAIL"
        gate.open()
        gate.until_begun()
        gate.open()
        ray.get(second)

    def test_a_task_that_waits_for_resources(self):
        ref = ray.remote(lambda: 1).options(resources={"none": 1}).remote()
        (one,) = of(ref)
        assert one.task_status == "PENDING_NODE_ASSIGNMENT"
        ray.cancel(ref)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref)
        (one,) = of(ref)
        assert one.task_status == one.state == "FAILED"

    def test_which_attempt(self, tmp_path):
        first, second = Gate(tmp_path, "1"), Gate(tmp_path, "2")

        @ray.remote(max_retries=1)
        def twice():
            if ray.get_runtime_context().get_task_id() and not os.path.exists(tmp_path / "died"):
                open(tmp_path / "died", "w").close()
                first.say()
                os._exit(1)
            second.pass_through()

        ref = twice.remote()
        first.until_begun()
        second.until_begun()
        (one,) = of(ref)
        assert one.attempt_number == 2
        second.open()
        ray.get(ref)

    def test_large_arguments(self, gate, alone):
        result = take.remote(np.zeros(SIZE), gate)
        gate.until_begun()
        found = [one for one in alone() if one.held_by == "arguments of the task take"]
        (one,) = found
        assert one.reference_type == "USED_BY_PENDING_TASK" and one.object_size > 8 * SIZE
        gate.open()
        ray.get(result)

    def test_another_object(self):
        inner = ray.put(b"x" * SIZE)
        outer = ray.put({"inner": [inner]})
        assert kinds(inner) == [("CAPTURED_IN_OBJECT", 0), ("LOCAL_REFERENCE", os.getpid())]
        assert f"inside of the object {outer.hex()}" in [one.held_by for one in of(inner)]
        name = inner.hex()
        del inner
        (one,) = list_objects(filters=[("object_id", "=", name)])
        assert one.reference_type == "CAPTURED_IN_OBJECT" and one.type == ""

    def test_a_generator(self, alone):
        @ray.remote(num_returns="streaming")
        def count():
            yield from range(3)

        generator = count.remote()
        ray.wait([generator.completed()])
        found = [one for one in alone() if "not taken from the generator" in one.held_by]
        assert len(found) == 3
        taken = next(generator)
        assert kinds(taken) == [("LOCAL_REFERENCE", os.getpid())]

    def test_actors(self, alone):
        @ray.remote
        class Holder:
            def hold(self, values):
                self.values = values

            def pid(self):
                return os.getpid()

        ref = ray.put(b"x" * SIZE)
        holder = Holder.remote()
        holder.hold.remote([ref])
        worker = ray.get(holder.pid.remote())  # the call before has given its arguments back
        assert kinds(ref) == [("LOCAL_REFERENCE", pid) for pid in sorted((os.getpid(), worker))]
        assert {one.type for one in of(ref)} == {"DRIVER", "WORKER"}
        (one,) = (one for one in alone() if one.reference_type == "ACTOR_HANDLE")
        assert one.pid == os.getpid()
        ray.kill(holder)

    def test_what_is_not_the_users_is_left_out(self, alone):
        @ray.remote
        def plain():
            return 1

        ref = plain.remote()
        assert ray.get(ref) == 1
        assert [one.object_id for one in alone()] == [ref.hex()]


class TestListObjects:
    def test_the_largest_come_first_and_others_may_be_cut(self):
        refs = [ray.put(b"x" * n) for n in (1000, 3000, 2000)]
        found = list_objects(limit=10**6)
        sizes = [one.object_size for one in found]
        assert sizes == sorted(sizes, reverse=True)
        assert list_objects(limit=2) == found[:2]
        assert len(refs) == 3

    def test_filters(self):
        ref = ray.put(b"x")
        mine = [("object_id", "=", ref.hex())]
        assert len(list_objects(filters=mine)) == 1
        assert list_objects(filters=[*mine, ("reference_type", "=", "local_reference")])
        assert not list_objects(filters=[*mine, ("reference_type", "!=", "LOCAL_REFERENCE")])
        assert list_objects(filters=[*mine, ("pid", "=", os.getpid())])
        assert not list_objects(filters=[*mine, ("pid", "=", os.getpid() + 1)])

    @pytest.mark.parametrize(
        "wrong", [("nothing", "=", 1), ("pid", "<", 1), ("pid", "="), ("pid", "=", 1, 2)]
    )
    def test_wrong_filters(self, wrong):
        with pytest.raises(ValueError, match="a filter is an attribute"):
            list_objects(filters=[wrong])

    def test_wrong_limits(self):
        with pytest.raises(ValueError, match="limit must be at least 1"):
            list_objects(limit=0)

    def test_as_a_dict(self):
        ref = ray.put(b"x")
        (one,) = of(ref)
        assert one["pid"] == one.get("pid") == os.getpid()
        assert one.get("nothing", 7) == 7
        with pytest.raises(KeyError):
            one["nothing"]

    def test_in_a_task(self):
        ref = ray.put(b"x" * SIZE)

        @ray.remote
        def look(name):
            return [one.asdict() for one in list_objects(filters=[("object_id", "=", name)])]

        (one,) = ray.get(look.remote(ref.hex()))
        assert one["pid"] == os.getpid()

    def test_of_another_session(self):
        ref = ray.put(b"x")
        directory = sessions.current().directory
        for _ in range(3):  # looking holds nothing
            (one,) = list_objects(address=directory, filters=[("object_id", "=", ref.hex())])
            assert one.pid == os.getpid()

    def test_of_none(self, tmp_path):
        with pytest.raises(RayStateApiException, match="there is no such session"):
            list_objects(address=str(tmp_path / "nothing"))

    def test_while_everything_changes(self):
        """Whatever is seen, it can be told."""

        @ray.remote
        def nested(n, *values):
            return [ray.put(n)] + ([nested.remote(n - 1, ray.put(b"x" * 1000))] if n else [])

        refs = [nested.remote(4, ray.put([i])) for i in range(200)]
        while len(ray.wait(refs, num_returns=len(refs), timeout=0)[0]) < len(refs):
            assert len(list_objects(limit=10**6)) >= len(refs)
        assert len(ray.get(refs)) == 200
