"""The node's workers: how they are forked, watched and buried, and what limits them.

Imports the core, worker, events, relay and memory_monitor. Used by the node alone, which has one
thread.

A worker may die at any instant. It is reaped here; its process group is killed before, while its
number still is its own; `Session.recover` gives back what it held, and tries its task again or
fails it.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
import signal
from collections import Counter, deque
from collections.abc import Callable

from . import _core, worker
from .events import Action
from .memory_monitor import Death, MemoryMonitor
from .relay import ERR, OUT, Relay

#: Seconds between two looks for workers that are not needed any more.
SURPLUS = 1.0
#: Workers in a row that may end before they run anything; and the pause before the next attempt.
FAILED_STARTS, RETRY = 5, 1.0
#: Codes of failures, of exceptions.from_code.
CRASHED, OUT_OF_MEMORY = 1, 5


class Child:
    """A worker as the node knows it."""

    __slots__ = ("env", "pid", "place")

    def __init__(self, pid: int, env: int, place: int) -> None:
        self.pid = pid
        self.env = env
        self.place = place  # of the byte in `Children.ready` that says whether it can run tasks


class Children:
    """All workers of the session. `later(action, seconds)` has the node do something by then."""

    def __init__(
        self,
        session: _core.Session,
        relay: Relay,
        cpus: int,
        limit: int,
        monitor: MemoryMonitor,
        warn: Callable[[str], None],
        later: Callable[[Action, float], None],
        reaped: Callable[[int, str], None] = lambda pid, how: None,
        wishes: int = -1,
    ) -> None:
        self.session = session
        self.relay = relay
        self.cpus = cpus
        self.limit = limit
        self.monitor = monitor
        self.warn = warn
        self.later = later
        self.reaped = reaped  # told of other processes' ends
        self.wishes = wishes  # for workers to write to: preload.py
        self.node = os.getpid()
        self.open_files = _raise_open_files(2 * limit + 64)
        self.living: dict[int, Child] = {}
        self.ready = mmap.mmap(-1, limit)  # shared with them
        self.places = list(range(limit))
        self.to_start: deque[int] = deque()  # environments, one a worker
        self.failed_starts = 0
        self.pausing = False  # after an attempt that failed
        self.told: set[str] = set()
        self.kills = monitor.memory.kills()
        self.ending = False

    # -- starting ------------------------------------------------------------------------------

    def start_first(self) -> None:
        """As many as there are CPUs, ahead of any task; and watch the memory from now on."""
        self.to_start.extend([0] * min(self.cpus, self.limit))
        self.monitor.begin()

    def want(self) -> None:
        """Those that tasks wait for are to be started."""
        if self.ending or self.pausing:
            return
        coming = Counter(self.to_start)
        coming.update(c.env for c in self.living.values() if not self.ready[c.place])
        for env, count in self.session.wanted_workers():
            missing = count - coming[env]
            room = self.limit - len(self.living) - len(self.to_start)
            self.to_start.extend([env] * min(missing, room))
            if missing > room:
                self._make_room(env, missing - room)
        self._replace_those_of_actors()

    def _replace_those_of_actors(self) -> None:
        """Ahead of the tasks that will want them."""
        actors = self.session.count_actors()
        workers = len(self.living) + len(self.to_start)
        missing = min(self.cpus - (workers - actors), self.limit - workers)
        if actors and missing > 0:
            self.to_start.extend([0] * missing)

    def _make_room(self, env: int, missing: int) -> None:
        """There are as many as there may be: idle ones of other environments give their places."""
        others = self.limit - self.session.count_actors()
        asked = self.session.surplus_workers(max(0, others - missing), 0.0, env)
        if not asked:
            self._tell_once(
                f"This session has {self.limit} worker processes, as many as it may have, and there"
                " are tasks that want one more: tasks wait until a worker is free, for ever if all"
                " of them wait for tasks of their own. PYRAY_MAX_WORKERS in the environment of the"
                " driver allows more."
            )
        self.later(self.want, RETRY)  # others may be idle then

    def fork(self) -> worker.Start | None:
        """Start the next one, if one is to be; not None in the new process."""
        if self.ending or not self.to_start:
            return None
        env = self.to_start.popleft()
        pipes: list[int] = []
        try:
            pipes += os.pipe2(os.O_CLOEXEC)
            pipes += os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except OSError as error:
            for fd in pipes:
                os.close(fd)
            advice = "open files" if error.errno == errno.EMFILE else "processes, or memory"
            self._pause(
                f"No worker could be started beside the {len(self.living)} there are: {error}. The"
                f" system allows no more {advice} (ulimit -a shows its limits). Tasks wait; it is"
                " tried again every second."
            )
            return None
        out, out_write, err, err_write = pipes
        place = self.places.pop()
        if pid == 0:
            return worker.Start(
                node=self.node,
                env=env,
                out=out_write,
                err=err_write,
                wishes=self.wishes,
                open_files=self.open_files,
                ready=self.ready,
                place=place,
            )
        os.close(out_write)
        os.close(err_write)
        self.living[pid] = Child(pid, env, place)
        self.relay.add(out, pid, OUT)
        self.relay.add(err, pid, ERR)
        if len(self.living) == self.cpus + 1:
            self.later(self._send_surplus_away, SURPLUS)
        return None

    def _send_surplus_away(self) -> None:
        """Those beyond the CPUs were needed while others waited for their tasks."""
        if len(self.living) > self.cpus:
            self.session.surplus_workers(self.cpus, SURPLUS)
            self.later(self._send_surplus_away, SURPLUS)

    def _pause(self, text: str) -> None:
        """No worker is started for a while."""
        self._tell_once(text)
        self.to_start.clear()
        self.pausing = True
        self.later(self._go_on, RETRY)

    def _go_on(self) -> None:
        self.pausing = False
        self.want()

    def _tell_once(self, text: str) -> None:
        """Of each kind of trouble: kinds differ in their first words."""
        kind = text[:12]
        if kind not in self.told:
            self.told.add(kind)
            self.warn(text)

    # -- dying ---------------------------------------------------------------------------------

    def reap(self) -> None:
        """Bury every process that has ended; what workers left behind has become ours too."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            child = self.living.pop(pid, None)
            if child is not None:
                kill_group(pid)
            os.waitpid(pid, 0)
            if child is not None:
                self._bury(child, found)
            else:
                self.reaped(pid, _how(found))

    def _bury(self, child: Child, found: os.waitid_result) -> None:
        code, (reason, retry) = self._death(child, found)
        self.session.recover(child.pid, reason, code, retry)
        self.monitor.recovered()
        self.failed_starts = 0 if self.ready[child.place] else self.failed_starts + 1
        self.ready[child.place] = 0
        self.places.append(child.place)
        if self.failed_starts >= FAILED_STARTS:
            self._pause(
                f"{FAILED_STARTS} workers in a row ended before they could run a task; of the last:"
                f" {reason.rstrip('.')}. What they wrote is above, or in {self.relay.logs}. Tasks"
                " wait; it is tried again every second."
            )
        self.want()

    def _death(self, child: Child, found: os.waitid_result) -> tuple[int, Death]:
        """What a task of it fails of: a code, and the rest."""
        death = self.monitor.death_of(child.pid)
        if death is not None:
            return OUT_OF_MEMORY, death
        if found.si_code != os.CLD_EXITED and found.si_status == signal.SIGKILL:
            before, self.kills = self.kills, self.monitor.memory.kills()
            if self.kills > before:
                reason = "The system killed the worker because the memory was full."
                return OUT_OF_MEMORY, Death(reason, "counted")
        return CRASHED, Death(_how(found), "counted")

    # -- the end of the session ----------------------------------------------------------------

    def dismiss(self, polite: float) -> None:
        """The session ends: those that are idle leave, after a while others are told to."""
        self.ending = True
        for child in self.living.values():
            if not self.ready[child.place]:
                kill(child.pid, signal.SIGKILL)  # it may not have joined yet, and runs nothing
        self.session.request_exit()
        self.later(self._terminate, polite)

    def _terminate(self) -> None:
        for pid in self.living:
            kill(pid, worker.END)

    def kill_all(self) -> None:
        """Kill and reap all that is left, and what becomes ours when that ends."""
        for pid in self.living:
            kill_group(pid)
        while True:
            try:
                with open(f"/proc/self/task/{self.node}/children") as file:
                    pids = [int(pid) for pid in file.read().split()]
            except OSError:
                pids = []  # a system without that file: workers are dead, orphans go on
            for pid in pids:
                kill(pid, signal.SIGKILL)
            try:
                if os.waitpid(-1, 0 if pids else os.WNOHANG) == (0, 0):
                    return
            except ChildProcessError:
                return


def _how(found: os.waitid_result) -> str:
    """How a process has ended."""
    if found.si_code == os.CLD_EXITED:
        return f"it exited with status {found.si_status}"
    try:
        name = signal.Signals(found.si_status).name
    except ValueError:
        name = "unknown"
    return f"it was ended by signal {found.si_status} ({name})"


def kill(pid: int, signal_number: int) -> None:
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        pass  # it has just ended


def kill_group(pid: int) -> None:
    """Kill a worker that is not reaped yet, and what it has started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        kill(pid, signal.SIGKILL)  # so young that it has no group of its own yet


def _raise_open_files(needed: int) -> int:
    """Allow so many open files, or as many as may be; gives the limit there was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return soft
