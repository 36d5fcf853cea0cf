"""The node process of a session: forks workers, buries them, relays what they print.

Started by spawn.py as `python -c "… node.main()"` with the descriptors below; imports events,
drivers, children, relay, channel, preload, session_files and worker. It must have one thread for
ever, since it forks: what needs threads, or is slow, is another process' work. design.md,
section 4.

Crashes. Workers' deaths are in children.py, drivers' in drivers.py. If the driver dies that started
the session, everything of the session is killed and its directory removed. If this process dies,
its workers get SIGKILL from the system (PR_SET_PDEATHSIG), each driver sees its connection end, and
removes the directory.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from typing import Any, NoReturn

from . import _core, _process, addresses, preload, session_files, spill_process, worker
from .channel import CHUNK, Inbox
from .children import Children
from .drivers import Drivers
from .events import Events
from .memory_monitor import MemoryMonitor
from .relay import Relay

#: Descriptors that session.py gives to this process.
CONTROL, ARENA, WAKE, FROM_DRIVER, TO_DRIVER, DIRECTORY = range(3, 9)

#: When the session ends, workers that are idle leave. Seconds until the others are told to,
#: upon which their tasks end with SystemExit, and until they are killed.
POLITE, GRACE = 0.05, 0.5
#: Seconds until a task that was cancelled while it ran is told once more.
AGAIN = 0.1
#: Seconds after the start when what other sessions left is looked for.
SWEEP = 1.0
#: Seconds between two looks whether modules can be imported for the next workers.
PRELOAD = 0.02


class Node:
    """What the node knows; `run` is its life."""

    def __init__(self, session: _core.Session, hello: dict[str, Any]) -> None:
        self.session = session
        self.hello = hello
        self.directory: str = hello["directory"]
        self.events = Events()
        logs = os.path.join(self.directory, "logs")
        self.relay = Relay(logs, self._watch_output, self._warn)
        self.wishes = preload.Wishes()
        self.children = Children(
            session,
            self.relay,
            hello["cpus"],
            hello["max_workers"],
            MemoryMonitor(session, hello["monitor"], self._warn, self.events.later),
            self._warn,
            self.events.later,
            self._reaped,
            self.wishes.writer,
        )
        self.spilling = spill_process.SpillProcess(
            session, hello["spilling"], self.directory, self._warn
        )
        self.drivers = Drivers(
            session,
            self.events,
            self.relay,
            [CONTROL, ARENA, WAKE],
            DIRECTORY,
            self._end,
            self._stop,
            self.children.reap,
        )
        # Of a session without drivers, nobody else holds it.
        self.info = session.find(addresses.INFO)
        self.reason = "the driver that started it is gone"
        self.ended = False

    def run(self) -> worker.Start | spill_process.Start | None:
        """Until the session ends; in a process that was forked, what it is to be."""
        self._watch_all()
        self.events.later(self._sweep, SWEEP)
        self.children.start_first()
        while not self.ended:
            start = self.children.fork() or self.spilling.fork()
            if start is not None:
                self.events.close()
                return start
            starting = self.children.to_start or self.spilling.wanted
            self.events.wait(0 if starting and not self.children.ending else None)
            self.drivers.send()
            if self.children.ending and not self.children.living:
                self._end()
        self._bury_session()
        return None

    # -- events --------------------------------------------------------------------------------

    def _watch_all(self) -> None:
        woken, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.events.watch(woken, self._on_signal)
        self.events.watch(WAKE, self._on_wake)
        self.events.watch(self.wishes.reader, self._on_wish)
        self.drivers.begin(FROM_DRIVER, TO_DRIVER, self.hello)

    def _watch_output(self, fd: int, on: bool) -> None:
        if on:
            self.events.watch(fd, self._on_output)
        else:
            self.events.forget(fd)

    def _on_signal(self, fd: int) -> None:
        os.read(fd, CHUNK)
        self.children.reap()

    def _on_output(self, fd: int) -> None:
        if fd in self.relay.streams:
            self.relay.read(fd)

    def _on_wake(self, fd: int) -> None:
        """Some process has seen that tasks want workers, or can never run."""
        try:
            os.read(fd, 8)
        except BlockingIOError:
            pass
        self.children.want()
        self.spilling.want()
        self.session.fail_calls()
        if not self.events.is_due(self._ask_again):
            self._ask_again()
        for resources in self.session.infeasible():
            self._warn(
                f"A task asks for {_amounts(resources)}, which this session can never give: it has"
                f" {_amounts(self.session.total_resources())}. It waits; cancel it, or ask for"
                " less."
            )

    def _ask_again(self) -> None:
        """A signal that comes just before a task blocks is not noticed: it is sent until it is."""
        if self.session.ask_again():
            self.events.later(self._ask_again, AGAIN)

    def _on_wish(self, fd: int) -> None:
        self.wishes.read()
        if not self.events.is_due(self._preload):
            self.events.later(self._preload, PRELOAD)

    def _preload(self) -> None:
        """One module at a time: who wants a worker does not wait for all of them.

        Or for any, unless so many wait that they would need the cores for their own imports.
        """
        if 0 < len(self.children.to_start) <= self.children.cpus:
            self.events.later(self._preload, PRELOAD)
        elif self.wishes.grant():
            self.events.later(self._preload, 0)

    def _reaped(self, pid: int, how: str) -> None:
        """A process has ended that was no worker."""
        self.spilling.reaped(pid, how)

    def _warn(self, text: str) -> None:
        self.drivers.warn(text)

    # -- the end -------------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        """End the session, and let its workers come to an end before."""
        if not self.children.ending:
            self.reason = reason
            self.drivers.announce(reason)
            self.children.dismiss(POLITE)
            self.events.later(self._end, GRACE)

    def _end(self) -> None:
        self.ended = True

    def _bury_session(self) -> None:
        """Kill what is left, pass on what it printed, remove the directory."""
        self.drivers.announce(self.reason)
        self.drivers.send()
        self.spilling.finish()
        self.children.kill_all()
        self.relay.finish()
        self.drivers.finish()
        self.session.close()
        session_files.remove(self.directory)
        self._sweep()

    def _sweep(self) -> None:
        session_files.sweep(os.path.dirname(self.directory), time.time())


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"


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
    session = _core.Session.attach(CONTROL, ARENA, WAKE, "node")
    _core.set_session(session)
    node = Node(session, hello)
    preload.load_first(hello["preload"])
    gc.enable()  # session.py has started Python without
    start = node.run()
    if start is None:
        os._exit(0)
    if isinstance(start, spill_process.Start):
        from . import spiller

        spiller.main(start, node)
    worker.main(start, node)
