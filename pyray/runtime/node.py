"""The node process of a session: makes workers, buries them, relays what they print.

Started by session.py as `python -c "… node.main(…)"` with the descriptors below; imports what
workers need, so that they have it when they are forked. It must have one thread for ever, since
it forks. design.md, section 4.

Crashes. A worker may die at any instant: it is reaped here, `Session.recover` gives back what it
held, and the rest of its process group is killed with it. If the driver dies (its pidfd says so,
or its pipe ends), everything of the session is killed and its directory removed. If this process
dies, its workers get SIGKILL from the system (PR_SET_PDEATHSIG), the driver sees the pipe end,
and removes the directory.
"""

from __future__ import annotations

import errno
import gc
import mmap
import os
import resource
import select
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from . import _core, _process, session_files, worker
from .channel import CHUNK, Inbox, Outbox
from .memory import Memory
from .relay import ERR, OUT, Relay
from .settings import number

#: Descriptors that session.py gives to this process.
CONTROL, ARENA, WAKE, FROM_DRIVER, TO_DRIVER, DIRECTORY = range(3, 9)

#: When the session ends, workers that are idle leave. Seconds until the others get SIGTERM, upon
#: which their tasks end with SystemExit, and until they are killed.
POLITE, GRACE = 0.05, 0.5
#: What every worker needs for its first task, imported ahead of all of them.
NEEDED = ("cloudpickle.cloudpickle", "pyray.runtime.functions", "pyray.runtime.resources")
#: Seconds between two looks for workers that are not needed any more.
SURPLUS = 1.0
#: Workers in a row that may end before they run anything; and the pause before the next attempt.
FAILED_STARTS, RETRY = 5, 1.0
#: Codes of failures, of exceptions.from_code.
CRASHED, OUT_OF_MEMORY = 1, 5
#: A process that holds less than this share of the memory is not ended for holding too much.
SMALL = 0.02


class Child:
    """A worker as the node knows it."""

    __slots__ = ("env", "full", "pid", "place")

    def __init__(self, pid: int, env: int, place: int) -> None:
        self.pid = pid
        self.env = env
        self.place = place  # of the byte in `Node.progress` that says whether it is ready
        self.full = False  # ended by us since the memory is full


class Node:
    """Everything the node knows; `run` is its life."""

    def __init__(self, session: _core.Session, hello: dict[str, Any]) -> None:
        self.session = session
        self.directory: str = hello["directory"]
        self.cpus: int = hello["cpus"]
        self.max_workers: int = hello["max_workers"]
        self.driver: int = hello["driver"]
        self.preload: list[str] = hello["preload"]
        self.pid = os.getpid()
        self.open_files = _raise_open_files(2 * self.max_workers + 64)
        self.epoll = select.epoll()
        self.actions: dict[int, Callable[[int], None]] = {}
        self.inbox = Inbox()
        self.outbox = Outbox(TO_DRIVER)
        self.writing = False
        self.relay = Relay(
            self.outbox,
            os.path.join(self.directory, "logs"),
            hello["log_to_driver"],
            self._watch_pipe,
        )
        self.children: dict[int, Child] = {}
        self.progress = mmap.mmap(-1, self.max_workers)
        self.places = list(range(self.max_workers))
        self.to_start: deque[int] = deque()  # environments, one a worker
        self.chores: deque[Callable[[], None]] = deque()  # what is done when nothing else is
        self.failed_starts = 0
        self.retry_at: float | None = None
        self.surplus_at: float | None = None
        self.limit_told = False
        self.memory = Memory()
        self.threshold = number("memory_usage_threshold", 0.95)
        self.memory_at = 0.0
        self.kills = self.memory.kills()
        self.ending: float | None = None  # when what is left is killed
        self.terminate_at: float | None = None
        self.driver_gone = False

    # -- the loop ------------------------------------------------------------------------------

    def run(self) -> worker.Start | None:
        """Until the session ends; in a process that was forked, its task as a worker."""
        self._watch_all()
        self.to_start.extend([0] * min(self.cpus, self.max_workers))
        self.chores.append(self._sweep)
        self.chores.extend(partial(_preload, name) for name in self.preload)
        while not self._ended():
            if self.to_start and self.ending is None:
                start = self._fork(self.to_start.popleft())
                if start is not None:
                    return start
            events = self.epoll.poll(self._pause())
            for fd, _ in events:
                action = self.actions.get(fd)
                if action:
                    action(fd)
            if self.chores and not events and not self.to_start and self.ending is None:
                self.chores.popleft()()
            self._at_times()
            self._send()
        self._bury_session()
        return None

    def _ended(self) -> bool:
        if self.driver_gone:
            return True
        return self.ending is not None and (not self.children or time.monotonic() >= self.ending)

    def _pause(self) -> float:
        """Seconds to wait for events at most; -1 for ever."""
        if (self.to_start or self.chores) and self.ending is None:
            return 0.0
        times = [
            self.memory_at,
            self.retry_at,
            self.surplus_at,
            self.terminate_at,
            self.ending,
        ]
        pause = min(t for t in times if t is not None) - time.monotonic()
        return max(pause, 0.0)

    def _sweep(self) -> None:
        session_files.sweep(os.path.dirname(self.directory), time.time())

    def _at_times(self) -> None:
        now = time.monotonic()
        if self.memory_at <= now:
            self._look_at_memory(now)
        if self.retry_at is not None and self.retry_at <= now:
            self.retry_at = None
            self._want_workers()
        if self.terminate_at is not None and self.terminate_at <= now:
            self.terminate_at = None
            for pid in self.children:
                _kill(pid, signal.SIGTERM)
        if self.surplus_at is not None and self.surplus_at <= now:
            self.session.surplus_workers(self.cpus, SURPLUS)
            self.surplus_at = now + SURPLUS if len(self.children) > self.cpus else None

    # -- events --------------------------------------------------------------------------------

    def _watch_all(self) -> None:
        # A fork of the driver may hold its end of the pipe, so the driver itself is watched too.
        try:
            self._watch(os.pidfd_open(self.driver), self._on_driver_gone)
        except ProcessLookupError:
            self.driver_gone = True
        if os.getppid() != self.driver:
            self.driver_gone = True
        woken, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        os.set_blocking(FROM_DRIVER, False)
        os.set_blocking(TO_DRIVER, False)
        self._watch(woken, self._on_signal)
        self._watch(FROM_DRIVER, self._on_message)
        self._watch(WAKE, self._on_wake)

    def _watch(self, fd: int, action: Callable[[int], None]) -> None:
        self.actions[fd] = action
        self.epoll.register(fd, select.EPOLLIN)

    def _watch_pipe(self, fd: int, on: bool) -> None:
        if on:
            self._watch(fd, self._on_output)
        else:
            self.epoll.unregister(fd)
            del self.actions[fd]

    def _on_driver_gone(self, fd: int) -> None:
        self.driver_gone = True

    def _on_wake(self, fd: int) -> None:
        try:
            os.read(fd, 8)
        except BlockingIOError:
            pass
        self._want_workers()
        for resources in self.session.infeasible():
            self._warn(
                f"A task asks for {_amounts(resources)}, which this session can never give: it has"
                f" {_amounts(self.session.total_resources())}. It waits; cancel it, or ask for"
                " less."
            )

    def _on_output(self, fd: int) -> None:
        if fd in self.relay.streams:
            self.relay.read(fd)

    def _on_signal(self, fd: int) -> None:
        os.read(fd, CHUNK)
        self._reap()

    def _on_message(self, fd: int) -> None:
        data = os.read(fd, CHUNK)
        if not data:
            self.driver_gone = True
            return
        for message in self.inbox.feed(data):
            if "flush" in message:
                self.relay.drain()
                self.outbox.put({"flushed": message["flush"]})
            if "shutdown" in message and self.ending is None:
                self._begin_to_end()

    def _begin_to_end(self) -> None:
        self.ending = time.monotonic() + GRACE
        self.terminate_at = time.monotonic() + POLITE
        for child in self.children.values():
            if not self.progress[child.place]:
                _kill(child.pid, signal.SIGKILL)  # it may not have joined yet, and runs nothing
        self.session.request_exit()

    def _send(self) -> None:
        """Give the driver what it takes; wait for the rest of the room in its pipe."""
        if not self.outbox and not self.writing:
            return
        try:
            self.outbox.write()
        except BrokenPipeError:
            self.driver_gone = True
            return
        self.relay.written()
        if bool(self.outbox) != self.writing:
            self.writing = not self.writing
            if self.writing:
                self.actions[TO_DRIVER] = lambda fd: None
                self.epoll.register(TO_DRIVER, select.EPOLLOUT)
            else:
                self.epoll.unregister(TO_DRIVER)

    def _warn(self, text: str) -> None:
        self.outbox.put({"warning": text})

    # -- workers -------------------------------------------------------------------------------

    def _want_workers(self) -> None:
        if self.ending is not None or self.retry_at is not None:
            return
        coming = Counter(self.to_start)
        coming.update(c.env for c in self.children.values() if not self.progress[c.place])
        for env, count in self.session.wanted_workers():
            for _ in range(count - coming[env]):
                if len(self.children) + len(self.to_start) >= self.max_workers:
                    self._say_limit()
                    return
                self.to_start.append(env)

    def _say_limit(self) -> None:
        if not self.limit_told:
            self.limit_told = True
            self._warn(
                f"This session has {self.max_workers} worker processes, as many as it may have, and"
                " there are tasks that want one more: tasks wait until a worker is free, for ever"
                " if all of them wait for tasks of their own. PYRAY_MAX_WORKERS in the environment"
                " of the driver allows more."
            )

    def _fork(self, env: int) -> worker.Start | None:
        """Make a worker of this environment; not None in the new process."""
        pipes: list[int] = []
        try:
            pipes += os.pipe2(os.O_CLOEXEC)
            pipes += os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except OSError as error:
            for fd in pipes:
                os.close(fd)
            self._cannot_fork(error)
            return None
        out, out_write, err, err_write = pipes
        place = self.places.pop()
        self.progress[place] = 0
        if pid == 0:
            self.relay.close_inherited()
            self.epoll.close()
            return worker.Start(
                node=self.pid,
                env=env,
                out=out_write,
                err=err_write,
                open_files=self.open_files,
                progress=self.progress,
                place=place,
            )
        os.close(out_write)
        os.close(err_write)
        self.children[pid] = Child(pid, env, place)
        self.relay.add(out, pid, OUT)
        self.relay.add(err, pid, ERR)
        if len(self.children) > self.cpus and self.surplus_at is None:
            self.surplus_at = time.monotonic() + SURPLUS
        return None

    def _cannot_fork(self, error: OSError) -> None:
        self.to_start.clear()
        self.retry_at = time.monotonic() + RETRY
        advice = "open files" if error.errno == errno.EMFILE else "processes, or memory"
        self._warn(
            f"No worker could be started beside the {len(self.children)} there are: {error}. The"
            f" system allows no more {advice} (ulimit -a shows its limits). Tasks wait; it is tried"
            " again every second."
        )

    def _reap(self) -> None:
        """Bury every process that has ended; those that workers left behind are ours too."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            child = self.children.pop(pid, None)
            if child is not None:
                # While it is not reaped its number is nobody else's, as a group's neither.
                _kill_group(pid)
            os.waitpid(pid, 0)
            if child is not None:
                self._bury(child, found)

    def _bury(self, child: Child, found: os.waitid_result) -> None:
        reason = self._reason(child, found)
        self.places.append(child.place)
        self.session.recover(child.pid, reason, OUT_OF_MEMORY if child.full else CRASHED)
        if self.progress[child.place]:
            self.failed_starts = 0
        else:
            self.failed_starts += 1
            if self.failed_starts >= FAILED_STARTS:
                self._cannot_start(reason)
        self._want_workers()

    def _cannot_start(self, reason: str) -> None:
        if self.failed_starts == FAILED_STARTS:
            self._warn(
                f"{FAILED_STARTS} workers in a row ended before they could run a task; of the last:"
                f" {reason}. What they wrote is above, or in {self.relay.logs}. Tasks wait; it is"
                " tried again every second."
            )
        self.to_start.clear()
        self.retry_at = time.monotonic() + RETRY

    def _reason(self, child: Child, found: os.waitid_result) -> str:
        if found.si_code == os.CLD_EXITED:
            return f"it exited with status {found.si_status}"
        number = found.si_status
        if number == signal.SIGKILL:
            kills, before = self.memory.kills(), self.kills
            self.kills = kills
            if child.full or kills > before:
                child.full = True
                return "it was ended because the memory was full"
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unknown"
        return f"it was ended by signal {number} ({name})"

    def _look_at_memory(self, now: float) -> None:
        """End the largest worker when the memory is nearly full, before the system ends any."""
        usage = self.memory.usage()
        self.memory_at = now + usage.pause(self.threshold)
        if usage.used < usage.limit * self.threshold:
            return
        pid, size = self.memory.largest([p for p in self.children if not self.children[p].full])
        if size > usage.limit * SMALL:
            self.children[pid].full = True
            _kill(pid, signal.SIGKILL)

    # -- the end -------------------------------------------------------------------------------

    def _bury_session(self) -> None:
        """Kill what is left, pass on what it printed, remove the directory."""
        for pid in self.children:
            _kill_group(pid)
        _kill_children()
        if not self.driver_gone:
            self.relay.finish()
            os.set_blocking(TO_DRIVER, True)
            try:
                while self.outbox:
                    self.outbox.write()
            except OSError:
                pass  # the driver died meanwhile
        self.session.close()
        session_files.remove(self.directory)
        self._sweep()


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        _kill(pid, signal.SIGKILL)  # so young that it has no group of its own yet


def _kill_children() -> None:
    """Kill and reap all children, and those that become ours when these end."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                pids = [int(pid) for pid in file.read().split()]
        except OSError:
            pids = []  # a system without that file: workers are dead, orphans go on
        for pid in pids:
            _kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, 0 if pids else os.WNOHANG) == (0, 0):
                return
        except ChildProcessError:
            return


def _raise_open_files(needed: int) -> int:
    """Allow so many open files, or as many as may be; gives the limit there was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return soft


def _preload(*names: str) -> None:
    """Import what workers are likely to need, so that those forked later have and share it."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # no threads here: this process forks
    for name in names:
        try:
            __import__(name)
        except Exception:
            pass  # a worker that needs it says what is wrong
    if before is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = before
    gc.freeze()


def _read_hello() -> dict[str, Any]:
    """The driver's first message, which it has sent before this process was made, and no more."""
    inbox = Inbox()
    while True:
        data = os.read(FROM_DRIVER, inbox.missing())
        if not data:
            os._exit(0)
        for message in inbox.feed(data):
            return message["hello"]


def _close_others(keep: int) -> None:
    """Close what the driver's process let slip through."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > keep:
            try:
                os.close(int(name))
            except OSError:
                pass  # it was that of the listing itself


def main() -> NoReturn:
    """The node's whole life, and then that of each worker."""
    _close_others(DIRECTORY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for fd in range(CONTROL, DIRECTORY + 1):
        os.set_inheritable(fd, False)
    _process.set_name(b"pyray::node")
    _process.adopt_orphans()
    hello = _read_hello()
    node = Node(_core.Session.attach(CONTROL, ARENA, WAKE, "node"), hello)
    _preload(*NEEDED)
    gc.enable()  # session.py has started Python without
    start = node.run()
    if start is None:
        os._exit(0)
    worker.main(start, node)
