"""What the memory monitor does, step by step, in a session and on a machine that are made up."""

import os
import re
import signal

import pytest

from pyray.runtime import settings
from pyray.runtime.memory import Process, Usage
from pyray.runtime.memory_monitor import MemoryMonitor

GB = 10**9
FULL, FREE = Usage(96 * GB, 100 * GB), Usage(50 * GB, 100 * GB)


class Session:
    """What the monitor asks the core for."""

    def __init__(self):
        self.workers = []
        self.trims = 0
        self.leaving = []
        self.waiting = []
        self.resumed = []
        self.over = set()

    def running(self):
        return [dict(one) for one in self.workers]

    def runs(self, pid, task, name="f", owner=(0, 1), retries_left=3, is_actor=False, began=None):
        """That worker runs that task."""
        self.workers = [one for one in self.workers if one["pid"] != pid]
        self.workers.append(
            {
                "pid": pid,
                "task": task,
                "name": name,
                "owner": owner,
                "began": pid if began is None else began,
                "sequence": task,
                "retries_left": retries_left,
                "is_actor": is_actor,
            }
        )

    def idles(self, pid):
        self.workers.append({"pid": pid, "task": 0, "began": 0})

    def dies(self, pid):
        self.workers = [one for one in self.workers if one["pid"] != pid]

    def trim(self):
        self.trims += 1

    def ask_to_leave(self, pid):
        self.leaving.append(pid)

    def stats(self):
        return {"used": 7 * GB}

    def put_off(self):
        return list(self.waiting)

    def resume(self, task):
        self.waiting.remove(task)
        self.resumed.append(task)

    def is_pending(self, task):
        return task not in self.over


class Machine:
    """Its memory: `usages` are seen one after another, the last one for ever."""

    def __init__(self, *usages):
        self.usages = list(usages)
        self.held = {}  # bytes, by pid
        self.groups = {}  # others than their own, by pid

    def usage(self):
        return self.usages.pop(0) if len(self.usages) > 1 else self.usages[0]

    def processes(self):
        return [Process(pid, self.groups.get(pid, pid), size) for pid, size in self.held.items()]

    def command(self, pid):
        return f"command of {pid}"


class World:
    """All of it; `due` is what is to be done later, with the seconds until then."""

    def __init__(self, monkeypatch, *usages, **given):
        self.session, self.machine = Session(), Machine(*usages)
        self.told, self.killed, self.due = [], [], []
        self.monitor = MemoryMonitor(
            self.session,
            settings.monitor_settings(given),
            self.told.append,
            lambda action, seconds: self.due.append((action, seconds)),
            self.machine,
        )
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append((pid, number)))

    def worker(self, pid, task, size=20 * GB, **given):
        self.session.runs(pid, task, **given)
        self.machine.held[pid] = size

    def bury(self, pid):
        """As children.py does, and the core if it puts the task off."""
        ran = next(one for one in self.session.running() if one["pid"] == pid)
        death = self.monitor.death_of(pid)
        self.session.dies(pid)
        self.machine.held.pop(pid, None)
        if death is not None and death.retry == "later" and ran.get("retries_left"):
            self.session.waiting.append(ran["task"])
        self.monitor.recovered()
        return death

    def pause(self):
        """Seconds until the last thing that is to be done."""
        return self.due[-1][1]


@pytest.fixture
def world(monkeypatch):
    return lambda *usages, **given: World(monkeypatch, *usages, **given)


class TestLooking:
    def test_nothing_is_done_below_the_threshold(self, world):
        here = world(FREE)
        here.worker(11, 1)
        here.monitor.begin()
        assert here.killed == here.told == [] and here.session.trims == 0
        assert here.due == [(here.monitor.look, 5.0)]

    def test_a_worker_is_killed_above_it_and_no_other_until_that_is_dead(self, world):
        here = world(FULL)
        for pid in (11, 12, 13):
            here.worker(pid, pid)
        here.monitor.look()
        assert here.killed == [(13, signal.SIGKILL)] and here.pause() == 0.05
        here.monitor.look()
        assert len(here.killed) == 1 and here.pause() == 0.05
        assert here.bury(13).retry == "later"
        here.monitor.look()
        assert here.killed[1:] == [(12, signal.SIGKILL)]

    def test_free_memory_of_the_store_goes_first(self, world):
        here = world(FULL, FREE)
        here.worker(11, 1)
        here.monitor.look()
        assert here.session.trims == 1 and here.killed == []

    def test_it_can_be_switched_off(self, world):
        here = world(FULL, memory_monitor_refresh_ms=0)
        here.worker(11, 1)
        here.monitor.begin()
        assert here.killed == here.due == []

    def test_how_often_it_looks(self, world):
        here = world(FULL, memory_monitor_refresh_ms=250)
        here.monitor.begin()
        assert here.pause() == 0.25

    @pytest.mark.parametrize(
        ("given", "full"),
        [
            ({"memory_usage_threshold": 0.97}, False),
            ({"memory_usage_threshold": 0.96}, True),
            ({"min_memory_free_bytes": 3 * GB}, False),
            ({"min_memory_free_bytes": 4 * GB}, True),
            ({"min_memory_free_bytes": 50 * GB, "memory_usage_threshold": 0.97}, False),
        ],
    )
    def test_what_is_full(self, world, given, full):
        here = world(FULL, **given)
        here.worker(11, 1)
        here.monitor.look()
        assert bool(here.killed) is full

    def test_memory_of_what_tasks_have_started_is_theirs(self, world):
        here = world(FULL)
        here.worker(11, 1, size=GB)
        here.worker(12, 2, size=3 * GB)
        here.machine.held[99], here.machine.groups[99] = 30 * GB, 11
        here.monitor.look()
        assert here.killed == [(11, signal.SIGKILL)]

    def test_a_worker_that_has_just_ended(self, world, monkeypatch):
        here = world(FULL)
        here.worker(11, 1)

        def gone(pid, number):
            raise ProcessLookupError

        monkeypatch.setattr(os, "kill", gone)
        here.monitor.look()
        assert here.bury(11) is not None


class TestIdleWorkers:
    def test_they_are_asked_to_leave_once(self, world):
        here = world(FULL)
        here.worker(11, 1)
        here.session.idles(12)
        here.machine.held[12] = 10 * GB
        here.monitor.look()
        assert here.session.leaving == [12] and here.killed == []
        here.monitor.look()  # it is there still: another has to go
        assert here.session.leaving == [12] and here.killed == [(11, signal.SIGKILL)]

    def test_a_new_one_of_the_same_number_is_asked_again(self, world):
        here = world(FULL)
        here.session.idles(12)
        here.machine.held[12] = 10 * GB
        here.monitor.look()
        here.session.dies(12)
        here.monitor.look()
        here.session.idles(12)
        here.monitor.look()
        assert here.session.leaving == [12, 12]


class TestDeaths:
    def test_others_are_not_its_affair(self, world):
        here = world(FULL)
        here.worker(11, 1)
        here.worker(12, 2)
        here.monitor.look()
        assert here.bury(11) is None
        assert here.bury(12) is not None

    def test_the_only_task_of_its_owner_fails(self, world):
        here = world(FULL)
        here.worker(11, 1)
        here.monitor.look()
        assert here.bury(11).retry == "never"

    def test_one_that_began_meanwhile_is_tried_again(self, world):
        here = world(FULL)
        here.worker(11, 1)
        here.monitor.look()
        here.session.runs(11, 2)
        assert here.bury(11).retry == "later"
        assert here.session.waiting == [2]

    def test_nothing_ran_any_more(self, world):
        here = world(FULL)
        here.worker(11, 1)
        here.monitor.look()
        here.session.dies(11)
        here.session.idles(11)
        assert here.bury(11).retry == "later"

    @pytest.mark.parametrize("retries_left", [0, 1, -1])
    def test_restarts_of_actors_are_counted(self, world, retries_left):
        here = world(FULL)
        here.worker(11, 1, is_actor=True, retries_left=retries_left)
        here.monitor.look()
        assert here.bury(11).retry == "counted"


class TestTryingAgain:
    def kill(self, here, task, other=1):
        """That task, which began after another of the same owner."""
        here.worker(11, other)
        here.worker(12, task)
        here.monitor.look()
        assert here.killed.pop() == (12, signal.SIGKILL)
        return here.bury(12)

    def test_the_pause_gets_longer(self, world):
        here = world(FULL)
        pauses = []
        for _ in range(8):
            assert self.kill(here, 2).retry == "later"
            action, seconds = here.due[-1]
            pauses.append(seconds)
            action()
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
        assert here.session.resumed == [2] * 8

    def test_each_task_has_its_own(self, world):
        here = world(FULL)
        self.kill(here, 2)
        self.kill(here, 3)
        assert here.due[-1][1] == 1
        assert here.session.waiting == [2, 3]

    def test_one_that_is_put_off_is_not_resumed_twice(self, world):
        here = world(FULL)
        self.kill(here, 2)
        before = len(here.due)
        here.monitor.recovered()  # another death
        assert len(here.due) == before

    def test_how_often(self, world):
        here = world(FULL, task_oom_retries=2, task_oom_retry_delay_base_ms=0)
        for _ in range(2):
            assert self.kill(here, 2).retry == "later"
            action, seconds = here.due[-1]
            assert seconds == 0
            action()
        death = self.kill(here, 2)
        assert death.retry == "never"
        assert "and it has been tried again 2 times" in death.reason

    def test_never(self, world):
        here = world(FULL, task_oom_retries=0)
        assert self.kill(here, 2).retry == "never"

    def test_what_is_over_is_forgotten(self, world, monkeypatch):
        monkeypatch.setattr("pyray.runtime.memory_monitor.MANY", 3)
        here = world(FULL)
        for task in (2, 3, 4):
            self.kill(here, task)
        here.session.over = {2, 4}
        self.kill(here, 5)
        assert here.monitor.deaths == {3: 1, 5: 1}


class TestWords:
    def test_of_a_task(self, world):
        here = world(FULL)
        here.worker(11, 1, name="small", size=12 * GB)
        here.worker(12, 2, name="module.large", size=35 * GB)
        here.machine.held[99] = 2 * GB
        here.machine.command = lambda pid: "postgres " + "x" * 200
        here.monitor.look()
        text = here.bury(12).reason
        assert text == (
            "Task was killed due to the node running low on memory.\n"
            "Memory on the node was 96.00GB / 100.00GB (0.9600), which exceeds the memory usage"
            " threshold of 0.95; 7.00GB of it were objects, which stay. The worker that ran it"
            " (name=module.large, pid=12, memory used=35.00GB) was killed: it was the last to begin"
            " of the 2 tasks of its owner.\n"
            "Top 10 memory users:\n"
            "PID      MEM(GB)  COMMAND\n"
            "12       35.00    ray::module.large\n"
            "11       12.00    ray::small\n"
            f"99       2.00     postgres {'x' * 88}...\n"
        )

    def test_ten_processes_are_listed(self, world):
        here = world(FULL)
        here.worker(11, 1, size=50 * GB)
        for pid in range(100, 120):
            here.machine.held[pid] = pid * 10**6
        here.monitor.look()
        lines = here.bury(11).reason.splitlines()
        listed = [line for line in lines if re.match(r"\d+ +\d+\.\d\d +", line)]
        assert [int(line.split()[0]) for line in listed] == [11, *range(119, 110, -1)]

    def test_of_an_actor(self, world):
        here = world(FULL)
        here.worker(11, 1, name="Counter", is_actor=True, retries_left=0)
        here.monitor.look()
        assert here.bury(11).reason.startswith("Actor was killed due to the node running low")

    def test_users_are_warned_now_and_then(self, world, monkeypatch):
        now = [100.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        here = world(FULL)
        for pid in range(20, 10, -1):
            here.worker(pid, pid)
            here.worker(1, 1)
            here.monitor.look()
            here.bury(pid)
            now[0] += 7.5
        first, second = here.told
        assert "name=f, pid=20" in first and first.endswith("It is tried again in 1 s.")
        assert second.endswith("(7 more such warnings since the last one.)")

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "It is not tried again."),
            ({"is_actor": True}, "It is restarted."),
            ({"is_actor": True, "retries_left": 0}, "It is dead."),
        ],
    )
    def test_what_comes_next(self, world, given, words):
        here = world(FULL)
        here.worker(11, 1, **given)
        here.monitor.look()
        assert here.told[0].endswith(words)

    def test_nobody_to_blame(self, world):
        here = world(FULL)
        here.worker(11, 1, size=GB)
        here.machine.held[99] = 80 * GB
        here.monitor.look()
        assert here.killed == []
        (text,) = here.told
        assert "Ending workers would not change that: they hold 1.00GB." in text
        assert "99       80.00    command of 99" in text


class TestSettings:
    def test_defaults(self, monkeypatch):
        for name in settings.MONITOR:
            monkeypatch.delenv(f"PYRAY_{name}", raising=False)
            monkeypatch.delenv(f"RAY_{name}", raising=False)
        assert settings.monitor_settings({}) == settings.MONITOR

    def test_the_environment_and_what_is_given(self, monkeypatch):
        monkeypatch.setenv("PYRAY_memory_usage_threshold", "0.5")
        monkeypatch.setenv("PYRAY_task_oom_retries", "4")
        found = settings.monitor_settings({"task_oom_retries": 7, "unknown": "accepted"})
        assert found["memory_usage_threshold"] == 0.5 and found["task_oom_retries"] == 7

    @pytest.mark.parametrize(
        ("given", "error", "text"),
        [
            ({"memory_usage_threshold": 1.5}, ValueError, "must be between 0 and 1, got 1.5"),
            ({"memory_usage_threshold": "1"}, TypeError, "must be a number, got '1' of type str"),
            ({"task_oom_retries": -2}, ValueError, "must be between -1 and inf, got -2"),
            ({"memory_monitor_refresh_ms": -1}, ValueError, "memory_monitor_refresh_ms must be"),
            ({"task_oom_retries": float("nan")}, ValueError, "task_oom_retries must be"),
        ],
    )
    def test_refused(self, given, error, text):
        with pytest.raises(error, match=text):
            settings.monitor_settings(given)

    def test_refused_in_the_environment(self, monkeypatch):
        monkeypatch.setenv("PYRAY_memory_usage_threshold", "most")
        with pytest.raises(ValueError, match="PYRAY_memory_usage_threshold='most'"):
            settings.monitor_settings({})
