"""The node's watch over the memory: it ends a worker before the system has to.

Imports the core, memory and victims. Used by the node alone. It goes by settings.MONITOR.

When more is in use than may be, free memory of the object store goes back to the system first. If
that is not enough, one worker is chosen (victims.py) and killed, and nothing else is done until it
is dead. Then children.py asks here what becomes of its task (`death_of`), and tells when the
recovery is done (`recovered`). A task that is tried again waits before it is: a second, twice as
long each time, a minute at most. A worker that began another task before the signal came has lost
that for nothing: it is tried again in any case, if it may be.

Nothing here outlives the node, and the session ends with that.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from . import _core
from .events import Action
from .memory import Memory, Process, Usage
from .victims import Running, Victim, choose

#: Seconds until a task is tried again at most.
LONGEST_DELAY = 60.0
#: Seconds between two warnings.
QUIET = 60.0
#: Processes that are listed, and how much of their command lines.
LISTED, WIDTH = 10, 100
#: Tasks whose deaths are counted before those are looked for that are over.
MANY = 1000


class Death(NamedTuple):
    """Of a worker that was ended here: what its task fails of, or how it is tried again."""

    reason: str
    retry: str  # of Session.recover


class MemoryMonitor:
    """`look` ends a worker if one is to be ended, and asks `later` to be called again."""

    def __init__(
        self,
        session: _core.Session,
        settings: dict[str, float],
        warn: Callable[[str], None],
        later: Callable[[Action, float], None],
        memory: Memory | None = None,
    ) -> None:
        self.session = session
        self.memory = memory or Memory()
        self.warn = warn
        self.later = later
        self.threshold = settings["memory_usage_threshold"]
        self.least_free = settings["min_memory_free_bytes"]
        self.shortest = settings["memory_monitor_refresh_ms"] / 1000
        self.retries = settings["task_oom_retries"]
        self.delay = settings["task_oom_retry_delay_base_ms"] / 1000
        self.victim: Victim | None = None  # killed, and not dead yet
        self.reason = ""
        self.asked: set[int] = set()  # idle workers that shall leave
        self.deaths: dict[int, int] = {}  # of tasks, by handle
        self.put_off: set[int] = set()  # tasks that will be tried again
        self.told = -QUIET
        self.untold = 0

    def begin(self) -> None:
        """Watch from now on, if that is wanted."""
        if self.shortest:
            self.look()

    # -- looking -------------------------------------------------------------------------------

    def look(self) -> None:
        """End a worker if memory is nearly full and the last one that was ended is dead."""
        if self.victim is not None:
            self.later(self.look, self.shortest)
            return
        usage = self.memory.usage()
        if usage.used >= self._full(usage):
            self.session.trim()
            usage = self.memory.usage()
            if usage.used >= self._full(usage):
                self._end_one(usage)
        self.later(self.look, usage.pause(self._full(usage), self.shortest))

    def _full(self, usage: Usage) -> float:
        """How much may be in use."""
        full = usage.limit * self.threshold
        return full if self.least_free < 0 else max(full, usage.limit - self.least_free)

    def _end_one(self, usage: Usage) -> None:
        processes = self.memory.processes()
        sizes = dict.fromkeys((process.group for process in processes), 0)
        for process in processes:
            sizes[process.group] += process.size
        running = [_running(one, sizes) for one in self.session.running()]
        here = {one.pid for one in running}
        self.asked &= here
        victim = choose(
            [one for one in running if one.task or one.pid not in self.asked], usage.limit
        )
        if victim is None:
            self._tell(
                f"{self._how_full(usage)}. Ending workers would not change that: they hold"
                f" {_bytes(sum(one.size for one in running))}.\n{self._largest(processes, running)}"
            )
        elif not victim.worker.task:
            self.asked.add(victim.worker.pid)
            self.session.ask_to_leave(victim.worker.pid)
        else:
            self._kill(self._judge(victim), usage, processes, running)

    def _judge(self, victim: Victim) -> Victim:
        """Not tried again if it has been as often as may be."""
        deaths = self.deaths.get(victim.worker.task, 0)
        if victim.retry and not victim.worker.is_actor and 0 <= self.retries <= deaths:
            return victim._replace(
                retry=False, why=f"{victim.why}, and it has been tried again {deaths} times"
            )
        return victim

    def _kill(
        self, victim: Victim, usage: Usage, processes: list[Process], running: list[Running]
    ) -> None:
        worker = victim.worker
        what = "Actor" if worker.is_actor else "Task"
        killed = (
            f"{what} was killed due to the node running low on memory.\n{self._how_full(usage)}."
            f" The worker that ran it (name={worker.name}, pid={worker.pid}, memory"
            f" used={_bytes(worker.size)}) was killed: {victim.why}."
        )
        self.victim = victim
        self.reason = f"{killed}\n{self._largest(processes, running)}\n"
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended, and will be reaped
        self._tell(f"{killed} {self._what_next(victim)}")

    # -- after the death -----------------------------------------------------------------------

    def death_of(self, pid: int) -> Death | None:
        """How the process of that worker, which is dead, was ended here; None if it was not."""
        if self.victim is None or self.victim.worker.pid != pid:
            return None
        victim, self.victim = self.victim, None
        ran = next((one["task"] for one in self.session.running() if one["pid"] == pid), 0)
        if victim.worker.is_actor:
            return Death(self.reason, "counted")
        if ran:
            self._count(ran)
        if ran == victim.worker.task and not victim.retry:
            return Death(self.reason, "never")
        return Death(self.reason, "later")

    def _count(self, task: int) -> None:
        if len(self.deaths) >= MANY:
            self.deaths = {one: n for one, n in self.deaths.items() if self.session.is_pending(one)}
        self.deaths[task] = self.deaths.get(task, 0) + 1

    def recovered(self) -> None:
        """A worker's death has been recovered from: what was put off is tried again some time."""
        for task in self.session.put_off():
            if task not in self.put_off:
                self.put_off.add(task)
                self.later(partial(self._resume, task), self._pause(self.deaths.get(task, 1) - 1))

    def _resume(self, task: int) -> None:
        self.put_off.discard(task)
        self.session.resume(task)

    def _pause(self, tried: int) -> float:
        """Seconds until a task that was tried again so often is once more."""
        return float(min(self.delay * 2 ** min(tried, 32), LONGEST_DELAY))

    # -- telling -------------------------------------------------------------------------------

    def _how_full(self, usage: Usage) -> str:
        store = self.session.stats()["used"]
        return (
            f"Memory on the node was {_bytes(usage.used)} / {_bytes(usage.limit)}"
            f" ({usage.used / usage.limit:.4f}), which exceeds the memory usage threshold of"
            f" {self._full(usage) / usage.limit:.4g}; {_bytes(store)} of it were objects, which"
            " stay"
        )

    def _what_next(self, victim: Victim) -> str:
        if victim.worker.is_actor:
            return "It is restarted." if victim.retry else "It is dead."
        if not victim.retry:
            return "It is not tried again."
        return f"It is tried again in {self._pause(self.deaths.get(victim.worker.task, 0)):g} s."

    def _largest(self, processes: list[Process], running: list[Running]) -> str:
        """The processes that hold most, as Ray lists them."""
        names = {one.pid: f"ray::{one.name or 'idle'}" for one in running}
        largest = sorted(processes, key=lambda one: -one.size)[:LISTED]
        lines = [f"Top {LISTED} memory users:", f"{'PID':<9}{'MEM(GB)':<9}COMMAND"]
        for pid, _, size in largest:
            command = names.get(pid) or self.memory.command(pid)
            if len(command) > WIDTH:
                command = f"{command[: WIDTH - 3]}..."
            lines.append(f"{pid:<9}{size / 1e9:<9.2f}{command}")
        return "\n".join(lines)

    def _tell(self, text: str) -> None:
        """Warn the users, now and then."""
        now = time.monotonic()
        if now - self.told < QUIET:
            self.untold += 1
            return
        if self.untold:
            text = f"{text} ({self.untold} more such warnings since the last one.)"
        self.told, self.untold = now, 0
        self.warn(text)


def _running(one: dict[str, Any], sizes: dict[int, int]) -> Running:
    """What the core says of a worker, with the memory of its process group."""
    size = sizes.get(one["pid"], 0)
    if not one["task"]:
        return Running(one["pid"], size)
    return Running(
        pid=one["pid"],
        size=size,
        task=one["task"],
        name=one["name"],
        owner=one["owner"],
        began=one["began"],
        sequence=one["sequence"],
        retriable=one["retries_left"] != 0,
        is_actor=one["is_actor"],
    )


def _bytes(amount: float) -> str:
    """As Ray shows it, but that small amounts can be read."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if amount >= size:
            return f"{amount / size:.2f}{unit}"
    return f"{amount / 1e3:.2f}kB"
