"""The node's side of the spiller: when it is forked, and what is left when it is gone.

Imports the core, and spill_targets when there is something to spill. Used by the node alone, which
has one thread.

A spiller that dies is replaced when there is something to do again. If it dies several times in a
row at once, the session goes on without: then puts are refused as if nothing could be spilled.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from . import _core

#: Deaths in a row, each within so many seconds of the start and before anything was written, after
#: which there is no other attempt.
DEATHS, SOON = 5, 1.0
#: Seconds that it has at the end of the session to remove what is not on this machine.
PATIENCE = 5.0


class Start(NamedTuple):
    """What the node gives to a spiller that it has forked."""

    node: int  # pid
    directory: str  # of the session
    places: list[str]  # as spill_targets.validate gives them


class SpillProcess:
    """The spiller of a session, or that there is none yet, or may be none."""

    def __init__(
        self,
        session: _core.Session,
        places: list[str] | None,
        directory: str,
        warn: Callable[[str], None],
    ) -> None:
        self.session = session
        self.places = places
        self.directory = directory
        self.warn = warn
        self.node = os.getpid()
        self.pid = 0
        self.wanted = False
        self.started = 0.0
        self.done = 0  # what there was of its work by the time it started
        self.deaths = 0
        self.locks: list[int] | None = None

    def want(self) -> None:
        """Somebody has called: one is to be started if there is a need and none is there."""
        if self.places is not None and not self.pid and self.session.wants_spiller():
            self.wanted = True

    def fork(self) -> Start | None:
        """Start it, if it is to be; not None in the new process."""
        if not self.wanted or self.places is None:
            return None
        self.wanted = False
        from . import spill_targets  # which most sessions never need

        try:
            if self.locks is None:
                self.locks = spill_targets.prepare(self.places, self.directory)
            pid = os.fork()
        except OSError as error:
            self._without(str(error))
            return None
        if pid == 0:
            return Start(self.node, self.directory, self.places)
        self.pid = pid
        self.started = time.monotonic()
        return None

    def reaped(self, pid: int, how: str) -> None:
        """A process has ended that is no worker."""
        if pid != self.pid:
            return
        self.pid = 0
        self.session.recover(pid, "the spiller ended")
        soon = time.monotonic() - self.started < SOON
        stats = self.session.stats()
        done = sum(stats[f"{what}_objects"] for what in ("spilled", "restored", "evicted"))
        self.deaths = self.deaths + 1 if soon and done == self.done else 0
        self.done = done
        if self.deaths >= DEATHS:
            self._without(f"the process that does it ended again and again, the last time {how}")
        else:
            self.want()

    def _without(self, reason: str) -> None:
        self.places = None
        self.session.stop_spilling()
        self.warn(
            f"Objects cannot be spilled to files: {reason}. The session goes on without; what does"
            " not fit into the object store is refused."
        )

    def finish(self) -> None:
        """The session has ended: remove its files."""
        if self.locks is None or self.places is None:
            return
        from . import spill_targets

        if self.pid:
            _end(self.pid, PATIENCE if any(map(spill_targets.is_remote, self.places)) else 0.0)
        spill_targets.remove(self.places, self.directory)


def _end(pid: int, patience: float) -> None:
    """Have it leave, by force if it does not in time; it is reaped."""
    end = time.monotonic() + patience
    os.kill(pid, signal.SIGTERM if patience else signal.SIGKILL)
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(fd)
    os.waitpid(pid, 0)
