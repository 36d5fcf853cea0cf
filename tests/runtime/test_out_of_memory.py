"""Real workers that are ended when the memory is full, as far as the test says so."""

import os
import re
import sys
import threading

import pytest
from drivers import Watch
from gates import Gate
from gauge import LIMIT, Gauge, lives

import pyray as ray
from pyray.exceptions import OutOfMemoryError
from pyray.runtime import session

#: Bytes that a task holds: much more than a worker has of its own.
BALLAST = 200 * 10**6
STORE = 100 << 20


@pytest.fixture
def gauge(tmp_path, monkeypatch, no_session):
    found = Gauge(tmp_path)
    monkeypatch.setenv("PYRAY_CGROUP_ROOT", found.folder)
    yield found
    ray.shutdown()
    found.stop()


def start(cpus, **given):
    config = {"memory_monitor_refresh_ms": 1, "task_oom_retry_delay_base_ms": 0, **given}
    ray.init(num_cpus=cpus, object_store_memory=STORE, log_to_driver=False, _system_config=config)


@ray.remote
def hold(gate):
    ballast = b"x" * BALLAST
    gate.pass_through()
    return len(ballast), ray.get_runtime_context().get_task_id()


def gates(folder, names):
    return [Gate(folder, name) for name in names]


def begin(task, gate, *arguments):
    """Its reference, and the pid of its worker once it holds its memory."""
    ref = task.remote(gate, *arguments)
    return ref, gate.until_begun()


class TestTasks:
    def test_the_last_to_begin_is_tried_again_and_no_retry_counts(self, gauge, tmp_path):
        start(2)
        first, second = gates(tmp_path, "ab")
        task = hold.options(max_retries=1)
        one, its_worker = begin(task, first)
        other, worker = begin(task, second)
        for _ in range(3):
            gauge.fill_until_one_dies(its_worker, worker)
            again = second.until_begun()
            assert again != worker and not lives(worker) and lives(its_worker)
            worker = again
        first.open()
        second.open()
        assert [size for size, _ in ray.get([one, other])] == [BALLAST, BALLAST]

    def test_the_only_one_fails_and_says_why(self, gauge, tmp_path):
        start(1)
        (gate,) = gates(tmp_path, "a")
        ref, worker = begin(hold.options(max_retries=-1, name="greedy"), gate)
        gauge.fill_until_one_dies(worker)
        with pytest.raises(OutOfMemoryError) as caught:
            ray.get(ref)
        text = str(caught.value)
        assert text.startswith("Task was killed due to the node running low on memory.\n")
        assert "Memory on the node was 990.00MB / 1.00GB (0.9900), which exceeds the memory" in text
        assert "usage threshold of 0.95" in text
        used = re.search(rf"\(name=greedy, pid={worker}, memory used=([\d.]+)MB\)", text)
        assert BALLAST <= float(used[1]) * 10**6 < 2 * BALLAST  # a sanitizer takes half of that
        assert "it was the only task of its owner" in text
        (line,) = (line for line in text.splitlines() if line.startswith(f"{worker} "))
        assert line.split()[2] == "ray::greedy" and 0.2 <= float(line.split()[1]) < 0.4
        assert "Run fewer tasks at once" in text and "PYRAY_memory_usage_threshold" in text
        follower = hold.remote(gate)
        assert gate.until_begun() != worker
        gate.open()
        assert ray.get(follower)[0] == BALLAST

    def test_one_that_may_not_be_tried_again_fails_last(self, gauge, tmp_path):
        start(3)
        first, second, third = gates(tmp_path, "abc")
        _, final_first = begin(hold.options(max_retries=0), first)
        retriable, worker = begin(hold, second)
        final, final_second = begin(hold.options(max_retries=0), third)
        gauge.fill_until_one_dies(final_first, worker, final_second)
        with pytest.raises(OutOfMemoryError, match="it was the only task of its owner"):
            ray.get(retriable)
        gauge.fill_until_one_dies(final_first, final_second)
        with pytest.raises(OutOfMemoryError, match="nothing that ran can be tried again"):
            ray.get(final)
        assert lives(final_first)
        first.open()

    def test_retries_for_lack_of_memory_may_be_limited(self, gauge, tmp_path):
        start(2, task_oom_retries=1)
        first, second = gates(tmp_path, "ab")
        one, its_worker = begin(hold, first)
        other, worker = begin(hold, second)
        gauge.fill_until_one_dies(its_worker, worker)
        worker = second.until_begun()
        gauge.fill_until_one_dies(its_worker, worker)
        with pytest.raises(OutOfMemoryError, match="it has been tried again 1 times"):
            ray.get(other)
        first.open()
        assert ray.get(one)[0] == BALLAST

    def test_of_the_owner_with_most_tasks(self, gauge, tmp_path):
        start(5)
        names = ["a1", "a2", "b1"]
        by_name = dict(zip(names, gates(tmp_path, names), strict=True))

        @ray.remote
        def parent(names):
            return [size for size, _ in ray.get([hold.remote(by_name[name]) for name in names])]

        one = parent.remote(["a1", "a2"])
        workers = {name: by_name[name].until_begun() for name in ("a1", "a2")}
        other = parent.remote(["b1"])
        workers["b1"] = by_name["b1"].until_begun()
        gauge.fill_until_one_dies(*workers.values())
        dead = Watch(list(workers.values()))
        assert dead.ended(but=2)
        assert lives(workers["b1"])
        (name,) = (name for name, pid in workers.items() if not lives(pid))
        assert by_name[name].until_begun() != workers[name]
        for gate in by_name.values():
            gate.open()
        assert ray.get([one, other]) == [[BALLAST] * 2, [BALLAST]]

    def test_one_that_is_put_off_can_be_cancelled(self, gauge, tmp_path):
        start(2, task_oom_retry_delay_base_ms=10**6)
        first, second = gates(tmp_path, "ab")
        one, its_worker = begin(hold, first)
        other, worker = begin(hold, second)
        gauge.fill_until_one_dies(its_worker, worker)
        assert Watch([worker]).ended()
        running = session.current().core
        while not running.put_off():
            os.sched_yield()
        ray.cancel(other)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(other)
        first.open()
        assert ray.get(one)[0] == BALLAST

    def test_users_are_warned(self, gauge, tmp_path):
        texts, told = [], threading.Event()
        session.on_warning(lambda text: (texts.append(text), told.set()))
        try:
            start(1)
            (gate,) = gates(tmp_path, "a")
            ref, worker = begin(hold, gate)
            gauge.fill_until_one_dies(worker)
            with pytest.raises(OutOfMemoryError):
                ray.get(ref)
            assert told.wait(60)
            assert f"pid={worker}" in texts[0] and texts[0].endswith("It is not tried again.")
        finally:
            session.on_warning(None)


class TestActors:
    @ray.remote
    class Holder:
        def __init__(self):
            self.ballast = b"x" * BALLAST

        def pid(self):
            return os.getpid()

    def test_restarts_are_counted(self, gauge):
        start(1)
        holder = self.Holder.options(max_restarts=2, max_task_retries=-1, name="it").remote()
        workers = [ray.get(holder.pid.remote())]
        for _ in range(2):
            gauge.fill_until_one_dies(workers[-1])
            assert Watch(workers[-1:]).ended()
            workers.append(ray.get(holder.pid.remote()))
        assert len(set(workers)) == 3
        gauge.fill_until_one_dies(workers[-1])
        with pytest.raises(OutOfMemoryError) as caught:
            while True:
                ray.get(holder.pid.remote())
        text = str(caught.value)
        assert text.startswith("Actor was killed due to the node running low on memory.")
        assert f"pid={workers[-1]}, " in text and "nothing that ran can be tried again" in text

    def test_tasks_go_before_actors_that_cannot_be_restarted(self, gauge, tmp_path):
        start(2)
        (gate,) = gates(tmp_path, "a")
        _, worker = begin(hold, gate)
        holder = self.Holder.remote()
        of_actor = ray.get(holder.pid.remote())
        gauge.fill_until_one_dies(worker, of_actor)
        assert Watch([worker]).ended()
        assert ray.get(holder.pid.remote()) == of_actor


class TestOthers:
    def test_an_idle_worker_leaves_and_no_task_is_lost(self, gauge, tmp_path):
        start(1)

        @ray.remote(max_retries=0)
        def leave_something():
            sys.ballast = b"x" * BALLAST
            return os.getpid()

        worker = ray.get(leave_something.remote())
        dead = Watch([worker])
        gauge.fill_until_one_dies(worker)
        assert dead.ended()
        assert ray.get(leave_something.remote()) != worker

    def test_free_memory_of_the_store_goes_back(self, gauge):
        told = threading.Event()
        session.on_warning(lambda text: told.set())
        try:
            start(1)
            arena = session.current().core.arena_fd
            ref = ray.put(b"x" * 50_000_000)
            del ref
            assert os.fstat(arena).st_blocks * 512 > 50_000_000
            gauge.full = True
            assert told.wait(60)
            assert os.fstat(arena).st_blocks * 512 < 10_000_000
        finally:
            session.on_warning(None)

    def test_it_can_be_switched_off(self, gauge, tmp_path):
        start(1, memory_monitor_refresh_ms=0)
        gauge.full, asked = True, gauge.asked
        (gate,) = gates(tmp_path, "a")
        ref, _ = begin(hold.options(max_retries=0), gate)
        gate.open()
        assert ray.get(ref)[0] == BALLAST
        assert gauge.asked == asked

    def test_the_system_ends_workers_before_the_driver(self, gauge):
        start(1)

        @ray.remote
        def score():
            with open("/proc/self/oom_score_adj") as file:
                return int(file.read())

        with open("/proc/self/oom_score_adj") as file:
            assert ray.get(score.remote()) == min(1000, int(file.read()) + 1000)


class TestAccounting:
    """`memory` of tasks and actors is a resource, in bytes."""

    def test_what_there_is_by_default(self, gauge):
        start(1)
        assert ray.cluster_resources()["memory"] == LIMIT - 100_000_000 - STORE

    def test_tasks_wait_for_it(self, gauge, tmp_path):
        start(4)
        first, second = gates(tmp_path, "ab")
        total = ray.cluster_resources()["memory"]

        @ray.remote(memory=int(total * 0.6))
        def wait(gate):
            gate.pass_through()

        one, _ = begin(wait, first)
        assert ray.available_resources()["memory"] == total - int(total * 0.6)
        other = wait.remote(second)
        assert ray.get([ray.remote(lambda i: i).remote(i) for i in range(10)]) == list(range(10))
        assert ray.wait([other], timeout=0) == ([], [other])
        first.open()
        second.until_begun()
        assert ray.available_resources()["memory"] == total - int(total * 0.6)
        second.open()
        ray.get([one, other])

    def test_actors_hold_it_as_long_as_they_live(self, gauge):
        start(2)
        total = ray.cluster_resources()["memory"]
        Holder = TestActors.Holder.options(memory=10**8)  # noqa: N806
        one, other = Holder.remote(), Holder.remote()
        pids = ray.get([one.pid.remote(), other.pid.remote()])
        assert ray.available_resources()["memory"] == total - 2 * 10**8
        dead = Watch(pids[:1])
        ray.kill(one)
        assert dead.ended()
        while ray.available_resources()["memory"] != total - 10**8:
            os.sched_yield()
        assert ray.get(other.pid.remote()) == pids[1]
